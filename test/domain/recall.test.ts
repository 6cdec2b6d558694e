import { describe, expect, it } from "vitest";
import type { Command } from "../../src/domain/command.ts";
import type { Commit } from "../../src/domain/commit.ts";
import { newHead } from "../../src/domain/head.ts";
import { MemoryRun } from "../../src/domain/memory.ts";
import {
  type BatchPart,
  batchPart,
  claimsOf,
  factsOf,
  heldOutcome,
  leaseOf,
  type Outcome,
  type OutcomeOf,
  recall,
} from "../../src/domain/outcome.ts";
import { aFile, aMutation, aRollback, storedStep } from "../support/audit.ts";
import {
  aContext,
  accepted,
  aRow,
  aRun,
  aTask,
  batch,
  committed,
  heldTask,
  maskToken,
  memoryRun,
  NOW,
  stepsOf,
  transition,
} from "../support/builders.ts";

/** A run in which every command has something to do. */
function arranged(): MemoryRun {
  const lock = { lock_id: "lock-0", agent_id: "bob", fence: 1, lease_token: maskToken("lease-2") };
  const locks = [{ ...lock, resources: [{ name: "n", mode: "exclusive" as const }], expires_at_ms: NOW + 1 }];
  const run = new MemoryRun({ ...newHead(aRun({ steps: stepsOf({ a: "pending" }) })), locks }, [
    heldTask(),
    aTask({ id: "idle", priority: 1 }),
    aTask({ id: "other" }),
    aTask({
      id: "dead",
      status: "failed",
      dead_letter: true,
      failure: { cause: "attempts_exhausted", at_ms: 1 },
    }),
    aTask({ id: "late", clocks: { start_within_ms: 1 } }),
    heldTask({ id: "stale", lease_expires_at_ms: NOW }),
  ]);
  const file = { path: "p", sha256: "a".repeat(64), bytes: 1, content_type: "text/plain" };
  run.restore({ file: { ...file, version: 0, ts_ms: 1 } });
  return run;
}

const lockProof = { lock_id: "lock-0", lease_token: "lease-2" };
const resources = [{ name: "m", mode: "exclusive" as const }];
const acquire = { op: "acquire_lock", agent_id: "ann", resources } as const;
const claim = { op: "claim_task", agent_id: "ann" } as const;
const beat = transition("heartbeat", { lease_token: "lease-1", strict: true });

/** One of each kind, some in several ways: all have something to do in that run. Rollbacks have a test of their own. */
const COMMANDS: { [Op in Exclude<Command["op"], "execute_rollback">]: (Command & { op: Op })[] } = {
  append_event: [{ op: "append_event", type: "note", payload: null }],
  patch_blackboard: [{ op: "patch_blackboard", patch_op: "set_rolling_summary", payload: "s" }],
  replace_run: [{ op: "replace_run", run: arranged().run() }],
  put_settings: [{ op: "put_settings", settings: { grace_ms: 5 } }],
  sync_todos: [
    {
      op: "sync_todos",
      todos: [{ content: "c" }],
      replace: true,
      source_session_id: null,
      source_run_id: null,
    },
  ],
  select_next_step: [{ op: "select_next_step", dry_run: false }],
  validate_workspace: [{ op: "validate_workspace", phase: "work", current_path: "/else" }],
  create_tasks: [
    batch(aRow({ id: "new" }), aRow()),
    { ...batch(aRow({ depends_on_task_ids: ["nope", "idle"] })), strict: true },
  ],
  claim_task: [claim, { ...claim, max: 2 }, { ...claim, locks: resources }],
  transition_task: [
    beat,
    { ...beat, strict: undefined },
    transition("complete", { lease_token: "lease-1", strict: true }),
    transition("status", { task_id: "idle", status: "blocked" }),
  ],
  redrive_task: [{ op: "redrive_task", task_id: "dead" }],
  redrive_tasks: [{ op: "redrive_tasks", limit: 5, preview: false }],
  change_dependencies: [{ op: "change_dependencies", task_id: "idle", add: ["nope", "other"], remove: [] }],
  cancel_task: [
    { op: "cancel_task", task_id: "t" },
    { op: "cancel_task", task_id: "idle" },
  ],
  control_run: [{ op: "control_run", action: "pause", reason: "why", grace_ms: 5 }],
  record_mutation: [
    {
      op: "record_mutation",
      session_id: "s",
      message_id: "m",
      tool: "write",
      outcome: "succeeded",
      files: [{ path: "p", before_version: null, after_version: 0 }],
    },
  ],
  requeue_stale: [{ op: "requeue_stale" }],
  acquire_lock: [acquire],
  heartbeat_lock: [{ op: "heartbeat_lock", ...lockProof }],
  release_lock: [{ op: "release_lock", ...lockProof }],
  settle_due: [{ op: "settle_due" }],
  record_heartbeats: [
    { op: "record_heartbeats", reports: [{ task_id: "t", task_rev: 1, expires_at_ms: NOW + 9 }] },
  ],
  put_artifact: [
    {
      op: "put_artifact",
      path: "q",
      sha256: "b".repeat(64),
      bytes: 1,
      content_type: "text/plain",
      artifact: { artifact_type: "file" },
    },
  ],
  remove_artifact: [{ op: "remove_artifact", path: "p" }],
};

