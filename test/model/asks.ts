import fc from "fast-check";
import type { Given, State } from "./state.ts";

/** Tasks of a run: few, so that commands meet on one. */
const MOST_TASKS = 14;
/** An id that no task has. */
const NOBODY = "nobody";
/** Few names, so that what is asked meets. */
export const TYPES = ["build", "review"];
export const AGENTS = ["ann", "bob", "cid"];
export const KEYS = ["k1", "k2"];
/** Which of these names meet: as paths and globs would. */
export const RESOURCES = ["src/a", "src/b", "src/*", "doc/a", "**"];
const LEASES_MS = [5_000, 60_000];

/** A command as it is sent: `op` and the fields of its route. Its path's ids are among them. */
export interface Op {
  op: string;
  task_id?: string | undefined;
  lock_id?: string | undefined;
  [field: string]: unknown;
}

/** Which token a command brings: that of the present holder, one of before, one that never was, or none. */
type Proof = "held" | "old" | "wrong" | "none";

/** What is asked, before it is known who holds what by then. */
export interface Ask {
  op: string;
  proof?: Proof;
  /** Picks one of what there is. */
  nth?: number;
  fields: Record<string, unknown>;
}

const one = <T>(values: readonly T[]) => fc.constantFrom(...values);
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const seldom = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 2 });

const proof = one<Proof>(["held", "held", "held", "held", "old", "old", "wrong", "none"]);
const nth = fc.nat({ max: 40 });

const retryPolicy = fc.record({
  base_ms: one([40, 2_000]),
  factor: one([1, 3]),
  max_ms: one([2_500, 60_000]),
  jitter: one([0, 0.5]),
  non_retryable: one([[], ["fatal"]]),
});

/** Odd lengths, so that no two clocks run out together, nor with a lease. */
const clocks = fc.record(
  {
    start_within_ms: one([4_007, 30_011]),
    run_within_ms: one([3_013, 45_017]),
    silent_within_ms: one([2_019, 20_023]),
    finish_within_ms: one([9_029, 90_031]),
  },
  { requiredKeys: [] },
);

const row = fc.record({
  nth,
  task_type: one(TYPES),
  priority: seldom(one([-1, 1])),
  status: fc.option(one(["blocked", "runnable"]), { nil: undefined, freq: 3 }),
  // Most rows wait for nothing: what waits for one that never ends is not worked.
  dependsOn: fc.oneof(
    { weight: 2, arbitrary: fc.constant<number[]>([]) },
    { weight: 1, arbitrary: fc.array(nth, { maxLength: 2 }) },
  ),
  max_attempts: maybe(one([1, 2, 3])),
  retry: seldom(retryPolicy),
  clocks: seldom(clocks),
  on_dependency_failure: maybe(one(["wait", "fail", "skip"])),
  concurrency_key: maybe(one(KEYS)),
});

const resources = fc.uniqueArray(
  fc.record({ name: one(RESOURCES), mode: one(["shared", "exclusive"] as const) }),
  { minLength: 1, maxLength: 2, selector: ({ name }) => name },
);

const create: fc.Arbitrary<Ask> = fc.record({
  op: fc.constant("create_tasks"),
  fields: fc.record({ tasks: fc.array(row, { minLength: 1, maxLength: 3 }) }),
});

const claim: fc.Arbitrary<Ask> = fc.record({
  op: fc.constant("claim"),
  fields: fc.record({
    agent_id: one(AGENTS),
    lease_ms: one(LEASES_MS),
    task_type: seldom(one(TYPES)),
    max: seldom(one([1, 2, 5])),
    locks: seldom(resources),
  }),
});

const progress = maybe(fc.record({ percent: fc.nat({ max: 100 }), note: fc.constant("on it") }));

const transition: fc.Arbitrary<Ask> = fc.oneof(
  fc.record({
    op: fc.constant("heartbeat"),
    proof,
    nth,
    fields: fc.record({ lease_ms: one(LEASES_MS), progress }),
  }),
  fc.record({ op: one(["complete", "release"]), proof, nth, fields: fc.constant({}) }),
  fc.record({
    op: fc.constant("fail"),
    proof,
    nth,
    fields: fc.record({
      error: fc.constant("broke"),
      error_code: seldom(one(["fatal", "busy"])),
      retryable: seldom(fc.boolean()),
    }),
  }),
  fc.record({
    op: fc.constant("retry"),
    proof: one<Proof>(["none", "none", "old"]),
    nth,
    fields: fc.constant({}),
  }),
);

