import { describe, expect, it } from "vitest";
import type { EventRecord } from "../../src/protocol/event.ts";
import type { Lease, Task } from "../../src/protocol/task.ts";
import {
  accepted,
  creation,
  eventsOf,
  evict,
  http,
  inObject,
  newTestRun,
  overviewOf,
  replayOf,
  row,
  type TestRun,
  useTestClock,
  wholeRun,
} from "./support/test-run.ts";

const clock = useTestClock();

const LEASE_MS = 30_000;
const NOBODY = { lease_owner: null, fence: null, lease_expires_at_ms: null };

interface Claim {
  task: Task;
  lease: Lease;
}

const claim = (run: TestRun, agent_id: string) =>
  http<Claim>("POST", `/v1/runs/${run.id}/tasks/claim`, { body: { agent_id, lease_ms: LEASE_MS } });

/** Every write of an agent that can name the lease it is made under; of transitions, each action. */
const WRITES: [string, (lease: Lease) => [string, string, Record<string, unknown>]][] = [
  ["an event", () => ["POST", "/events", { type: "note", status: "running" }]],
  ["a patch", () => ["POST", "/blackboard/patches", { op: "set_rolling_summary", payload: "x" }]],
  ["a todo list", () => ["POST", "/todos/sync", { todos: [{ content: "c" }] }]],
  ["new tasks", () => ["POST", "/tasks", { tasks: [{ task_type: "t" }] }]],
  ["an artifact", () => ["POST", "/artifacts", { artifact_type: "t", content: 1 }]],
  [
    "a mutation",
    () => [
      "POST",
      "/checkpoints/mutations",
      { session_id: "s", message_id: "m", tool: "t", outcome: "failed", files: [] },
    ],
  ],
  ...["heartbeat", "complete", "fail", "release", "retry"].map((action): (typeof WRITES)[number] => [
    action,
    ({ token }) => ["POST", "/tasks/t/transition", { action, lease_token: token }],
  ]),
  [
    "a status",
    ({ token }) => [
      "POST",
      "/tasks/t/transition",
      { action: "status", status: "blocked", lease_token: token },
    ],
  ],
];

/** Writes under a lease; what it is refused for is a problem. */
function write(run: TestRun, [, ask]: (typeof WRITES)[number], lease: Lease, status?: number) {
  const [method, sub, body] = ask(lease);
  const proof = sub.startsWith("/tasks/t/") ? {} : { task_id: "t", lease_token: lease.token };
  return http<Record<string, unknown>>(method, `/v1/runs/${run.id}${sub}`, {
    body: { ...body, ...proof },
    ...(status !== undefined && { status }),
  });
}

describe("claims: what is written under a lease that was lost", () => {
  it.each(WRITES)("%s is refused from the expiry on, naming the lease that is out", async (...ask) => {
    const run = await newTestRun();
    await accepted(run, creation(row("t")));
    const { lease } = await claim(run, "ann");
    clock.advance(LEASE_MS);
    const { revision } = await overviewOf(run);
    const late = await write(run, ask, lease, 409);
    // Not requeued yet: the lease is still the last one.
    const { fence, expires_at_ms: lease_expires_at_ms } = lease;
    expect(late).toMatchObject({
      code: "TASK_LEASE_INVALID",
      lease_owner: "ann",
      fence,
      lease_expires_at_ms,
    });
    expect((await overviewOf(run)).revision).toBe(revision);

    await inObject(run, (object) => object.sweep());
    expect(await write(run, ask, lease, 409)).toMatchObject({ code: "TASK_LEASE_INVALID", ...NOBODY });
    const next = await claim(run, "bob");
    expect(next.lease.fence).toBeGreaterThan(fence ?? 0);
    await evict(run);
    expect(await write(run, ask, lease, 409)).toMatchObject({
      code: "TASK_LEASE_INVALID",
      lease_owner: "bob",
      fence: next.lease.fence,
      lease_expires_at_ms: next.lease.expires_at_ms,
    });
    const { tasks } = await wholeRun(run);
    expect(tasks.find(({ id }) => id === "t")).toMatchObject({ status: "in_progress", lease_owner: "bob" });
  });

  it("on /context an expired lease still completes, and a refusal says what it did before", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("t"), row("u")));
    const { lease } = await claim(run, "ann");
    clock.advance(LEASE_MS);
    const path = `/context/runs/${run.id}/tasks/t/transition`;
    const refused = await http<object>("POST", path, { body: { action: "complete", lease_token: "no" } });
    expect(refused).toEqual({ ok: false, code: "TASK_LEASE_INVALID", error: "invalid lease token" });
    const done = await http<object>("POST", path, {
      body: { action: "complete", lease_token: lease.token },
    });
    expect(done).toMatchObject({ ok: true, task: { status: "done" } });
    expect((await eventsOf(run)).filter((event) => event.under !== undefined)).toEqual([]);
  });
});

