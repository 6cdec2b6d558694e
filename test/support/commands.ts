import fc from "fast-check";
import type { Command, CommandOf, TaskRow } from "../../src/domain/command.ts";
import { PATCH_OPS, type PatchOp } from "../../src/protocol/blackboard.ts";
import type { Run } from "../../src/protocol/run.ts";
import { RUN_STATUSES, type RunStatus, WORK_STATUSES } from "../../src/protocol/status.ts";
import { TASK_ACTIONS } from "../../src/protocol/task.ts";
import { stepsOf } from "./builders.ts";

/**
 * Which token a transition sends: that of the task's last claim, that of the claim before, one never given, the stored
 * fingerprint, or none.
 */
export type TokenChoice = "current" | "previous" | "wrong" | "fingerprint" | "none";

/** At which task a transition is aimed, and with what in hand. */
export interface Aim {
  /** The n-th (modulo their number) of the tasks that an agent holds or held, of all tasks, or the one the command names. */
  at: "active" | "any" | "named";
  nth: number;
  token: TokenChoice;
  revision: "none" | "current" | "wrong";
}

/** A run as a client puts it back: what it read now, changed in these members. */
export interface PutPlan {
  status: RunStatus;
  /** Keep the tasks, lose the first one, or write the tokens into them in clear. */
  tasks: "keep" | "drop" | "unmask";
  expected: "none" | "current" | "stale";
  steps: Run["steps"];
}

/** What to do next, as plain data that fast-check can print: what depends on the run is filled in when it is done. */
export type Plan =
  | { do: "command"; command: Exclude<Command, { op: "transition_task" | "replace_run" }> }
  | { do: "transition"; command: CommandOf<"transition_task">; aim: Aim }
  /** An event that names the lease it is made under. */
  | { do: "under"; command: CommandOf<"append_event">; aim: Aim }
  | { do: "put"; put: PutPlan }
  /** The same command as the n-th accepted one with a command id (modulo their number), under its id. */
  | { do: "repeat"; nth: number };

export interface Step {
  plan: Plan;
  commandId: string | undefined;
  /** By how much the clock moves before the command, in ms; backward too. */
  clockStepMs: number;
}

const TASK_IDS = ["a", "b", "c", "d", "e", "f"];
const AGENTS = ["ann", "bob", "eve"];
const STEP_IDS = ["s1", "s2", "s3", "session-run", "nope"];
const EVENT_TYPES = [
  "session_run_started",
  "session_run_finished",
  "planning_started",
  "plan_approved",
  "run_paused",
  "run_resumed",
  "run_cancelled",
  "task_retry_requested",
  "revision_requested",
  "step_started",
  "step_completed",
  "step_failed",
  " Step_Done ",
  "note",
  "todo_synced",
  "context.run.replaced",
  "context.task.created",
];

const often = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined, freq: 3 });
const sometimes = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined, freq: 2 });
const seldom = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.oneof({ weight: 4, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: value });

const taskId = fc.constantFrom(...TASK_IDS);
const runStatus = fc.constantFrom(...RUN_STATUSES);
const workStatus = fc.constantFrom(...WORK_STATUSES);
const commandId = seldom(fc.constantFrom("k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8"));
const leaseMs = seldom(fc.integer({ min: 0, max: 400_000 }));

/** Whether a command is by the strict rules, as those of `/v1` are. */
const strict = fc.constantFrom<true | undefined>(true, undefined);

const payload = fc.oneof(
  { weight: 6, arbitrary: fc.constant(null) },
  { weight: 2, arbitrary: fc.constant({ a: [1, { b: null }] }) },
  { weight: 1, arbitrary: fc.constant({ task_kind: "research", write_required: true }) },
  { weight: 1, arbitrary: fc.constant({ task_kind: "implementation", output_target: { file: "f" } }) },
);

