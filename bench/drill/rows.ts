import type { Plan, PlanTask } from "./plan.ts";

/** A row of the plan as it is put on the board, with what the plan does not say. */
export interface DrillTask extends PlanTask {
  readonly max_attempts?: number;
  readonly retry?: object;
}

/** Tasks that are added to be cancelled. */
const fewestExtras = 3;
const mostExtras = 60;

/** Attempts of every second task are capped; their dead letters are redriven. */
export function withPolicy(task: PlanTask, index: number): DrillTask {
  if (task.status === "done" || index % 2 === 1) return task;
  const retry = { base_ms: 30, factor: 2, max_ms: 300, jitter: 0.5, non_retryable: ["hopeless"] };
  return { ...task, max_attempts: 3, retry };
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
