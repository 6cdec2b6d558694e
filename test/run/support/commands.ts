import fc from "fast-check";
import type { Command, CommandOf, TaskRow } from "../../../src/domain/command.ts";
import type { MemoryRun } from "../../../src/domain/memory.ts";
import { PATCH_OPS } from "../../../src/protocol/blackboard.ts";
import { RUN_STATUSES, WORK_STATUSES, type WorkStatus } from "../../../src/protocol/status.ts";
import { TASK_ACTIONS, type Task, type TaskAction } from "../../../src/protocol/task.ts";
import { FAILURE_CAUSES, TASK_LIFE_MEMBERS } from "../../../src/protocol/task-life.ts";

/** Few names, so that random commands meet. */
export const TASK_IDS = ["a", "b", "c", "d", "e", "f"];
export const TASK_TYPES = ["build", "review", "Ünïcode \u{1F600}"];
export const WORKFLOWS = ["w1", "w2"];
export const COMMAND_IDS = ["k1", "k2", "k3", "k4"];

/** Every filter that a claim of these tasks can have. */
export const FILTERS = [undefined, ...TASK_TYPES].flatMap((task_type) =>
  [undefined, ...WORKFLOWS].map((workflow_id) => ({ task_type, workflow_id })),
);

/** A transition before it is known which lease the task has by then. */
interface TransitionPlan {
  op: "plan_transition";
  task_id: string;
  action: TaskAction;
  proof: "held" | "wrong" | "none";
  status: WorkStatus | undefined;
  agent_id: string | undefined;
  lease_ms: number | undefined;
  error_code: string | undefined;
  progress: { percent: number } | undefined;
}

/** A PUT of the run as it is by then, with some tasks left out, turned around, delayed or in another status. */
interface ReplacePlan {
  op: "plan_replace";
  keep: boolean[];
  isReversed: boolean;
  retryInMs: number | undefined;
  status: WorkStatus | undefined;
  /** Whether the copy is of a client that does not know of tasks' lives. */
  forgets: boolean;
}

export type CommandPlan = Command | TransitionPlan | ReplacePlan;

/** One step of a random history. */
export type Step =
  | { do: "submit"; plan: CommandPlan; commandId: string | undefined }
  /** The command takes place in a transaction that is then undone. */
  | { do: "undo"; plan: CommandPlan }
  | { do: "clock"; ms: number }
  | { do: "wake" };

const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const one = <T>(values: readonly T[]) => fc.constantFrom(...values);

/** Waits of a few seconds; the decisions of these tests draw no chance. */
const RETRY = { base_ms: 1_000, factor: 3, max_ms: 5_000, jitter: 0.5, non_retryable: ["FINAL"] };

const taskRow: fc.Arbitrary<TaskRow> = fc.record({
  id: maybe(one(TASK_IDS)),
  task_type: one(TASK_TYPES),
  command_id: fc.option(one(COMMAND_IDS), { nil: undefined, freq: 2 }),
  payload: one([null, { note: "x" }]),
  status: fc.option(one(WORK_STATUSES), { nil: undefined, freq: 2 }),
  workflow_id: maybe(one(WORKFLOWS)),
  depends_on_task_ids: fc.array(one(TASK_IDS), { maxLength: 2 }),
  decision_ids: fc.constant<string[]>([]),
  artifact_ids: fc.constant<string[]>([]),
  priority: maybe(fc.integer({ min: -1, max: 1 })),
  concurrency_key: fc.option(one(["k"]), { nil: undefined, freq: 2 }),
  max_attempts: maybe(one([1, 2])),
  retry: fc.option(one([RETRY, { ...RETRY, base_ms: 0 }]), { nil: undefined, freq: 2 }),
});

const claim: fc.Arbitrary<Command> = fc.record({
  op: fc.constant("claim_task" as const),
  agent_id: one(["ann", "bob"]),
  max: fc.option(one([1, 2, 9]), { nil: undefined, freq: 3 }),
  lease_ms: maybe(one([5_000, 60_000])),
  task_type: maybe(one(TASK_TYPES)),
  workflow_id: maybe(one(WORKFLOWS)),
});

const transition: fc.Arbitrary<TransitionPlan> = fc.record({
  op: fc.constant("plan_transition" as const),
  task_id: one(TASK_IDS),
  action: one(TASK_ACTIONS),
  proof: one(["held", "held", "held", "wrong", "none"] as const),
  status: maybe(one(WORK_STATUSES)),
  agent_id: fc.option(one(["ann", "bob"]), { nil: undefined, freq: 2 }),
  lease_ms: maybe(one([5_000, 60_000])),
  error_code: fc.option(one(["E", "FINAL"]), { nil: undefined, freq: 4 }),
  progress: fc.option(fc.record({ percent: fc.nat({ max: 100 }) }), { nil: undefined, freq: 4 }),
});

const redrive: fc.Arbitrary<Command> = fc.oneof(
  fc.record({ op: fc.constant("redrive_task" as const), task_id: one(TASK_IDS) }),
  fc.record({
    op: fc.constant("redrive_tasks" as const),
    limit: one([1, 500]),
    preview: fc.boolean(),
    task_type: maybe(one(TASK_TYPES)),
    workflow_id: maybe(one(WORKFLOWS)),
    cause: maybe(one(FAILURE_CAUSES)),
    error_code: maybe(one(["E", "FINAL"])),
    task_types: maybe(fc.subarray(TASK_TYPES)),
  }),
);

const settings: fc.Arbitrary<Command> = fc.record({
  op: fc.constant("put_settings" as const),
  settings: one([{}, { grace_ms: 1 }, { task_defaults: { max_attempts: 2 } }]),
});

