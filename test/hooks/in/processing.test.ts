import { createScheduledController } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it, vi } from "vitest";
import { claimDelivery, type DeliveryKey, findDelivery } from "../../../src/directory/deliveries.ts";
import { findHookByPublicId } from "../../../src/directory/hooks.ts";
import type { Env } from "../../../src/env.ts";
import { processDelivery } from "../../../src/hooks/in/process.ts";
import { receive } from "../../../src/hooks/in/receive.ts";
import { Received } from "../../../src/hooks/in/received.ts";
import { keyringOf } from "../../../src/identity/keyring.ts";
import worker from "../../../src/index.ts";
import { collectArtifacts } from "../../../src/maintenance/collect-artifacts.ts";
import { finishDeliveries } from "../../../src/maintenance/finish-deliveries.ts";
import {
  ABANDONED_AFTER_MS,
  DELIVERIES_KEPT_MS,
  MAX_DELIVERY_TRIES,
  MAX_INLINE_DELIVERY_BYTES,
} from "../../../src/protocol/limits.ts";
import { ANYTHING, api, delivery, newHook, send, type TestHook } from "./support/hooks.ts";
import { githubSender } from "./support/senders.ts";

const MINUTE = 60_000;

/** Keeps a delivery as the door does, and dies before anything is made of it. */
async function keepOnly(hook: TestHook, bindings: Env = env): Promise<DeliveryKey> {
  const request = await delivery(githubSender, hook.url, { id: crypto.randomUUID() });
  const found = await findHookByPublicId(env.DIRECTORY, hook.url.split("/").at(-1) ?? "");
  const keyring = keyringOf(env);
  if (found === null || keyring === null) throw new Error("there is no hook");
  const received = new Received(request.headers, new Uint8Array(await request.arrayBuffer()));
  const checks = { nowMs: Date.now(), hasCredential: async () => false };
  const receipt = await receive(bindings, keyring, found, received, checks);
  if (!("kept" in receipt)) throw new Error("it was not kept");
  return receipt.kept.key;
}

async function read(key: DeliveryKey) {
  const found = await findDelivery(env.DIRECTORY, key);
  if (found === null) throw new Error("the delivery is not there");
  return found;
}

/** The runs of all hooks that have this objective. */
async function runsOf(objective: string) {
  const { results } = await env.DIRECTORY.prepare("SELECT run_id FROM runs WHERE objective = ?")
    .bind(objective)
    .all<{ run_id: string }>();
  return results.map(({ run_id }) => run_id);
}

/** A hook whose runs no other test makes. */
async function newOwnHook() {
  const objective = `What came in ${crypto.randomUUID()}`;
  const hook = await newHook(githubSender, { mapping: { ...ANYTHING, run: { objective } } });
  return { hook, objective };
}

/** Has cron find these deliveries due, and none that other tests have left. */
async function makeDue({ hook_id }: { hook_id: string }, nowMs = 1): Promise<void> {
  await env.DIRECTORY.prepare("UPDATE deliveries SET due_at_ms = ? WHERE hook_id = ?")
    .bind(nowMs, hook_id)
    .run();
}

/** An environment in which no run answers. */
const BROKEN = {
  ...env,
  RUNS: {
    getByName: () => {
      throw new Error("no object answers");
    },
  } as unknown as Env["RUNS"],
};