const taskRow: fc.Arbitrary<TaskRow> = fc.record({
  task_type: fc.constantFrom("x", "x", "x", "y", "inspection"),
  id: often(taskId),
  command_id: commandId,
  payload,
  status: seldom(workStatus),
  workflow_id: seldom(fc.constantFrom("w1", "w2")),
  depends_on_task_ids: fc.oneof(
    { weight: 2, arbitrary: fc.constant<string[]>([]) },
    { weight: 1, arbitrary: fc.array(taskId, { minLength: 1, maxLength: 2 }) },
  ),
  decision_ids: fc.constant([]),
  artifact_ids: fc.constant([]),
  priority: seldom(fc.integer({ min: -2, max: 2 })),
  max_attempts: sometimes(fc.integer({ min: 1, max: 3 })),
  retry: sometimes(
    fc.constant({ base_ms: 5_000, factor: 2, max_ms: 20_000, jitter: 0, non_retryable: ["FINAL"] }),
  ),
});

const createTasks: fc.Arbitrary<Plan> = fc
  .record({
    op: fc.constant("create_tasks" as const),
    tasks: fc.array(taskRow, { minLength: 1, maxLength: 3 }),
    replace_existing: fc.boolean(),
    strict: seldom(fc.constant(true as const)),
  })
  .map((command) => ({ do: "command", command }));

const redrive: fc.Arbitrary<Plan> = fc
  .oneof(
    fc.record({ op: fc.constant("redrive_task" as const), task_id: taskId }),
    fc.record({
      op: fc.constant("redrive_tasks" as const),
      limit: fc.constantFrom(1, 500),
      preview: fc.boolean(),
      error_code: seldom(fc.constant("FINAL")),
    }),
    fc.record({
      op: fc.constant("put_settings" as const),
      settings: fc.constantFrom({}, { task_defaults: { max_attempts: 2 } }),
    }),
  )
  .map((command) => ({ do: "command", command }));

const claimTask: fc.Arbitrary<Plan> = fc
  .record({
    op: fc.constant("claim_task" as const),
    agent_id: fc.constantFrom(...AGENTS),
    lease_ms: leaseMs,
    task_type: seldom(fc.constantFrom("x", "y")),
    workflow_id: seldom(fc.constant("w1")),
  })
  .map((command) => ({ do: "command", command }));

const aim: fc.Arbitrary<Aim> = fc.record({
  at: fc.constantFrom<Aim["at"]>("active", "active", "active", "any", "named"),
  nth: fc.nat({ max: 5 }),
  token: fc.constantFrom<TokenChoice>(
    ...(["current", "current", "current", "current"] as const),
    ...(["previous", "wrong", "fingerprint", "none"] as const),
  ),
  revision: fc.constantFrom<Aim["revision"]>("none", "none", "none", "current", "current", "wrong"),
});

const transitionTask: fc.Arbitrary<Plan> = fc.record({
  do: fc.constant("transition" as const),
  command: fc.record({
    op: fc.constant("transition_task" as const),
    task_id: taskId,
    action: fc.constantFrom(...TASK_ACTIONS, "status", "nonsense"),
    agent_id: seldom(fc.constantFrom(...AGENTS, "")),
    status: often(workStatus),
    error: seldom(fc.constantFrom("boom", "")),
    error_code: seldom(fc.constantFrom("E", "FINAL")),
    progress: seldom(fc.constant({ percent: 5 })),
    lease_ms: leaseMs,
    strict,
  }),
  aim,
});

const eventUnderLease: fc.Arbitrary<Plan> = fc.record({
  do: fc.constant("under" as const),
  command: fc.record({
    op: fc.constant("append_event" as const),
    type: fc.constant("note"),
    payload: fc.constant(null),
    strict,
  }),
  aim,
});

const appendEvent: fc.Arbitrary<Plan> = fc
  .record({
    op: fc.constant("append_event" as const),
    type: fc.constantFrom(...EVENT_TYPES),
    status: runStatus,
    step_id: often(fc.constantFrom(...STEP_IDS)),
    payload: fc.constantFrom(null, { why_next_step: "w", error: "e", step_status: "active", feedback: "f" }),
  })
  .map((command) => ({ do: "command", command }));

