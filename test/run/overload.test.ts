import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  MAX_RUN_BYTES,
  MAX_WAITING_COMMANDS,
  MAX_WAITING_LENGTH,
  OVERLOADED_RETRY_MS,
} from "../../src/protocol/limits.ts";
import { CommandQueue } from "../../src/run/command-queue.ts";
import { type Answer, Engine } from "../../src/run/engine.ts";
import type { LogReader } from "../../src/run/log-reader.ts";
import { unpackAnswer } from "../../src/run/packed-answer.ts";
import { RunState } from "../../src/run/run-state.ts";
import { Sql } from "../../src/run/storage/sql.ts";
import { serve } from "../support/serve.ts";
import { inObject, inStorage, newTestRun, note, objectOf, overviewOf } from "./support/test-run.ts";

describe("the queue of a run's commands", () => {
  it("takes as many as may wait, in order, and again when some have had their turn", () => {
    const queue = new CommandQueue<number>();
    for (let index = 0; index < MAX_WAITING_COMMANDS; index += 1) expect(queue.push(index, null)).toBe(true);
    expect(queue.push(-1, null)).toBe(false);
    expect(queue.take(2)).toEqual([0, 1]);
    // What had no turn after all goes back, and others have come meanwhile.
    expect(queue.push(-2, null)).toBe(true);
    expect(queue.push(-3, null)).toBe(true);
    queue.putBack([1]);
    expect(queue.length).toBe(MAX_WAITING_COMMANDS + 1);
    expect(queue.push(-4, null)).toBe(false);
    expect(queue.take(2)).toEqual([1, 2]);
  });

  it.each<[string, (text: string) => unknown]>([
    ["texts", (text) => text],
    ["members", (text) => ({ payload: { deep: [text] } })],
    ["names", (text) => ({ [text]: 1 })],
  ])("takes no more than they may hold together, in %s", (_where, contentOf) => {
    const queue = new CommandQueue<number>();
    const third = contentOf("x".repeat(Math.ceil(MAX_WAITING_LENGTH / 3)));
    expect([1, 2, 3].map((item) => queue.push(item, third))).toEqual([true, true, false]);
    queue.take(1);
    expect(queue.push(3, third)).toBe(true);
  });

  it("counts numbers and empty objects too", () => {
    const queue = new CommandQueue<number>();
    const many = Array.from({ length: MAX_WAITING_LENGTH / 32 }, () => ({}));
    expect([1, 2, 3].map((item) => queue.push(item, many))).toContain(false);
  });

  it("never refuses the only one, whatever it holds", () => {
    const queue = new CommandQueue<number>();
    expect(queue.push(1, "x".repeat(MAX_WAITING_LENGTH + 1))).toBe(true);
    expect(queue.push(2, null)).toBe(false);
    queue.take(1);
    expect(queue.push(2, null)).toBe(true);
  });
});

describe("a run that is asked for more than it can do", () => {
  it("refuses what finds no place before anything of it is done, does the rest, and then takes more", async () => {
    const run = await newTestRun();
    const before = await overviewOf(run);
    const extra = 300;
    const submission = (index: number) => ({ command: note(index), commandId: `note-${index}` });
    const answers = await inObject(run, async (object): Promise<Answer[]> => {
      const packed = Array.from({ length: MAX_WAITING_COMMANDS + extra }, (_, index) =>
        object.submit(submission(index)),
      );
      return (await Promise.all(packed)).map(unpackAnswer);
    });
    const refused = answers.filter(({ ok }) => !ok);
    expect(refused).toHaveLength(extra);
    for (const answer of refused) {
      expect(answer).toMatchObject({
        refusal: { code: "OVERLOADED", retry_after_ms: OVERLOADED_RETRY_MS },
        rows: { read: 0, written: 0 },
      });
    }
    const after = await overviewOf(run);
    expect(after.last_event_seq - before.last_event_seq).toBe(MAX_WAITING_COMMANDS);
    // The id of what was refused is not used up.
    const last = unpackAnswer(await run.client.submit(submission(MAX_WAITING_COMMANDS + extra - 1)));
    expect(last).toMatchObject({ ok: true, repeat: null });
  });
});

