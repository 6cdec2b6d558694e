import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { MutatedFile } from "../../src/domain/mutations.ts";
import {
  historyEntryOf,
  lastOutcomeOf,
  NO_PREVIEW,
  rollbackPolicy,
  stepOf,
  withUndo,
} from "../../src/domain/rollback.ts";
import { undoOf } from "../../src/domain/undo.ts";
import { RUN_STATUSES } from "../../src/protocol/status.ts";
import { aFile, aMutation, anEvent, anyMutation } from "../support/audit.ts";

const created = aFile({ path: "new", existed_before: false, rollback_snapshot: { status: "not_needed" } });
const edited = aFile({ path: "old" });
const binary = aFile({ path: "pic", rollback_snapshot: { status: "binary" } });
const unchanged = aFile({ changed: false });

const EVENT = anEvent({ seq: 7, type: "mutation_checkpoint_recorded" });

describe("06§7 the preview", () => {
  it("has a step for a record with something to undo, which says how", () => {
    const record = aMutation([unchanged, created, edited], { tool: "write" });
    const step = {
      seq: 7,
      event_id: "evt-7",
      tool: "write",
      executable: true,
      operation_count: 2,
      operations: [
        {
          path: "new",
          action: "delete_created_file",
          executable: true,
          operation: { kind: "delete_file", path: "new" },
        },
        {
          path: "old",
          action: "restore_previous_contents",
          executable: true,
          operation: { kind: "write_file", path: "old", content: "before" },
        },
      ],
    };
    expect(stepOf(EVENT, record, null)).toEqual(step);
    // D74: it stays listed when it was applied, and says so.
    expect(stepOf(EVENT, record, 9)).toEqual({ ...step, applied: true, applied_seq: 9 });
    expect(stepOf(EVENT, aMutation([created, binary]), null)).toMatchObject({ executable: false });
    expect(stepOf(EVENT, aMutation([unchanged]), null)).toBeNull();
    expect(stepOf(EVENT, aMutation([]), 9)).toBeNull();
  });

  it.each<[string, MutatedFile[][], object]>([
    ["no record", [], {}],
    ["a record with nothing to undo", [[unchanged]], {}],
    [
      "two that can be undone",
      [[created, edited], [], [edited]],
      {
        executable: true,
        step_count: 2,
        executable_step_count: 2,
        executable_operation_count: 3,
        by_action: { delete_created_file: 1, restore_previous_contents: 2 },
      },
    ],
    [
      "advice among them, before and after",
      [[binary], [edited], [created, binary]],
      {
        step_count: 3,
        executable_step_count: 1,
        advisory_step_count: 2,
        executable_operation_count: 2,
        advisory_operation_count: 2,
        by_action: { delete_created_file: 1, restore_previous_contents: 3 },
      },
    ],
  ])("its totals: %s", (_, records, totals) => {
    const nothing = {
      executable: false,
      step_count: 0,
      executable_step_count: 0,
      advisory_step_count: 0,
      executable_operation_count: 0,
      advisory_operation_count: 0,
      by_action: {},
    };
    const summary = records.map((files) => undoOf(aMutation(files))).reduce(withUndo, NO_PREVIEW);
    expect(summary).toEqual({ ...nothing, ...totals });
  });

  it("has the totals of its steps", () => {
    fc.assert(
      fc.property(fc.array(anyMutation, { maxLength: 8 }), (records) => {
        const steps = records.flatMap((record) => stepOf(EVENT, record, null) ?? []);
        const operations = steps.flatMap((step) => step.operations);
        const actions = [...new Set(operations.map(({ action }) => action))];
        const done = steps.filter((step) => step.executable).length;
        const doable = operations.filter((operation) => operation.executable).length;
        expect(records.map(undoOf).reduce(withUndo, NO_PREVIEW)).toEqual({
          executable: steps.length > 0 && done === steps.length,
          step_count: steps.length,
          executable_step_count: done,
          advisory_step_count: steps.length - done,
          executable_operation_count: doable,
          advisory_operation_count: operations.length - doable,
          by_action: Object.fromEntries(
            actions.map((action) => [action, operations.filter((one) => one.action === action).length]),
          ),
        });
        expect(steps).toHaveLength(
          records.filter(({ files }) => files.some(({ changed }) => changed)).length,
        );
      }),
      { numRuns: 100 },
    );
  });
});