describe("docs/webhooks-in.md: a delivery whose processing was cut off is finished by cron", () => {
  it("cut off between store and create: exactly one run", async () => {
    const { hook, objective } = await newOwnHook();
    const key = await keepOnly(hook);
    expect(await runsOf(objective)).toEqual([]);
    await worker.scheduled(createScheduledController({ scheduledTime: new Date() }), env);
    expect(await read(key)).toMatchObject({ status: "mapped", attempts: 1 });
    const runs = await runsOf(objective);
    expect(runs).toEqual([(await read(key)).run_id]);
    await worker.scheduled(createScheduledController({ scheduledTime: new Date() }), env);
    expect((await read(key)).attempts).toBe(1);
  });

  it("cut off between create and the note of it: the same run, and nothing twice", async () => {
    const { hook, objective } = await newOwnHook();
    const key = await keepOnly(hook);
    const begunAtMs = Date.now();
    await processDelivery(env, key, begunAtMs);
    const events = async (runId: string | null) =>
      (await api("GET", `/v1/runs/${runId}/events`)).body.events.length;
    const { run_id } = await read(key);
    const before = await events(run_id);
    await env.DIRECTORY.prepare(
      "UPDATE deliveries SET status = 'processing', due_at_ms = 1, finished_at_ms = NULL, run_id = NULL WHERE delivery_id = ?",
    )
      .bind(key.delivery_id)
      .run();
    await finishDeliveries(env, Date.now());
    expect(await read(key)).toMatchObject({ status: "mapped", run_id, attempts: 2 });
    expect(await runsOf(objective)).toEqual([run_id]);
    expect(await events(run_id)).toBe(before);
  });

  it("is finished by the mapping that it was begun by, and replayed by the hook's own", async () => {
    const { hook, objective } = await newOwnHook();
    const key = await keepOnly(hook);
    await claimDelivery(env.DIRECTORY, key, Date.now(), 1);
    const changed = { ...ANYTHING, run_key: "another", run: { objective: `${objective}, changed` } };
    const { name, scheme } = (await api("GET", hook.path)).body.hook;
    const put = await api("PUT", hook.path, { name, scheme, mapping: changed });
    expect(put.status).toBe(200);
    await finishDeliveries(env, Date.now());
    expect(await read(key)).toMatchObject({ status: "mapped", attempts: 2 });
    expect(await runsOf(objective)).toEqual([(await read(key)).run_id]);
    expect(await runsOf(`${objective}, changed`)).toEqual([]);
    const replayed = await api("POST", `${hook.path}/deliveries/${key.delivery_id}/replay`);
    expect(replayed.status).toBe(200);
    expect(await runsOf(`${objective}, changed`)).toEqual([(await read(key)).run_id]);
  });

  it("who has begun is left to it until the deadline; who comes late writes nothing", async () => {
    const { hook, objective } = await newOwnHook();
    const key = await keepOnly(hook);
    const nowMs = Date.now();
    const claimed = await claimDelivery(env.DIRECTORY, key, nowMs, nowMs + MINUTE);
    expect(claimed).not.toBeNull();
    expect(await processDelivery(env, key, nowMs + MINUTE - 1)).toBeNull();
    const [one, other] = await Promise.all([
      processDelivery(env, key, nowMs + MINUTE),
      processDelivery(env, key, nowMs + MINUTE),
    ]);
    expect([one, other].filter((done) => done !== null)).toHaveLength(1);
    expect(await runsOf(objective)).toHaveLength(1);
    expect((await read(key)).attempts).toBe(2);
  });

  it("what fails is tried again, later each time, and then waits for a replay", async () => {
    vi.spyOn(console, "error").mockImplementation(() => undefined);
    const { hook, objective } = await newOwnHook();
    const key = await keepOnly(hook);
    let nowMs = Date.now();
    const waits: number[] = [];
    for (let tried = 1; tried < MAX_DELIVERY_TRIES; tried += 1) {
      await processDelivery(BROKEN, key, nowMs);
      const { status, due_at_ms } = await read(key);
      expect(status).toBe("received");
      expect(await processDelivery(BROKEN, key, due_at_ms - 1)).toBeNull();
      // What it took counts in.
      waits.push(Math.floor((due_at_ms - nowMs) / 1000));
      nowMs = due_at_ms;
    }
    expect(waits).toEqual([...waits].sort((a, b) => a - b));
    expect(waits[0]).toBeGreaterThanOrEqual(30);
    await processDelivery(BROKEN, key, nowMs);
    const { status, result } = await read(key);
    expect([status, result]).toEqual([
      "failed",
      { error: { code: "PROCESSING_FAILED", error: "processing failed; the log says why" } },
    ]);
    expect(await processDelivery(env, key, nowMs + MINUTE)).toBeNull();
    const replayed = await api("POST", `${hook.path}/deliveries/${key.delivery_id}/replay`);
    expect(replayed.body.delivery).toMatchObject({ status: "mapped", result: { created: true } });
    expect(await runsOf(objective)).toEqual([replayed.body.delivery.run_id]);
    vi.restoreAllMocks();
  });

  it("what never comes to an end is not tried for ever", async () => {
    const { hook } = await newOwnHook();
    const key = await keepOnly(hook);
    let nowMs = Date.now();
    for (let tried = 0; tried < MAX_DELIVERY_TRIES; tried += 1) {
      expect(await claimDelivery(env.DIRECTORY, key, nowMs, nowMs + MINUTE)).not.toBeNull();
      nowMs += MINUTE;
    }
    await processDelivery(env, key, nowMs);
    expect(await read(key)).toMatchObject({
      status: "failed",
      result: { error: { code: "PROCESSING_CUT_OFF" } },
    });
  });
});

