import { describe, expect, it } from "vitest";
import {
  append,
  appendMutation,
  audited,
  createdFile,
  mutatedFile,
  rollBack,
  sha256,
  typesOf,
} from "../audit-support.ts";
import {
  eventsOf,
  everything,
  freshId,
  lastEvent,
  newRun,
  type RunRoutes,
  routes,
  runOf,
} from "../support.ts";

const ELIGIBLE = ["awaiting_approval", "paused", "blocked", "failed", "completed", "cancelled"];
const NOT_ELIGIBLE = ["queued", "planning", "running"];
const DIFFERS = "current content differs from the recorded state after the selected rollback step";
const NOT_COMPARABLE =
  "current content cannot be compared with the recorded state after the selected rollback step";

/** A file that was deleted, with what it held: undoing that needs nothing to be there. */
const deletedFile = (path: string, content: string) =>
  mutatedFile({ path, existed_after: false, rollback_snapshot: { status: "inline_text", content } });

/** An edit of a file from one text to another. */
const editedFile = (path: string, before: string, after: string, members = {}) =>
  mutatedFile({
    path,
    after_hash: `sha256:${sha256(after)}`,
    rollback_snapshot: { status: "inline_text", content: before },
    ...members,
  });

/** Brings a path of the artifact space to a content: by undoing that it was deleted. */
async function write(run: RunRoutes, path: string, content: string): Promise<void> {
  const id = await appendMutation(run, [deletedFile(path, content)]);
  expect(audited(await rollBack(run, [id])).applied).toBe(true);
}

const filesOf = async (run: RunRoutes) => (await lastEvent(run)).payload?.files;

describe("06§7 the rollback preview", () => {
  it("is empty at first", async () => {
    const run = await newRun();
    const summary = {
      executable: false,
      step_count: 0,
      executable_step_count: 0,
      advisory_step_count: 0,
      executable_operation_count: 0,
      advisory_operation_count: 0,
      by_action: {},
    };
    expect(audited(await run.get("/checkpoints/mutations/rollback-preview"))).toEqual({
      ...summary,
      steps: [],
    });
    expect(audited(await run.get()).rollback_preview_summary).toEqual(summary);
  });

  it("lists records with operations, newest first", async () => {
    const run = await newRun();
    const one = await appendMutation(run, [createdFile()]);
    await appendMutation(run, [mutatedFile({ changed: false })]);
    const three = await appendMutation(
      run,
      [deletedFile("b", "x"), mutatedFile({ path: "c", rollback_snapshot: { status: "binary" } })],
      { tool: "write" },
    );
    const { steps, ...totals } = audited(await run.get("/checkpoints/mutations/rollback-preview"));
    expect(totals).toEqual({
      executable: false,
      step_count: 2,
      executable_step_count: 1,
      advisory_step_count: 1,
      executable_operation_count: 2,
      advisory_operation_count: 1,
      by_action: { delete_created_file: 1, recreate_deleted_file: 1, restore_previous_contents: 1 },
    });
    expect(steps.map(({ operations, ...step }) => step)).toEqual([
      { seq: 3, event_id: three, tool: "write", executable: false, operation_count: 2 },
      { seq: 1, event_id: one, tool: "edit", executable: true, operation_count: 1 },
    ]);
    expect(steps[1]?.operations).toEqual([
      {
        path: "a.txt",
        action: "delete_created_file",
        executable: true,
        operation: { kind: "delete_file", path: "a.txt" },
      },
    ]);
    expect(audited(await run.get()).rollback_preview_summary).toEqual(totals);
    const tail = audited(await run.get("/checkpoints/mutations/rollback-preview?since_seq=1&tail=2"));
    expect(tail.steps.map(({ seq }) => seq)).toEqual([3]);
  });

  it("D74 marks what was applied, and keeps it listed", async () => {
    const run = await newRun();
    const id = await appendMutation(run, [deletedFile("b", "x")]);
    const before = audited(await run.get("/checkpoints/mutations/rollback-preview"));
    expect(Object.keys(before.steps[0] ?? {})).not.toContain("applied");
    audited(await rollBack(run, [id]));
    const { steps } = audited(await run.get("/checkpoints/mutations/rollback-preview"));
    expect(steps).toMatchObject([{ event_id: id, executable: true, applied: true, applied_seq: 2 }]);
  });
});

