import { describe, expect, it } from "vitest";
import type { MutatedFile, MutationRecord, RollbackSnapshot } from "../../src/domain/mutations.ts";
import { undoOf } from "../../src/domain/undo.ts";
import { aFile, aMutation } from "../support/audit.ts";

const INLINE: RollbackSnapshot = { status: "inline_text", content: "x" };
const STORED: RollbackSnapshot = {
  status: "stored",
  sha256: "0".repeat(64),
  byte_count: 3,
  content_type: "image/png",
  version: 7,
};

function only(file: MutatedFile) {
  const { rollback_readiness, rollback_plan } = undoOf(aMutation([file]));
  const [readiness] = rollback_readiness.files;
  const [operation] = rollback_plan.operations;
  return { readiness, operation };
}

describe("06§6 the undo of a file", () => {
  it.each<[boolean, boolean, RollbackSnapshot, string, boolean, boolean, string]>([
    [false, true, { status: "not_needed" }, "delete_created_file", true, false, "delete_file"],
    [false, true, INLINE, "delete_created_file", true, false, "delete_file"],
    [true, false, INLINE, "recreate_deleted_file", true, false, "write_file"],
    [true, false, STORED, "recreate_deleted_file", true, false, "write_file"],
    [true, false, { status: "too_large" }, "recreate_deleted_file", false, true, "advisory_only"],
    [true, true, INLINE, "restore_previous_contents", true, false, "write_file"],
    [true, true, STORED, "restore_previous_contents", true, false, "write_file"],
    [true, true, { status: "binary" }, "restore_previous_contents", false, true, "advisory_only"],
    [true, true, { status: "not_needed" }, "restore_previous_contents", false, true, "advisory_only"],
    [false, false, INLINE, "no_action", false, false, "noop"],
    [false, false, { status: "binary" }, "no_action", false, false, "noop"],
  ])("existed %s -> %s, %j: %s", (before, after, snapshot, action, revertible, needs, kind) => {
    const { readiness, operation } = only(
      aFile({ existed_before: before, existed_after: after, rollback_snapshot: snapshot }),
    );
    expect(readiness).toEqual({
      path: "a",
      action,
      directly_revertible: revertible,
      requires_snapshot: needs,
    });
    expect(operation).toMatchObject({
      path: "a",
      action,
      executable: revertible,
      operation: { kind, path: "a" },
    });
    expect(operation?.advisory_reason === undefined).toBe(revertible);
  });

  it("writes what is stored by reference, and what is inline as it is", () => {
    const {
      status: _status,
      byte_count: bytes,
      ...stored
    } = STORED as Extract<RollbackSnapshot, { status: "stored" }>;
    expect(only(aFile({ rollback_snapshot: STORED })).operation?.operation).toEqual({
      kind: "write_file",
      path: "a",
      artifact: { ...stored, bytes },
    });
    expect(only(aFile({ rollback_snapshot: INLINE })).operation?.operation).toEqual({
      kind: "write_file",
      path: "a",
      content: "x",
    });
  });
});

describe("06§6 the undo of a record", () => {
  const plan = (files: MutatedFile[]) => undoOf(aMutation(files)).rollback_plan;
  const good = aFile({ rollback_snapshot: INLINE });
  const advice = aFile({ rollback_snapshot: { status: "binary" } });
  const none = aFile({ existed_before: false, existed_after: false });

  it.each<[string, MutationRecord["files"], boolean, number, number]>([
    ["no files", [], false, 0, 0],
    ["unchanged files", [aFile({ changed: false })], false, 0, 0],
    ["one good", [good], true, 1, 0],
    ["two good", [good, good], true, 2, 0],
    ["one of each", [good, advice], false, 1, 1],
    ["only advice", [advice], false, 0, 1],
    ["nothing to do counts as advice", [good, none], false, 1, 1],
  ])("%s", (_, files, executable, operations, advisory) => {
    expect(plan(files)).toMatchObject({
      executable,
      executable_operation_count: operations,
      advisory_operation_count: advisory,
    });
  });
});