describe("docs/webhooks-in.md: deliveries are replayed", () => {
  it("one that could not be mapped, once its mapping is mended", async () => {
    const tooBroad = {
      ...ANYTHING,
      tasks: [{ task_type: "a", payload: { title: "t" }, for_each: { in: "items" } }],
    };
    const hook = await newHook(githubSender, { mapping: tooBroad });
    const items = Array.from({ length: 201 }, (_, index) => index);
    const answer = await send(
      await delivery(githubSender, hook.url, { body: JSON.stringify({ items }), id: "r1" }),
    );
    expect(answer.status, answer.text).toBe(202);
    const path = `${hook.path}/deliveries/${answer.body.delivery_id}`;
    expect((await api("GET", path)).body.delivery).toMatchObject({
      status: "mapping_failed",
      result: { error: { code: "MAPPING_LIMIT" } },
    });
    const { name, scheme } = githubSender;
    expect((await api("PUT", hook.path, { name, scheme, mapping: ANYTHING })).status).toBe(200);
    const replayed = await api("POST", `${path}/replay`);
    expect(replayed.status, replayed.text).toBe(200);
    expect(replayed.body.delivery).toMatchObject({ status: "mapped", attempts: 2 });
    const again = await api("POST", `${path}/replay`);
    expect(again.body.delivery.run_id).toBe(replayed.body.delivery.run_id);
    // The sender's own repeat finds it too.
    const repeat = await send(
      await delivery(githubSender, hook.url, { body: JSON.stringify({ items }), id: "r1" }),
    );
    expect(repeat.body).toMatchObject({ status: "duplicate", run_id: replayed.body.delivery.run_id });
  });

  it("one whose run was archived or deleted since makes no second one, whatever is done with what is there", async () => {
    for (const remove of ["archive", "delete"] as const) {
      const { hook, objective } = await newOwnHook();
      const { name, scheme } = githubSender;
      const mapping = { ...ANYTHING, run: { objective }, on_existing: "new_run" };
      expect((await api("PUT", hook.path, { name, scheme, mapping })).status).toBe(200);
      const key = await keepOnly(hook);
      await processDelivery(env, key, Date.now());
      const { run_id } = await read(key);
      const gone =
        remove === "archive"
          ? await api("POST", `/v1/runs/${run_id}/archive`)
          : await api("DELETE", `/v1/runs/${run_id}`);
      expect(gone.status, gone.text).toBeLessThan(300);
      // Again and again: what is told of the first time must not hide what was made.
      for (let time = 0; time < 2; time += 1) {
        const replayed = await api("POST", `${hook.path}/deliveries/${key.delivery_id}/replay`);
        expect(replayed.body.delivery).toMatchObject({ status: "mapping_failed", run_id });
      }
      if (remove === "archive") {
        expect((await api("POST", `/v1/runs/${run_id}/restore`)).status).toBe(200);
        const events = async () => (await api("GET", `/v1/runs/${run_id}/events`)).body.events;
        const before = await events();
        const replayed = await api("POST", `${hook.path}/deliveries/${key.delivery_id}/replay`);
        const same = { status: "mapped", run_id, result: { created: true } };
        expect(replayed.body.delivery).toMatchObject(same);
        expect(await events()).toEqual(before);
      }
      // Another delivery of the key makes another run.
      const other = await keepOnly(hook);
      expect(await processDelivery(env, other, Date.now())).toMatchObject({
        status: "mapped",
        result: { created: true },
      });
      expect((await read(other)).run_id).not.toBe(run_id);
    }
  });

  it("not while it is processed", async () => {
    const { hook } = await newOwnHook();
    const key = await keepOnly(hook);
    const nowMs = Date.now();
    await claimDelivery(env.DIRECTORY, key, nowMs, nowMs + MINUTE);
    const busy = await api("POST", `${hook.path}/deliveries/${key.delivery_id}/replay`);
    expect([busy.status, busy.body.code, busy.body.retryable]).toEqual([409, "DELIVERY_BUSY", true]);
  });
});

