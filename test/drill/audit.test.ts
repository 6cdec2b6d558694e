import { describe, expect, it } from "vitest";
import { type AuditInput, audit } from "../../bench/drill/audit.ts";
import type { PlanTask } from "../../bench/drill/plan.ts";
import {
  type AuditEvent,
  type AuditTask,
  type CommandRecord,
  toAuditEvent,
  toReplayView,
  toRunView,
} from "../../bench/drill/records.ts";

/** `Mutable<AuditInput>`: the tests damage a healthy log in place. */
type Mutable<T> = T extends readonly (infer U)[]
  ? Mutable<U>[]
  : T extends object
    ? { -readonly [K in keyof T]: Mutable<T[K]> }
    : T;
type Log = Mutable<AuditInput>;
type Answer = Mutable<CommandRecord["answers"][number]>;

const plan: PlanTask[] = [
  { id: "old", task_type: "task", payload: {}, status: "done", priority: 80, depends_on_task_ids: [] },
  { id: "a", task_type: "task", payload: {}, status: "pending", priority: 80, depends_on_task_ids: ["old"] },
  { id: "b", task_type: "task", payload: {}, status: "pending", priority: 80, depends_on_task_ids: ["a"] },
];

function task(id: string, status: string, task_rev: number, more: Partial<AuditTask> = {}): AuditTask {
  return {
    id,
    status,
    task_type: "task",
    priority: 80,
    task_rev,
    depends_on_task_ids: plan.find((row) => row.id === id)?.depends_on_task_ids ?? [],
    parent_task_id: undefined,
    assigned_agent: undefined,
    lease_owner: undefined,
    lease_token: undefined,
    lease_expires_at_ms: undefined,
    fence: undefined,
    attempt: 0,
    max_attempts: 3,
    has_policy: false,
    next_retry_at_ms: undefined,
    dead_letter: false,
    cause: undefined,
    attempts: [],
    concurrency_key: undefined,
    clocks: {},
    ...more,
  };
}

const leased = (agent: string, lease: string, expiresAtMs: number, fence: number): Partial<AuditTask> => ({
  fence,
  assigned_agent: agent,
  lease_owner: agent,
  lease_token: `sha256:${lease}`,
  lease_expires_at_ms: expiresAtMs,
});

function event(seq: number, type: string, more: Partial<AuditEvent> = {}): AuditEvent {
  return {
    seq,
    ts_ms: 1000 + seq * 10,
    type,
    revision: seq + 1,
    task_id: more.task?.id,
    command_id: undefined,
    task: undefined,
    fact_id: undefined,
    marker: undefined,
    under: undefined,
    reason: undefined,
    lock: undefined,
    lock_ids: [],
    ...more,
  };
}

const taskEvent = (seq: number, verb: string, row: AuditTask, command_id?: string, ts_ms = 1000 + seq * 10) =>
  event(seq, `context.task.${verb}`, { task: row, command_id, ts_ms });

const answer = (effect: Answer["effect"], more: Partial<Answer> = {}): Answer => ({
  status: effect === undefined ? 409 : 200,
  code: effect === undefined ? "TASK_LEASE_INVALID" : undefined,
  replayed: false,
  effect,
  answered_ms: 0,
  ...more,
});

/** The command as it was sent then, each of its answers two milliseconds after the one before. */
const sent = (
  sent_ms: number,
  command: Omit<CommandRecord, "sent_ms" | "missed"> & { missed?: number },
): CommandRecord => ({
  missed: 0,
  ...command,
  sent_ms,
  answers: command.answers.map((one, index) => ({ ...one, answered_ms: sent_ms + 2 * (index + 1) })),
});

/**
 * A short drill in which nothing is wrong. Agent x is quick with task a; agent y takes b, stalls until its lease runs out
 * and comes too late; agent z finishes b.
 */
