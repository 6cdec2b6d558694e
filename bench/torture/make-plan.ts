import type { Plan, PlanTask } from "../drill/plan.ts";
import type { Rng } from "../drill/rng.ts";

const mostDependencies = 3;
/** Dependencies reach back so far at most, so that most of a board can be worked at once. */
const reach = 40;
const taskTypes = ["build", "test", "review", "publish"] as const;

/** A plan of that many tasks: with dependencies on earlier ones, parents, and priorities. */
export function makePlan(rng: Rng, count: number): Plan {
  const idAt = (index: number): string => `t${String(index + 1).padStart(4, "0")}`;
  const earlier = (index: number): string => idAt(rng.between(Math.max(0, index - reach), index - 1));
  const tasks = Array.from({ length: count }, (_, index): PlanTask => {
    const dependencies = rng.chance(0.6) ? rng.between(1, mostDependencies) : 0;
    const depends_on_task_ids = index === 0 ? [] : Array.from({ length: dependencies }, () => earlier(index));
    const isChild = index > 0 && rng.chance(0.1);
    return {
      id: idAt(index),
      task_type: rng.pick(taskTypes),
      payload: { title: `Do ${idAt(index)}`, weight: rng.between(1, 1_000) },
      status: "pending",
      priority: rng.between(0, 10) * 10,
      ...(isChild && { parent_task_id: earlier(index) }),
      depends_on_task_ids: [...new Set(depends_on_task_ids)],
    };
  });
  return { tasks, problems: [] };
}
