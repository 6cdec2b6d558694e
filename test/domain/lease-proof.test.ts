import { describe, expect, it } from "vitest";
import type { Command, LeaseProof } from "../../src/domain/command.ts";
import type { MemoryRun } from "../../src/domain/memory.ts";
import {
  aContext,
  aRow,
  aTask,
  batch,
  committed,
  leasedTo,
  memoryRun,
  NOW,
  refused,
  transition,
} from "../support/builders.ts";

const SHA = "a".repeat(64);

/** Every command that may say which lease it is made under, beside transitions. */
const WRITES: Record<string, (proof: LeaseProof) => Command> = {
  append_event: (proof) => ({ op: "append_event", type: "note", payload: null, ...proof }),
  patch_blackboard: (proof) => ({
    op: "patch_blackboard",
    patch_op: "set_rolling_summary",
    payload: "x",
    ...proof,
  }),
  sync_todos: (proof) => ({
    op: "sync_todos",
    todos: [{ content: "c" }],
    replace: true,
    source_session_id: null,
    source_run_id: null,
    ...proof,
  }),
  create_tasks: (proof) => ({ ...batch(aRow(), aRow()), ...proof }),
  record_mutation: (proof) => ({
    op: "record_mutation",
    session_id: "s",
    message_id: "m",
    tool: "write",
    outcome: "succeeded",
    files: [],
    ...proof,
  }),
  put_artifact: (proof) => ({
    op: "put_artifact",
    path: "a.txt",
    sha256: SHA,
    bytes: 1,
    content_type: "text/plain",
    artifact: { artifact_type: "file" },
    ...proof,
  }),
};

const writes = Object.entries(WRITES).map(([op, write]) => ({ op, write }));

/** Board with `t`, claimed by ann under fence 7 until `expires`, or by nobody. */
const held = (expires = NOW + 1): MemoryRun =>
  memoryRun({}, [
    aTask({
      status: "in_progress",
      ...leasedTo("ann", "lease-1", expires),
      fence: 7,
      claimed_at_ms: NOW - 9,
    }),
  ]);
const free = () => memoryRun({}, [aTask()]);

const strictly = (command: Command): Command => ({ ...command, strict: true });

const HOLDER = { lease_owner: "ann", fence: 7, lease_expires_at_ms: NOW + 1 };
const NOBODY = { lease_owner: null, fence: null, lease_expires_at_ms: null };