function healthy(): Log {
  const doneA = task("a", "done", 4, { assigned_agent: "x" });
  const doneB = task("b", "done", 5, { assigned_agent: "z", attempts: ["9 lease_expired"] });
  const counts = { done: 3, total: 3 };
  const run = {
    run_id: "r",
    run_type: "drill",
    status: "completed",
    objective: "o",
    source_client: "baton-drill",
    workspace: "/drill/r",
    revision: 15,
    last_event_seq: 14,
    created_at_ms: 1000,
    updated_at_ms: 7000,
    task_counts: counts,
  };
  const claimed = {
    task_id: "a",
    task_rev: 2,
    status: "in_progress",
    lease_token: "lease-1",
    lease_expires_at_ms: 6050,
    fence: 5,
  };
  const log: AuditInput = {
    plan,
    extras: [],
    leaseMs: 5000,
    concurrencyLimits: {},
    clockJumps: [],
    events: [
      taskEvent(1, "created", task("old", "done", 1)),
      taskEvent(2, "created", task("a", "pending", 1)),
      taskEvent(3, "created", task("b", "pending", 1)),
      event(4, "drill_started", { marker: "start" }),
      taskEvent(5, "claimed", task("a", "in_progress", 2, leased("x", "1", 6050, 5)), "c1"),
      taskEvent(6, "heartbeat", task("a", "in_progress", 3, leased("x", "1", 6060, 5)), "h1"),
      event(7, "context.blackboard.patched", { fact_id: "f1", under: { task_id: "a", fence: 5 } }),
      taskEvent(8, "completed", doneA, "d1"),
      taskEvent(9, "claimed", task("b", "in_progress", 2, leased("y", "2", 6090, 9)), "c2"),
      taskEvent(
        10,
        "stale_requeued",
        task("b", "runnable", 3, { assigned_agent: "y", attempts: ["9 lease_expired"] }),
        undefined,
        6090,
      ),
      taskEvent(
        11,
        "claimed",
        task("b", "in_progress", 4, { ...leased("z", "3", 11_100, 11), attempts: ["9 lease_expired"] }),
        "c3",
        6100,
      ),
      event(12, "context.blackboard.patched", {
        fact_id: "f2",
        ts_ms: 6200,
        under: { task_id: "b", fence: 11 },
      }),
      taskEvent(13, "completed", doneB, "d3", 6300),
      event(14, "drill_finished", { marker: "end", ts_ms: 7000 }),
    ],
    patches: [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13].map((seq) => ({ seq, source_event_seq: seq })),
    tasks: [task("old", "done", 1), { ...doneA }, { ...doneB }],
    facts: ["f1", "f2"],
    blackboardRevision: 13,
    run,
    directoryRow: { ...run },
    replays: [
      {
        from_checkpoint: false,
        checkpoint_seq: 0,
        events_applied: 14,
        patches_applied: 12,
        drift: [],
      },
      {
        from_checkpoint: true,
        checkpoint_seq: 8,
        events_applied: 6,
        patches_applied: 5,
        drift: [],
      },
    ],
    commands: [
      sent(1039, {
        command_id: "s",
        kind: "event",
        delivery: "once",
        mark: "start",
        answers: [answer({ seq: 4 })],
      }),
      sent(1049, {
        command_id: "c1",
        kind: "claim",
        agent: "x",
        delivery: "twice",
        answers: [answer(claimed), answer(claimed, { replayed: true })],
      }),
      sent(1059, {
        command_id: "h1",
        kind: "heartbeat",
        delivery: "once",
        task_id: "a",
        fence: 5,
        answers: [answer({ task_id: "a", task_rev: 3, status: "in_progress" })],
      }),
      sent(1069, {
        command_id: "p1",
        kind: "fact",
        delivery: "cut",
        missed: 1,
        task_id: "a",
        fence: 5,
        mark: "f1",
        answers: [answer({ seq: 7 })],
      }),
      sent(1079, {
        command_id: "d1",
        kind: "complete",
        delivery: "repeated",
        task_id: "a",
        fence: 5,
        answers: [
          answer({ task_id: "a", task_rev: 4, status: "done" }),
          answer({ task_id: "a", task_rev: 4, status: "done" }, { replayed: true }),
        ],
      }),
      sent(1085, { command_id: "c0", kind: "claim", delivery: "once", answers: [answer(null)] }),
      sent(1089, {
        command_id: "c2",
        kind: "claim",
        agent: "y",
        delivery: "once",
        answers: [
          answer({ task_id: "b", task_rev: 2, status: "in_progress", lease_token: "lease-2", fence: 9 }),
        ],
      }),
      sent(6389, {
        command_id: "d2",
        kind: "complete",
        delivery: "once",
        task_id: "b",
        fence: 9,
        claimed_ms: 1091,
        answers: [answer(undefined)],
      }),
      sent(6099, {
        command_id: "c3",
        kind: "claim",
        agent: "z",
        delivery: "once",
        answers: [
          answer({
            task_id: "b",
            task_rev: 4,
            status: "in_progress",
            lease_token: "lease-3",
            fence: 11,
            handover: ["9 lease_expired"],
          }),
        ],
      }),
      sent(6199, {
        command_id: "p2",
        kind: "fact",
        delivery: "once",
        task_id: "b",
        fence: 11,
        mark: "f2",
        answers: [answer({ seq: 12 })],
      }),
      sent(6299, {
        command_id: "d3",
        kind: "complete",
        delivery: "once",
        task_id: "b",
        fence: 11,
        answers: [answer({ task_id: "b", task_rev: 5, status: "done" })],
      }),
      sent(6999, {
        command_id: "e",
        kind: "event",
        delivery: "once",
        mark: "end",
        answers: [answer({ seq: 14 })],
      }),
    ],
  };
  return structuredClone(log) as Log;
}

