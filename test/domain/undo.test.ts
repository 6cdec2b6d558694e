import { describe, expect, it } from "vitest";
import type { MutatedFile, MutationRecord, RollbackSnapshot } from "../../src/domain/mutations.ts";
import { plannedStep } from "../../src/domain/rollback-plan.ts";
import { undoOf } from "../../src/domain/undo.ts";
import { aFile, aMutation, anEvent } from "../support/audit.ts";

const INLINE: RollbackSnapshot = { status: "inline_text", content: "x" };
const STORED: Extract<RollbackSnapshot, { status: "stored" }> = {
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
    const { status: _status, byte_count: bytes, ...stored } = STORED;
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

  it("counts what can be undone as it is, and what needs its prior content from elsewhere", () => {
    expect(
      undoOf(aMutation([good, advice, advice, none, aFile({ changed: false })])).rollback_readiness,
    ).toEqual({
      candidate_file_count: 4,
      directly_revertible_file_count: 1,
      requires_snapshot_file_count: 2,
      by_action: { restore_previous_contents: 3, no_action: 1 },
      files: expect.any(Array),
    });
  });
});

describe("06§9 the step of a record on its way to be applied", () => {
  const event = anEvent({ seq: 7, type: "mutation_checkpoint_recorded" });
  const at = { seq: 7, event_id: "evt-7", tool: "edit" };
  const unchanged = aFile({ path: "unchanged", changed: false, existed_after: false, after_hash: "none" });
  const restored = (path: string) => ({ path, action: "restore_previous_contents", kind: "write_file" });

  it("says what to write, and how the record left each path that it changed", () => {
    const files = [
      unchanged,
      aFile({ path: "text", after_hash: "h1" }),
      aFile({ path: "new", existed_before: false, after_hash: "h2", rollback_snapshot: INLINE }),
      unchanged,
      aFile({ path: "stored", rollback_snapshot: STORED }),
      aFile({ path: "gone", existed_after: false, rollback_snapshot: INLINE }),
    ];
    const { byte_count: bytes, status: _status, ...stored } = STORED;
    expect(plannedStep(event, aMutation(files))).toEqual({
      ...at,
      executable: true,
      operations: [
        { ...restored("text"), text: "before", after: { exists: true, hash: "h1" } },
        {
          path: "new",
          action: "delete_created_file",
          kind: "delete_file",
          after: { exists: true, hash: "h2" },
        },
        { ...restored("stored"), artifact: { ...stored, bytes }, after: { exists: true, hash: null } },
        {
          path: "gone",
          action: "recreate_deleted_file",
          kind: "write_file",
          text: "x",
          after: { exists: false, hash: null },
        },
      ],
    });
  });

  it("is only advice where a content is missing, and none where nothing was changed", () => {
    const binary = aFile({ rollback_snapshot: { status: "binary" } });
    expect(plannedStep(event, aMutation([binary]))).toEqual({
      ...at,
      executable: false,
      operations: [
        {
          path: "a",
          action: "restore_previous_contents",
          kind: "advisory_only",
          after: { exists: true, hash: null },
        },
      ],
    });
    expect(plannedStep(event, aMutation([unchanged]))).toBeNull();
    expect(plannedStep(event, aMutation([]))).toBeNull();
  });
});