const note = { id: "n", ts_ms: 1, text: "t" };
const patchPayload = (op: PatchOp): unknown => {
  if (op === "add_artifact") return { id: "a", ts_ms: 1, path: "p", artifact_type: "x", unknown: 1 };
  return op.startsWith("add_") ? { ...note, step_id: null } : "summary";
};
const patchBlackboard: fc.Arbitrary<Plan> = fc
  .record({ patch_op: fc.constantFrom(...PATCH_OPS), isBad: seldom(fc.constant(true)) })
  .map(({ patch_op, isBad }) => ({
    do: "command",
    command: { op: "patch_blackboard", patch_op, payload: isBad ? 5 : patchPayload(patch_op) },
  }));

const todos = fc.array(
  fc.record({
    id: often(fc.constantFrom(...STEP_IDS)),
    content: fc.constantFrom("do it", "and that", " "),
    status: often(fc.constantFrom("done", "done", "doing", "ready", "failed", "blocked")),
  }),
  { maxLength: 4 },
);
const stepCommand: fc.Arbitrary<Plan> = fc
  .oneof(
    fc.record({
      op: fc.constant("sync_todos" as const),
      todos,
      replace: fc.boolean(),
      source_session_id: fc.constantFrom(null, "session"),
      source_run_id: fc.constant(null),
    }),
    fc.record({ op: fc.constant("select_next_step" as const), dry_run: fc.boolean() }),
    fc.record({
      op: fc.constant("validate_workspace" as const),
      phase: fc.constantFrom("start", "end"),
      current_path: fc.constantFrom("/srv/ws", "/srv/ws/", "/other", " "),
      step_id: seldom(fc.constant("s1")),
    }),
  )
  .map((command) => ({ do: "command", command }));

const putRun: fc.Arbitrary<Plan> = fc.record({
  do: fc.constant("put" as const),
  put: fc.record({
    status: runStatus,
    tasks: fc.constantFrom<PutPlan["tasks"]>("keep", "keep", "drop", "unmask"),
    expected: fc.constantFrom<PutPlan["expected"]>("none", "current", "stale"),
    steps: fc.constantFrom([], stepsOf({ s1: "pending", s2: "runnable" })),
  }),
});

const requeueStale: fc.Arbitrary<Plan> = fc.constant({ do: "command", command: { op: "requeue_stale" } });
const repeat: fc.Arbitrary<Plan> = fc.record({
  do: fc.constant("repeat" as const),
  nth: fc.nat({ max: 30 }),
});

const clockStepMs = fc.oneof(
  { weight: 9, arbitrary: fc.integer({ min: 0, max: 3 }) },
  { weight: 3, arbitrary: fc.integer({ min: 0, max: 20_000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 30_000, max: 400_000 }) },
  { weight: 1, arbitrary: fc.integer({ min: -50_000, max: -1 }) },
);

const engineOnly = [
  { weight: 5, arbitrary: createTasks },
  { weight: 6, arbitrary: claimTask },
  { weight: 9, arbitrary: transitionTask },
  { weight: 3, arbitrary: appendEvent },
  { weight: 2, arbitrary: eventUnderLease },
  { weight: 2, arbitrary: patchBlackboard },
  { weight: 3, arbitrary: stepCommand },
  { weight: 1, arbitrary: requeueStale },
  { weight: 1, arbitrary: redrive },
  { weight: 3, arbitrary: repeat },
];

/** Steps of one run: valid for the most part, over a handful of ids, so that they meet. */
function stepsFrom(plans: fc.WeightedArbitrary<Plan>[]): fc.Arbitrary<Step[]> {
  const step = fc.record({ plan: fc.oneof(...plans), commandId, clockStepMs });
  return fc.array(step, { minLength: 1, maxLength: 60, size: "max" });
}

/** Any commands, replacements of the whole run among them. */
export const anySteps = stepsFrom([...engineOnly, { weight: 1, arbitrary: putRun }]);

/** Commands without replacements: then every task was made and changed by the engine's own rules. */
export const stepsWithoutPut = stepsFrom(engineOnly);