const commands = Object.values<Command[]>(COMMANDS).flat();

/** What a command did, with its commits as the log gives them back. */
function made(command: Command, run: MemoryRun): { outcome: Outcome; log: Commit[] } {
  const { outcome, commits } = accepted(command, run);
  return { outcome, log: JSON.parse(JSON.stringify(commits)) as Commit[] };
}

describe("a repeat is told what was told first", () => {
  it.each(commands)("05§5 $op", (command) => {
    const { outcome, log } = made(command, arranged());
    expect(log.length).toBeGreaterThan(0);
    expect(recall(command, log, factsOf(outcome), aContext())).toEqual(outcome);
    expect(recall(command, [], factsOf(outcome), aContext())).toBeNull();
    // The commits tell all of it.
    expect(factsOf(outcome)).toStrictEqual({});
  });

  it.each(["patch_blackboard", "transition_task", "put_artifact"] as const)(
    "05§5 %s is told nothing where the commits are another's",
    (op) => {
      const { log } = made({ op: "append_event", type: "note", payload: null }, arranged());
      for (const command of COMMANDS[op]) expect(recall(command, log, {}, aContext())).toBeNull();
    },
  );

  it("05§5 execute_rollback by the engine and by an agent, for which a task is made first", () => {
    for (const executor of ["artifacts", "agent"] as const) {
      const run = memoryRun({ status: "paused" });
      const record = aMutation([
        aFile({
          path: "f",
          existed_after: false,
          rollback_snapshot: { status: "inline_text", content: "x" },
        }),
      ]);
      const [recorded] = committed(
        { op: "append_event", type: "mutation_checkpoint_recorded", payload: { record } },
        run,
      );
      if (recorded === undefined) throw new Error("an append makes a commit");
      const command = aRollback([storedStep(recorded.event, record)], { executor });
      const { outcome, log } = made(command, run);
      expect(log).toHaveLength(executor === "agent" ? 2 : 1);
      expect(recall(command, log, {}, aContext())).toEqual(outcome);
    }
  });

  it("05§5 validate_workspace of a run that had no path yet", () => {
    const { workspace } = aRun();
    const command = { op: "validate_workspace", phase: "work", current_path: "/srv/new" } as const;
    const { outcome, log } = made(command, memoryRun({ workspace: { ...workspace, canonical_path: "" } }));
    expect(outcome).toMatchObject({ mismatch: null, event: { type: "workspace_validated" } });
    expect(recall(command, log, {}, aContext())).toEqual(outcome);
  });

  it("05§5 the rows that a batch of tasks left out", () => {
    const run = arranged();
    const command = batch(aRow({ command_id: "k1" }), aRow({ command_id: "k2" }));
    committed(batch(aRow({ command_id: "k1" })), run);
    const { outcome, log } = made(command, run);
    expect(factsOf(outcome)).toEqual({ deduped: ["k1"] });
    expect(recall(command, log, factsOf(outcome), aContext())).toEqual(outcome);
  });

  it("D38 tokens only by the deployment that gave them", () => {
    const elsewhere = { ...aContext(), maskToken: () => `sha256:${"0".repeat(32)}` };
    const claimed = recall(claim, made(claim, arranged()).log, {}, elsewhere);
    expect(claimed).toMatchObject({ task: { id: "idle" }, lease: null });
    const locked = recall(acquire, made(acquire, arranged()).log, {}, elsewhere);
    expect(locked).toMatchObject({ lock: { agent_id: "ann" }, token: null });
    const told = recall(beat, made(beat, arranged()).log, {}, elsewhere);
    expect(told).toMatchObject({ task: { lease_token: maskToken("lease-1") }, lease: null });
  });
});