/** The list's element, which must be there. */
function at<T>(list: readonly T[], index: number): T {
  const value = list.at(index);
  if (value === undefined) throw new Error(`no element ${index}`);
  return value;
}

/** The event with this seq in an undamaged log. */
const seq = (log: Log, number: number): Mutable<AuditEvent> => at(log.events, number - 1);

function taskOf(log: Log, number: number): Mutable<AuditTask> {
  const found = seq(log, number).task;
  if (found === undefined) throw new Error(`event ${number} is about no task`);
  return found;
}

function command(log: Log, id: string): Mutable<CommandRecord> {
  const found = log.commands.find((candidate) => candidate.command_id === id);
  if (found === undefined) throw new Error(`no command ${id}`);
  return found;
}

/** Adds an event (and its patch) at the end of the log, with everything that depends on the log's length. */
function append(log: Log, added: AuditEvent): void {
  log.events.push(added as Mutable<AuditEvent>);
  if (added.marker === undefined) log.patches.push({ seq: added.seq, source_event_seq: added.seq });
}

/** Makes one batch of the first fact and the completion that follows it. */
function asBatch(log: Log, answers: Answer[]): void {
  const proof = { task_id: "a", fence: 5 };
  const parts = [
    { kind: "fact" as const, ...proof, mark: "f1" },
    { kind: "complete" as const, ...proof },
  ];
  Object.assign(command(log, "p1"), { kind: "batch", mark: undefined, missed: 1, parts, answers });
  log.commands = log.commands.filter(({ command_id }) => command_id !== "d1");
  seq(log, 8).command_id = undefined;
}

const rules = (log: Log): string[] => [
  ...new Set(audit(log as AuditInput).violations.map(({ check, rule }) => `${check}/${rule}`)),
];

