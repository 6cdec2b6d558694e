import type { Plan, PlanTask } from "./plan.ts";
import type { AuditClocks } from "./records.ts";

/** A row of the plan as it is put on the board, with what the plan does not say. */
export interface DrillTask extends PlanTask {
  readonly max_attempts?: number;
  readonly retry?: object;
  readonly clocks?: AuditClocks;
  readonly concurrency_key?: string;
}

/** Tasks that are added to be cancelled. */
const fewestExtras = 3;
const mostExtras = 60;

/** What the run is told of them; a key that is not among these has one place. */
export const concurrencyLimits: Readonly<Record<string, number>> = { "drill-pair": 2, "drill-few": 3 };
const keys = ["drill-alone", "drill-pair", "drill-few"] as const;
/** Who crashes keeps the place of its task until its lease has run out: with more of them the plan would take much longer. */
const mostKeyed = 36;
const nearestKeyed = 4;

/** Tasks that have to begin, or to be done, sooner than what they wait for: dead letters until then, and redriven each time. */
const mostWaiting = 8;

/**
 * The rows of a plan. Attempts of every second task that is to be worked are capped, half of these by a clock, too; their dead
 * letters are redriven. A few of those with dependencies have to begin, or to be done, in time. Some share a concurrency key.
 */
export function rowsOf({ tasks }: Plan): DrillTask[] {
  const everyKeyed = Math.max(nearestKeyed, Math.ceil(tasks.length / mostKeyed));
  let waiting = 0;
  return tasks.map((task, index) => {
    if (task.status === "done") return task;
    const isWaiting = index % 2 === 1 && task.depends_on_task_ids.length > 0 && waiting < mostWaiting;
    if (isWaiting) waiting += 1;
    return {
      ...task,
      ...(index % 2 === 0 && policyAt(index / 2)),
      ...(isWaiting && {
        clocks: waiting % 2 === 0 ? { start_within_ms: 900 } : { finish_within_ms: 1_200 },
      }),
      ...(index % everyKeyed === 1 && {
        concurrency_key: keys[Math.floor(index / everyKeyed) % keys.length],
      }),
    };
  });
}

/** Who is quick is done before a clock ends the attempt; who has crashed, or hangs, is not. Leases are of 5000 ms at least. */
function policyAt(index: number): Partial<DrillTask> {
  const retry = { base_ms: 30, factor: 2, max_ms: 300, jitter: 0.5, non_retryable: ["hopeless"] };
  const policy = { max_attempts: 3, retry };
  if (index % 2 === 0) return policy;
  return { ...policy, clocks: index % 4 === 1 ? { run_within_ms: 2_000 } : { silent_within_ms: 1_500 } };
}

/** Tasks that nobody wants: one for each 25 of the plan, of no interest to any of its. */
export function extrasFor({ tasks }: Plan): DrillTask[] {
  const count = Math.min(mostExtras, Math.max(fewestExtras, Math.ceil(tasks.length / 25)));
  return Array.from({ length: count }, (_, index) => ({
    id: `drill-extra-${index + 1}`,
    task_type: "drill_extra",
    payload: {},
    status: "pending",
    // Some are claimed early, some late, some never.
    priority: (index % 5) * 25,
    depends_on_task_ids: [],
  }));
}
