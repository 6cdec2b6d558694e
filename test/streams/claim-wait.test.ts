import { runInDurableObject } from "cloudflare:test";
import { afterEach, describe, expect, it, vi } from "vitest";
import { MAX_WAIT_MS } from "../../src/protocol/limits.ts";
import { submit } from "../../src/run/run-client.ts";
import {
  accepted,
  creation,
  eventsOf,
  eventually,
  evict,
  http,
  newTestRun,
  note,
  objectOf,
  replayOf,
  row,
  type TestRun,
} from "../run/support/test-run.ts";
import { type Answered, callAs, mint, newTenant, ROOT } from "../support/tokens.ts";
import { disturb } from "./support/scenario.ts";

vi.setConfig({ testTimeout: 60_000 });

/** Longer than the runtime lets an object that does nothing stay in memory. */
const IDLE_MS = 12_000;

/** Long enough for a busy machine: what is waited for comes much sooner. */
const PATIENCE_MS = 20_000;

/** The run's object, anew: one that was aborted leads nowhere. */
const fresh = ({ id }: TestRun): TestRun => objectOf(id);

/** How many claims wait in the run's object. */
function parked(run: TestRun): Promise<number> {
  return runInDurableObject(
    fresh(run).stub,
    (_object, state) =>
      state.getWebSockets("claimer").filter((socket) => socket.deserializeAttachment() !== null).length,
  );
}

function untilParked(run: TestRun, count: number): Promise<number> {
  return eventually(
    () => parked(run).catch(() => -1),
    (waiting) => waiting === count,
    PATIENCE_MS,
  );
}

/** A claim that waits. */
function waiting(
  run: TestRun,
  body: Record<string, unknown> = {},
  headers: Record<string, string> = {},
): Promise<Answered> {
  const asked = { agent_id: "agent", wait_ms: PATIENCE_MS, ...body };
  return callAs(ROOT, "POST", `/v1/runs/${run.id}/tasks/claim`, asked, headers);
}

const tasks = (...ids: string[]) => creation(...ids.map((id) => row(id)));
const idOf = ({ body }: Answered): string | null => body.task?.id ?? null;

