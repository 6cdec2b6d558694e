import { describe, expect, it } from "vitest";
import type { LetterFilter } from "../../src/domain/command.ts";
import { aTask, memoryRun, NOW } from "../support/builders.ts";

describe("a run in memory tells", () => {
  it("how many tasks there are", () => {
    expect(memoryRun().taskCount()).toBe(0);
    expect(memoryRun({}, [aTask({ id: "a" }), aTask({ id: "b" })]).taskCount()).toBe(2);
  });

  it("what a path held, and nothing of paths and versions that never were", () => {
    const run = memoryRun();
    const file = { path: "p", sha256: "a".repeat(64), bytes: 1, content_type: "", version: 2, ts_ms: 3 };
    run.restore({ file });
    expect(run.fileVersion("p", 2)).toEqual(file);
    expect([run.fileVersion("p", 1), run.fileVersion("q", 2), run.file("q")]).toEqual([null, null, null]);
  });

  it("claims: whose clocks have run out, the earliest first, and so many", () => {
    const dueAfter = (id: string, start_within_ms: number) =>
      aTask({ id, clocks: { start_within_ms }, created_ts: NOW });
    const run = memoryRun({}, [
      dueAfter("third", 30),
      dueAfter("first", 10),
      aTask({ id: "never" }),
      dueAfter("second", 20),
      dueAfter("later", 41),
    ]);
    const due = (nowMs: number, limit: number) => run.dueTasks(nowMs, limit).map(({ id }) => id);
    expect(due(NOW + 40, 9)).toEqual(["first", "second", "third"]);
    expect(due(NOW + 40, 2)).toEqual(["first", "second"]);
    expect(due(NOW + 9, 9)).toEqual([]);
  });

  const failure = { cause: "not_retryable", error_code: "E", at_ms: 1 } as const;
  const letters = [
    aTask({ id: "told", status: "failed", dead_letter: true, failure }),
    aTask({ id: "untold", status: "failed", dead_letter: true }),
    aTask({ id: "other", status: "failed", dead_letter: true, failure: { ...failure, error_code: "F" } }),
    aTask({ id: "failed", status: "failed", failure }),
  ];
  it.each<[LetterFilter, string[]]>([
    [{}, ["told", "untold", "other"]],
    [{ cause: "not_retryable" }, ["told", "other"]],
    [{ cause: "run_time_limit" }, []],
    [{ error_code: "E" }, ["told"]],
    [{ cause: "not_retryable", error_code: "F" }, ["other"]],
  ])("claims: which dead letters there are by %j, in order, and so many", (filter, ids) => {
    const run = memoryRun({}, letters);
    for (const limit of [0, 1, 2, 9])
      expect(run.deadLetters(filter, limit).map(({ id }) => id)).toEqual(ids.slice(0, limit));
    expect(run.countDeadLetters(filter)).toBe(ids.length);
  });
});
