import { describe, expect, it } from "vitest";
import {
  convertReference,
  MAX_MISSING_SEQS,
  type ReferenceFiles,
} from "../../src/domain/reference-import.ts";
import { LOCAL_TENANT } from "../../src/identity/tenant.ts";

/** What each member of a record becomes: `reference-import.test.ts` has whole runs, and what is wrong with them. */

const TOKEN = "lease-00000000-0000-4000-8000-000000000000";
const WORKSPACE = { workspace_id: "", canonical_path: "", lease_epoch: 0 };
const STATE = {
  run_id: "old",
  run_type: "interactive",
  status: "running",
  objective: "o",
  workspace: WORKSPACE,
  steps: [],
  tasks: [],
  why_next_step: null,
  revision: 1,
  last_event_seq: 99,
  created_at_ms: 1,
  updated_at_ms: 1,
};
const TASK = { id: "t", task_type: "custom", status: "pending", task_rev: 1, created_ts: 1, updated_ts: 1 };
const NOTE = { id: "n", ts_ms: 1, text: "it is so" };
const ARTIFACT = { id: "a", ts_ms: 1, path: "p", artifact_type: "file" };

const event = (seq: number, members: object = {}) => ({
  event_id: `evt-${seq}`,
  run_id: "old",
  seq,
  ts_ms: 10 * seq,
  type: "noted",
  status: "running",
  revision: seq + 1,
  payload: { text: "t" },
  ...members,
});

const patch = (seq: number, op: string, payload: unknown, members: object = {}) => ({
  patch_id: `bbp-${seq}`,
  run_id: "old",
  seq,
  source_event_seq: seq,
  ts_ms: 10 * seq,
  op,
  payload,
  ...members,
});

const lines = (records: object[]) => records.map((record) => `${JSON.stringify(record)}\n`).join("");

interface Given {
  state?: object;
  events?: object[];
  patches?: object[];
  board?: object;
  checkpoints?: ReferenceFiles["checkpoints"];
  nowMs?: number;
}

function convert({ state, events = [], patches = [], board, checkpoints = [], nowMs = 10_000 }: Given) {
  let ids = 0;
  return convertReference(
    {
      run_state: JSON.stringify({ ...STATE, ...state }),
      events: lines(events),
      blackboard: board === undefined ? null : JSON.stringify(board),
      blackboard_patches: lines(patches),
      checkpoints,
    },
    {
      tenant: LOCAL_TENANT,
      run_id: "new",
      nowMs,
      newId: () => `id-${++ids}`,
      maskToken: (token) => `sha256:${token.length}`,
    },
  );
}

const onlyEvent = (members: object) => convert({ events: [event(1, members)] }).rows[0]?.event;

