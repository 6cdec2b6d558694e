import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Commit } from "../../src/domain/commit.ts";
import { applyDiff, diff, isEmptyDiff, type Moment, momentOf } from "../../src/domain/diff.ts";
import type { FileChange } from "../../src/protocol/file-version.ts";
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

describe("what changed between two moments of a run", () => {
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
    const note = { id: "n", ts_ms: 1, text: "t" };
    committed({ op: "patch_blackboard", patch_op: "add_fact", payload: note }, run);
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
      facts: { removed: [], added: [note] },
      decisions: { removed: [], added: [] },
      files: { added: [{ path: "p", version: 6 }], removed: [], changed: [] },
      summaries: { rolling: { before: "", after: "so far" } },
      blackboard_revision: { before: 0, after: 5 },
    });
    const back = diff(momentOf(run), before);
    expect(back.facts).toEqual({ removed: [note], added: [] });
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
    const moment = momentOf(run);
    const copy = wired(moment);
    committed(
      { op: "patch_blackboard", patch_op: "add_fact", payload: { id: "n", ts_ms: 1, text: "" } },
      run,
    );
    committed(batch(aRow({ id: "c" })), run);
    expect(moment).toEqual(copy);
  });
});