describe("06§9 the policy of rollbacks", () => {
  it.each([
    ...ELIGIBLE.map((status): [string, boolean] => [status, true]),
    ...NOT_ELIGIBLE.map((status): [string, boolean] => [status, false]),
  ])("a run that is %s: eligible is %s", async (status, eligible) => {
    const run = await newRun();
    await append(run, "note", null, status);
    expect(audited(await run.get()).rollback_policy).toEqual({
      eligible,
      run_status: status,
      required_confirm: "rollback",
      required_policy_ack: "allow_rollback_execution",
    });
  });
});

describe("06§9 the checks of a rollback, in order", () => {
  it.each([
    ["1: another word", { confirm: "Rollback" }],
    ["1: none", { confirm: " " }],
    ["2: no steps", { event_ids: [] }],
    ["2: steps missing", { event_ids: undefined }],
    ["6: a blank id", { event_ids: ["x", " "] }],
    ["6: an id twice", { event_ids: ["x", " x "] }],
  ])("check %s is 400, and nothing is recorded", async (_, members) => {
    const run = await newRun();
    await append(run, "note", null);
    const before = await everything(run);
    const answer = await rollBack(run, ["x"], members);
    expect(answer.status).toBe(400);
    expect(answer.body.code).toBe("FIELD_INVALID");
    expect(await everything(run)).toEqual(before);
  });

  it.each([
    { event_ids: null },
    { event_ids: "x" },
    { event_ids: [1] },
    { confirm: undefined },
    { confirm: 1 },
  ])("02§1.3 %j is 422", async (members) => {
    const run = await newRun();
    expect((await rollBack(run, ["x"], members)).status).toBe(422);
  });

  it("3: an unknown run is 404, after the first two", async () => {
    const unknown = routes(freshId());
    expect((await rollBack(unknown, ["x"])).status).toBe(404);
    expect((await rollBack(unknown, ["x"], { confirm: "no" })).status).toBe(400);
    expect((await rollBack(unknown, [])).status).toBe(400);
  });

  it.each<[string, string, Record<string, unknown>, Record<string, unknown>]>([
    [
      "4: no acknowledgement, before everything else",
      "running",
      { event_ids: ["x", "x", ""], policy_ack: undefined },
      { reason: "rollback execution requires explicit policy acknowledgement" },
    ],
    [
      "4: the word with a blank",
      "paused",
      { policy_ack: "allow_rollback_execution " },
      { reason: "rollback execution requires explicit policy acknowledgement" },
    ],
    [
      "5: a running run, before the ids are looked at",
      "running",
      { event_ids: ["x", "x", ""] },
      { reason: "rollback execution is not allowed for the current run status", run_status: "running" },
    ],
    [
      "7: steps that are not there",
      "paused",
      { event_ids: [" z", "a"] },
      {
        reason: "selected rollback step was not found in current preview",
        missing_event_ids: ["a", "z"],
      },
    ],
  ])("check %s is blocked and recorded", async (_, status, members, blocked) => {
    const run = await newRun();
    await append(run, "note", null, status);
    const event_ids = members.event_ids ?? ["x"];
    const answer = await rollBack(run, event_ids, members);
    expect(audited(answer)).toEqual({ applied: false, selected_event_ids: event_ids, ...blocked });
    const event = await lastEvent(run);
    expect(event).toMatchObject({
      seq: 2,
      type: "rollback_execution_blocked",
      step_id: "session-run",
      status,
      run_status: status,
    });
    expect(event.origin).toBeUndefined();
    expect(event.payload).toEqual({
      reason: blocked.reason,
      selected_event_ids: event_ids,
      missing_event_ids: blocked.missing_event_ids ?? null,
    });
  });

  it.each(NOT_ELIGIBLE)("5: a %s run stays as it is (D73)", async (status) => {
    const run = await newRun();
    await append(run, "note", null, status);
    expect(audited(await rollBack(run, ["x"]))).toMatchObject({ applied: false, run_status: status });
    expect((await runOf(run)).status).toBe(status);
  });

  it.each(ELIGIBLE)(
    "D73 a %s run keeps its status, end and steps when it is refused or rolled back",
    async (status) => {
      const run = await newRun();
      await append(run, "planning_started", null);
      const id = await appendMutation(run, [deletedFile("a", "x")]);
      await append(run, "note", null, status);
      const { revision: _r, last_event_seq: _s, updated_at_ms: _t, ...before } = await runOf(run);
      expect(audited(await rollBack(run, ["x"])).applied).toBe(false);
      expect(audited(await rollBack(run, [id])).applied).toBe(true);
      expect(await runOf(run)).toMatchObject(before);
      expect((await runOf(run)).ended_at_ms).toBe(before.ended_at_ms);
    },
  );

  it("7: a step of another run is not found", async () => {
    const [run, other] = [await newRun(), await newRun()];
    const foreign = await appendMutation(other, [deletedFile("a", "x")]);
    await append(run, "note", null);
    expect(audited(await rollBack(run, [foreign]))).toMatchObject({
      applied: false,
      missing_event_ids: [foreign],
    });
  });

  it("7: an event that is no mutation, or has nothing to undo, is no step", async () => {
    const run = await newRun();
    const ids = [
      await append(run, "note", null),
      await appendMutation(run, [mutatedFile({ changed: false })]),
    ];
    expect(audited(await rollBack(run, ids))).toMatchObject({ missing_event_ids: ids.toSorted() });
  });

  it("8: a step that is only advice, beside one that is not", async () => {
    const run = await newRun();
    const good = await appendMutation(run, [deletedFile("a", "x")]);
    const advice = await appendMutation(run, [
      createdFile({ path: "b" }),
      mutatedFile({ rollback_snapshot: { status: "binary" } }),
    ]);
    expect(audited(await rollBack(run, [good, advice]))).toEqual({
      applied: false,
      reason: "selected rollback step is advisory_only",
      selected_event_ids: [good, advice],
    });
    expect(await typesOf(run)).not.toContain("rollback_execution_applied");
  });

  it.each(["/etc/passwd", "../x", "a/../b", "a/..", ".", "", "a//b", "a\\b"])(
    "a path that uploads do not take, %j, is 400, and nothing is recorded",
    async (path) => {
      const run = await newRun();
      const good = await appendMutation(run, [deletedFile("a", "x")]);
      const bad = await appendMutation(run, [deletedFile(path, "x")]);
      const before = await everything(run);
      expect((await rollBack(run, [good, bad])).status).toBe(400);
      expect(await everything(run)).toEqual(before);
    },
  );

  it("content that the record promises and does not have is 400", async () => {
    const run = await newRun();
    const file = mutatedFile({ existed_after: false, rollback_snapshot: { status: "inline_text" } });
    expect((await rollBack(run, [await appendMutation(run, [file])])).status).toBe(400);
  });
});

