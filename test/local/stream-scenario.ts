import { setTimeout as delay } from "node:timers/promises";
import { expect, inject, type TestContext } from "vitest";
import { createRng, type Rng } from "../../bench/drill/rng.ts";
import { call, eventsOf, freshId, must, newRun, type RunRoutes } from "../conformance/support.ts";
import { type CuttingProxy, randomCuts, startCuttingProxy } from "../support/cutting-proxy.ts";
import { eventsIn, type Follow, type StreamClient } from "../support/stream-clients.ts";

/** A client and how it is treated. */
export interface Tool {
  name: string;
  follow: Follow;
  /** How often it is cut off. */
  cuts: number;
  /** Bounds of the bytes that it is given on a connection before that; 1 and 8,000 when absent. */
  minBytes?: number;
  maxBytes?: number;
  seed: number;
}

/** Opens a stream through a proxy that cuts it, until the test has ended. */
export async function followThroughCuts(
  path: string,
  { follow, cuts, minBytes = 1, maxBytes = 8_000, seed }: Tool,
  { onTestFinished }: TestContext,
): Promise<{ proxy: CuttingProxy; client: StreamClient }> {
  const proxy = await startCuttingProxy(
    inject("baseUrl"),
    randomCuts({ seed, count: cuts, minBytes, maxBytes }),
  );
  onTestFinished(() => proxy.close());
  const client = await follow(proxy.url + path, inject("token"));
  onTestFinished(() => client.stop());
  return { proxy, client };
}

/** A client that is cut off again and again is given each event of the run's log in order and once. */
export async function followsRun(tool: Tool, context: TestContext): Promise<void> {
  const run = await newRun({}, "/v1");
  const { proxy, client } = await followThroughCuts(`/v1/runs/${run.id}/events/stream`, tool, context);
  await appendUntilCut([run], client, proxy, tool);
  expect(eventsIn(client.frames)).toEqual(await eventsOf(run));
  expect(client.frames[0]).toMatchObject({ status: "ready", runID: run.id, stream: "context_run_events" });
}

/** The same holds for each run of a workspace, also for one that is created while the client follows. */
export async function followsWorkspace(tool: Tool, context: TestContext): Promise<void> {
  const workspace = { workspace_id: "w", canonical_path: `/srv/${freshId("streams")}`, lease_epoch: 0 };
  const first = await newRun({ workspace }, "/v1");
  const second = await newRun({ workspace }, "/v1");
  const path = `/v1/events/stream?workspace=${encodeURIComponent(workspace.canonical_path)}`;
  const { proxy, client } = await followThroughCuts(path, tool, context);
  await expect.poll(() => client.frames.length, { timeout: 60_000 }).toBeGreaterThan(0);
  const [ready] = client.frames;
  expect(ready).toMatchObject({ kind: "ready" });
  expect(ready?.subscribed_run_ids?.toSorted()).toEqual([first.id, second.id].sort());
  const third = await newRun({ workspace }, "/v1");
  const runs = [first, second, third] as const;
  await appendUntilCut(runs, client, proxy, tool);
  const received = eventsIn(client.frames);
  expect(new Set(received.map((event) => event.run_id))).toEqual(new Set(runs.map(({ id }) => id)));
  for (const run of runs) {
    expect(received.filter((event) => event.run_id === run.id)).toEqual(await eventsOf(run));
  }
}

/** With until=terminal the client is told the end of the run behind its last event, and follows no longer. */
export async function stopsWithRun(tool: Tool, context: TestContext): Promise<void> {
  const run = await newRun({}, "/v1");
  const path = `/v1/runs/${run.id}/events/stream?until=terminal`;
  const { client } = await followThroughCuts(path, { ...tool, cuts: 0 }, context);
  must(await run.post("/events", { type: "note", status: "running", payload: "漢字" }), 201);
  await reach(client, 1);
  expect(client.ended).toBeUndefined();
  must(await run.post("/events", { type: "note", status: "completed", payload: null }), 201);
  await expect.poll(() => client.ended, { timeout: 60_000 }).toBeDefined();
  expect(eventsIn(client.frames)).toEqual(await eventsOf(run));
  expect(client.frames.filter((frame) => frame.type === "end")).toEqual([client.frames.at(-1)]);
  const last = client.frames.at(-1);
  expect(last).toMatchObject({ reason: "terminal", status: "completed", cursor: expect.any(String) });
  const again = await call("GET", path, undefined, { "last-event-id": last?.cursor ?? null });
  expect({ status: again.status, text: again.text }).toEqual({ status: 204, text: "" });
}

/** Polls until the client has been given so many events; fails when it ends before that, or after 25 seconds. */
export async function reach(client: StreamClient, events: number): Promise<void> {
  const deadlineMs = Date.now() + 25_000;
  for (;;) {
    const received = eventsIn(client.frames).length;
    if (received >= events) return;
    const state = `${received} of ${events} events`;
    if (client.ended !== undefined) throw new Error(`the client ended (${client.ended}) with ${state}`);
    if (Date.now() > deadlineMs) throw new Error(`the client still has ${state}`);
    await delay(5);
  }
}

/** How far appending runs ahead of the client: some events wait for it when it resumes, others come live. */
const EVENTS_AHEAD = 8;

/** Many times what the cuts need. */
const MAX_EVENTS = 1_000;

/** Appends events to the runs until all cuts are made, then a few more; waits until the client has been given all. */
async function appendUntilCut(
  runs: readonly [RunRoutes, ...RunRoutes[]],
  client: StreamClient,
  proxy: CuttingProxy,
  { cuts, seed }: Tool,
): Promise<void> {
  const rng = createRng(seed, 1);
  let appended = 0;
  while (proxy.cuts < cuts) {
    if (appended === MAX_EVENTS) throw new Error(`only ${proxy.cuts} cuts in ${appended} events`);
    await appendNote(rng.pick(runs), rng);
    await reach(client, ++appended - EVENTS_AHEAD);
  }
  for (const run of [...runs, ...runs]) {
    await appendNote(run, rng);
    appended++;
  }
  await reach(client, appended);
  // Otherwise most of the cuts would have fallen on one event, and proven little.
  expect(resumptions(client)).toBeGreaterThan(cuts / 4);
}

/** How often the client has resumed between two events that it was given. */
function resumptions({ frames }: StreamClient): number {
  const isEvent = frames.map((frame) => eventsIn([frame]).length > 0);
  return isEvent.filter((is, index) => is && index > isEvent.indexOf(true) && !isEvent[index - 1]).length;
}

/** Characters of one to four bytes, and those that a reader of lines, JSON or UTF-8 could trip over. */
const HARD_TEXT = 'zażółć 😀 漢字 e\u0301 \u{10FFFF} \r\n\n data: \t"\\ \u0000\u0085\u2028\uFEFF';

/** Appends one event, short or long, but no longer than what a client is given between two cuts at best. */
async function appendNote(run: RunRoutes, rng: Rng): Promise<void> {
  const text = HARD_TEXT.repeat(rng.chance(0.2) ? rng.between(10, 60) : rng.between(0, 10));
  const type = rng.pick(["note", "größer 😀"]);
  must(await run.post("/events", { type, status: "running", payload: { text } }), 201);
}
