import { expect, it } from "vitest";
import { createRng } from "../../bench/drill/rng.ts";
import { makePlan } from "../../bench/torture/make-plan.ts";

it("makes a plan of the size asked for, the same for the same numbers", () => {
  expect(makePlan(createRng(1, 0), 150)).toEqual(makePlan(createRng(1, 0), 150));
  expect(makePlan(createRng(1, 0), 150)).not.toEqual(makePlan(createRng(2, 0), 150));
  expect(makePlan(createRng(1, 0), 400).tasks).toHaveLength(400);
});

it("lets tasks depend on earlier ones only, so that all can be done", () => {
  for (let seed = 0; seed < 20; seed += 1) {
    const known = new Set<string>();
    let edges = 0;
    for (const { id, depends_on_task_ids, parent_task_id } of makePlan(createRng(seed, 0), 300).tasks) {
      for (const before of depends_on_task_ids) expect(known).toContain(before);
      if (parent_task_id !== undefined) expect(known).toContain(parent_task_id);
      expect(new Set(depends_on_task_ids).size).toBe(depends_on_task_ids.length);
      edges += depends_on_task_ids.length;
      known.add(id);
    }
    expect(known.size).toBe(300);
    expect(edges).toBeGreaterThan(200);
  }
});
