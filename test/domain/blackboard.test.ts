import { describe, expect, it } from "vitest";
import { readPatch } from "../../src/domain/blackboard.ts";
import type { CommandOf } from "../../src/domain/command.ts";
import { NOTE_LISTS, PATCH_OPS, type PatchOp } from "../../src/protocol/blackboard.ts";
import { accepted, aTask, committed, memoryRun, memoryRunOf, NOW, refused } from "../support/builders.ts";

const patch = (patch_op: PatchOp, payload: unknown): CommandOf<"patch_blackboard"> => ({
  op: "patch_blackboard",
  patch_op,
  payload,
});

const note = { id: "n", ts_ms: 5, text: "" };
const artifact = { id: "a", ts_ms: 0, path: "p", artifact_type: "file" };
const more = { step_id: "s", source_event_id: "e" };
const TASK_OPS: PatchOp[] = ["add_task", "update_task_lease", "update_task_state"];
const NOTE_OPS = {
  add_fact: "facts",
  add_decision: "decisions",
  add_open_question: "open_questions",
} as const;

describe("notes, artifacts, summaries", () => {
  it.each(Object.entries(NOTE_OPS))("05§2 %s appends to %s, in order, ids twice allowed", (op, list) => {
    const run = memoryRun();
    const rows = [note, { ...note, text: "two" }, { ...note, id: "m", ...more }];
    for (const row of rows) committed(patch(op as PatchOp, row), run);
    expect(run.blackboard()[list]).toStrictEqual(rows);
    for (const other of NOTE_LISTS.filter((name) => name !== list))
      expect(run.blackboard()[other]).toEqual([]);
  });

  it("05§2 add_artifact appends to artifacts", () => {
    const run = memoryRun();
    committed(patch("add_artifact", artifact), run);
    committed(patch("add_artifact", { ...artifact, ...more }), run);
    expect(run.blackboard().artifacts).toStrictEqual([artifact, { ...artifact, ...more }]);
  });

  it.each([
    ["set_rolling_summary", "rolling", "latest_context_pack"],
    ["set_latest_context_pack", "latest_context_pack", "rolling"],
  ] as const)("05§2 %s replaces its summary verbatim, even with nothing", (op, name, other) => {
    const run = memoryRunOf({ summaries: { rolling: "old", latest_context_pack: "old" } });
    for (const text of [" new\n", ""]) {
      committed(patch(op, text), run);
      expect(run.blackboard().summaries).toMatchObject({ [name]: text, [other]: "old" });
    }
  });

  it("05§2 unknown members and nulls stay in the patch and leave the board", () => {
    const run = memoryRun();
    const sent = { ...note, step_id: null, source_event_id: null, extra: { deep: 1 } };
    const [commit] = committed(patch("add_fact", sent), run);
    expect(commit?.patch?.payload).toStrictEqual(sent);
    expect(run.blackboard().facts).toStrictEqual([note]);
  });

  it("I18 one patch changes the board once", () => {
    const run = memoryRun();
    committed(patch("add_fact", note), run);
    expect(run.blackboard().facts).toHaveLength(1);
  });
});

describe("the commit", () => {
  it.each([
    ["add_fact", note, "context.blackboard.patched"],
    ["add_artifact", artifact, "context.artifact.added"],
    ["set_rolling_summary", "s", "context.blackboard.patched"],
  ] as const)("05§2.2 I4 I6 %s: exact event and patch; of the run only the counters", (op, payload, type) => {
    const run = memoryRun({ status: "paused", revision: 4, last_event_seq: 3 }, [aTask()]);
    const before = run.run();
    const { commits, outcome } = accepted(patch(op, payload), run, undefined, "k");
    const [commit] = commits;
    expect(commit?.event).toStrictEqual({
      event_id: expect.stringMatching(/^evt-[0-9a-f-]{36}$/),
      run_id: "r",
      seq: 4,
      ts_ms: NOW,
      type,
      status: "paused",
      run_status: "paused",
      revision: 5,
      command_id: "k",
      payload: { op, payload, patch_seq: 4 },
    });
    expect(commit?.patch).toStrictEqual({
      patch_id: expect.stringMatching(/^bbp-[0-9a-f-]{36}$/),
      run_id: "r",
      seq: 4,
      ts_ms: NOW,
      source_event_seq: 4,
      op,
      payload,
    });
    expect(outcome).toEqual({ op: "patch_blackboard", patch: commit?.patch });
    for (const each of commits) run.apply(each);
    expect(run.run()).toEqual({ ...before, revision: 5, last_event_seq: 4, updated_at_ms: NOW });
    expect(run.blackboard()).toMatchObject({ revision: 4, tasks: [aTask()] });
  });

  it("05§1 I6 the revision is the seq of the last patch and waits while other events pass", () => {
    const run = memoryRun();
    expect(run.blackboard().revision).toBe(0);
    committed(patch("add_fact", note), run);
    committed({ op: "append_event", type: "note", status: "running", payload: null }, run);
    expect(run.blackboard().revision).toBe(1);
    committed(patch("add_fact", note), run);
    expect(run.blackboard().revision).toBe(3);
  });
});