const write: fc.Arbitrary<Ask> = fc.record({
  op: one(["append_event", "patch_blackboard"]),
  proof: proof,
  nth,
  fields: fc.constant({}),
});

const redrive: fc.Arbitrary<Ask> = fc.oneof(
  fc.record({ op: fc.constant("redrive_task"), nth, fields: fc.constant({}) }),
  fc.record({
    op: fc.constant("redrive_tasks"),
    fields: fc.record({
      task_type: seldom(one(TYPES)),
      cause: seldom(one(["attempts_exhausted", "not_retryable"])),
      limit: one([1, 500]),
      preview: fc.boolean(),
    }),
  }),
);

const dependencies: fc.Arbitrary<Ask> = fc.record({
  op: fc.constant("change_dependencies"),
  nth,
  fields: fc.record({
    add: fc.array(nth, { maxLength: 2 }),
    remove: fc.array(nth, { maxLength: 1 }),
  }),
});

const cancelTask: fc.Arbitrary<Ask> = fc.record({
  op: fc.constant("cancel_task"),
  nth,
  fields: fc.record({ reason: fc.constant("not wanted"), grace_ms: maybe(one([0, 3_037])) }),
});

const stopRun: fc.Arbitrary<Ask> = fc.record({
  op: one(["pause_run", "resume_run", "resume_run"]),
  fields: fc.record({ grace_ms: maybe(one([0, 4_041])) }),
});

const limits: fc.Arbitrary<Ask> = fc.record({
  op: fc.constant("put_settings"),
  fields: fc.record({ concurrency_limits: fc.record({ k1: one([1, 2]) }), grace_ms: one([1_043, 30_000]) }),
});

const lock: fc.Arbitrary<Ask> = fc.oneof(
  fc.record({
    op: fc.constant("acquire_lock"),
    fields: fc.record({ agent_id: one(AGENTS), lease_ms: one(LEASES_MS), resources }),
  }),
  fc.record({
    op: fc.constant("heartbeat_lock"),
    proof,
    nth,
    fields: fc.record({ lease_ms: one(LEASES_MS) }),
  }),
  fc.record({ op: fc.constant("release_lock"), proof, nth, fields: fc.constant({}) }),
);

/** What is asked for in one command. */
export const asks: fc.Arbitrary<Ask> = fc.oneof(
  { weight: 6, arbitrary: create },
  { weight: 8, arbitrary: claim },
  { weight: 10, arbitrary: transition },
  { weight: 3, arbitrary: write },
  { weight: 2, arbitrary: redrive },
  { weight: 2, arbitrary: dependencies },
  { weight: 2, arbitrary: cancelTask },
  { weight: 2, arbitrary: stopRun },
  { weight: 1, arbitrary: limits },
  { weight: 4, arbitrary: lock },
);

/** Names of the commands that are asked. */
export const OPS: readonly string[] = [
  ...["create_tasks", "claim", "heartbeat", "complete", "release", "fail", "retry"],
  ...["append_event", "patch_blackboard"],
  ...["redrive_task", "redrive_tasks", "change_dependencies"],
  ...["cancel_task", "pause_run", "resume_run", "put_settings"],
  ...["acquire_lock", "heartbeat_lock", "release_lock", "batch"],
];

/** The command that an ask comes to as things are. */
export function opOf(ask: Ask, state: State, unique: string): Op {
  const { op, fields } = ask;
  const nth = ask.nth ?? 0;
  switch (op) {
    case "heartbeat":
    case "complete":
    case "fail":
    case "release":
      return { op, ...fields, ...proven(ask, "task", state) };
    case "create_tasks":
      return { op, tasks: rowsOf(fields.tasks as Row[], state) };
    case "redrive_task": {
      const letters = state.tasks.filter(({ isDeadLetter }) => isDeadLetter);
      return { op, ...fields, task_id: pick(nth % 4 === 0 ? state.tasks : letters, nth)?.id ?? NOBODY };
    }
    case "retry":
    case "cancel_task": {
      const lease_token = ask.proof === "old" ? pick(tokensOf("task", state), nth)?.token : undefined;
      return { op, ...fields, task_id: idOf(nth, state), ...(lease_token && { lease_token }) };
    }
    case "change_dependencies": {
      const named = (nths: unknown) => [...new Set((nths as number[]).map((one) => idOf(one, state)))];
      return { op, task_id: idOf(nth, state), add: named(fields.add), remove: named(fields.remove) };
    }
    case "append_event":
      return {
        op,
        type: "note",
        status: state.run.status,
        payload: { unique },
        ...(ask.proof === "none" ? {} : proven(ask, "task", state)),
      };
    case "patch_blackboard":
      return {
        op,
        patch_op: "add_fact",
        payload: { id: unique, ts_ms: 1, text: unique },
        ...(ask.proof === "none" ? {} : proven(ask, "task", state)),
      };
    case "resume_run":
      return { op };
    case "heartbeat_lock":
    case "release_lock":
      return { op, lease_token: "lease-of-nobody", ...fields, ...proven(ask, "lock", state) };
    case "claim":
      // Locks are taken with one task.
      return fields.locks === undefined ? { op, ...fields } : { op, ...fields, max: undefined };
    default:
      return { op, ...fields };
  }
}