describe("an event of the reference engine", () => {
  it("keeps its members, and gets the id of its run and the state after it", () => {
    const kept = { step_id: "s", task_id: "t", command_id: "c" };
    expect(onlyEvent({ ...kept, revision: 9, status: "paused" })).toStrictEqual({
      event_id: "evt-1",
      ts_ms: 10,
      type: "noted",
      status: "paused",
      ...kept,
      run_id: "new",
      seq: 1,
      run_status: "paused",
      revision: 9,
      payload: { text: "t" },
    });
  });

  it("has no member that it had not", () => {
    expect(Object.keys(onlyEvent({}) ?? {}).sort()).toEqual(
      ["event_id", "payload", "revision", "run_id", "run_status", "seq", "status", "ts_ms", "type"].sort(),
    );
  });

  it("raises the revision by one where its own is no higher", () => {
    const { rows } = convert({ events: [event(1, { revision: 5 }), event(2, { revision: 5 })] });
    expect(rows.slice(0, 2).map(({ event: { revision } }) => revision)).toEqual([5, 6]);
  });

  it.each([
    ["a task's, with the task", "context.task.created", { task: TASK }, true],
    ["a task's, without it", "context.task.created", { task: { id: "t" } }, false],
    ["a replacement, with the run", "context.run.replaced", { run: STATE }, true],
    ["a replacement, without it", "context.run.replaced", { run: 1 }, false],
    ["an import, with the run", "context.run.imported", { run: STATE }, true],
    ["an import, without it", "context.run.imported", {}, false],
    ["a plan, with its steps", "todo_synced", { steps: [] }, true],
    ["a plan, with steps in a snapshot", "todo_synced", { run: STATE }, true],
    ["a plan, with a reason", "todo_synced", { steps: [], why_next_step: "so" }, true],
    ["a plan, with none", "todo_synced", { steps: [], why_next_step: null }, true],
    ["a plan, whose reason is no text", "todo_synced", { steps: [], why_next_step: 1 }, false],
    ["a plan, without steps", "todo_synced", {}, false],
    ["a next step, with steps", "meta_next_step_selected", { steps: [] }, true],
    ["a next step, without", "meta_next_step_selected", { steps: 1 }, false],
    [
      "a mismatch, with both paths",
      "workspace_mismatch",
      { actual_path: "/a", expected_path: "/b", phase: "p" },
      true,
    ],
    ["a mismatch, with one", "workspace_mismatch", { actual_path: "/a", phase: "p" }, false],
    [
      "a check of the workspace",
      "workspace_validated",
      { actual_path: "/a", expected_path: "/a", phase: "p" },
      true,
    ],
    ["a check of it, of nothing", "workspace_validated", {}, false],
    ["an entry of the blackboard", "context.blackboard.patched", { op: "add_fact" }, true],
    ["an artifact", "context.artifact.added", { op: "add_artifact" }, true],
    ["a rollback", "rollback_execution_applied", { outcome: "applied" }, true],
    ["a rollback, of nothing", "rollback_execution_applied", null, true],
    ["a client's own", "noted", { task: TASK }, true],
    ["a client's own, named nearly as the engine's", "my.context.", {}, true],
    ["any other that the engine alone writes", "context.unheard", {}, false],
  ])("07 D09 counts as the engine's word only as the engine writes it: %s", (_, type, payload, isTrusted) => {
    const { rows, report } = convert({ events: [event(1, { type, payload })] });
    expect(rows[0]?.event.origin).toBe(isTrusted ? undefined : "client");
    if (!isTrusted) expect(rows[0]?.event.payload).toEqual(payload);
    // One that has no snapshot has none that could be wrong.
    expect(report.events.untrusted_snapshots).toBe(isTrusted || type === "context.unheard" ? 0 : 1);
  });

  it.each([
    ["context.task.created", { task: TASK, lock: 1, more: 2 }, { task: { ...TASK, payload: null }, more: 2 }],
    ["todo_synced", { steps: [], more: 2 }, { steps: [], more: 2 }],
    [
      "todo_synced",
      { run: { ...STATE, steps: [{ step_id: "s", title: "t", status: "pending", x: 1 }] } },
      { steps: [{ step_id: "s", title: "t", status: "pending" }] },
    ],
    [
      "workspace_mismatch",
      { actual_path: "/a", expected_path: "/b", phase: "p", more: 2 },
      { actual_path: "/a", expected_path: "/b", phase: "p", more: 2 },
    ],
    ["context.artifact.added", { files: [1], op: "add_artifact" }, { op: "add_artifact" }],
    ["rollback_execution_applied", { files: [1], outcome: "applied" }, { outcome: "applied" }],
    ["rollback_execution_applied", "text", "text"],
    ["noted", { files: [1], lock: 1 }, { files: [1], lock: 1 }],
  ])("tells in its payload what the engine reads of it, and no more: %s", (type, payload, told) => {
    expect(onlyEvent({ type, payload })?.payload).toMatchObject(told as object);
    const members = typeof told === "string" ? [] : ["files", "lock"].filter((name) => !(name in told));
    for (const name of members) expect(onlyEvent({ type, payload })?.payload).not.toHaveProperty(name);
  });

  it("that brings a whole run brings it as this run of this tenant", () => {
    const run = { ...STATE, tasks: [TASK] };
    expect(onlyEvent({ type: "context.run.replaced", payload: { run } })?.payload).toMatchObject({
      run: { run_id: "new", tenant_context: LOCAL_TENANT, objective: "o", tasks: [{ id: "t" }] },
    });
  });

  it("I15 leaves its command id used, once, and a blank one by nobody", () => {
    const { rows } = convert({
      events: [
        event(1, { type: "context.task.created", payload: { task: TASK }, command_id: "a" }),
        event(2, { type: "context.task.claimed", payload: { task: TASK }, command_id: "b" }),
        event(3, { type: "context.task.completed", payload: { task: TASK }, command_id: "c" }),
        event(4, { command_id: "a" }),
        event(5, { command_id: " " }),
        event(6),
      ],
    });
    const receipt = (op: string) => ({ op, fingerprint: null, commits: 1 });
    const none = { command_id: null, receipt: null };
    expect(rows.slice(0, 6).map(({ command_id, receipt: its }) => ({ command_id, receipt: its }))).toEqual([
      { command_id: "a", receipt: receipt("create_tasks") },
      { command_id: "b", receipt: receipt("claim_task") },
      { command_id: "c", receipt: receipt("transition_task") },
      none,
      none,
      none,
    ]);
  });
});

