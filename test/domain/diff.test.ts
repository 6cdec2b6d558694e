import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { canonicalJson } from "../../src/domain/canonical-json.ts";
import type { Commit } from "../../src/domain/commit.ts";
import { applyDiff, type Diff, diff, isEmptyDiff, type Moment, momentOf } from "../../src/domain/diff.ts";
import type { Note } from "../../src/protocol/blackboard.ts";
import type { FileChange, FileVersion } from "../../src/protocol/file-version.ts";
import type { Run } from "../../src/protocol/run.ts";
import { aRow, aTask, batch, committed, memoryRun, stepsOf } from "../support/builders.ts";
import { anySteps } from "../support/commands.ts";
import { execute } from "../support/execute.ts";

/** As JSON carries it. */
const wired = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;

/** A commit of the engine that puts or removes files. */
function fileCommit(seq: number, files: FileChange[]): Commit {
  const event = {
    event_id: `evt-f${seq}`,
    run_id: "r",
    seq,
    ts_ms: 1_000_000_000 + seq,
    type: "rollback_execution_applied",
    status: "running",
    run_status: "running",
    revision: seq + 1,
    payload: { files },
  } as const;
  return { event, patch: null };
}

const file = (path: string, sha256: string | null): FileChange => ({
  path,
  sha256,
  bytes: 1,
  content_type: "text/plain",
});

/** Every moment of a random history, with files that come, change and go in between. */
const pasts: fc.Arbitrary<Moment[]> = fc
  .tuple(
    anySteps,
    fc.array(fc.tuple(fc.constantFrom("a", "b", "c"), fc.constantFrom("0", "1", null)), { maxLength: 8 }),
  )
  .map(([steps, files]) => {
    const { engine } = execute(steps);
    const run = engine.initial();
    const moments = [momentOf(run)];
    for (const commit of engine.commits()) {
      run.apply(commit);
      moments.push(momentOf(run));
    }
    for (const [path, sha256] of files) {
      run.apply(fileCommit(run.head().run.last_event_seq + 1, [file(path, sha256)]));
      moments.push(momentOf(run));
    }
    return moments;
  });

const sortedByPath = (files: FileVersion[]) => files.toSorted((a, b) => (a.path < b.path ? -1 : 1));

const note = (id: string): Note => ({ id, ts_ms: 1, text: "" });
const version = (path: string, version: number): FileVersion => ({
  ...file(path, `${version}`),
  version,
  ts_ms: version,
});

const NOTHING = momentOf(memoryRun());

/** A moment like this one, some of its run and of its blackboard changed. */
const like = (
  { run, blackboard, files }: Moment,
  parts: { run?: Partial<Run>; blackboard?: Partial<Moment["blackboard"]>; files?: FileVersion[] },
): Moment => ({
  run: { ...run, ...parts.run },
  blackboard: { ...blackboard, ...parts.blackboard },
  files: parts.files ?? files,
});

const someOf = <T, U>(values: T[], one: (value: T) => fc.Arbitrary<U>): fc.Arbitrary<U[]> =>
  fc.shuffledSubarray(values).chain((chosen) => fc.tuple(...chosen.map(one)));
const notes = someOf(["a", "b", "c"], (id) => fc.constant(note(id)));

/** Moments that no one log need lead to: with any tasks in any order, any notes, any files. */
const moments: fc.Arbitrary<Moment> = fc
  .record({
    run: fc.record(
      {
        last_error: fc.constantFrom("x", "y"),
        steps: fc.constantFrom(stepsOf({}), stepsOf({ s: "pending" }), stepsOf({ s: "done" })),
        tasks: someOf(["a", "b", "c", "d"], (id) =>
          fc.constantFrom(aTask({ id }), aTask({ id, status: "blocked" }), aTask({ id, last_error: "x" })),
        ),
      },
      { requiredKeys: ["steps", "tasks"] },
    ),
    blackboard: fc.record({
      facts: notes,
      decisions: notes,
      open_questions: notes,
      artifacts: notes.map((all) => all.map(({ id }) => ({ id, ts_ms: 1, path: id, artifact_type: "t" }))),
      summaries: fc.record({
        rolling: fc.constantFrom("", "x"),
        latest_context_pack: fc.constantFrom("", "x"),
      }),
      revision: fc.nat(2),
    }),
    files: someOf(["a", "b", "c"], (path) => fc.nat(1).map((n) => version(path, n))).map(sortedByPath),
  })
  .map((parts) => wired(like(NOTHING, parts)));