describe("the audit", () => {
  it("finds nothing wrong with a healthy log, and says how much it looked at", () => {
    const report = audit(healthy() as AuditInput);
    expect(report.violations).toEqual([]);
    expect(report.requeueDelaysMs).toEqual([0]);
    expect(report.examined).toEqual({
      done_once: 3,
      dependencies: 2,
      leases: 3,
      fences: 2,
      retries: 0,
      clocks: 0,
      keys: 0,
      locks: 0,
      stops: 0,
      history: 9,
      sequence: 14,
      commands: 12,
      replay: 2,
      views: 3,
      directory: 1,
      answers: 14,
    });
  });

  // Each row damages one thing; the rule must be among what is found. One damage may break more than one rule.
  it.each<[rule: string, what: string, damage: (log: Log) => void]>([
    [
      "done_once/not_done",
      "a task that nobody completed",
      (log) => {
        seq(log, 13).type = "context.task.heartbeat";
      },
    ],
    [
      "done_once/not_done",
      "a task that ends unfinished",
      (log) => {
        taskOf(log, 13).status = "runnable";
      },
    ],
    [
      "done_once/done_twice",
      "a task completed twice",
      (log) => {
        append(log, taskEvent(15, "completed", task("a", "done", 5, { assigned_agent: "x" }), "d9"));
      },
    ],
    [
      "done_once/done_twice",
      "a finished task of the plan that was worked again",
      (log) => {
        append(log, taskEvent(15, "completed", task("old", "done", 2)));
      },
    ],
    [
      "done_once/claimed_after_done",
      "a claim on a finished task",
      (log) => {
        append(
          log,
          taskEvent(15, "claimed", task("a", "in_progress", 5, leased("z", "9", 99_000, 15)), "c9"),
        );
      },
    ],
    [
      "done_once/created_twice",
      "a task created twice",
      (log) => {
        append(log, taskEvent(15, "created", task("a", "done", 1)));
      },
    ],
    [
      "done_once/never_created",
      "a task that is not in the log",
      (log) => {
        log.events = log.events.filter((candidate) => candidate.task?.id !== "b");
      },
    ],
    [
      "done_once/never_created",
      "an event before the task was created",
      (log) => {
        log.events.splice(2, 1);
      },
    ],
    [
      "dependencies/completed_early",
      "a task completed before its dependency",
      (log) => {
        log.plan = log.plan.map((row) => (row.id === "a" ? { ...row, depends_on_task_ids: ["b"] } : row));
      },
    ],
    [
      "dependencies/claimed_early",
      "a task claimed before its dependency",
      (log) => {
        seq(log, 8).type = "context.task.heartbeat";
      },
    ],
    [
      "leases/two_leases",
      "a second lease while the first is live",
      (log) => {
        log.events.splice(9, 1);
      },
    ],
    [
      "leases/lease_without_term",
      "a lease that is over when it begins",
      (log) => {
        taskOf(log, 5).lease_expires_at_ms = 1000;
      },
    ],
    [
      "leases/foreign_heartbeat",
      "a heartbeat by somebody else",
      (log) => {
        taskOf(log, 6).lease_owner = "y";
      },
    ],
    [
      "leases/foreign_heartbeat",
      "a heartbeat that changes the token",
      (log) => {
        taskOf(log, 6).lease_token = "sha256:other";
      },
    ],
    [
      "leases/requeued_early",
      "a requeue before the lease ran out",
      (log) => {
        seq(log, 10).ts_ms = 6089;
      },
    ],
    [
      "leases/requeued_unleased",
      "a requeue of a task nobody holds",
      (log) => {
        seq(log, 9).type = "drill_claimed";
      },
    ],
    [
      "leases/foreign_completion",
      "a completion by somebody else",
      (log) => {
        taskOf(log, 13).assigned_agent = "y";
      },
    ],
    [
      "leases/token_in_log",
      "a token that can be read in the log",
      (log) => {
        taskOf(log, 5).lease_token = "lease-1";
      },
    ],
    [
      "fences/stale_write",
      "a write under the fence before",
      (log) => {
        const under = seq(log, 12).under;
        if (under !== undefined) under.fence = 9;
      },
    ],
    [
      "fences/late_write",
      "a write after its lease ran out",
      (log) => {
        seq(log, 12).ts_ms = 11_100;
      },
    ],
    [
      "fences/write_without_lease",
      "a fact that names no lease",
      (log) => {
        seq(log, 7).under = undefined;
      },
    ],
    [
      "fences/fence_not_larger",
      "a claim with a fence that is not its place in the log",
      (log) => {
        taskOf(log, 11).fence = 8;
      },
    ],
    [
      "retries/too_many_attempts",
      "a task tried more often than it may be",
      (log) => {
        Object.assign(taskOf(log, 11), { has_policy: true, attempt: 4 });
      },
    ],
    [
      "retries/attempt_miscounted",
      "an attempt that was counted though none had ended",
      (log) => {
        taskOf(log, 11).attempt = 1;
      },
    ],
    [
      "retries/attempt_miscounted",
      "a lease that ran out without a policy, and was counted",
      (log) => {
        taskOf(log, 10).attempt = 1;
      },
    ],
    [
      "retries/attempt_miscounted",
      "a lease that ran out under a policy, and was not counted",
      (log) => {
        taskOf(log, 10).has_policy = true;
      },
    ],
    [
      "retries/letter_unexplained",
      "a dead letter without a cause",
      (log) => {
        Object.assign(taskOf(log, 10), { status: "failed", dead_letter: true });
      },
    ],
    [
      "retries/letter_unexplained",
      "a dead letter that had attempts left",
      (log) => {
        const letter = { status: "failed", dead_letter: true, cause: "attempts_exhausted", attempt: 2 };
        Object.assign(taskOf(log, 10), letter);
      },
    ],
    [
      "retries/attempts_unlike_log",
      "a task that forgot who tried",
      (log) => {
        taskOf(log, 11).attempts = [];
      },
    ],
    [
      "retries/handover_unlike_log",
      "a claim that was not told who tried before",
      (log) => {
        const first = at(command(log, "c3").answers, 0);
        first.effect = { ...first.effect, handover: [] };
      },
    ],
    [
      "retries/claimed_too_soon",
      "a task that was to wait longer",
      (log) => {
        taskOf(log, 10).next_retry_at_ms = 6_500;
      },
    ],
    [
      "retries/redriven_oddly",
      "a redrive of what is no dead letter",
      (log) => {
        append(log, taskEvent(15, "redriven", task("a", "runnable", 5)));
      },
    ],
    [
      "stops/claimed_while_paused",
      "a claim of a paused run",
      (log) => {
        seq(log, 4).type = "run_paused";
      },
    ],
    [
      "stops/not_cancelled",
      "a cancelled task that ends in another way",
      (log) => {
        log.extras = ["b"];
        taskOf(log, 13).status = "failed";
      },
    ],
    [
      "stops/stopped_nobody",
      "a request to stop where nobody works",
      (log) => {
        append(log, taskEvent(15, "cancel_requested", task("a", "runnable", 5)));
      },
    ],
    [
      "leases/ended_unleased",
      "an attempt that ends where nobody works",
      (log) => {
        append(log, taskEvent(15, "requeued", task("a", "runnable", 5)));
      },
    ],
    [
      "commands/effect_missing",
      "an accepted batch that is not whole in the log",
      (log) => {
        const parts = ["f1", "f9"].map((mark) => ({ kind: "fact" as const, task_id: "a", fence: 5, mark }));
        Object.assign(command(log, "p1"), { kind: "batch", mark: undefined, parts });
      },
    ],
    [
      "commands/command_repeated",
      "a refused batch of which a part is in the log",
      (log) => {
        const parts = [{ kind: "fact" as const, task_id: "a", fence: 5, mark: "f1" }];
        const answers = [answer(undefined, { refused_part: 0 })];
        Object.assign(command(log, "p1"), { kind: "batch", mark: undefined, parts, answers });
      },
    ],
    [
      "commands/batch_torn",
      "an accepted batch of which a completion is not in the log",
      (log) => {
        seq(log, 8).type = "context.task.heartbeat";
        asBatch(log, [answer({ parts: [{ seq: 7 }, {}] })]);
      },
    ],
    [
      "commands/batch_torn",
      "a batch that nobody was answered, with its fact and without its completion",
      (log) => {
        seq(log, 8).type = "context.task.heartbeat";
        asBatch(log, []);
      },
    ],
    [
      "commands/batch_torn",
      "a batch that nobody was answered, with its completion and without its fact",
      (log) => {
        seq(log, 7).fact_id = "f9";
        asBatch(log, []);
      },
    ],
    [
      "commands/effect_missing",
      "a batch that nobody was answered, with one of its facts",
      (log) => {
        const fact = { kind: "fact" as const, task_id: "a", fence: 5, mark: "f9" };
        asBatch(log, []);
        command(log, "p1").parts?.push(fact);
      },
    ],
    [
      "commands/command_repeated",
      "a fact that nobody was answered, written twice",
      (log) => {
        Object.assign(command(log, "p1"), { delivery: "lost", answers: [] });
        seq(log, 12).fact_id = "f1";
      },
    ],
    [
      "commands/command_repeated",
      "a completion that nobody was answered, done twice",
      (log) => {
        Object.assign(command(log, "d1"), { delivery: "lost", missed: 1, answers: [] });
        seq(log, 13).command_id = "d1";
      },
    ],
    [
      "commands/claim_lost",
      "a claim answered with nothing, all of whose requests were answered",
      (log) => {
        Object.assign(command(log, "c2"), { delivery: "twice", answers: [answer(null), answer(null)] });
      },
    ],
    [
      "commands/repeat_untold",
      "a repeat that does not say that it is one",
      (log) => {
        at(command(log, "d1").answers, 1).replayed = false;
      },
    ],
    [
      "commands/repeat_untold",
      "a first answer that says that it repeats one",
      (log) => {
        at(command(log, "d3").answers, 0).replayed = true;
      },
    ],
    [
      "leases/holder_refused",
      "a holder refused before the clock jumped",
      (log) => {
        command(log, "d2").claimed_ms = 2391;
        log.clockJumps = [{ atMs: 6_400, doneMs: 6_500, byMs: 60_000 }];
      },
    ],
    [
      "leases/holder_refused",
      "a holder refused because of a jump that had been before its claim",
      (log) => {
        command(log, "d2").claimed_ms = 2391;
        log.clockJumps = [{ atMs: 2_000, doneMs: 2_100, byMs: 60_000 }];
      },
    ],
    [
      "retries/letter_unexplained",
      "a dead letter by a clock that the task does not have",
      (log) => {
        Object.assign(taskOf(log, 10), { status: "failed", dead_letter: true, cause: "start_deadline" });
      },
    ],
    [
      "leases/holder_refused",
      "a batch refused for a lease that never ran out",
      (log) => {
        const parts = [{ kind: "fact" as const, task_id: "a", fence: 5, mark: "f9" }];
        const answers = [answer(undefined, { refused_part: 0 })];
        Object.assign(command(log, "p1"), { kind: "batch", mark: undefined, parts, answers });
      },
    ],
    [
      "history/not_linearizable",
      "a write accepted after its lease had run out",
      (log) => {
        Object.assign(command(log, "p2"), { sent_ms: 11_200, fence: 11 });
        Object.assign(at(command(log, "p2").answers, 0), { answered_ms: 11_201 });
      },
    ],
    [
      "history/not_linearizable",
      "a claim of a task that another was told it still had",
      (log) => {
        command(log, "c3").sent_ms = 3000;
        at(command(log, "c3").answers, 0).answered_ms = 3002;
      },
    ],
    [
      "history/not_linearizable",
      "a completion accepted from who had been followed by another",
      (log) => {
        command(log, "d2").answers = [
          answer({ task_id: "b", task_rev: 5, status: "done" }, { answered_ms: 6391 }),
        ];
      },
    ],
    [
      "history/not_linearizable",
      "a holder told that it is none",
      (log) => {
        command(log, "d1").answers = [answer(undefined, { answered_ms: 1082 })];
      },
    ],
    [
      "history/fence_twice",
      "two leases told with one fence",
      (log) => {
        const first = at(command(log, "c3").answers, 0);
        first.effect = { ...first.effect, fence: 9 };
      },
    ],
    [
      "leases/fence_unlike_log",
      "a fence that is not the claim's place in the log",
      (log) => {
        const first = at(command(log, "c3").answers, 0);
        first.effect = { ...first.effect, fence: 12 };
      },
    ],
    [
      "leases/holder_refused",
      "a holder refused while its lease is live",
      (log) => {
        command(log, "d2").claimed_ms = 1401;
      },
    ],
    [
      "leases/holder_refused",
      "a holder refused though its lease never ran out",
      (log) => {
        command(log, "h1").answers = [answer(undefined)];
      },
    ],
    [
      "sequence/seq_gap",
      "a gap",
      (log) => {
        log.events.splice(6, 1);
      },
    ],
    [
      "sequence/seq_gap",
      "a log that does not begin at 1",
      (log) => {
        log.events.shift();
      },
    ],
    [
      "sequence/seq_gap",
      "a repeated seq",
      (log) => {
        seq(log, 7).seq = 6;
      },
    ],
    [
      "sequence/revision_gap",
      "a revision that was skipped",
      (log) => {
        seq(log, 7).revision = 9;
      },
    ],
    [
      "sequence/time_went_back",
      "time that goes back",
      (log) => {
        seq(log, 7).ts_ms = 1059;
      },
    ],
    [
      "sequence/task_rev_gap",
      "a task revision that was skipped",
      (log) => {
        taskOf(log, 6).task_rev = 4;
      },
    ],
    [
      "sequence/patch_order",
      "patches out of order",
      (log) => {
        log.patches.reverse();
      },
    ],
    [
      "sequence/patch_source",
      "a patch that names another event",
      (log) => {
        at(log.patches, 0).source_event_seq = 2;
      },
    ],
    [
      "sequence/patch_pairing",
      "an event without its patch",
      (log) => {
        log.patches.splice(3, 1);
      },
    ],
    [
      "sequence/patch_pairing",
      "a patch for an event that has none",
      (log) => {
        log.patches.splice(3, 0, { seq: 4, source_event_seq: 4 });
      },
    ],
    [
      "sequence/patch_pairing",
      "a patch of no event",
      (log) => {
        log.patches.push({ seq: 20, source_event_seq: 20 });
      },
    ],
    [
      "commands/command_repeated",
      "a command with two effects",
      (log) => {
        seq(log, 13).command_id = "d1";
      },
    ],
    [
      "commands/command_repeated",
      "a fact written twice",
      (log) => {
        seq(log, 12).fact_id = "f1";
      },
    ],
    [
      "commands/command_repeated",
      "an event appended twice",
      (log) => {
        append(log, event(15, "drill_finished", { marker: "end" }));
      },
    ],
    [
      "commands/command_unknown",
      "a command nobody sent",
      (log) => {
        log.commands = log.commands.filter((candidate) => candidate.command_id !== "d3");
      },
    ],
    [
      "commands/answers_disagree",
      "repeats with different tokens",
      (log) => {
        const second = at(command(log, "c1").answers, 1);
        second.effect = { ...second.effect, lease_token: "lease-9" };
      },
    ],
    [
      "commands/answers_disagree",
      "repeats with different revisions",
      (log) => {
        const second = at(command(log, "d1").answers, 1);
        second.effect = { ...second.effect, task_rev: 5 };
      },
    ],
    [
      "commands/answers_disagree",
      "a completion accepted and then refused",
      (log) => {
        command(log, "d1").answers[1] = answer(undefined);
      },
    ],
    [
      "commands/answers_disagree",
      "a repeated claim that lost its task",
      (log) => {
        const claim = command(log, "c1");
        claim.delivery = "repeated";
        claim.answers[1] = answer(null);
      },
    ],
    [
      "commands/answers_disagree",
      "a replayed claim that lost its task",
      (log) => {
        command(log, "c1").answers[1] = answer(null, { replayed: true });
      },
    ],
    [
      "commands/effect_missing",
      "an accepted completion that is not in the log",
      (log) => {
        seq(log, 13).command_id = undefined;
      },
    ],
    [
      "commands/effect_missing",
      "an accepted fact that is not in the log",
      (log) => {
        seq(log, 12).fact_id = undefined;
      },
    ],
    [
      "commands/effect_mismatch",
      "an answer with another task than the log's",
      (log) => {
        const first = at(command(log, "c2").answers, 0);
        first.effect = { ...first.effect, task_id: "a" };
      },
    ],
    [
      "commands/effect_mismatch",
      "an answer with another seq than the log's",
      (log) => {
        command(log, "p2").answers = [answer({ seq: 7 })];
      },
    ],
    [
      "commands/claim_lost",
      "a claim that took a task and told nobody",
      (log) => {
        command(log, "c2").answers = [answer(null)];
      },
    ],
    [
      "commands/refused_but_done",
      "a refused completion that was carried out",
      (log) => {
        command(log, "d3").answers = [answer(undefined)];
      },
    ],
    [
      "commands/event_unexpected",
      "an event nobody asked for",
      (log) => {
        seq(log, 14).marker = undefined;
      },
    ],
    [
      "commands/event_unexpected",
      "a task event nobody asked for",
      (log) => {
        seq(log, 6).type = "context.task.blocked";
      },
    ],
    [
      "replay/not_replayed",
      "no replay",
      (log) => {
        log.replays = [];
      },
    ],
    [
      "replay/drift",
      "drift",
      (log) => {
        at(log.replays, 1).drift = ["status_mismatch"];
      },
    ],
    [
      "replay/replay_incomplete",
      "a replay that skipped an event",
      (log) => {
        at(log.replays, 0).events_applied = 13;
      },
    ],
    [
      "replay/replay_incomplete",
      "a replay that skipped a patch",
      (log) => {
        at(log.replays, 1).patches_applied = 4;
      },
    ],
    [
      "views/task_unknown",
      "an event about a task of nobody's",
      (log) => {
        taskOf(log, 6).id = "stranger";
      },
    ],
    [
      "views/task_unknown",
      "a listed task that is not in the plan",
      (log) => {
        log.tasks.push({ ...at(log.tasks, 0), id: "stranger" });
      },
    ],
    [
      "views/task_missing",
      "a task that is not listed",
      (log) => {
        log.tasks.pop();
      },
    ],
    [
      "views/task_listed_twice",
      "a task that is listed twice",
      (log) => {
        log.tasks.push(at(log.tasks, 0));
      },
    ],
    [
      "views/task_unlike_log",
      "a task whose status differs from the log",
      (log) => {
        at(log.tasks, 1).status = "runnable";
      },
    ],
    [
      "views/task_unlike_plan",
      "a task that lost a dependency",
      (log) => {
        at(log.tasks, 2).depends_on_task_ids = [];
      },
    ],
    [
      "views/lease_left_over",
      "a finished task with a lease",
      (log) => {
        at(log.tasks, 1).lease_owner = "x";
      },
    ],
    [
      "views/facts_unlike_log",
      "a fact the blackboard lost",
      (log) => {
        log.facts.pop();
      },
    ],
    [
      "views/facts_unlike_log",
      "a fact the blackboard shows twice",
      (log) => {
        log.facts.push("f2");
      },
    ],
    [
      "views/blackboard_revision",
      "a blackboard behind its patches",
      (log) => {
        log.blackboardRevision = 12;
      },
    ],
    [
      "views/run_counts",
      "a run that miscounts its tasks",
      (log) => {
        log.run.task_counts = { done: 2, pending: 1, total: 3 };
      },
    ],
    [
      "views/run_behind",
      "a run behind its log",
      (log) => {
        log.run.last_event_seq = 13;
      },
    ],
    [
      "views/run_status",
      "a run that did not end",
      (log) => {
        log.run.status = "running";
      },
    ],
    [
      "directory/row_missing",
      "a run that is not listed",
      (log) => {
        log.directoryRow = undefined;
      },
    ],
    [
      "directory/row_differs",
      "a row with other counts",
      (log) => {
        log.directoryRow = { ...log.run, task_counts: { done: 2, in_progress: 1, total: 3 } };
      },
    ],
    [
      "directory/row_differs",
      "a row that lags",
      (log) => {
        log.directoryRow = { ...log.run, last_event_seq: 13 };
      },
    ],
  ])("finds %s: %s", (rule, _, damage) => {
    const log = healthy();
    damage(log);
    expect(rules(log)).toContain(rule);
  });

  it("lets a claim that found nothing find something when it is repeated", () => {
    const log = healthy();
    const claim = command(log, "c2");
    claim.delivery = "repeated";
    claim.answers.unshift(answer(null));
    expect(rules(log)).toEqual([]);
  });

  it("does not blame the server for a claim whose connection was cut and whose repeat found nothing", () => {
    const log = healthy();
    const claim = command(log, "c2");
    Object.assign(claim, { delivery: "cut", missed: 1 });
    claim.answers = [answer(null)];
    expect(rules(log)).toEqual([]);
  });

  it("takes a batch that nobody was answered for done as a whole, or not at all", () => {
    const done = healthy();
    asBatch(done, []);
    expect(rules(done)).toEqual([]);
  });

  it("takes a first answer that repeats one that was lost for what it is", () => {
    const log = healthy();
    Object.assign(command(log, "d3"), { missed: 1 });
    at(command(log, "d3").answers, 0).replayed = true;
    expect(rules(log)).toEqual([]);
  });

  it("takes a refusal for what it is where the clock jumped over the lease", () => {
    const log = healthy();
    command(log, "d2").claimed_ms = 2391;
    log.clockJumps = [{ atMs: 6_095, doneMs: 6_096, byMs: 60_000 }];
    expect(rules(log)).not.toContain("leases/holder_refused");
  });

  it("takes a refusal for what it is where a lease was taken back", () => {
    const log = healthy();
    Object.assign(seq(log, 10), { type: "context.task.requeued", ts_ms: 2_000, reason: "revoked" });
    for (const number of [10, 11, 13]) taskOf(log, number).attempts = ["9 revoked"];
    at(log.tasks, 2).attempts = ["9 revoked"];
    const claim = at(command(log, "c3").answers, 0);
    claim.effect = { ...claim.effect, handover: ["9 revoked"] };
    command(log, "d2").claimed_ms = 5391;
    expect(rules(log)).toEqual([]);
  });

  it("does not throw on an empty log", () => {
    const log = healthy();
    log.events = [];
    log.patches = [];
    expect(rules(log)).toContain("done_once/never_created");
  });
});