describe("the order of records", () => {
  it("is that of their seqs, and of their lines where these are the same", () => {
    const { rows, report } = convert({
      events: [event(3), event(1), event(2), { ...event(2), event_id: "other" }],
    });
    // The one that was moved aside takes the next seq, and so does all behind it.
    expect(rows.slice(0, 4).map(({ event: its }) => its.event_id)).toEqual([
      "evt-1",
      "evt-2",
      "other",
      "evt-3",
    ]);
    expect(report.events).toMatchObject({ out_of_order: 3, renumbered: 2, duplicates: 0, missing: 0 });
  });

  it("counts no line as out of order that has the seq of the one before", () => {
    expect(convert({ events: [event(1), { ...event(1), event_id: "b" }] }).report.events.out_of_order).toBe(
      0,
    );
  });

  it("takes once what comes again, in whatever order its members are", () => {
    const turned = Object.fromEntries(Object.entries(event(1)).reverse());
    const { report } = convert({
      events: [event(1), turned, event(2)],
      patches: [patch(1, "add_fact", NOTE), patch(1, "add_fact", NOTE)],
    });
    expect(report.events.duplicates).toBe(1);
    expect(report.patches.duplicates).toBe(1);
  });

  it("I1 a seq that no record has is filled, in the state that the run is in by then", () => {
    const { rows, report } = convert({ events: [event(2, { ts_ms: 70 })] });
    expect(report.events.missing).toBe(1);
    expect(rows[0]).toStrictEqual({
      event: {
        event_id: "evt-id-1",
        type: "context.run.gap",
        status: "queued",
        ts_ms: 1,
        run_id: "new",
        seq: 1,
        run_status: "queued",
        revision: 2,
        payload: { missing_seq: 1 },
      },
      patch: null,
      command_id: null,
      receipt: null,
    });
  });
});

describe("seqs that no record has", () => {
  it("may be ten thousand in all, and not one more", () => {
    expect(convert({ events: [event(MAX_MISSING_SEQS + 1)] }).report.events.missing).toBe(MAX_MISSING_SEQS);
    const rule = { file: "events.jsonl", rule: "missing_seqs" };
    expect(() => convert({ events: [event(1), event(MAX_MISSING_SEQS + 3)] })).toThrow(
      expect.objectContaining(rule),
    );
  });
});

