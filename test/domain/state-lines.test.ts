import { describe, expect, it } from "vitest";
import type { Commit } from "../../src/domain/commit.ts";
import { changeOf } from "../../src/domain/memory.ts";
import { memoryStateLines, readStateLines } from "../../src/domain/state-lines.ts";
import type { FileChange } from "../../src/protocol/file-version.ts";
import { aRow, batch, committed, memoryRun, stepsOf } from "../support/builders.ts";

const HASH = "0".repeat(64);

/** A commit of this type that says these files, as the engine or as a client wrote it. */
function fileCommit(seq: number, type: string, files: FileChange[], origin?: "client"): Commit {
  const event = {
    event_id: `evt-${seq}`,
    run_id: "r",
    seq,
    ts_ms: 1_000 + seq,
    type,
    status: "queued",
    run_status: "queued",
    revision: seq + 1,
    ...(origin !== undefined && { origin }),
    payload: { files },
  } as const;
  return { event, patch: null };
}

const put = (path: string): FileChange => ({ path, sha256: HASH, bytes: 1, content_type: "text/plain" });
const gone = (path: string): FileChange => ({ path, sha256: null, bytes: 0, content_type: "" });

describe("the artifact space, by the events that change it", () => {
  it("holds the newest version of each path, and nothing where the newest one removed it", () => {
    const run = memoryRun();
    run.apply(fileCommit(1, "context.artifact.added", [put("b"), put("a")]));
    run.apply(fileCommit(2, "context.artifact.removed", [gone("b")]));
    run.apply(fileCommit(3, "rollback_execution_applied", [put("a"), put("c")]));
    expect(run.files().map(({ path, version, ts_ms }) => [path, version, ts_ms])).toEqual([
      ["a", 3, 1_003],
      ["c", 3, 1_003],
    ]);
    expect(run.file("b")).toBeNull();
    expect(run.fileVersion("b", 1)).toMatchObject(put("b"));
    expect(run.fileVersion("b", 2)).toMatchObject(gone("b"));
    expect(run.fileVersion("a", 2)).toBeNull();
  });

  it("believes the engine only: the same event from a client changes nothing (contract 07 D04, D07)", () => {
    const run = memoryRun();
    run.apply(fileCommit(1, "context.artifact.added", [put("a")], "client"));
    run.apply(fileCommit(2, "anything", [put("a")]));
    expect(run.files()).toEqual([]);
  });

  it("is as it was after such an event without files: a log from elsewhere may have one", () => {
    const run = memoryRun();
    const commit = fileCommit(1, "context.artifact.added", []);
    for (const [index, payload] of [null, {}].entries()) {
      run.apply({ ...commit, event: { ...commit.event, seq: index + 1, payload } });
    }
    expect(run.files()).toEqual([]);
  });
});

describe("L1: a state as lines", () => {
  it("reads back as the same state, which gives the same lines", () => {
    const run = memoryRun({ status: "running", last_error: "x" });
    committed(batch(aRow({ id: "t1" }), aRow({ id: "t2", depends_on_task_ids: ["t1"] })), run);
    const note = { id: "n", ts_ms: 1, text: "a line\nbreak" };
    for (const patch_op of ["add_fact", "add_decision", "add_open_question"] as const) {
      committed({ op: "patch_blackboard", patch_op, payload: note }, run);
    }
    const artifact = { id: "a", ts_ms: 1, path: "p", artifact_type: "t" };
    committed({ op: "patch_blackboard", patch_op: "add_artifact", payload: artifact }, run);
    run.apply(fileCommit(run.head().run.last_event_seq + 1, "context.artifact.added", [put("z"), put("y")]));

    const lines = [...memoryStateLines(run)];
    const again = readStateLines(lines);
    expect(again.run()).toEqual(run.run());
    expect(again.blackboard()).toEqual(run.blackboard());
    expect(again.files()).toEqual(run.files());
    expect([...memoryStateLines(again)]).toEqual(lines);
    expect(lines.every((line) => !line.includes("\n"))).toBe(true);
  });

  it("has the members of the head and of all in it in order of their names", () => {
    const [line = ""] = memoryStateLines(memoryRun({ steps: stepsOf({ s: "pending" }), last_error: "x" }));
    let objects = 0;
    JSON.parse(line, (_, value: unknown) => {
      if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
      objects += 1;
      expect(Object.keys(value)).toEqual(Object.keys(value).toSorted());
      return value;
    });
    expect(objects).toBeGreaterThan(5);
  });

  it("does not show how the head came about", () => {
    const { run_id, ...rest } = memoryRun().head().run;
    const one = memoryRun();
    const other = readStateLines([JSON.stringify({ head: { ...one.head(), run: { ...rest, run_id } } })]);
    expect([...memoryStateLines(other)]).toEqual([...memoryStateLines(one)]);
  });

  it.each(["head", "tasks", "fact", ""])("has nothing of the kind %j behind its head", (kind) => {
    expect(() => changeOf(kind, {})).toThrow(`a state has no ${kind}`);
  });

  const head = JSON.stringify({ head: memoryRun().head() });
  it.each<[string, string[]]>([
    ["a line of a kind that no state has", [head, '{"tasks":[]}']],
    ["no head", []],
    ["another beginning", ['{"task":{"id":"t"}}']],
    ["a head that is not the first line", ['{"task":{"id":"t"}}', '{"head":{}}']],
    ["two heads", ['{"head":{}}', '{"head":{}}']],
    ["a line of no known kind", ['{"head":{}}', '{"foo":1}']],
    ["a line that is no JSON", ['{"head":{}}', '{"task":']],
  ])("refuses %s", (_, lines) => {
    expect(() => readStateLines(lines)).toThrow();
  });
});
