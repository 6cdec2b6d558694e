import { describe, expect, it } from "vitest";
import {
  append,
  appendMutation,
  audited,
  createdFile,
  mutatedFile,
  mutationRecord,
} from "../audit-support.ts";
import { eventsOf, freshId, newRun, routes } from "../support.ts";

const deleted = (status: string, more = {}) =>
  mutatedFile({ path: "gone.txt", existed_after: false, rollback_snapshot: { status, ...more } });

/** Contract 06 §6, row by row: a file, its operation, and whether it needs a snapshot. */
const ROWS: [string, Record<string, unknown>, Record<string, unknown>, boolean][] = [
  [
    "created",
    createdFile(),
    {
      path: "a.txt",
      action: "delete_created_file",
      executable: true,
      operation: { kind: "delete_file", path: "a.txt" },
    },
    false,
  ],
  [
    "edited, with its text",
    mutatedFile(),
    {
      path: "a.txt",
      action: "restore_previous_contents",
      executable: true,
      operation: { kind: "write_file", path: "a.txt", content: "before" },
    },
    false,
  ],
  [
    "deleted, with its text",
    deleted("inline_text", { content: "" }),
    {
      path: "gone.txt",
      action: "recreate_deleted_file",
      executable: true,
      operation: { kind: "write_file", path: "gone.txt", content: "" },
    },
    false,
  ],
  [
    "deleted, too large",
    deleted("too_large", { byte_count: 99 }),
    {
      path: "gone.txt",
      action: "recreate_deleted_file",
      executable: false,
      operation: { kind: "advisory_only", path: "gone.txt", snapshot_status: "too_large" },
      advisory_reason: "prior contents were too large to inline",
    },
    true,
  ],
  [
    "edited, binary",
    mutatedFile({ rollback_snapshot: { status: "binary" } }),
    {
      path: "a.txt",
      action: "restore_previous_contents",
      executable: false,
      operation: { kind: "advisory_only", path: "a.txt", snapshot_status: "binary" },
      advisory_reason: "prior contents were binary and not inlined",
    },
    true,
  ],
  [
    "edited, nothing captured",
    mutatedFile({ rollback_snapshot: { status: "not_needed" } }),
    {
      path: "a.txt",
      action: "restore_previous_contents",
      executable: false,
      operation: { kind: "advisory_only", path: "a.txt", snapshot_status: "not_needed" },
      advisory_reason: "prior contents were not captured",
    },
    true,
  ],
  [
    "never there",
    mutatedFile({ existed_before: false, existed_after: false, rollback_snapshot: { status: "not_needed" } }),
    {
      path: "a.txt",
      action: "no_action",
      executable: false,
      operation: { kind: "noop", path: "a.txt" },
      advisory_reason: "no rollback action required",
    },
    false,
  ],
];