describe("what changed between any two moments", () => {
  it("applied to the one gives the other, and is nothing only where they are the same", () => {
    fc.assert(
      fc.property(moments, moments, (from, to) => {
        const changes = diff(from, to);
        expect(applyDiff(wired(from), wired(changes))).toEqual(to);
        expect(isEmptyDiff(changes)).toBe(canonicalJson(from) === canonicalJson(to));
      }),
      { numRuns: 500 },
    );
  });

  const [a, b] = [aTask({ id: "a" }), aTask({ id: "b" })];
  const base = like(NOTHING, {
    run: { steps: stepsOf({ s: "pending" }), tasks: [a, b] },
    blackboard: {
      facts: [note("f")],
      decisions: [note("d")],
      open_questions: [note("q")],
      artifacts: [{ id: "a", ts_ms: 1, path: "p", artifact_type: "t" }],
      revision: 4,
    },
    files: [version("p", 1)],
  });
  const board = base.blackboard;
  const empty = { removed: [], added: [] };
  const same: Diff = {
    run: {},
    steps: null,
    tasks: { added: [], removed: [], changed: [], order: null },
    facts: empty,
    decisions: empty,
    open_questions: empty,
    artifacts: empty,
    files: { added: [], removed: [], changed: [] },
    summaries: {},
    blackboard_revision: null,
  };

  it.each<[string, Parameters<typeof like>[1], Partial<Diff>]>([
    ["nothing", {}, {}],
    ["what is equal", wired(base), {}],
    [
      "a member of the run",
      { run: { status: "paused" } },
      { run: { status: { before: "queued", after: "paused" } } },
    ],
    ["a new member of the run", { run: { last_error: "x" } }, { run: { last_error: { after: "x" } } }],
    ["its steps", { run: { steps: [] } }, { steps: { before: stepsOf({ s: "pending" }), after: [] } }],
    [
      "a task more",
      { run: { tasks: [a, b, aTask({ id: "c" })] } },
      { tasks: { ...same.tasks, added: [aTask({ id: "c" })] } },
    ],
    ["a task less", { run: { tasks: [b] } }, { tasks: { ...same.tasks, removed: ["a"] } }],
    [
      "a member of a task",
      { run: { tasks: [a, { ...b, status: "done" }] } },
      {
        tasks: {
          ...same.tasks,
          changed: [{ id: "b", members: { status: { before: "pending", after: "done" } } }],
        },
      },
    ],
    ["the order of the tasks", { run: { tasks: [b, a] } }, { tasks: { ...same.tasks, order: ["b", "a"] } }],
    [
      "a fact more",
      { blackboard: { facts: [...board.facts, note("g")] } },
      { facts: { removed: [], added: [note("g")] } },
    ],
    [
      "a decision less",
      { blackboard: { decisions: [] } },
      { decisions: { removed: [note("d")], added: [] } },
    ],
    [
      "another question",
      { blackboard: { open_questions: [note("r")] } },
      { open_questions: { removed: [note("q")], added: [note("r")] } },
    ],
    [
      "an artifact less",
      { blackboard: { artifacts: [] } },
      { artifacts: { removed: board.artifacts, added: [] } },
    ],
    [
      "a summary",
      { blackboard: { summaries: { ...board.summaries, rolling: "x" } } },
      { summaries: { rolling: { before: "", after: "x" } } },
    ],
    ["the revision", { blackboard: { revision: 5 } }, { blackboard_revision: { before: 4, after: 5 } }],
    [
      "a file more",
      { files: [version("a", 2), version("p", 1)] },
      { files: { ...same.files, added: [version("a", 2)] } },
    ],
    ["a file less", { files: [] }, { files: { ...same.files, removed: ["p"] } }],
    [
      "a version of a file",
      { files: [version("p", 2)] },
      { files: { ...same.files, changed: [{ path: "p", before: version("p", 1), after: version("p", 2) }] } },
    ],
  ])("only %s", (_, parts, expected) => {
    const other = like(base, parts);
    const changes = diff(base, other);
    expect(changes).toEqual({ ...same, ...expected });
    const isSame = Object.keys(expected).length === 0;
    expect(isEmptyDiff(changes)).toBe(isSame);
    expect(isEmptyDiff(diff(other, base))).toBe(isSame);
    expect(applyDiff(wired(base), wired(changes))).toEqual(wired(other));
    expect(applyDiff(wired(other), wired(diff(other, base)))).toEqual(wired(base));
  });
});

