import { describe, expect, it } from "vitest";
import { must, newRun } from "../support.ts";

/** Creates one row in a run of its own and answers the body. */
async function create(row: Record<string, unknown>) {
  return must(await (await newRun()).post("/tasks", { tasks: [row] }));
}

describe("POST …/tasks: the payload contract", () => {
  /** task_type, payload, then the stored type and payload. */
  const accepted: [string, unknown, string, unknown][] = [
    ["Inspection", { a: 1 }, "Inspection", { a: 1 }],
    [
      " research ",
      { task_kind: 5 },
      "research",
      { task_kind: "research", execution_mode: "strict_nonwriting" },
    ],
    ["zz", null, "zz", null],
    ["zz", undefined, "zz", null],
    ["zz", { task_kind: "unknown" }, "zz", { task_kind: "unknown" }],
    ["validation", null, "validation", { task_kind: "validation", execution_mode: "strict_nonwriting" }],
    [
      "inspection",
      { task_kind: "nope", a: 1 },
      "inspection",
      {
        a: 1,
        task_kind: "inspection",
        execution_mode: "strict_nonwriting",
      },
    ],
    [
      "research",
      { task_kind: "validation" },
      "validation",
      {
        task_kind: "validation",
        execution_mode: "strict_nonwriting",
      },
    ],
    [
      "zz",
      { task_kind: " fix-proposal ", write_required: true, execution_mode: "best_effort" },
      "fix_proposal",
      {
        task_kind: "fix_proposal",
        execution_mode: "strict_nonwriting",
      },
    ],
    [
      "research",
      { output_target: { file: "x", y: 1 }, write_required: false },
      "research",
      {
        output_target: { file: "x", y: 1 },
        task_kind: "research",
        execution_mode: "strict_nonwriting",
      },
    ],
    [
      "custom",
      {
        task_kind: "implementation",
        output_target: { file: " a.txt ", type: "doc", mode: "create", x: 1 },
        write_required: true,
      },
      "implementation",
      {
        task_kind: "implementation",
        output_target: { path: "a.txt", kind: "doc", operation: "create" },
        write_required: true,
        execution_mode: "strict_write",
      },
    ],
  ];
  it.each(accepted)("04§3 %j with %j is stored as %j", async (task_type, payload, type, stored) => {
    const { tasks } = await create({ task_type, payload });
    expect(tasks[0]?.task_type).toBe(type);
    expect(tasks[0]?.payload).toEqual(stored);
  });

  /** Output target as sent, as stored; null means refused. */
  const targets: [unknown, unknown][] = [
    [{ path: " p " }, { path: "p" }],
    [{ file: "f" }, { path: "f" }],
    [{ file_path: "f" }, { path: "f" }],
    [{ target: "f" }, { path: "f" }],
    [{ target: "d", file_path: "c", file: "b", path: "a" }, { path: "a" }],
    [{ target: "d", file_path: "c", file: "b" }, { path: "b" }],
    [{ target: "x", kind: "", type: "y", operation: " " }, { path: "x" }],
    [
      { path: "x", kind: " k ", type: "y", operation: "o", mode: "m" },
      { path: "x", kind: "k", operation: "o" },
    ],
    [{ path: "x", kind: null, type: "y" }, { path: "x" }],
    [
      { path: "x", type: "y", mode: "m" },
      { path: "x", kind: "y", operation: "m" },
    ],
    [{ path: null, file: "x" }, null],
    [{ path: " ", file: "x" }, null],
    [{ path: 1 }, null],
    [{ kind: "k" }, null],
    [{}, null],
    ["x", null],
    [["x"], null],
    [null, null],
    [undefined, null],
  ];
  it.each(targets)("04§3 output_target %j → %j", async (output_target, stored) => {
    const row = { id: "t", task_type: "implementation", payload: { output_target } };
    if (stored !== null) {
      const implementation = {
        output_target: stored,
        task_kind: "implementation",
        execution_mode: "strict_write",
      };
      expect((await create(row)).tasks[0]?.payload).toEqual(implementation);
      return;
    }
    expect(await create(row)).toEqual({
      ok: false,
      code: "TASK_OUTPUT_TARGET_REQUIRED",
      error: "implementation tasks must include payload.output_target.path",
      task_id: "t",
    });
  });

  it("04§3 implementation without a payload is TASK_OUTPUT_TARGET_REQUIRED, without id task_id is empty", async () => {
    for (const payload of [null, undefined]) {
      const body = await create({ task_type: "implementation", payload });
      expect(body).toMatchObject({ ok: false, code: "TASK_OUTPUT_TARGET_REQUIRED", task_id: "" });
    }
  });

  it.for(["s", 1, true, [], [{}]])("04§3 the payload %j is TASK_CONTRACT_INVALID", async (payload) => {
    for (const task_type of ["zz", "implementation"]) {
      expect(await create({ task_type, payload, id: "t" })).toEqual({
        ok: false,
        code: "TASK_CONTRACT_INVALID",
        error: "task payload must be a JSON object for strict blackboard tasks",
        task_id: "t",
      });
    }
  });
});