describe("06§5 mutation checkpoints", () => {
  it("are empty at first", async () => {
    const run = await newRun();
    const summary = {
      record_count: 0,
      changed_file_count: 0,
      by_outcome: {},
      by_tool: {},
      last_seq: null,
      last_ts_ms: null,
    };
    expect(audited(await run.get("/checkpoints/mutations"))).toEqual({
      records: [],
      summary,
      rollback_readiness: {
        record_count: 0,
        candidate_file_count: 0,
        directly_revertible_file_count: 0,
        requires_snapshot_file_count: 0,
        by_action: {},
      },
      rollback_plan: {
        record_count: 0,
        executable_record_count: 0,
        advisory_record_count: 0,
        executable_operation_count: 0,
        advisory_operation_count: 0,
        by_action: {},
      },
    });
    expect(audited(await run.get()).mutation_checkpoint_summary).toEqual(summary);
  });

  it.each(ROWS)("06§6 the undo of a file that was %s", async (_, file, operation, requiresSnapshot) => {
    const run = await newRun();
    await appendMutation(run, [file, mutatedFile({ path: "same.txt", changed: false })]);
    const [event] = await eventsOf(run);
    const { path, action, executable } = operation as { path: string; action: string; executable: boolean };
    const one = executable ? 1 : 0;
    const body = audited(await run.get("/checkpoints/mutations"));
    expect(body.records).toEqual([
      {
        seq: 1,
        ts_ms: event?.ts_ms,
        event_id: event?.event_id,
        record: mutationRecord([file, mutatedFile({ path: "same.txt", changed: false })]),
        rollback_readiness: {
          candidate_file_count: 1,
          directly_revertible_file_count: one,
          requires_snapshot_file_count: requiresSnapshot ? 1 : 0,
          by_action: { [action]: 1 },
          files: [{ path, action, directly_revertible: executable, requires_snapshot: requiresSnapshot }],
        },
        rollback_plan: {
          executable,
          executable_operation_count: one,
          advisory_operation_count: 1 - one,
          operations: [operation],
        },
      },
    ]);
    expect(body.rollback_readiness).toEqual({
      record_count: 1,
      candidate_file_count: 1,
      directly_revertible_file_count: one,
      requires_snapshot_file_count: requiresSnapshot ? 1 : 0,
      by_action: { [action]: 1 },
    });
    expect(body.rollback_plan).toEqual({
      record_count: 1,
      executable_record_count: one,
      advisory_record_count: 1 - one,
      executable_operation_count: one,
      advisory_operation_count: 1 - one,
      by_action: { [action]: 1 },
    });
  });

  it("sums the records' own figures, and counts by outcome and tool", async () => {
    const run = await newRun();
    await appendMutation(run, [mutatedFile()], { changed_file_count: 7 });
    await appendMutation(run, [], {
      outcome: "blocked",
      tool: "write",
      workspace_root: "/w",
      effective_cwd: "/w/x",
    });
    const events = await eventsOf(run);
    expect(audited(await run.get()).mutation_checkpoint_summary).toEqual({
      record_count: 2,
      changed_file_count: 7,
      by_outcome: { succeeded: 1, blocked: 1 },
      by_tool: { edit: 1, write: 1 },
      last_seq: 2,
      last_ts_ms: events[1]?.ts_ms,
    });
  });

  it("a record with one operation that is only advice is advice", async () => {
    const run = await newRun();
    await appendMutation(run, [
      createdFile(),
      mutatedFile({ path: "b", rollback_snapshot: { status: "binary" } }),
    ]);
    const { records } = audited(await run.get("/checkpoints/mutations"));
    expect(records[0]).toMatchObject({
      rollback_plan: { executable: false, executable_operation_count: 1, advisory_operation_count: 1 },
    });
  });

  it.each<[string, unknown]>([
    ["no record", {}],
    ["an unknown outcome", { record: mutationRecord([], { outcome: "done" }) }],
    ["a negative count", { record: mutationRecord([], { file_count: -1 }) }],
    ["no files", { record: mutationRecord([], { files: undefined }) }],
    ["a file without snapshot", { record: mutationRecord([mutatedFile({ rollback_snapshot: undefined })]) }],
    [
      "an unknown snapshot",
      { record: mutationRecord([mutatedFile({ rollback_snapshot: { status: "x" } })]) },
    ],
    [
      "a stored snapshot, which only the engine may claim",
      {
        record: mutationRecord([
          mutatedFile({
            rollback_snapshot: {
              status: "stored",
              sha256: "0".repeat(64),
              byte_count: 1,
              content_type: "text/plain",
              version: 1,
            },
          }),
        ]),
      },
    ],
  ])("leaves out a record with %s, silently", async (_, payload) => {
    const run = await newRun();
    await append(run, "mutation_checkpoint_recorded", payload);
    expect(audited(await run.get("/checkpoints/mutations")).records).toEqual([]);
    expect(audited(await run.get()).mutation_checkpoint_summary.record_count).toBe(0);
  });

  it("since_seq and tail choose events first", async () => {
    const run = await newRun();
    await appendMutation(run, [createdFile()]);
    await append(run, "note", null);
    const count = async (query: string) =>
      audited(await run.get(`/checkpoints/mutations${query}`)).summary.record_count;
    expect(await count("?tail=1")).toBe(0);
    expect(await count("?tail=2")).toBe(1);
    expect(await count("?since_seq=1")).toBe(0);
  });

  it("01§8 404 for an unknown run", async () => {
    expect((await routes(freshId()).get("/checkpoints/mutations")).status).toBe(404);
  });
});
