import { describe, expect, it } from "vitest";
import { applyPayloadContract } from "../../src/domain/contract.ts";
import { TASK_KINDS, type TaskKind } from "../../src/protocol/task.ts";

const INVALID = {
  code: "TASK_CONTRACT_INVALID",
  error: "task payload must be a JSON object for strict blackboard tasks",
};
const NO_TARGET = {
  code: "TASK_OUTPUT_TARGET_REQUIRED",
  error: "implementation tasks must include payload.output_target.path",
};

const PAYLOAD = { a: 1 };
const MODE: Record<TaskKind, string> = {
  implementation: "strict_write",
  inspection: "strict_nonwriting",
  research: "strict_nonwriting",
  validation: "strict_nonwriting",
  fix_proposal: "strict_nonwriting",
};

describe("the payload's shape", () => {
  it.each(["s", "", 0, 5, true, false, [], [{}]])("04§3 %j is no payload, whatever the type", (payload) => {
    for (const type of ["free", "research", "implementation"]) {
      const refusal = { ...INVALID, task_id: " t1 " };
      expect(applyPayloadContract(type, payload, " t1 ")).toEqual({ ok: false, refusal });
    }
  });

  it("04§3 null counts as an empty object, for a kind; free-form it stays null", () => {
    expect(applyPayloadContract("research", null, "")).toMatchObject({
      payload: { task_kind: "research", execution_mode: "strict_nonwriting" },
    });
    expect(applyPayloadContract(" free ", null, "")).toEqual({ ok: true, task_type: "free", payload: null });
    expect(applyPayloadContract("implementation", null, "i")).toEqual({
      ok: false,
      refusal: { ...NO_TARGET, task_id: "i" },
    });
  });
});

describe("the kind", () => {
  const spellings: [string, TaskKind][] = [
    ...TASK_KINDS.map((kind): [string, TaskKind] => [kind, kind]),
    ...TASK_KINDS.map((kind): [string, TaskKind] => [` ${kind}\n`, kind]),
    ["fix-proposal", "fix_proposal"],
    [" fix-proposal ", "fix_proposal"],
  ];
  it.each(spellings)("04§3 %j is the kind %s, as type and as task_kind", (word, kind) => {
    const target = kind === "implementation" ? { output_target: { path: "p" } } : {};
    const expected = {
      ok: true,
      task_type: kind,
      payload: { ...PAYLOAD, ...target, task_kind: kind, execution_mode: MODE[kind] },
    };
    expect(applyPayloadContract(word, { ...PAYLOAD, ...target }, "")).toEqual(expected);
    const other = { ...PAYLOAD, ...target, task_kind: word };
    expect(applyPayloadContract("zz", other, "")).toEqual(expected);
    expect(applyPayloadContract(kind === "research" ? "validation" : "research", other, "")).toEqual(
      expected,
    );
    expect(applyPayloadContract(word, { ...other, execution_mode: "best_effort" }, "")).toEqual(expected);
  });

  it.each(["Inspection", "RESEARCH", "fix proposal", "implementation2", "toString", ""])(
    "04§3 %j is none: free-form, payload exactly as sent",
    (word) => {
      const payload = { task_kind: word, execution_mode: "x", write_required: true, output_target: 5 };
      const result = applyPayloadContract(` ${word} `, payload, "");
      expect(result).toEqual({ ok: true, task_type: word, payload });
    },
  );

  it.each([5, null, ["research"], "nonsense", ""])(
    "04§3 task_kind %j falls through to the type",
    (task_kind) => {
      expect(applyPayloadContract(" research ", { task_kind }, "")).toEqual({
        ok: true,
        task_type: "research",
        payload: { task_kind: "research", execution_mode: "strict_nonwriting" },
      });
    },
  );
});