describe("a patch of the reference engine", () => {
  it("stands with the event of its seq, and its seq is that of the event", () => {
    const { rows, report } = convert({
      events: [event(1, { type: "context.blackboard.patched" })],
      patches: [patch(7, "add_fact", NOTE, { source_event_seq: 1 })],
    });
    expect(rows[0]?.patch).toStrictEqual({
      patch_id: "bbp-7",
      run_id: "new",
      seq: 1,
      ts_ms: 70,
      source_event_seq: 1,
      op: "add_fact",
      payload: NOTE,
    });
    expect(report.patches.without_event).toBe(0);
  });

  it("older ones belong to the event of their own seq", () => {
    const { rows } = convert({
      events: [event(1, { type: "context.blackboard.patched" })],
      patches: [patch(1, "add_fact", NOTE, { source_event_seq: undefined })],
    });
    expect(rows[0]?.patch?.patch_id).toBe("bbp-1");
  });

  it.each([
    ["a task's event", "context.task.created", "add_fact", NOTE],
    ["an entry's event", "context.blackboard.patched", "add_task", TASK],
    ["a client's event", "noted", "add_fact", NOTE],
  ])("does not stand with %s that says nothing of its kind", (_, type, op, payload) => {
    const { report } = convert({
      events: [event(1, { type, payload: { task: TASK } })],
      patches: [patch(1, op, payload)],
    });
    expect(report.patches.without_event).toBe(1);
  });

  it("each event has one: the first stands with the first, and so on", () => {
    const type = "context.blackboard.patched";
    const { rows } = convert({
      events: [event(1, { type }), event(1, { type, event_id: "b" })],
      patches: ["x", "y"].map((id) => patch(1, "add_fact", { ...NOTE, id }, { patch_id: id })),
    });
    expect(rows.slice(0, 2).map((row) => [row.event.event_id, row.patch?.patch_id])).toEqual([
      ["evt-1", "x"],
      ["b", "y"],
    ]);
  });

  it.each([
    ["add_fact", NOTE, "context.blackboard.patched"],
    ["set_rolling_summary", "s", "context.blackboard.patched"],
    ["add_artifact", ARTIFACT, "context.artifact.added"],
  ])("without its event gets one: %s", (op, payload, type) => {
    const { rows } = convert({ patches: [patch(1, op, payload, { ts_ms: 44 })] });
    expect(rows[0]?.event).toMatchObject({
      type,
      ts_ms: 44,
      seq: 1,
      payload: { op, payload, patch_seq: 1, recovered: true },
    });
    expect(rows[0]?.patch).toMatchObject({ op, seq: 1, source_event_seq: 1, payload });
  });

  it.each(["add_task", "update_task_lease", "update_task_state"])(
    "without its event, %s, stands with one that says nothing: tasks are what their events say",
    (op) => {
      const { rows } = convert({ patches: [patch(1, op, TASK)] });
      expect(rows[0]?.event).toMatchObject({ type: "context.run.gap", payload: { recovered: "patch" } });
      expect(rows[0]?.patch?.op).toBe(op);
    },
  );

  it("that holds no entry is kept, and counted", () => {
    const { report, rows } = convert({
      patches: [
        patch(1, "add_fact", { id: 1 }),
        patch(2, "add_task", {}),
        patch(3, "add_fact", NOTE),
        patch(4, "add_fact", {}),
      ],
    });
    expect(report.patches).toMatchObject({ not_applicable: 2, without_event: 4 });
    expect(rows[0]?.patch?.payload).toEqual({ id: 1 });
  });
});

describe("blackboard.json", () => {
  const known = [patch(1, "add_fact", NOTE), patch(2, "set_rolling_summary", "new")];

  it.each([
    [
      "is what the patches say",
      { facts: [NOTE], summaries: { rolling: "new" }, revision: 2 },
      { doubled: 0, recovered: 0 },
    ],
    [
      "has an entry twice that has one patch",
      { facts: [NOTE, NOTE], summaries: { rolling: "new" }, revision: 2 },
      { doubled: 1, recovered: 0 },
    ],
    [
      "has an entry more",
      { facts: [{ ...NOTE, id: "m" }], summaries: { rolling: "new" }, revision: 2 },
      { doubled: 0, recovered: 1 },
    ],
    [
      "has that twice",
      {
        facts: [
          { ...NOTE, id: "m" },
          { ...NOTE, id: "m" },
        ],
        summaries: { rolling: "new" },
        revision: 2,
      },
      { doubled: 1, recovered: 1 },
    ],
    [
      "has it elsewhere",
      { decisions: [NOTE], summaries: { rolling: "new" }, revision: 2 },
      { doubled: 0, recovered: 1 },
    ],
    [
      "has another summary",
      { facts: [NOTE], summaries: { rolling: "newer" }, revision: 2 },
      { doubled: 0, recovered: 1 },
    ],
    [
      "has another summary, but is behind the patches",
      { facts: [NOTE], summaries: { rolling: "older" }, revision: 1 },
      { doubled: 0, recovered: 0 },
    ],
    [
      "has a context pack, too",
      { facts: [NOTE], summaries: { rolling: "new", latest_context_pack: "p" }, revision: 2 },
      { doubled: 0, recovered: 1 },
    ],
  ])("07 D19, D26 where it %s", (_, board, found) => {
    expect(convert({ patches: known, board }).report.blackboard).toEqual({ is_readable: true, ...found });
  });

  it("an entry that two patches have may stand there twice", () => {
    const twice = [1, 2].map((seq) => patch(seq, "add_fact", NOTE));
    expect(convert({ patches: twice, board: { facts: [NOTE, NOTE] } }).report.blackboard.doubled).toBe(0);
  });

  it("what it alone has is a patch of its own, at the time of the last event", () => {
    const { rows, state } = convert({
      events: [event(1, { ts_ms: 50 })],
      board: { artifacts: [ARTIFACT], summaries: { rolling: "r", latest_context_pack: "p" } },
    });
    expect(rows.slice(1, 4).map((row) => [row.event.type, row.event.ts_ms, row.patch?.op])).toEqual([
      ["context.artifact.added", 50, "add_artifact"],
      ["context.blackboard.patched", 50, "set_rolling_summary"],
      ["context.blackboard.patched", 50, "set_latest_context_pack"],
    ]);
    expect(state.head().summaries).toEqual({ rolling: "r", latest_context_pack: "p" });
  });

  it("is not missed, and is named where it cannot be read", () => {
    expect(convert({}).report.blackboard).toEqual({ is_readable: true, doubled: 0, recovered: 0 });
    expect(convert({ board: [] }).report.blackboard).toEqual({
      is_readable: false,
      doubled: 0,
      recovered: 0,
    });
  });
});