describe("what changed between two moments of a run's log", () => {
  it("applied to the one gives the other, forwards and backwards", () => {
    fc.assert(
      fc.property(pasts, fc.nat(), fc.nat(), (moments, a, b) => {
        const [from, to] = [moments[a % moments.length], moments[b % moments.length]];
        if (from === undefined || to === undefined) throw new Error("a history has a beginning");
        expect(applyDiff(wired(from), wired(diff(from, to)))).toEqual(wired(to));
      }),
      { numRuns: 300 },
    );
  });

  it("is nothing between a moment and itself, and something between a moment and the next", () => {
    fc.assert(
      fc.property(pasts, (moments) => {
        for (const [index, moment] of moments.entries()) {
          expect(isEmptyDiff(diff(moment, wired(moment)))).toBe(true);
          const next = moments[index + 1];
          if (next !== undefined) expect(isEmptyDiff(diff(moment, next))).toBe(false);
        }
      }),
      { numRuns: 60 },
    );
  });

  it("names members with their values before and after; what is not there has no member", () => {
    const run = memoryRun({ steps: stepsOf({ s: "pending" }) }, [aTask({ id: "a" }), aTask({ id: "b" })]);
    const before = momentOf(run);
    committed({ op: "append_event", type: "run_failed", status: "failed", payload: { error: "x" } }, run);
    committed({ op: "transition_task", task_id: "a", action: "status", status: "blocked" }, run);
    committed(batch(aRow({ id: "c" })), run);
    committed({ op: "patch_blackboard", patch_op: "add_fact", payload: note("n") }, run);
    committed({ op: "patch_blackboard", patch_op: "set_rolling_summary", payload: "so far" }, run);
    run.apply(fileCommit(run.head().run.last_event_seq + 1, [file("p", "0")]));
    const changes = diff(before, momentOf(run));
    expect(changes).toMatchObject({
      run: { last_event_seq: { before: 0, after: 6 } },
      steps: null,
      tasks: {
        added: [{ id: "c" }],
        removed: [],
        changed: [{ id: "a", members: { status: { before: "pending", after: "blocked" } } }],
        order: null,
      },
      facts: { removed: [], added: [note("n")] },
      decisions: { removed: [], added: [] },
      files: { added: [{ path: "p", version: 6 }], removed: [], changed: [] },
      summaries: { rolling: { before: "", after: "so far" } },
      blackboard_revision: { before: 0, after: 5 },
    });
    const back = diff(momentOf(run), before);
    expect(back.facts).toEqual({ removed: [note("n")], added: [] });
    expect(back.tasks.removed).toEqual(["c"]);
    expect(back.files.removed).toEqual(["p"]);
  });

  it("tells the order of the tasks where a replacement has changed it", () => {
    const moment = (...ids: string[]): Moment =>
      momentOf(
        memoryRun(
          {},
          ids.map((id) => aTask({ id })),
        ),
      );
    expect(diff(moment("a", "b"), moment("b", "a")).tasks.order).toEqual(["b", "a"]);
    expect(diff(moment("a", "b"), moment("b", "c")).tasks.order).toBeNull();
    expect(diff(moment("a", "b"), moment("c", "b")).tasks.order).toEqual(["c", "b"]);
  });

  it("is not changed by what the run takes in later", () => {
    const run = memoryRun();
    const add = (id: string) => {
      for (const patch_op of ["add_fact", "add_decision", "add_open_question"] as const)
        committed({ op: "patch_blackboard", patch_op, payload: note(id) }, run);
      const artifact = { id, ts_ms: 1, path: "p", artifact_type: "t" };
      committed({ op: "patch_blackboard", patch_op: "add_artifact", payload: artifact }, run);
      committed(batch(aRow({ id })), run);
      run.apply(fileCommit(run.head().run.last_event_seq + 1, [file(id, "0")]));
    };
    add("a");
    const moment = momentOf(run);
    const { tasks: _tasks, ...board } = run.blackboard();
    const copy = wired({ run: run.run(), blackboard: board, files: run.files() });
    expect(moment).toEqual(copy);
    add("b");
    expect(moment).toEqual(copy);
  });
});
