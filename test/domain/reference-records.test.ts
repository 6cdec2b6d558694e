import { describe, expect, it, vi } from "vitest";
import {
  MAX_UNPARSABLE,
  readBoard,
  readCheckpointHead,
  readEvent,
  readLines,
  readPatchRecord,
  readRun,
  readTask,
} from "../../src/domain/reference-records.ts";

const MEBIBYTE = 1024 * 1024;

const NO_WORKSPACE = { workspace_id: "", canonical_path: "", lease_epoch: 0 };
const WORKSPACE = { workspace_id: "w", canonical_path: "/srv", lease_epoch: 2 };

/** What a record must have, and what it has where it says no more. */
const least = {
  task: { id: "t", task_type: "x", status: "done", created_ts: 1, updated_ts: 2 },
  run: { run_id: "r", status: "running", created_at_ms: 1, updated_at_ms: 2 },
  event: { event_id: "e", seq: 3, ts_ms: 1, type: "x", status: "running" },
  patch: { patch_id: "p", seq: 3, ts_ms: 1, op: "add_fact" },
  entry: { id: "f", ts_ms: 1 },
  checkpoint: { checkpoint_id: "c", seq: 1, ts_ms: 2 },
};
const whole = {
  task: {
    ...least.task,
    payload: null,
    depends_on_task_ids: [],
    decision_ids: [],
    artifact_ids: [],
    priority: 0,
    attempt: 0,
    max_attempts: 0,
    task_rev: 0,
  },
  run: {
    ...least.run,
    run_type: "interactive",
    mcp_servers: [],
    objective: "",
    workspace: NO_WORKSPACE,
    steps: [],
    tasks: [],
    why_next_step: null,
    revision: 1,
    last_event_seq: 0,
  },
  event: { ...least.event, revision: 0, payload: null },
  patch: { ...least.patch, payload: null },
  board: {
    facts: [],
    decisions: [],
    open_questions: [],
    artifacts: [],
    summaries: { rolling: "", latest_context_pack: "" },
    revision: 0,
  },
  checkpoint: { ...least.checkpoint, reason: "" },
};

const full = {
  task: {
    ...whole.task,
    payload: { a: 1 },
    workflow_id: "w",
    workflow_node_id: "n",
    parent_task_id: "p",
    depends_on_task_ids: ["a"],
    decision_ids: ["d"],
    artifact_ids: ["f"],
    assigned_agent: "ann",
    priority: -1,
    attempt: 1,
    max_attempts: 2,
    last_error: "no",
    next_retry_at_ms: 5,
    lease_owner: "ann",
    lease_token: "lease-1",
    lease_expires_at_ms: 6,
    task_rev: 4,
  },
  run: {
    ...whole.run,
    run_type: "batch",
    source_client: "cli",
    model_provider: "p",
    model_id: "m",
    mcp_servers: ["s"],
    objective: "o",
    workspace: WORKSPACE,
    steps: [{ step_id: "s", title: "t", status: "pending" }],
    tasks: [whole.task],
    why_next_step: "w",
    revision: 7,
    last_event_seq: 6,
    started_at_ms: 3,
    ended_at_ms: 4,
    last_error: "e",
    source_metadata: { from: "x" },
  },
  event: { ...whole.event, revision: 4, step_id: "s", task_id: "t", command_id: "c", payload: ["p"] },
  patch: { ...whole.patch, source_event_seq: 2, payload: { text: "x" } },
  board: {
    facts: [{ ...least.entry, text: "f" }],
    decisions: [{ ...least.entry, text: "d", step_id: "s" }],
    open_questions: [{ ...least.entry, text: "q", source_event_id: "e" }],
    artifacts: [{ ...least.entry, path: "p", artifact_type: "a", step_id: "s" }],
    summaries: { rolling: "r", latest_context_pack: "l" },
    revision: 9,
  },
  checkpoint: { ...whole.checkpoint, reason: "r" },
};

/** The same with `null` where something may be left out. */
const nulled = <T extends object>(some: T, all: object): T => ({
  ...Object.fromEntries(Object.keys(all).map((name) => [name, null])),
  ...some,
});