describe("a run whose storage is nearly full", () => {
  it("takes nothing more, answers repeats, and goes on when sealing has made room", async () => {
    const run = await newTestRun();
    await inStorage(run, async (_sql, storage) => {
      let databaseSize = MAX_RUN_BYTES;
      const crowded = {
        sql: {
          get databaseSize() {
            return databaseSize;
          },
        },
        sync: () => storage.sync(),
      } as unknown as DurableObjectStorage;
      const sql = new Sql(storage);
      const listener = { committed: () => undefined, flushed: () => undefined, failed: () => undefined };
      const engineNow = () =>
        new Engine(crowded, sql, RunState.existing(sql), {} as LogReader, listener, () => Date.now());
      const first = { command: note("first"), commandId: "first" };
      expect(await engineNow().submit(first)).toMatchObject({ ok: true, repeat: null });
      const full = engineNow();
      databaseSize += 1;
      // An engine that is at work notices too, if not at once.
      const many = Array.from({ length: 700 }, () => full.submit({ command: note() }));
      expect((await Promise.all(many)).filter(({ ok }) => !ok).length).toBeGreaterThan(0);
      expect(await full.submit({ command: note("second") })).toMatchObject({
        ok: false,
        refusal: { code: "LIMIT_EXCEEDED", limit_name: "run_bytes", limit: MAX_RUN_BYTES },
        rows: { written: 0 },
      });
      expect(await full.submit(first)).toMatchObject({ ok: true, repeat: { same: true } });
      databaseSize -= 1;
      expect(await full.submit({ command: note("second") })).toMatchObject({ ok: true });
    });
  });
});

describe("faults of the platform that pass", () => {
  beforeEach(() => void vi.spyOn(console, "error").mockReturnValue(undefined));
  afterEach(() => void vi.restoreAllMocks());

  const ask = (path: string, init: RequestInit = {}, bindings = env) => {
    const headers = { authorization: "Bearer test-token", "content-type": "application/json" };
    return serve(new Request(`https://baton.example${path}`, { headers, ...init }), bindings);
  };

  it("an object that is restarted while it is asked: 503, to be asked again under the same key", async () => {
    const run = objectOf();
    const created = await ask("/v1/runs", {
      method: "POST",
      body: JSON.stringify({ run_id: run.id, objective: "Restart" }),
    });
    expect(created.status).toBe(201);
    const body = JSON.stringify({ type: "note", status: "running", payload: {} });
    // Asked together, some of them are in the object when it goes.
    const asked = Array.from({ length: 20 }, () =>
      ask(`/v1/runs/${run.id}/events`, { method: "POST", body }),
    );
    const aborted = runInDurableObject(run.stub, (_object, state) => state.abort("the test aborts it"));
    await aborted.catch(() => undefined);
    const answers = await Promise.all(asked);
    const statuses = new Set(answers.map(({ status }) => status));
    expect([...statuses].filter((status) => ![201, 200, 503].includes(status))).toEqual([]);
    expect(statuses).toContain(503);
    for (const answer of answers) {
      const told = (await answer.json()) as Record<string, unknown>;
      if (answer.status !== 503) continue;
      expect(told).toMatchObject({
        code: "OVERLOADED",
        retryable: true,
        retry_after_ms: OVERLOADED_RETRY_MS,
      });
      expect(JSON.stringify(told)).not.toContain("the test aborts it");
      expect(answer.headers.get("retry-after")).toBe("1");
    }
  });

  it.each<[string, string, object]>([
    ["an overloaded object", "Durable Object is overloaded. Too many requests queued.", { overloaded: true }],
    ["a lost connection", "Network connection lost.", { retryable: true }],
    ["a new release", "Durable Object reset because its code was updated.", { durableObjectReset: true }],
    ["D1 overloaded", "D1_ERROR: D1 DB is overloaded. Requests queued for too long.", {}],
    [
      "D1 restarting",
      "D1_ERROR: D1 DB storage operation exceeded timeout which caused object to be reset.",
      {},
    ],
  ])("%s: 503 at both doors, without the platform's words", async (_name, message, members) => {
    const failing = {
      ...env,
      DIRECTORY: {
        prepare: () => {
          throw Object.assign(new Error(message), members);
        },
      } as unknown as D1Database,
    };
    for (const path of ["/v1/runs", "/context/runs"]) {
      const answer = await ask(path, {}, failing);
      expect(answer.status).toBe(503);
      expect(answer.headers.get("retry-after")).toBe("1");
      const told = (await answer.json()) as { code: string; error: string; retry_after_ms: number };
      expect(told).toMatchObject({ code: "OVERLOADED", retry_after_ms: OVERLOADED_RETRY_MS });
      expect(JSON.stringify(told)).not.toContain(message);
    }
  });

  it("any other fault is no matter of time", async () => {
    const failing = {
      ...env,
      DIRECTORY: {
        prepare: () => {
          throw new Error("D1_ERROR: no such table: runs");
        },
      } as unknown as D1Database,
    };
    expect((await ask("/v1/runs", {}, failing)).status).toBe(500);
  });
});