describe("run_state.json", () => {
  it("07 D16 where the log leads elsewhere, a last commit brings the run to it", () => {
    const nowMs = 10_000;
    const state = { status: "paused", objective: "o", tasks: [TASK], revision: 7, why_next_step: "so" };
    const { rows, report, state: run } = convert({ state, events: [event(1)], nowMs });
    expect(report.run_state).toEqual({ behind_by: 0, disagrees: true });
    expect(rows).toHaveLength(2);
    expect(rows[1]?.event).toMatchObject({
      type: "context.run.imported",
      status: "paused",
      ts_ms: nowMs,
      revision: 8,
    });
    expect(run.run()).toMatchObject({
      status: "paused",
      why_next_step: "so",
      tasks: [{ id: "t", status: "pending" }],
    });
  });

  it("time goes on, also where the importer's clock is behind the run's", () => {
    const { rows } = convert({
      state: { objective: "other", status: "paused" },
      events: [event(1, { ts_ms: 500 })],
      nowMs: 3,
    });
    expect(rows.at(-1)?.event.ts_ms).toBe(500);
  });

  it("where the log leads there, nothing is added", () => {
    const { rows, report } = convert({ events: [event(1)] });
    expect(rows).toHaveLength(1);
    expect(report.run_state.disagrees).toBe(false);
    expect(report.leases.ended).toBe(0);
  });

  it("events that are newer count, and older ones are in it", () => {
    const { report } = convert({ state: { last_event_seq: 1 }, events: [event(1), event(2), event(3)] });
    expect(report.run_state.behind_by).toBe(2);
  });

  it("D05 a task that somebody works on is nobody's afterwards, and any other stays as it was", () => {
    const held = { lease_owner: "a", lease_token: TOKEN, lease_expires_at_ms: 5_000 };
    const tasks = [
      { ...TASK, id: "held", status: "in_progress", ...held },
      { ...TASK, id: "stale", status: "blocked", ...held },
      { ...TASK, id: "free" },
      { ...TASK, id: "odd", status: "in_progress" },
    ];
    const { report, state } = convert({ state: { tasks } });
    expect(report.leases).toMatchObject({ ended: 2 });
    expect(state.run().tasks.map(({ id, status, lease_owner }) => [id, status, lease_owner])).toEqual([
      ["held", "runnable", undefined],
      ["stale", "blocked", undefined],
      ["free", "pending", undefined],
      ["odd", "in_progress", undefined],
    ]);
  });
});

describe("what is told of the files", () => {
  it("each token is masked wherever it stands, and a fingerprint is left as it is", () => {
    const payload = {
      lease_token: "1234",
      deep: [{ lease_token: "12345" }, { lease_token: "sha256:ab" }, { lease_token: 5 }, { token: "x" }],
    };
    const { rows, report } = convert({ events: [event(1, { payload })] });
    expect(rows[0]?.event.payload).toEqual({
      lease_token: "sha256:4",
      deep: [{ lease_token: "sha256:5" }, { lease_token: "sha256:ab" }, { lease_token: 5 }, { token: "x" }],
    });
    expect(report.leases.tokens_masked).toBe(2);
  });

  it("checkpoints are listed, and those that cannot be read are named", () => {
    const checkpoint = { checkpoint_id: "c", seq: 1, ts_ms: 2, reason: "r" };
    const { report } = convert({
      checkpoints: [
        { name: "1.json", text: JSON.stringify({ ...checkpoint, run: {} }) },
        { name: "2.json", text: "{" },
      ],
    });
    expect(report.checkpoints).toEqual({ found: [checkpoint], unreadable: ["2.json"] });
  });
});