describe("docs/webhooks-in.md: deliveries are forgotten", () => {
  /** What lies in R2 below a delivery. */
  const stored = async ({ tenant, delivery_id }: DeliveryKey) =>
    (await env.ARTIFACTS?.list({ prefix: `deliveries/${tenant}/${delivery_id}/` }))?.objects.length;

  const large = JSON.stringify("x".repeat(MAX_INLINE_DELIVERY_BYTES));

  async function newLarge() {
    const hook = await newHook(githubSender);
    const copies = await Promise.all(
      [1, 2, 3].map(async () => send(await delivery(githubSender, hook.url, { body: large, id: "l" }))),
    );
    expect(copies.map(({ status }) => status)).toEqual([202, 202, 202]);
    const { delivery_id } = copies[0]?.body ?? {};
    return { hook, key: { tenant: "local/local", hook_id: hook.id, delivery_id } };
  }

  it("a long body lies in R2; those that copies have written are collected, and at last its own", async () => {
    const { hook, key } = await newLarge();
    const found = await read(key);
    expect(found.due_at_ms).toBe(found.received_at_ms + DELIVERIES_KEPT_MS);
    expect(await stored(key)).toBeGreaterThan(0);
    // What nobody wants goes twice, a day apart (collect-artifacts, C2).
    const collect = async (nowMs: number) => {
      for (const afterMs of [0, ABANDONED_AFTER_MS + 1]) await collectArtifacts(env, nowMs + afterMs);
    };
    await collect(Date.now() + ABANDONED_AFTER_MS + MINUTE);
    expect(await stored(key)).toBe(1);
    expect((await api("GET", `${hook.path}/deliveries/${key.delivery_id}/payload`)).text).toBe(large);

    await makeDue(key);
    await finishDeliveries(env, Date.now());
    expect(await findDelivery(env.DIRECTORY, key)).toBeNull();
    await collectArtifacts(env, Date.now());
    expect(await stored(key)).toBe(0);
  });

  it("with their hook when that is deleted", async () => {
    const { hook, key } = await newLarge();
    await api("DELETE", hook.path);
    const gone = await api("GET", `${hook.path}/deliveries/${key.delivery_id}`);
    expect([gone.status, gone.body.code]).toEqual([404, "HOOK_NOT_FOUND"]);
    await finishDeliveries(env, Date.now());
    expect(await findDelivery(env.DIRECTORY, key)).toBeNull();
    const rows = await env.DIRECTORY.prepare("SELECT 1 FROM hooks WHERE hook_id = ?").bind(hook.id).all();
    expect(rows.results).toEqual([]);
  });

  it("one that is open when its hook is deleted is not processed any more", async () => {
    const { hook, objective } = await newOwnHook();
    const key = await keepOnly(hook);
    await api("DELETE", hook.path);
    expect(await processDelivery(env, key, Date.now())).toMatchObject({
      status: "failed",
      result: { error: { code: "HOOK_NOT_FOUND" } },
    });
    expect(await runsOf(objective)).toEqual([]);
  });
});
