import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createParser } from "eventsource-parser";
import { expect, onTestFinished, test } from "vitest";
import { eventsIn, type Frame } from "../support/stream-clients.ts";
import { startBaton, temporaryStateDir } from "./baton-process.ts";

const TOKEN = "chosen";
const HEADERS = { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" };
const RETRY_DELAY_MS = 20;

/** Events of one run that are committed between two kills. */
const EVENTS_BEFORE_KILL = 8;
const KILLS = 2;

/** Sends a request; null when there is no server to answer it. */
async function call<T>(url: string, body?: unknown): Promise<T | null> {
  const request = {
    headers: HEADERS,
    ...(body !== undefined && { method: "POST", body: JSON.stringify(body) }),
  };
  const response = await fetch(url, request).catch(() => null);
  const answer = (await response?.json().catch(() => null)) as T | null | undefined;
  return response?.ok ? (answer ?? null) : null;
}

/** Calls until there is an answer. */
async function persist<T>(url: string, body?: unknown): Promise<T> {
  for (const deadlineMs = Date.now() + 20_000; Date.now() < deadlineMs; await delay(RETRY_DELAY_MS)) {
    const answer = await call<T>(url, body);
    if (answer !== null) return answer;
  }
  throw new Error(`${url} was not answered`);
}

async function newRun(url: string, path: string): Promise<string> {
  const workspace = { workspace_id: "w", canonical_path: path, lease_epoch: 0 };
  const { run } = await persist<{ run: { run_id: string } }>(`${url}/v1/runs`, { objective: "o", workspace });
  return run.run_id;
}

/** Follows a stream until the test has ended, resuming by the id of the last frame that was complete. */
function follow(url: string): { frames: Frame[]; connections: () => number } {
  const frames: Frame[] = [];
  const stopping = new AbortController();
  let lastId: string | undefined;
  let connections = 0;
  const readOnce = async (): Promise<void> => {
    const headers = { ...HEADERS, ...(lastId !== undefined && { "last-event-id": lastId }) };
    const { body, status } = await fetch(url, { headers, signal: stopping.signal });
    if (status !== 200 || body === null) return;
    connections += 1;
    const parser = createParser({
      onEvent: ({ id, event, data }) => {
        if (event === undefined) frames.push(JSON.parse(data));
        lastId = id ?? lastId;
      },
    });
    for await (const text of body.pipeThrough(new TextDecoderStream())) parser.feed(text);
  };
  const done = (async () => {
    while (!stopping.signal.aborted) {
      await readOnce().catch(() => undefined);
      await delay(RETRY_DELAY_MS);
    }
  })();
  onTestFinished(async () => {
    stopping.abort();
    await done;
  });
  return { frames, connections: () => connections };
}

test.each(["runtime", "launched process"] as const)(
  "streams of a run and of a workspace are whole over kill -9 of the %s in the middle of commits",
  async (victim) => {
    const stateDir = await temporaryStateDir();
    let baton = await startBaton({ PORT: "0", STATE_DIR: stateDir, BATON_TOKEN: TOKEN });
    const { url } = baton;
    const { port } = new URL(url);
    const runs = [await newRun(url, "/srv/restarts"), await newRun(url, "/srv/restarts")] as const;
    const ofRun = follow(`${url}/v1/runs/${runs[0]}/events/stream`);
    const ofWorkspace = follow(`${url}/v1/events/stream?workspace=/srv/restarts`);
    await expect
      .poll(() => [ofRun, ofWorkspace].every(({ frames }) => frames.length > 0), { timeout: 60_000 })
      .toBe(true);

    let committed = 0;
    let isOver = false;
    const committing = runs.map(async (runId) => {
      while (!isOver) {
        const event = { type: "note", status: "running", payload: { committed } };
        const answer = await call(`${url}/v1/runs/${runId}/events`, event);
        if (answer === null) await delay(RETRY_DELAY_MS);
        else if (runId === runs[0]) committed += 1;
      }
    });
    for (let kills = 0; kills < KILLS; kills += 1) {
      const due = committed + EVENTS_BEFORE_KILL;
      await expect.poll(() => committed, { timeout: 60_000, interval: 2 }).toBeGreaterThanOrEqual(due);
      if (victim === "runtime") {
        process.kill(Number((await readFile(join(stateDir, "workerd"), "utf8")).split("\n")[0]), "SIGKILL");
      } else {
        baton.kill("SIGKILL");
        await baton.exited;
        baton = await startBaton({ PORT: port, STATE_DIR: stateDir, BATON_TOKEN: TOKEN });
      }
      // The next kill comes after a commit that the restarted server has answered.
      const before = committed;
      await expect.poll(() => committed, { timeout: 60_000 }).toBeGreaterThan(before);
    }
    isOver = true;
    await Promise.all(committing);

    for (const runId of runs) {
      const { events } = await persist<{ events: unknown[] }>(`${url}/context/runs/${runId}/events`);
      const inWorkspace = () => eventsIn(ofWorkspace.frames).filter(({ run_id }) => run_id === runId);
      await expect
        .poll(() => inWorkspace().length, { timeout: 60_000 })
        .toBeGreaterThanOrEqual(events.length);
      expect(inWorkspace()).toEqual(events);
      if (runId !== runs[0]) continue;
      await expect
        .poll(() => eventsIn(ofRun.frames).length, { timeout: 60_000 })
        .toBeGreaterThanOrEqual(events.length);
      expect(eventsIn(ofRun.frames)).toEqual(events);
    }
    expect(ofRun.connections()).toBeGreaterThan(KILLS);
    expect(ofWorkspace.connections()).toBeGreaterThan(KILLS);
  },
  90_000,
);