const boardPatch: fc.Arbitrary<Command> = fc.record({
  op: fc.constant("patch_blackboard" as const),
  patch_op: one(PATCH_OPS),
  payload: one([
    "summary",
    { id: "n1", ts_ms: 1, text: "found", step_id: null, extra: true },
    { id: "n2", ts_ms: 2, text: "\u{1F680} done", source_event_id: "e" },
    { id: "p1", ts_ms: 3, path: "/out/p", artifact_type: "file" },
  ]),
});

const runCommand: fc.Arbitrary<Command> = fc.oneof(
  fc.record({
    op: fc.constant("append_event" as const),
    type: one([
      "note",
      "planning_started",
      "plan_approved",
      "run_cancelled",
      "step_failed",
      "todo_synced",
      "context.x",
    ]),
    status: one(RUN_STATUSES),
    step_id: maybe(one(["s1", "step-1"])),
    payload: one([null, { error: "broke", step_status: "done" }, { why_next_step: "because" }]),
  }),
  fc.record({
    op: fc.constant("sync_todos" as const),
    todos: fc.array(
      fc.record({
        id: maybe(one(["s1", "s2"])),
        content: one(["one", "two", " "]),
        status: maybe(one(["pending", "done"])),
      }),
      { maxLength: 3 },
    ),
    replace: fc.boolean(),
    source_session_id: fc.constant(null),
    source_run_id: fc.constant(null),
  }),
  fc.record({ op: fc.constant("select_next_step" as const), dry_run: fc.boolean() }),
  fc.record({
    op: fc.constant("validate_workspace" as const),
    phase: one(["plan", "work"]),
    current_path: one(["/srv/a", "/srv/b"]),
    step_id: maybe(fc.constant("s1")),
  }),
);

const replace: fc.Arbitrary<ReplacePlan> = fc.record({
  op: fc.constant("plan_replace" as const),
  keep: fc.array(fc.boolean(), { minLength: 12, maxLength: 12 }),
  isReversed: fc.boolean(),
  retryInMs: maybe(one([1, 3_000, 50_000])),
  status: maybe(one(WORK_STATUSES)),
  forgets: fc.boolean(),
});

const plan: fc.Arbitrary<CommandPlan> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant("create_tasks" as const),
      tasks: fc.array(taskRow, { minLength: 1, maxLength: 4 }),
      replace_existing: fc.boolean(),
      strict: maybe(fc.constant(true as const)),
    }),
  },
  { weight: 5, arbitrary: claim },
  { weight: 6, arbitrary: transition },
  { weight: 1, arbitrary: fc.constant<Command>({ op: "requeue_stale" }) },
  { weight: 1, arbitrary: boardPatch },
  { weight: 2, arbitrary: runCommand },
  { weight: 1, arbitrary: replace },
  { weight: 1, arbitrary: redrive },
  { weight: 1, arbitrary: settings },
);

/** Random histories. The clock mostly goes on, past leases now and then; `backwards` lets it jump back too. */
export function histories(options: { maxSteps: number; backwards: boolean }): fc.Arbitrary<Step[]> {
  const submit = fc.record({
    do: fc.constant("submit" as const),
    plan,
    commandId: fc.option(one(COMMAND_IDS), { nil: undefined, freq: 2 }),
  });
  const jumps = [1, 1_000, 4_000, 61_000, ...(options.backwards ? [-3_000] : [])];
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 12, arbitrary: submit },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("undo" as const), plan }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant("clock" as const), ms: one(jumps) }) },
    { weight: 1, arbitrary: fc.constant<Step>({ do: "wake" }) },
  );
  return fc.array(step, { minLength: 8, maxLength: options.maxSteps });
}

/** The command that a plan becomes on the run as it is now. `tokens`: the lease tokens given out, by task. */
export function commandOf(
  planned: CommandPlan,
  run: MemoryRun,
  tokens: ReadonlyMap<string, string>,
  nowMs: number,
): Command {
  if (planned.op === "plan_transition") return transitionOf(planned, tokens);
  return planned.op === "plan_replace" ? replacementOf(planned, run, nowMs) : planned;
}

function transitionOf(
  { op: _op, proof, ...fields }: TransitionPlan,
  tokens: ReadonlyMap<string, string>,
): CommandOf<"transition_task"> {
  const proofs = { held: tokens.get(fields.task_id), wrong: "lease-of-another", none: undefined };
  return { op: "transition_task", ...fields, lease_token: proofs[proof] };
}

function replacementOf(planned: ReplacePlan, run: MemoryRun, nowMs: number): CommandOf<"replace_run"> {
  const { tasks, ...header } = run.run();
  const kept = tasks.filter((_task, index) => planned.keep[index] ?? true);
  if (planned.isReversed) kept.reverse();
  const known = planned.forgets ? kept.map(withoutLife) : kept;
  const changed = known.map((task, index): Task => {
    const status = index === 0 ? planned.status : undefined;
    const delay = index % 2 === 0 ? planned.retryInMs : undefined;
    return {
      ...task,
      ...(status !== undefined && { status }),
      ...(delay !== undefined && { next_retry_at_ms: nowMs + delay }),
    };
  });
  return { op: "replace_run", run: { ...header, tasks: changed } };
}

/** A task as those know it who know the contract only. */
function withoutLife(task: Task): Task {
  const life: ReadonlySet<string> = new Set(TASK_LIFE_MEMBERS);
  return Object.fromEntries(Object.entries(task).filter(([name]) => !life.has(name))) as unknown as Task;
}