describe("writing and not writing", () => {
  it.each(TASK_KINDS.filter((kind) => kind !== "implementation"))(
    "04§3 %s loses write_required and keeps any output_target",
    (kind) => {
      const output_target = { file: " x ", other: 1 };
      const payload = { write_required: true, output_target, execution_mode: "strict_write" };
      expect(applyPayloadContract(kind, payload, "")).toEqual({
        ok: true,
        task_type: kind,
        payload: { output_target, task_kind: kind, execution_mode: "strict_nonwriting" },
      });
    },
  );

  it("04§3 implementation keeps write_required, and what was sent is not changed", () => {
    const sent = { output_target: { target: " a ", more: 1 }, write_required: false, note: "n" };
    const result = applyPayloadContract("implementation", sent, "");
    expect(result).toEqual({
      ok: true,
      task_type: "implementation",
      payload: {
        output_target: { path: "a" },
        write_required: false,
        note: "n",
        task_kind: "implementation",
        execution_mode: "strict_write",
      },
    });
    expect(sent).toEqual({ output_target: { target: " a ", more: 1 }, write_required: false, note: "n" });
  });

  /** An output target and what it is rewritten to; null: refused. */
  const targets: [unknown, Record<string, string> | null][] = [
    [{ path: " a.txt " }, { path: "a.txt" }],
    [{ file: "a" }, { path: "a" }],
    [{ file_path: "a" }, { path: "a" }],
    [{ target: "a" }, { path: "a" }],
    [{ target: "d", file_path: "c", file: "b", path: "a" }, { path: "a" }],
    [{ target: "d", file_path: "c", file: "b" }, { path: "b" }],
    [{ target: "d", file_path: "c" }, { path: "c" }],
    [{ path: null, file: "x" }, null],
    [{ path: " ", file: "x" }, null],
    [{ path: 5, target: "x" }, null],
    [{ file: {}, target: "x" }, null],
    [{ name: "x" }, null],
    [{ undefined: "x" }, null],
    [{ Path: "x" }, null],
    [{}, null],
    [null, null],
    ["a.txt", null],
    [["a.txt"], null],
    [undefined, null],
    [
      { path: "x", kind: " doc ", operation: " create " },
      { path: "x", kind: "doc", operation: "create" },
    ],
    [
      { path: "x", type: "doc", mode: "create" },
      { path: "x", kind: "doc", operation: "create" },
    ],
    [{ path: "x", kind: "", type: "y", operation: " ", mode: "z" }, { path: "x" }],
    [{ path: "x", kind: null, type: "y", operation: 7, mode: "z" }, { path: "x" }],
    [{ target: "x", kind: "", type: "y", operation: " " }, { path: "x" }],
    [{ path: "x", extra: true, execution_mode: "m" }, { path: "x" }],
  ];
  it.each(targets)("04§3 output_target %j is read as %j", (output_target, read) => {
    const result = applyPayloadContract("implementation", { output_target }, "t");
    expect(result).toEqual(
      read === null
        ? { ok: false, refusal: { ...NO_TARGET, task_id: "t" } }
        : {
            ok: true,
            task_type: "implementation",
            payload: { output_target: read, task_kind: "implementation", execution_mode: "strict_write" },
          },
    );
  });
});

describe("the contract's examples", () => {
  it("04§3 an unknown type with a kind in its payload", () => {
    const payload = { task_kind: " fix-proposal ", write_required: true, execution_mode: "best_effort" };
    expect(applyPayloadContract("zz", payload, "")).toEqual({
      ok: true,
      task_type: "fix_proposal",
      payload: { task_kind: "fix_proposal", execution_mode: "strict_nonwriting" },
    });
  });

  it("04§3 an implementation by its payload, with everything in it", () => {
    const payload = {
      task_kind: "implementation",
      output_target: { file: " a.txt ", type: "doc", mode: "create", x: 1 },
      write_required: true,
    };
    expect(applyPayloadContract("custom", payload, "")).toEqual({
      ok: true,
      task_type: "implementation",
      payload: {
        task_kind: "implementation",
        execution_mode: "strict_write",
        output_target: { path: "a.txt", kind: "doc", operation: "create" },
        write_required: true,
      },
    });
  });
});