describe("claims: what is written under a lease", () => {
  const lasting = WRITES.filter(([what]) => what !== "retry");
  it.each(lasting)("%s says so on its events, and replays", async (...ask) => {
    const run = await newTestRun();
    await accepted(run, creation(row("t")));
    const { lease } = await claim(run, "ann");
    const { last_event_seq: before } = await overviewOf(run);
    await write(run, ask, lease, ask[1](lease)[1].startsWith("/tasks/t/") ? 200 : anyStatus(ask[0]));
    const events: EventRecord[] = await eventsOf(run, before);
    expect(events.length).toBeGreaterThan(0);
    for (const { under } of events) {
      expect(under).toEqual({ task_id: "t", agent_id: "ann", fence: lease.fence });
    }
    expect((await replayOf(run)).drift).toMatchObject({ mismatch: false });
  });

  it("a client cannot say it of an event by itself", async () => {
    const run = await newTestRun();
    const under = { task_id: "t", agent_id: "ann", fence: 1 };
    const body = { type: "note", status: "running", payload: null, under };
    await http("POST", `/v1/runs/${run.id}/events`, { body, status: 422 });
    await http("POST", `/context/runs/${run.id}/events`, { body });
    const [event] = await eventsOf(run);
    expect(event).not.toHaveProperty("under");
  });
});

describe("claims: a fence only grows per task", () => {
  it("through releases, expiries, a replaced run, a replaced task and an eviction", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("t")));
    const fences: number[] = [];
    const next = async (agent: string): Promise<Lease> => {
      const { lease } = await claim(run, agent);
      fences.push(lease.fence ?? 0);
      return lease;
    };
    const transition = (token: string, action: string) =>
      http("POST", `/v1/runs/${run.id}/tasks/t/transition`, { body: { action, lease_token: token } });
    await transition((await next("ann")).token, "release");
    await next("bob");
    clock.advance(LEASE_MS);
    const held = await next("cid");
    // The copy that was read is put back under the same lease; then with the task free again, as an older client may.
    const copy = await wholeRun(run);
    await http("PUT", `/context/runs/${run.id}`, { body: copy });
    await transition(held.token, "release");
    await http("PUT", `/context/runs/${run.id}`, {
      body: { ...(await wholeRun(run)), tasks: [{ ...copy.tasks[0], ...FREE }] },
    });
    await next("dan");
    clock.advance(LEASE_MS);
    await inObject(run, (object) => object.sweep());
    const replacement = { ...creation(row("t")), replace_existing: true };
    await accepted(run, replacement);
    await evict(run);
    await next("eve");
    expect(fences).toEqual([...new Set(fences)].toSorted((a, b) => a - b));
    expect(fences).toHaveLength(5);
  });
});

const FREE = {
  status: "pending",
  lease_owner: null,
  lease_token: null,
  lease_expires_at_ms: null,
  fence: undefined,
  claimed_at_ms: undefined,
};

/** What a write that makes something is answered with. */
function anyStatus(what: string): number {
  return what === "a todo list" ? 200 : 201;
}