describe("a write under a lease", () => {
  it.each(writes)("claims: $op under the lease that is out tells of it on its events", ({ write }) => {
    const commits = committed(strictly(write({ task_id: "t", lease_token: "lease-1" })), held());
    expect(commits.length).toBeGreaterThan(0);
    for (const { event } of commits) expect(event.under).toEqual({ task_id: "t", agent_id: "ann", fence: 7 });
  });

  it.each(writes)("claims: $op that names no lease tells of none", ({ write }) => {
    for (const { event } of committed(strictly(write({})), held())) expect(event).not.toHaveProperty("under");
  });

  it.each(writes)(
    "claims: $op under a lease that is not out is refused, naming the one that is",
    ({ write }) => {
      const stale = strictly(write({ task_id: "t", lease_token: "lease-0" }));
      const code = "TASK_LEASE_INVALID";
      expect(refused(stale, held())).toEqual({ code, error: "invalid lease token", ...HOLDER });
      expect(refused(stale, free())).toEqual({ code, error: "invalid lease token", ...NOBODY });
      const bare = strictly(write({ task_id: "t" }));
      expect(refused(bare, held())).toMatchObject({ code: "TASK_LEASE_REQUIRED", ...HOLDER });
      const unknown = strictly(write({ task_id: "u", lease_token: "lease-1" }));
      expect(refused(unknown, held())).toMatchObject({ code: "TASK_NOT_FOUND" });
      const homeless = strictly(write({ lease_token: "lease-1" }));
      expect(refused(homeless, held())).toMatchObject({
        code: "FIELD_INVALID",
        issues: [{ field: "task_id" }],
      });
    },
  );

  it.each(writes)("claims: $op is refused from the millisecond of the expiry on", ({ write }) => {
    const command = strictly(write({ task_id: "t", lease_token: "lease-1" }));
    for (const expires of [NOW, NOW - 1, 0]) {
      expect(refused(command, held(expires))).toEqual({
        code: "TASK_LEASE_INVALID",
        error: "the lease has expired",
        ...HOLDER,
        lease_expires_at_ms: expires,
      });
    }
    expect(committed(command, held(NOW + 1)).length).toBeGreaterThan(0);
  });

  it("claims: a path is taken out of the artifact space under a lease as it is put there", () => {
    const proof = { task_id: "t", lease_token: "lease-1" };
    const run = held();
    committed(strictly(WRITES.put_artifact?.({}) as Command), run);
    const remove: Command = { op: "remove_artifact", path: "a.txt", ...proof, strict: true };
    expect(refused(remove, run, aContext(NOW + 1))).toMatchObject({ code: "TASK_LEASE_INVALID" });
    const [commit] = committed(remove, run);
    expect(commit?.event.under).toEqual({ task_id: "t", agent_id: "ann", fence: 7 });
  });

  it("claims: a lease that no claim gave has no fence, and is told all the same", () => {
    const run = memoryRun({}, [aTask({ status: "in_progress", ...leasedTo("ann", "lease-1") })]);
    const [commit] = committed(
      strictly({ op: "append_event", type: "note", payload: null, task_id: "t", lease_token: "lease-1" }),
      run,
    );
    expect(commit?.event.under).toEqual({ task_id: "t", agent_id: "ann", fence: null });
  });
});

describe("a transition by the strict rules", () => {
  const actions = [
    transition("heartbeat"),
    transition("complete"),
    transition("fail"),
    transition("release"),
    transition("status", { status: "blocked" }),
    transition("status", { status: "done" }),
    transition("status", { status: "runnable" }),
  ];

  it.each(actions)("claims: $action $status under the lease tells of it", (command) => {
    const [commit] = committed(strictly({ ...command, lease_token: "lease-1" }), held());
    expect(commit?.event.under).toEqual({ task_id: "t", agent_id: "ann", fence: 7 });
    const [lenient] = committed({ ...command, lease_token: "lease-1" }, held());
    expect(lenient?.event).not.toHaveProperty("under");
  });

  it.each(actions)("claims: $action $status is refused once the lease has expired", (command) => {
    const late = strictly({ ...command, lease_token: "lease-1" });
    expect(refused(late, held(NOW))).toEqual({
      code: "TASK_LEASE_INVALID",
      error: "the lease has expired",
      ...HOLDER,
      lease_expires_at_ms: NOW,
    });
  });

  it.each(actions)(
    "claims: $action $status with the token of a lease that ended is refused as stale",
    (command) => {
      const late = strictly({ ...command, lease_token: "lease-1" });
      for (const status of ["runnable", "in_progress", "blocked", "done", "failed"] as const) {
        const run = memoryRun({}, [aTask({ status })]);
        expect(refused(late, run)).toMatchObject({ code: "TASK_LEASE_INVALID", ...NOBODY });
      }
      const taken = memoryRun({}, [
        aTask({ status: "in_progress", ...leasedTo("bob", "lease-2"), fence: 9 }),
      ]);
      expect(refused(late, taken)).toMatchObject({
        code: "TASK_LEASE_INVALID",
        lease_owner: "bob",
        fence: 9,
      });
    },
  );

  it("claims: work whose lease has expired can be taken back without a token", () => {
    for (const command of [transition("retry"), transition("status", { status: "runnable" })]) {
      const run = memoryRun({}, [aTask({ status: "blocked", ...leasedTo("ann", "lease-1", NOW) })]);
      const [commit] = committed(strictly(command), run);
      expect(run.task("t")?.status).toBe("runnable");
      expect(commit?.event).not.toHaveProperty("under");
    }
  });
});