describe("01§9 a record of the reference engine", () => {
  const readers = [
    ["task", readTask, least.task, whole.task, full.task],
    ["run", readRun, least.run, whole.run, full.run],
    ["event", readEvent, least.event, whole.event, full.event],
    ["patch", readPatchRecord, least.patch, whole.patch, full.patch],
    ["blackboard", readBoard, {}, whole.board, full.board],
    ["checkpoint", readCheckpointHead, least.checkpoint, whole.checkpoint, full.checkpoint],
  ] as const;

  it.each(readers)("that is a %s: what it does not say, or says null, is as in an empty one", (...row) => {
    const [, read, some, all, every] = row;
    expect(read(some)).toStrictEqual(all);
    expect(read(nulled(some, every))).toStrictEqual(all);
  });

  it.each(readers)("that is a %s keeps all that it says, but for members that none has", (...row) => {
    const [, read, , , every] = row;
    expect(read({ ...every, another: 1 })).toStrictEqual(every);
  });

  it.each(readers)("that is a %s is none without a member that it must have", (...row) => {
    const [, read, some] = row;
    for (const name of Object.keys(some)) {
      const { [name]: _gone, ...rest } = some as Record<string, unknown>;
      expect(read(rest), name).toBeNull();
    }
  });

  it("that is an event has its seq under either of its names, the newer one first", () => {
    const { seq: _seq, ...rest } = least.event;
    expect(readEvent({ ...rest, event_seq: 3 })).toStrictEqual(whole.event);
    expect(readEvent({ ...rest, seq: 3, event_seq: 4 })).toStrictEqual(whole.event);
    expect(readEvent({ ...rest, seq: null, event_seq: null })).toBeNull();
  });

  it("whose board, workspace or summaries lack a member that they must have is none", () => {
    const { revision: _revision, ...summaries } = full.board;
    expect(readBoard({ summaries: { rolling: "r" } })).toStrictEqual({
      ...whole.board,
      summaries: { rolling: "r", latest_context_pack: "" },
    });
    expect(readBoard({ ...summaries, artifacts: [{ ...least.entry, path: "p" }] })).toBeNull();
    expect(readRun({ ...least.run, workspace: { workspace_id: "w" } })).toBeNull();
  });
});

describe("a file of records, one per line", () => {
  /** Numbers are records here. */
  const numbers = (file: string) => readLines(file, (value) => (typeof value === "number" ? value : null));
  const none = {
    lines: 0,
    taken: 0,
    unparsable_lines: [],
    unparsable: 0,
    torn_last_line: false,
    behind_torn: 0,
  };

  it.each<[string, [number, number][], object]>([
    ["", [], {}],
    [" \n\t\r\n\n", [], {}],
    ["1\n2\n", [[1, 1], [2, 2]], { lines: 2, taken: 2 }], // biome-ignore format: a row
    ["1\r\n\n  2  \n3", [[1, 1], [3, 2], [4, 3]], { lines: 3, taken: 3 }], // biome-ignore format: a row
    ["1\nx\n3\n", [[1, 1], [3, 3]], { lines: 3, taken: 2, unparsable: 1, unparsable_lines: [2] }], // biome-ignore format: a row
    ["1\nx\n", [[1, 1]], { lines: 2, taken: 1, unparsable: 1, unparsable_lines: [2] }],
    ["1\nx", [[1, 1]], { lines: 2, taken: 1, unparsable: 1, unparsable_lines: [2], torn_last_line: true }],
    ['{"a":1\n"x"\n', [], { lines: 2, unparsable: 2, unparsable_lines: [1, 2] }],
  ])("%j: each line is a record, blank, or counted and named", (file, records, found) => {
    expect(numbers(file)).toStrictEqual({
      records: records.map(([line, record]) => ({ line, record })),
      found: { ...none, ...found },
    });
  });

  it("D22 a record behind the beginning of another is taken, and its line is named", () => {
    const objects = readLines('{"a":{"b\n{"a":{"a":{"c":1}\n{"c":2}{"c":3}', (value) =>
      typeof value === "object" && value !== null && "c" in value ? value.c : null,
    );
    expect(objects).toStrictEqual({
      records: [
        { line: 2, record: 1 },
        { line: 3, record: 3 },
      ],
      found: { lines: 3, taken: 2, unparsable_lines: [1, 2, 3], unparsable: 3, torn_last_line: true, behind_torn: 2 }, // biome-ignore format: one line
    });
  });

  it("of lines that hold no record the first 50 are named, and all are counted", () => {
    const found = numbers("x\n".repeat(60))?.found;
    expect(found).toStrictEqual({
      ...none,
      lines: 60,
      unparsable: 60,
      unparsable_lines: Array.from({ length: 50 }, (_, index) => index + 1),
    });
  });

  it("may have so many lines that hold no record, and not one more", () => {
    const words = '""\n'.repeat(MAX_UNPARSABLE);
    expect(numbers(words)?.found.unparsable).toBe(MAX_UNPARSABLE);
    expect(numbers(`${words}""`)).toBeNull();
  });

  /** How often something is looked at as a record. */
  const timesRead = (file: string) => {
    const read = vi.fn(() => null);
    readLines(file, read);
    return read.mock.calls.length;
  };

  it("D22 of one line 200 beginnings of a record are looked at", () => {
    expect(timesRead(`x${"{".repeat(200)}`)).toBe(1 + 200);
    expect(timesRead(`x${"{".repeat(300)}`)).toBe(1 + 200);
  });

  it("D22 of all its lines 32 MiB are looked at again", () => {
    const half = `x{${"x".repeat(16 * MEBIBYTE - 1)}\n`;
    expect(timesRead(half)).toBe(2);
    expect(timesRead(half + half)).toBe(4);
    expect(timesRead(`${half}${half}x{`)).toBe(5);
  });
});