describe("06§8 the history", () => {
  const entryOf = (type: string, payload: unknown) => historyEntryOf(anEvent({ seq: 3, type, payload }));
  const at = { seq: 3, ts_ms: 1_003, event_id: "evt-3" };
  const applied = "rollback_execution_applied";
  const blocked = "rollback_execution_blocked";

  it.each<[string, unknown, object]>([
    [
      applied,
      {
        selected_event_ids: ["a", "b"],
        applied_step_count: 2,
        applied_operation_count: 3,
        applied_by_action: { delete_created_file: 3, no_action: 0 },
        steps: [],
      },
      {
        selected_event_ids: ["a", "b"],
        applied_step_count: 2,
        applied_operation_count: 3,
        applied_by_action: { delete_created_file: 3, no_action: 0 },
      },
    ],
    [
      applied,
      { applied_step_count: 0, applied_operation_count: 0, applied_by_action: {} },
      { applied_step_count: 0, applied_operation_count: 0, applied_by_action: {} },
    ],
    [
      blocked,
      { reason: "r", selected_event_ids: ["a"], missing_event_ids: ["b"] },
      { reason: "r", selected_event_ids: ["a"], missing_event_ids: ["b"] },
    ],
    [
      blocked,
      { reason: "", selected_event_ids: ["a"], missing_event_ids: null },
      { reason: "", selected_event_ids: ["a"] },
    ],
  ])("an entry of %s tells what %j does", (type, payload, members) => {
    const outcome = type.replace("rollback_execution_", "");
    expect(entryOf(type, payload)).toEqual({ ...at, outcome, selected_event_ids: [], ...members });
  });

  it.each([null, undefined, "1", true, [], {}, -1, 1.5, Number.MAX_SAFE_INTEGER + 1])(
    "%j is no count: a client's own event that has it tells none",
    (value) => {
      const payload = { applied_step_count: value, applied_operation_count: value };
      const entry = { ...at, outcome: "applied", selected_event_ids: [] };
      expect(entryOf(applied, payload)).toEqual(entry);
      expect(entryOf(applied, { applied_by_action: { a: 1, b: value } })).toEqual(entry);
    },
  );

  it.each([null, undefined, "", "x", 5, true, [], [1]])("%j is no list of counts by action", (value) => {
    const entry = entryOf(applied, { applied_by_action: value });
    expect(entry).toEqual({ ...at, outcome: "applied", selected_event_ids: [] });
  });

  it.each([null, undefined, 1, true, ["r"], { reason: "r" }])(
    "%j is no reason, and no list of ids",
    (value) => {
      const payload = {
        reason: value,
        selected_event_ids: { 0: "a" },
        missing_event_ids: [value],
      };
      expect(entryOf(blocked, payload)).toEqual({ ...at, outcome: "blocked", selected_event_ids: [] });
    },
  );

  it("has nothing of other events, however they are spelled", () => {
    for (const type of [
      "Rollback_execution_applied",
      " rollback_execution_blocked",
      "rollback_execution_requested",
    ])
      expect(entryOf(type, { selected_event_ids: [] })).toBeNull();
  });

  it("its newest attempt has a reason, or null", () => {
    const members = { ...at, outcome: "blocked" as const, selected_event_ids: ["a"] };
    expect(lastOutcomeOf({ ...members, reason: "r", missing_event_ids: ["a"] })).toEqual({
      ...members,
      reason: "r",
    });
    expect(lastOutcomeOf(members)).toEqual({ ...members, reason: null });
  });
});

describe("06§9 the policy", () => {
  const eligible = ["awaiting_approval", "paused", "blocked", "failed", "completed", "cancelled"];
  it.each(RUN_STATUSES.map((status) => [status, eligible.includes(status)] as const))(
    "of a run that is %s: eligible is %s",
    (status, isEligible) => {
      expect(rollbackPolicy({ status })).toEqual({
        eligible: isEligible,
        run_status: status,
        required_confirm: "rollback",
        required_policy_ack: "allow_rollback_execution",
      });
    },
  );
});
