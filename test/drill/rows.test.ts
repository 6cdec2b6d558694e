import { describe, expect, it } from "vitest";
import type { Plan, PlanTask } from "../../bench/drill/plan.ts";
import { rowsOf } from "../../bench/drill/rows.ts";

/** Each task but the first waits for the one before. */
function planOf(length: number, more: Partial<PlanTask> = {}): Plan {
  const tasks = Array.from(
    { length },
    (_, index): PlanTask => ({
      id: `t${index}`,
      task_type: "task",
      payload: {},
      status: "pending",
      priority: 0,
      depends_on_task_ids: index === 0 ? [] : [`t${index - 1}`],
      ...more,
    }),
  );
  return { tasks, problems: [] };
}

describe("the rows of a plan", () => {
  it.each([26, 200, 2_500])(
    "of %i tasks use every clock and key, and few of those that cost time",
    (length) => {
      const rows = rowsOf(planOf(length));
      for (const clock of [
        "start_within_ms",
        "run_within_ms",
        "silent_within_ms",
        "finish_within_ms",
      ] as const) {
        expect(rows.some(({ clocks }) => clocks?.[clock] !== undefined)).toBe(true);
      }
      const waiting = rows.filter(({ clocks }) => clocks?.start_within_ms ?? clocks?.finish_within_ms);
      expect(waiting.length).toBeLessThanOrEqual(8);
      const keyed = rows.filter(({ concurrency_key }) => concurrency_key !== undefined);
      expect(keyed.length).toBeLessThanOrEqual(36);
      expect(new Set(keyed.map(({ concurrency_key }) => concurrency_key)).size).toBe(3);
    },
  );

  it("leave what is done as it is", () => {
    const { tasks } = planOf(30, { status: "done" });
    expect(rowsOf({ tasks, problems: [] })).toEqual(tasks);
  });
});