describe("reading what the server sent", () => {
  it("makes blanks of what is missing, which no check accepts", () => {
    expect(toAuditEvent(null)).toMatchObject({ seq: 0, type: "", task: undefined });
    expect(toAuditEvent({ seq: 1, payload: { task: {} } }).task).toMatchObject({ id: "", task_rev: 0 });
  });

  it("takes facts from blackboard events only", () => {
    expect(toAuditEvent({ payload: { op: "add_fact", payload: { id: "f" } } }).fact_id).toBe("f");
    expect(toAuditEvent({ payload: { op: "add_decision", payload: { id: "f" } } }).fact_id).toBeUndefined();
  });

  it("counts every drift flag that is not false, and a replay that compared nothing", () => {
    const drift = (value: unknown) => toReplayView({ drift: value }).drift;
    expect(drift({ mismatch: false, compared: true })).toEqual([]);
    expect(drift({ mismatch: true, compared: true })).toEqual(["mismatch"]);
    expect(drift({ mismatch: false, compared: false })).toEqual(["compared"]);
    expect(drift(undefined)).toEqual(["no drift report"]);
  });

  it("does not tell a count of 0 from a missing one", () => {
    expect(toRunView({ task_counts: { done: 1, failed: 0 } }).task_counts).toEqual({ done: 1 });
  });

  it("reads the workspace of a run and of a directory row alike", () => {
    expect(toRunView({ workspace: { canonical_path: "/x" } }).workspace).toBe("/x");
    expect(toRunView({ workspace: "/x" }).workspace).toBe("/x");
  });
});