describe("a repeat of several commands in one", () => {
  /** A row that was there before, tasks, a claim, one that finds nothing, and an event. */
  const all: Command[] = [
    batch(aRow({ command_id: "k1" }), aRow({ command_id: "k2", id: "new", priority: 9 })),
    claim,
    { ...claim, task_type: "none" },
    { op: "append_event", type: "note", payload: null },
  ];
  const whole = (list: Command[] = all) =>
    ({ op: "batch", commands: list, dry_run: false }) satisfies Parameters<typeof recall>[0];

  function done() {
    const run = arranged();
    committed(batch(aRow({ command_id: "k1" })), run);
    const context = aContext();
    const outcomes: Outcome[] = [];
    const parts: BatchPart[] = [];
    const log: Commit[] = [];
    for (const command of all) {
      const { outcome, commits } = accepted(command, run, context);
      for (const commit of commits) run.apply(commit);
      outcomes.push(outcome);
      parts.push(batchPart(outcome, commits.length));
      log.push(...(JSON.parse(JSON.stringify(commits)) as Commit[]));
    }
    return { outcomes, parts, log, revision: run.head().run.revision };
  }

  it("is told what each of them did, and at which revision", () => {
    const { outcomes, parts, log, revision } = done();
    const told = { op: "batch", outcomes, revision, dry_run: false };
    expect(recall(whole(), log, { parts }, aContext())).toEqual(told);
    // Only what made no commit is kept in the receipt: no token is.
    expect(parts.map(({ outcome }) => outcome?.op ?? null)).toEqual([null, null, "claim_task", null]);
    expect(parts[0]?.deduped).toEqual(["k1"]);
  });

  it.each<[string, Command[]]>([
    ["other commands", all.toReversed()],
    ["fewer", all.slice(0, -1)],
    ["more", [...all, claim]],
  ])("is told nothing when it asks for %s", (_, list) => {
    const { parts, log } = done();
    expect(recall(whole(list), log, { parts }, aContext())).toBeNull();
    expect(recall(whole(list), log, {}, aContext())).toBeNull();
  });

  it("is told nothing where a commit is none of its command's", () => {
    const { log } = made({ op: "append_event", type: "note", payload: null }, arranged());
    const parts: BatchPart[] = [{ op: "patch_blackboard", commits: 1 }];
    expect(recall(whole(COMMANDS.patch_blackboard), log, { parts }, aContext())).toBeNull();
  });
});

describe("what outcomes tell of leases", () => {
  it("claims: who claimed several is told each with its lease, and who claimed one is told the same of it", () => {
    const one = accepted(claim, arranged()).outcome as OutcomeOf<"claim_task">;
    expect(claimsOf(one)).toEqual([{ task: one.task, lease: one.lease }]);
    const several = accepted({ ...claim, max: 2 }, arranged()).outcome as OutcomeOf<"claim_task">;
    expect(several).toMatchObject({ task: null, lease: null });
    expect(claimsOf(several).map(({ task }) => task?.id)).toEqual(["idle", "other"]);
    expect(claimsOf(accepted({ ...claim, task_type: "none" }, arranged()).outcome)).toEqual([]);
    expect(claimsOf(accepted({ op: "settle_due" }, arranged()).outcome)).toEqual([]);
    expect(claimsOf(null)).toEqual([]);
  });

  it("claims: of transitions, only a heartbeat by the strict rules tells how the run stands", () => {
    const standing = (command: Command) => "standing" in accepted(command, arranged()).outcome;
    expect(commands.filter(standing)).toEqual([beat]);
  });

  it("claims: a lease is told of where there is a token in clear, and an end", () => {
    const { lease_expires_at_ms: _expires, ...endless } = heldTask();
    const { lease_token: _token, ...bare } = heldTask();
    expect([aTask(), endless, bare].map((task) => leaseOf(task, NOW))).toEqual([null, null, null]);
    const known = { lease_token: "x", lease_expires_at_ms: NOW + 5 };
    const lease = { token: "x", owner: "", fence: null, expires_at_ms: NOW + 5 };
    expect(leaseOf(aTask(known), NOW)).toEqual({ ...lease, expires_in_ms: 5 });
    expect(leaseOf(aTask(known), NOW + 9)).toEqual({ ...lease, expires_in_ms: 0 });
  });

  it("claims: a heartbeat that is not recorded yet tells of the task and lease as they are recorded", () => {
    const stored = heldTask({ task_rev: 4 });
    const decided = accepted(beat, arranged()).outcome as OutcomeOf<"transition_task">;
    const { standing } = decided;
    expect(heldOutcome(decided, stored, NOW - 5)).toEqual({
      op: "transition_task",
      task: { ...stored, lease_token: "lease-1" },
      patch: null,
      lease: { token: "lease-1", owner: "ann", fence: 7, expires_at_ms: NOW + 1, expires_in_ms: 6 },
      standing,
    });
    const unproven = { ...decided, lease: null };
    expect(heldOutcome(unproven, stored, NOW)).toMatchObject({ task: stored, lease: null });
  });
});