describe("06§9 applying a rollback", () => {
  it("undoes the newest step first, and tells what it did", async () => {
    const run = await newRun();
    await write(run, "src/a.txt", "v2");
    const created = await appendMutation(
      run,
      [createdFile({ path: "src/a.txt", after_hash: sha256("v1") })],
      {
        tool: "write",
      },
    );
    const edited = await appendMutation(run, [editedFile("src/a.txt", "v1", "v2")]);
    const members = {
      selected_event_ids: [created, edited],
      applied_step_count: 2,
      applied_operation_count: 2,
      applied_by_action: { restore_previous_contents: 1, delete_created_file: 1 },
      steps: [
        {
          seq: 4,
          event_id: edited,
          tool: "edit",
          operation_count: 1,
          operations: [{ path: "src/a.txt", action: "restore_previous_contents", kind: "write_file" }],
        },
        {
          seq: 3,
          event_id: created,
          tool: "write",
          operation_count: 1,
          operations: [{ path: "src/a.txt", action: "delete_created_file", kind: "delete_file" }],
        },
      ],
    };
    expect(audited(await rollBack(run, [created, edited]))).toEqual({ applied: true, ...members });
    const event = await lastEvent(run);
    expect(event).toMatchObject({
      type: "rollback_execution_applied",
      status: "paused",
      step_id: "session-run",
    });
    expect(event.payload).toEqual({
      workspace_root: "",
      ...members,
      files: [{ path: "src/a.txt", sha256: null, bytes: 0, content_type: "" }],
    });
  });

  it("writes what the record has inline", async () => {
    const run = await newRun();
    await write(run, "a.txt", "früher");
    expect(await filesOf(run)).toEqual([
      { path: "a.txt", sha256: sha256("früher"), bytes: 7, content_type: "text/plain; charset=utf-8" },
    ]);
  });

  it.each(["", "sha256:"])(
    "D74 compares with the recorded hash, written with %j before it",
    async (prefix) => {
      const run = await newRun();
      await write(run, "a", "v1");
      const after_hash = `${prefix}${sha256("v1").toUpperCase()}`;
      const id = await appendMutation(run, [editedFile("a", "v0", "", { after_hash })]);
      expect(audited(await rollBack(run, [id])).applied).toBe(true);
      expect(await filesOf(run)).toMatchObject([{ path: "a", sha256: sha256("v0") }]);
    },
  );

  it.each<[string, Record<string, unknown>, string]>([
    ["an edit whose result was changed", editedFile("there", "v0", "other"), DIFFERS],
    ["an edit of what is gone", editedFile("nowhere", "v0", "v1"), DIFFERS],
    ["a deletion of what is back", deletedFile("there", "v0"), DIFFERS],
    [
      "a creation whose result was changed",
      createdFile({ path: "there", after_hash: sha256("other") }),
      DIFFERS,
    ],
    ["an edit without a hash", editedFile("there", "v0", "", { after_hash: undefined }), NOT_COMPARABLE],
    [
      "an edit with another kind of hash",
      editedFile("there", "v0", "", { after_hash: "md5:abc" }),
      NOT_COMPARABLE,
    ],
    ["a creation without a hash", createdFile({ path: "there" }), NOT_COMPARABLE],
  ])("D74 is blocked, all of it, by %s", async (_, file, reason) => {
    const run = await newRun();
    await write(run, "there", "v1");
    const good = await appendMutation(run, [deletedFile("fresh", "x")]);
    const bad = await appendMutation(run, [file]);
    expect(audited(await rollBack(run, [good, bad]))).toEqual({
      applied: false,
      reason,
      selected_event_ids: [good, bad],
      conflicting_paths: [file.path],
    });
    expect(await lastEvent(run)).toMatchObject({
      type: "rollback_execution_blocked",
      payload: { reason, conflicting_paths: [file.path] },
    });
    // The other step still can be.
    expect(audited(await rollBack(run, [good])).applied).toBe(true);
  });

  it("a created file that is gone already is fine", async () => {
    const run = await newRun();
    const id = await appendMutation(run, [createdFile()]);
    expect(audited(await rollBack(run, [id]))).toMatchObject({ applied: true, applied_operation_count: 1 });
    expect(await filesOf(run)).toEqual([]);
  });

  it("an older step alone is blocked while a newer one stands on it", async () => {
    const run = await newRun();
    await write(run, "a", "v2");
    const older = await appendMutation(run, [editedFile("a", "v0", "v1")]);
    const newer = await appendMutation(run, [editedFile("a", "v1", "v2")]);
    expect(audited(await rollBack(run, [older]))).toMatchObject({ applied: false, reason: DIFFERS });
    expect(audited(await rollBack(run, [older, newer])).applied).toBe(true);
    expect(await filesOf(run)).toMatchObject([{ sha256: sha256("v0") }]);
  });

  it("D74 a step is applied once", async () => {
    const run = await newRun();
    const id = await appendMutation(run, [deletedFile("a", "x")]);
    audited(await rollBack(run, [id]));
    expect(audited(await rollBack(run, [id]))).toEqual({
      applied: false,
      reason: "selected rollback step was already applied",
      selected_event_ids: [id],
    });
  });

  it("D43 a repeat under one key is answered as the first time, and does nothing", async () => {
    const run = await newRun();
    const id = await appendMutation(run, [deletedFile("a", "x")]);
    const first = audited(await rollBack(run, [id], { command_id: "k" }));
    const events = await eventsOf(run);
    expect(audited(await rollBack(run, [id], { command_id: "k" }))).toEqual(first);
    expect(await eventsOf(run)).toEqual(events);
    expect((await rollBack(run, ["other"], { command_id: "k" })).status).toBe(422);
  });

  it("of two rollbacks of one step at once, one is applied", async () => {
    const run = await newRun();
    const id = await appendMutation(run, [deletedFile("a", "x")]);
    const answers = await Promise.all([1, 2, 3, 4].map(() => rollBack(run, [id])));
    expect(answers.filter((answer) => audited(answer).applied)).toHaveLength(1);
  });

  it("leaves no drift", async () => {
    const run = await newRun();
    await write(run, "a", "v1");
    await rollBack(run, ["none"]);
    expect(audited(await run.get("/replay")).drift.mismatch).toBe(false);
  });
});