/** The object that is in memory now, to tell it from the one that comes after it. */
function instanceOf(run: TestRun): Promise<unknown> {
  return runInDurableObject(run.stub, (object) => ({ object })).then(({ object }) => object);
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe("a claim that waits", () => {
  it("claims: is answered as soon as there is something for it, as it would have been then", async () => {
    const run = await newTestRun();
    const claim = waiting(run);
    await untilParked(run, 1);
    await accepted(run, tasks("t"));
    const { status, body } = await claim;
    expect(status).toBe(200);
    expect(body).toEqual({
      task: expect.objectContaining({ id: "t", lease_owner: "agent", lease_token: body.lease.token }),
      lease: {
        token: expect.stringMatching(/^lease-/),
        fence: body.task.fence,
        expires_at_ms: expect.any(Number),
        expires_in_ms: expect.any(Number),
      },
      handover: null,
      reason: null,
      run_status: "queued",
    });
    const done = await http<{ task: { status: string } }>("POST", `/v1/runs/${run.id}/tasks/t/transition`, {
      body: { action: "complete", lease_token: body.lease.token },
    });
    expect(done.task.status).toBe("done");
    expect(await parked(run)).toBe(0);
    expect((await replayOf(run)).drift.mismatch).toBe(false);
  });

  it("claims: with max, takes several", async () => {
    const run = await newTestRun();
    const claim = waiting(run, { max: 5 });
    await untilParked(run, 1);
    await accepted(run, tasks("a", "b"));
    const { body } = await claim;
    expect(body.claims.map(({ task }: { task: { id: string } }) => task.id)).toEqual(["a", "b"]);
  });

  it("claims: does not wait when there is something", async () => {
    const run = await newTestRun();
    await accepted(run, tasks("t"));
    expect(idOf(await waiting(run))).toBe("t");
  });

  it("claims: answers null at its deadline, not before, and waits no more then", async () => {
    const run = await newTestRun();
    const startMs = performance.now();
    const { status, body } = await waiting(run, { wait_ms: 400 });
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(390);
    expect(status).toBe(200);
    expect(body).toMatchObject({
      task: null,
      lease: null,
      reason: "nothing_claimable",
      run_status: "queued",
    });
    expect(await parked(run)).toBe(0);
    await accepted(run, tasks("t"));
    expect((await eventsOf(run)).map(({ type }) => type)).toEqual(["context.task.created"]);
  });

  it("claims: of those that end just when a task comes, one at most holds it, and then says so", async () => {
    for (let round = 0; round < 8; round += 1) {
      const run = await newTestRun();
      const claims = Array.from({ length: 4 }, (_, n) => waiting(run, { agent_id: `a${n}`, wait_ms: 150 }));
      await scheduler.wait(120 + round * 8);
      await accepted(run, tasks("t"));
      const ids = (await Promise.all(claims)).map(idOf);
      const { lease_owner } = (
        await http<{ task: { lease_owner?: string } }>("GET", `/v1/runs/${run.id}/tasks/t`)
      ).task;
      expect(ids.filter((id) => id !== null)).toHaveLength(lease_owner === undefined ? 0 : 1);
      if (lease_owner !== undefined) expect(ids.indexOf("t")).toBe(Number(lease_owner.slice(1)));
    }
  });

  it.each([
    ["wait_ms over the bound", { wait_ms: MAX_WAIT_MS + 1 }, "wait_ms"],
    ["wait_ms below zero", { wait_ms: -1 }, "wait_ms"],
  ])("claims: %s is refused", async (_name, body, field) => {
    const run = await newTestRun();
    const { status, body: problem } = await waiting(run, body);
    expect([status, problem.code]).toEqual([422, "BODY_INVALID"]);
    expect(problem.issues).toMatchObject([{ field }]);
  });

  it("claims: /context does not know it", async () => {
    const run = await newTestRun();
    const body = { agent_id: "agent", wait_ms: "whatever", max: [] };
    expect(await http("POST", `/context/runs/${run.id}/tasks/claim`, { body })).toMatchObject({ task: null });
  });

  it("claims: one that is too large to be kept while it waits is refused, and may be tried without waiting", async () => {
    const run = await newTestRun();
    const locks = Array.from({ length: 20 }, (_, n) => ({ name: `${n}${"漢".repeat(390)}`, mode: "shared" }));
    const { status, body } = await waiting(run, { locks });
    expect([status, body]).toMatchObject([413, { code: "LIMIT_EXCEEDED", limit_name: "parked_claim_bytes" }]);
    expect((await waiting(run, { locks, wait_ms: 0 })).body).toMatchObject({ task: null });
  });

  it("claims: an unknown run is not waited for", async () => {
    expect(await waiting(objectOf())).toMatchObject({ status: 404, body: { code: "RUN_NOT_FOUND" } });
  });
});

describe("a run that changes while claims wait", () => {
  it("claims: paused, they wait on, and at the deadline say so", async () => {
    const run = await newTestRun();
    await accepted(run, note(null, "paused"));
    await accepted(run, tasks("t"));
    expect((await waiting(run, { wait_ms: 300 })).body).toMatchObject({
      task: null,
      reason: "run_paused",
      run_status: "paused",
    });
    const claim = waiting(run);
    await untilParked(run, 1);
    await accepted(run, note(null, "running"));
    expect(idOf(await claim)).toBe("t");
  });

  it("claims: over, all are told at once; one that comes later does not wait", async () => {
    const run = await newTestRun();
    const claims = [waiting(run), waiting(run, { task_type: "x" })];
    await untilParked(run, 2);
    await accepted(run, note(null, "cancelled"));
    const expected = { task: null, lease: null, reason: "run_cancelled", run_status: "cancelled" };
    for (const { body } of await Promise.all(claims)) expect(body).toMatchObject(expected);
    expect((await waiting(run)).body).toMatchObject(expected);
  });

  it.each([
    ["deleted", "DELETE", "", 204, 404, "RUN_NOT_FOUND"],
    ["archived", "POST", "/archive", 200, 410, "RUN_ARCHIVED"],
  ])("claims: %s, they are told the problem", async (_name, method, path, status, problem, code) => {
    const run = await newTestRun();
    const claims = [waiting(run), waiting(run)];
    await untilParked(run, 2);
    const gone = await callAs(ROOT, method, `/v1/runs/${run.id}${path}`);
    expect(gone.status, gone.text).toBe(status);
    for (const answer of await Promise.all(claims)) {
      expect([answer.status, answer.body.code]).toEqual([problem, code]);
    }
  });

  it("claims: a lease that runs out is given to the one that waits, by the alarm", async () => {
    const run = await newTestRun();
    await accepted(run, tasks("t"));
    await accepted(run, { op: "claim_task", agent_id: "gone", lease_ms: 5_000 });
    const { body } = await waiting(run);
    expect(body.task).toMatchObject({ id: "t", lease_owner: "agent" });
  });

  it("claims: a task whose retry time comes is given to the one that waits, by the alarm", async () => {
    const run = await newTestRun();
    await accepted(run, tasks("t"));
    const whole = (await http<{ run: { tasks: object[] } }>("GET", `/context/runs/${run.id}`)).run;
    const delayed = whole.tasks.map((task) => ({
      ...task,
      status: "runnable",
      next_retry_at_ms: Date.now() + 1_500,
    }));
    await http("PUT", `/context/runs/${run.id}`, { body: { ...whole, tasks: delayed } });
    const startMs = Date.now();
    const { body } = await waiting(run);
    expect(body.task).toMatchObject({ id: "t", lease_owner: "agent" });
    expect(Date.now() - startMs).toBeLessThan(PATIENCE_MS);
    expect(body.task.claimed_at_ms).toBeGreaterThanOrEqual(body.task.next_retry_at_ms);
  });
});

describe("objects and claims that wait", () => {
  it("claims: the object may sleep: they keep their places, and are served when something wakes it", async () => {
    const run = await newTestRun();
    const first = waiting(run, { agent_id: "first" });
    await untilParked(run, 1);
    const second = waiting(run, { agent_id: "second" });
    await untilParked(run, 2);
    await evict(run);
    const third = waiting(run, { agent_id: "third" });
    await untilParked(run, 3);
    await evict(run);
    const order: string[] = [];
    for (const claim of [first, second, third]) {
      void claim.then(({ body }) => order.push(`${body.task.lease_owner} ${body.task.id}`));
    }
    for (const id of ["a", "b", "c"]) await accepted(run, tasks(id));
    await Promise.all([first, second, third]);
    expect(order.sort()).toEqual(["first a", "second b", "third c"]);
  });

  it("claims: a hundred that wait let the runtime evict the object; each gets one task when they come", async () => {
    const run = await newTestRun();
    const claims = Array.from({ length: 100 }, (_, n) =>
      waiting(run, { agent_id: `a${n}`, wait_ms: 40_000 }),
    );
    await untilParked(run, 100);
    const before = await instanceOf(run);
    // Asking whether an object sleeps would wake it.
    await scheduler.wait(IDLE_MS);
    expect(await instanceOf(run)).not.toBe(before);
    const ids = Array.from({ length: 100 }, (_, n) => `t${n}`);
    await accepted(run, tasks(...ids));
    const given = (await Promise.all(claims)).map(idOf);
    expect(given.toSorted()).toEqual(ids.toSorted());
  });

  it("claims: restarted, as by a new release: they come back to their places", async () => {
    const run = await newTestRun();
    const first = waiting(run, { agent_id: "first" });
    await untilParked(run, 1);
    const second = waiting(run, { agent_id: "second" });
    await untilParked(run, 2);
    await disturb(run.stub, "abort");
    await untilParked(run, 2);
    await accepted(fresh(run), tasks("a"));
    expect((await first).body.task).toMatchObject({ id: "a", lease_owner: "first" });
    await disturb(fresh(run).stub, "abort");
    await untilParked(run, 1);
    await accepted(fresh(run), tasks("b"));
    expect((await second).body.task).toMatchObject({ id: "b", lease_owner: "second" });
  });

  it("claims: restarted after a claim was stored and before it was told: it is told all the same", async () => {
    const run = await newTestRun();
    const claim = waiting(run);
    await untilParked(run, 1);
    // The last moment at which nothing is told yet.
    const socket = vi.spyOn(WebSocket.prototype, "send");
    socket.mockImplementation(() => {
      throw new Error("the line is cut");
    });
    await accepted(run, tasks("t"));
    expect(socket).toHaveBeenCalledWith(expect.stringMatching(/^A.*"id":"t"/));
    socket.mockRestore();
    await disturb(fresh(run).stub, "abort");
    expect(idOf(await claim)).toBe("t");
    const types = (await eventsOf(fresh(run))).map(({ type }) => type);
    expect(types.filter((type) => type === "context.task.claimed")).toHaveLength(1);
  });

  it("claims: disturbed all the time, each task is given out once and no claim is forgotten", async () => {
    const run = await newTestRun();
    const ids = Array.from({ length: 24 }, (_, n) => `t${n}`);
    const claims = ids.map((_, n) => waiting(run, { agent_id: `a${n}`, wait_ms: 40_000 }));
    await untilParked(run, ids.length);
    for (const [n, id] of ids.entries()) {
      await submit(fresh(run).client, { command: tasks(id), commandId: id, fingerprint: "f" }).catch(
        () => undefined,
      );
      if (n % 5 === 4) await disturb(fresh(run).stub, n % 2 === 0 ? "abort" : "sleep");
    }
    for (const id of ids) {
      await eventually(
        () =>
          submit(fresh(run).client, { command: tasks(id), commandId: id, fingerprint: "f" }).then(
            ({ ok }) => ok,
            () => false,
          ),
        Boolean,
        PATIENCE_MS,
      );
    }
    const given = (await Promise.all(claims)).map(idOf);
    expect(given.toSorted()).toEqual(ids.toSorted());
    const claimed = (await eventsOf(fresh(run))).filter(({ type }) => type === "context.task.claimed");
    expect(claimed).toHaveLength(ids.length);
  });
});

describe("claims that wait under a key", () => {
  it("claims: a client that comes back gets what was claimed while it was away", async () => {
    const run = await newTestRun();
    const key = { "idempotency-key": crypto.randomUUID() };
    const first = waiting(run, {}, key);
    await untilParked(run, 1);
    const second = waiting(run, {}, key);
    await untilParked(run, 2);
    await accepted(run, tasks("t", "u"));
    // It waits less long now, and asks for the same.
    const answers = [await first, await second, await waiting(run, { wait_ms: 10 }, key)];
    expect(answers.map(idOf)).toEqual(["t", "t", "t"]);
    expect(new Set(answers.map(({ body }) => body.lease.token)).size).toBe(1);
    const replays = answers.map(({ headers }) => headers.get("idempotency-replayed"));
    expect(replays).toEqual([null, "true", "true"]);
  });

  it("claims: without one, no repeat is told of", async () => {
    const run = await newTestRun();
    const claim = waiting(run);
    await untilParked(run, 1);
    await accepted(run, tasks("t"));
    expect((await claim).headers.get("idempotency-replayed")).toBeNull();
  });
});

describe("credentials of claims that wait", () => {
  async function scene(agent: Record<string, unknown> = {}) {
    const { token: operator } = await mint({ scopes: ["operator"], tenant: newTenant() });
    const { body } = await callAs(operator, "POST", "/v1/runs", { objective: "o" });
    const runId: string = body.run.run_id;
    const token = await mint({ scopes: ["agent"], ...agent }, operator);
    const claim = callAs(token.token, "POST", `/v1/runs/${runId}/tasks/claim`, {
      agent_id: "agent",
      wait_ms: PATIENCE_MS,
    });
    const post = (path: string, sent: unknown) => callAs(operator, "POST", path, sent);
    return {
      claim,
      addTask: () => post(`/v1/runs/${runId}/tasks`, { tasks: [{ id: "t", task_type: "x" }] }),
      revoke: () => post(`/v1/tokens/${token.token_id}/revoke`, undefined),
      task: async () => (await callAs(operator, "GET", `/v1/runs/${runId}/tasks/t`)).body.task,
    };
  }

  it("claims: one that was revoked is refused, and what was claimed for it is given back", async () => {
    const { claim, addTask, revoke, task } = await scene();
    await scheduler.wait(300);
    await revoke();
    await addTask();
    expect(await claim).toMatchObject({ status: 401, body: { code: "AUTH_REQUIRED" } });
    const left = await eventually(task, ({ status }) => status !== "in_progress", PATIENCE_MS);
    expect(left.lease_owner).toBeUndefined();
  });

  it("claims: one that was revoked gives nothing back that another has claimed under the same key", async () => {
    const { token: operator } = await mint({ scopes: ["operator"], tenant: newTenant() });
    const post = (path: string, sent?: unknown, headers?: Record<string, string>, as = operator) =>
      callAs(as, "POST", path, sent, headers);
    const { body } = await post("/v1/runs", { objective: "o" });
    const path = `/v1/runs/${body.run.run_id}/tasks`;
    const { token, token_id } = await mint({ scopes: ["agent"] }, operator);
    const key = { "idempotency-key": crypto.randomUUID() };
    const claim = post(
      `${path}/claim`,
      { agent_id: "a", task_type: "other", wait_ms: PATIENCE_MS },
      key,
      token,
    );
    await scheduler.wait(300);
    await post(`/v1/tokens/${token_id}/revoke`);
    await post(path, { tasks: [{ id: "t", task_type: "x" }] });
    const held = await post(`${path}/claim`, { agent_id: "b", task_type: "x" }, key);
    expect(idOf(held)).toBe("t");
    expect(await claim).toMatchObject({ status: 401 });
    const { lease } = held.body;
    const done = await post(`${path}/t/transition`, { action: "complete", lease_token: lease.token });
    expect(done).toMatchObject({ status: 200, body: { task: { status: "done" } } });
  });

  it("claims: the wait ends with a credential that expires", async () => {
    const { claim } = await scene({ expires_in_ms: 1_500 });
    const startMs = performance.now();
    expect(await claim).toMatchObject({ status: 401, body: { code: "AUTH_REQUIRED" } });
    expect(performance.now() - startMs).toBeLessThan(8_000);
  });
});

describe("a line that broke at one end only", () => {
  it("claims: who has come back by another has one place, also when the object has slept; the old one is served no more", async () => {
    const run = await newTestRun();
    const command = { op: "claim_task", agent_id: "agent", strict: true };
    const park = async (place: number | null) => {
      const { webSocket: line } = await (run.stub as unknown as Fetcher).fetch("https://object/claim", {
        headers: { upgrade: "websocket" },
      });
      if (line === null) throw new Error("a claimer is taken in");
      line.accept();
      const heard: string[] = [];
      line.addEventListener("message", ({ data }) => heard.push(String(data)));
      line.send(JSON.stringify({ park: { command, commandId: "key", fingerprint: "f" }, place }));
      await eventually(async () => heard.length, Boolean, PATIENCE_MS);
      return { line, heard, place: Number(heard[0]?.slice(1)) };
    };
    const old = await park(null);
    const anew = await park(old.place);
    expect(await parked(run)).toBe(1);
    await evict(run);
    expect(await parked(run)).toBe(1);
    // It is the other's place now.
    old.line.send("leave");
    await accepted(run, note());
    expect(await parked(run)).toBe(1);
    await accepted(run, tasks("a", "b"));
    await eventually(
      async () => anew.heard.length,
      (count) => count === 2,
      PATIENCE_MS,
    );
    expect(anew.heard[1]).toContain('"id":"a"');
    expect(old.heard).toHaveLength(1);
    await accepted(run, note());
    expect((await eventsOf(run)).filter(({ type }) => type === "context.task.claimed")).toHaveLength(1);
  });
});

describe("a client that leaves", () => {
  it("claims: a claim whose line was closed without a word is not served", async () => {
    const run = await newTestRun();
    // As the Worker does it, and then dies.
    const opened = await (run.stub as unknown as Fetcher).fetch("https://object/claim", {
      headers: { upgrade: "websocket" },
    });
    const { webSocket: line } = opened;
    line?.accept();
    const command = { op: "claim_task", agent_id: "ghost", strict: true };
    line?.send(JSON.stringify({ park: { command, commandId: "ghost" }, place: null }));
    await untilParked(run, 1);
    const claim = waiting(run, { agent_id: "alive" });
    await untilParked(run, 2);
    line?.close(1000);
    await untilParked(run, 1);
    await accepted(run, tasks("t"));
    expect((await claim).body.task).toMatchObject({ id: "t", lease_owner: "alive" });
  });
});