describe("refusals", () => {
  it.each(TASK_OPS)("05§2.1 %s is for the task endpoints, whatever its payload", (op) => {
    for (const payload of [null, aTask(), "x".repeat(300_000)]) {
      expect(refused(patch(op, payload), memoryRun())).toEqual({
        code: "TASK_PATCH_OP_DISABLED",
        error: "task mutations must go through the run task endpoints",
      });
    }
  });

  const badNotes: [unknown, string][] = [
    [null, "payload"],
    ["text", "payload"],
    [[note], "payload"],
    [{ ...note, id: undefined }, "payload.id"],
    [{ ...note, id: 5 }, "payload.id"],
    [{ ...note, text: null }, "payload.text"],
    [{ ...note, ts_ms: "5" }, "payload.ts_ms"],
    [{ ...note, ts_ms: -1 }, "payload.ts_ms"],
    [{ ...note, ts_ms: 1.5 }, "payload.ts_ms"],
    [{ ...note, step_id: 5 }, "payload.step_id"],
    [{ ...note, source_event_id: {} }, "payload.source_event_id"],
  ];
  it.each(badNotes)("D20 a note %j is refused before anything is written: %s", (payload, field) => {
    for (const op of Object.keys(NOTE_OPS) as PatchOp[]) {
      const refusal = refused(patch(op, payload), memoryRun());
      expect(refusal).toMatchObject({
        code: "PATCH_PAYLOAD_INVALID",
        error: `payload does not fit ${op}`,
        issues: [{ field }],
      });
    }
  });

  it.each(["id", "ts_ms", "path", "artifact_type"])("D20 an artifact needs its %s", (name) => {
    const { [name as keyof typeof artifact]: _missing, ...rest } = artifact;
    expect(refused(patch("add_artifact", rest), memoryRun())).toMatchObject({
      code: "PATCH_PAYLOAD_INVALID",
      issues: [{ field: `payload.${name}` }],
    });
  });

  it.each([null, 5, { text: "s" }, ["s"], true])("D20 the summary %j is no string", (payload) => {
    for (const op of ["set_rolling_summary", "set_latest_context_pack"] as const) {
      expect(refused(patch(op, payload), memoryRun())).toMatchObject({
        code: "PATCH_PAYLOAD_INVALID",
        issues: [{ field: "payload", rule: "string" }],
      });
    }
  });

  it.each(TASK_OPS)("05§2 %s has no effect of its own on the board", (op) => {
    expect(readPatch(op, note)).toMatchObject({ ok: false, issues: [{ field: "op", rule: "board_op" }] });
  });

  it("05§2 every op is one or the other", () => {
    const boardOps = [
      ...Object.keys(NOTE_OPS),
      "add_artifact",
      "set_rolling_summary",
      "set_latest_context_pack",
    ];
    expect([...boardOps, ...TASK_OPS].toSorted()).toEqual([...PATCH_OPS].toSorted());
  });

  it("01§5 a payload past 256 KiB is refused with its size in UTF-8", () => {
    const text = "é".repeat(131_072);
    expect(refused(patch("set_rolling_summary", text), memoryRun())).toMatchObject({
      code: "LIMIT_EXCEEDED",
      limit_name: "patch_payload_bytes",
      limit: 262_144,
      actual: 262_146,
    });
    expect(committed(patch("set_rolling_summary", text.slice(1)), memoryRun())).toHaveLength(1);
  });
});