describe("06§8 the rollback history", () => {
  it("shows attempts in order, the client's own included (D07)", async () => {
    const run = await newRun();
    expect(audited(await run.get("/checkpoints/mutations/rollback-history"))).toEqual({
      entries: [],
      summary: { entry_count: 0, by_outcome: {}, last_seq: null, last_ts_ms: null },
    });
    expect(audited(await run.get()).last_rollback_outcome).toBeNull();
    const id = await appendMutation(run, [deletedFile("a", "x")]);
    audited(await rollBack(run, [id]));
    audited(await rollBack(run, ["none"]));
    await append(run, "rollback_execution_blocked", {
      reason: 1,
      selected_event_ids: ["e", 2],
      missing_event_ids: [],
    });
    await append(run, "rollback_execution_applied", { applied_step_count: "1", applied_by_action: { x: 1 } });
    const events = await eventsOf(run);
    const { entries, summary } = audited(await run.get("/checkpoints/mutations/rollback-history"));
    const at = (index: number) => ({
      seq: events[index]?.seq,
      ts_ms: events[index]?.ts_ms,
      event_id: events[index]?.event_id,
    });
    expect(entries).toEqual([
      {
        ...at(1),
        outcome: "applied",
        selected_event_ids: [id],
        applied_step_count: 1,
        applied_operation_count: 1,
        applied_by_action: { recreate_deleted_file: 1 },
      },
      {
        ...at(2),
        outcome: "blocked",
        selected_event_ids: ["none"],
        reason: "selected rollback step was not found in current preview",
        missing_event_ids: ["none"],
      },
      { ...at(3), outcome: "blocked", selected_event_ids: ["e"] },
      { ...at(4), outcome: "applied", selected_event_ids: [], applied_by_action: { x: 1 } },
    ]);
    const expected = {
      entry_count: 4,
      by_outcome: { applied: 2, blocked: 2 },
      last_seq: 5,
      last_ts_ms: events[4]?.ts_ms,
    };
    expect(summary).toEqual(expected);
    const shown = audited(await run.get());
    expect(shown.rollback_history_summary).toEqual(expected);
    expect(shown.last_rollback_outcome).toEqual({
      ...at(4),
      outcome: "applied",
      reason: null,
      selected_event_ids: [],
    });
  });

  it("D07 a client's own word is marked, changes status by the table, no file, and marks no step", async () => {
    const run = await newRun();
    const id = await appendMutation(run, [deletedFile("a", "x")]);
    const files = [{ path: "a", sha256: sha256("x"), bytes: 1, content_type: "text/plain" }];
    const payload = { selected_event_ids: [id], steps: [{ seq: 1, event_id: id }], files };
    await append(run, "rollback_execution_applied", payload, "blocked");
    expect(await lastEvent(run)).toMatchObject({ origin: "client", run_status: "blocked" });
    const { steps } = audited(await run.get("/checkpoints/mutations/rollback-preview"));
    expect(Object.keys(steps[0] ?? {})).not.toContain("applied");
    // Nothing lies at the path, or this would be blocked.
    expect(audited(await rollBack(run, [id])).applied).toBe(true);
  });
});

it("02§2.3 GET run has the audit beside the run, in the contract's order", async () => {
  const run = await newRun();
  const { text } = await run.get();
  expect(Object.keys(JSON.parse(text))).toEqual([
    "run",
    "ledger_summary",
    "mutation_checkpoint_summary",
    "rollback_preview_summary",
    "rollback_history_summary",
    "last_rollback_outcome",
    "rollback_policy",
  ]);
});