type Row = { nth: number; dependsOn: number[] } & Record<string, unknown>;

/** Rows of new tasks, and now and then of one that is there. */
function rowsOf(rows: readonly Row[], state: State): Record<string, unknown>[] {
  const count = state.tasks.length;
  return rows.map(({ nth, dependsOn, ...fields }, index) => ({
    id: nth % 8 === 0 || count + index >= MOST_TASKS ? idOf(nth, state) : `t${count + index}`,
    ...fields,
    // Itself and those after it, too: such rows are refused.
    depends_on_task_ids: [
      ...new Set(dependsOn.map((one) => (one % 5 === 0 ? `t${count + (one % 3)}` : idOf(one, state)))),
    ],
  }));
}

/** The id of some task, and seldom of none. */
function idOf(nth: number, state: State): string {
  return nth === 0 ? NOBODY : (pick(state.tasks, nth)?.id ?? NOBODY);
}

/** The thing that a command is about, and the token that it brings. */
function proven({ proof, nth = 0 }: Ask, kind: Given["kind"], state: State): Partial<Op> {
  const held =
    kind === "task"
      ? state.tasks.flatMap(({ id, lease }) => (lease === null ? [] : [{ id, token: lease.token }]))
      : state.locks.filter(({ task }) => task === null);
  const given = tokensOf(kind, state);
  const found = pick(proof === "old" ? given : held, nth) ?? pick(given, nth);
  const fallback = kind === "task" ? idOf(nth, state) : "lock-unknown";
  const name = kind === "task" ? "task_id" : "lock_id";
  const lease_token = proof === "wrong" ? "lease-of-nobody" : proof === "none" ? undefined : found?.token;
  return { [name]: found?.id ?? fallback, ...(lease_token !== undefined && { lease_token }) };
}

function tokensOf(kind: Given["kind"], { given }: State): Given[] {
  return given.filter((one) => one.kind === kind);
}

function pick<T>(values: readonly T[], nth: number): T | undefined {
  return values.length === 0 ? undefined : values[nth % values.length];
}

/** A step of a random history. */
export type Step =
  | { do: "ask"; ask: Ask; delivery: Delivery }
  /** Several at once, by as many agents. */
  | { do: "together"; asks: Ask[] }
  /** Several in one request, all or none. */
  | { do: "batch"; asks: Ask[]; delivery: Delivery; isDry: boolean }
  /** An earlier request arrives, again or for the first time since it was refused. */
  | { do: "repeat"; nth: number }
  /** An earlier key, with something else. */
  | { do: "misuse"; nth: number }
  | { do: "clock"; ms: number }
  | { do: "alarm" }
  | { do: "evict" }
  | { do: "crash" };

/**
 * How a request goes: without a key; with one; with one twice at once; with one, into an object that crashes, and then again until
 * it is answered.
 */
export type Delivery = "plain" | "keyed" | "twice" | "crashing";

const delivery = one<Delivery>(["plain", "plain", "plain", "keyed", "keyed", "twice", "crashing"]);

export const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 24, arbitrary: fc.record({ do: fc.constant("ask" as const), ask: asks, delivery }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("together" as const),
      asks: fc.array(asks, { minLength: 2, maxLength: 3 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("batch" as const),
      asks: fc.array(asks, { minLength: 1, maxLength: 4 }),
      delivery,
      isDry: fc.boolean(),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("repeat" as const), nth }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("misuse" as const), nth }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("clock" as const),
      ms: one([1, 500, 999, 1_000, 2_500, 5_000, 5_000, 20_000, 61_000]),
    }),
  },
  { weight: 2, arbitrary: fc.constant<Step>({ do: "alarm" }) },
  { weight: 1, arbitrary: fc.constant<Step>({ do: "evict" }) },
  { weight: 1, arbitrary: fc.constant<Step>({ do: "crash" }) },
);
