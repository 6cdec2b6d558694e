import { describe, expect, it } from "vitest";
import type { CommandOf } from "../../src/domain/command.ts";
import { mergeTodos, statusAfterTodos, type Todo, whyAfterTodos } from "../../src/domain/todos.ts";
import type { Step } from "../../src/protocol/run.ts";
import type { RunStatus, WorkStatus } from "../../src/protocol/status.ts";
import { aRun, aTask, committed, memoryRun, NOW, refused, stepsOf } from "../support/builders.ts";

const STATUS_WORDS: Record<string, WorkStatus> = {
  in_progress: "in_progress",
  "in-progress": "in_progress",
  working: "in_progress",
  doing: "in_progress",
  active: "in_progress",
  runnable: "runnable",
  ready: "runnable",
  done: "done",
  completed: "done",
  complete: "done",
  blocked: "blocked",
  failed: "failed",
  error: "failed",
  pending: "pending",
  cancelled: "pending",
  nonsense: "pending",
  tostring: "pending",
  "": "pending",
};

describe("one todo", () => {
  it.each(Object.entries(STATUS_WORDS))("03§5.1 the word %j means %s", (word, status) => {
    for (const written of [word, ` ${word} `, word.toUpperCase()]) {
      expect(mergeTodos([], [{ content: "c", status: written }], true)[0]?.status).toBe(status);
    }
  });

  const todos: [Todo[], Step[]][] = [
    [[{ content: "c" }], [{ step_id: "todo-1", title: "c", status: "pending" }]],
    [[{ id: null, content: " c ", status: null }], [{ step_id: "todo-1", title: "c", status: "pending" }]],
    [[{ id: " x ", content: "c" }], [{ step_id: "x", title: "c", status: "pending" }]],
    [[{ id: "  ", content: "c" }], [{ step_id: "todo-1", title: "c", status: "pending" }]],
    [
      [{ content: " " }, { content: "c" }, { id: "x", content: "" }, { content: "d" }],
      [
        { step_id: "todo-2", title: "c", status: "pending" },
        { step_id: "todo-4", title: "d", status: "pending" },
      ],
    ],
    [[], []],
  ];
  it.each(todos)("03§5.1 %j become %j", (list, steps) => {
    expect(mergeTodos(stepsOf({ old: "done" }), list, true)).toEqual(steps);
  });
});

/** A todo that says it is done. */
const done = (id: string): Todo => ({ id, content: `new ${id}`, status: "done" });
const doneStep = (id: string): Step => ({ step_id: id, title: `new ${id}`, status: "done" });

describe("merging", () => {
  it("03§5.2 replace: exactly the mapped list, duplicates kept", () => {
    const steps = mergeTodos(stepsOf({ a: "failed" }), [done("b"), done("a"), done("b")], true);
    expect(steps).toEqual([doneStep("b"), doneStep("a"), doneStep("b")]);
  });

  it("03§5.2 no replace: known ids change in place, others are appended, nothing goes", () => {
    const [a, b, c] = stepsOf({ a: "failed", b: "pending", c: "pending" });
    const before = [a, b, c].filter((step) => step !== undefined);
    expect(mergeTodos(before, [done("d"), done("b"), done("a")], false)).toEqual([
      doneStep("a"),
      doneStep("b"),
      c,
      doneStep("d"),
    ]);
    expect(before).toEqual(stepsOf({ a: "failed", b: "pending", c: "pending" }));
  });

  it("03§5.2 no replace: an id twice in the list is one step, its last word counts", () => {
    const list: Todo[] = [{ id: "x", content: "first" }, done("x")];
    expect(mergeTodos([], list, false)).toEqual([doneStep("x")]);
  });

  it("03§5.2 no replace: of two steps with one id the first changes", () => {
    const [a] = stepsOf({ a: "pending" });
    if (a === undefined) throw new Error("no step");
    expect(mergeTodos([a, a], [done("a")], false)).toEqual([doneStep("a"), a]);
  });

  it("I20 an empty list without replace keeps the steps", () => {
    const steps = stepsOf({ a: "failed", b: "done" });
    expect(mergeTodos(steps, [], false)).toEqual(steps);
  });
});

describe("the run after a sync", () => {
  const statuses: [WorkStatus[], RunStatus | null][] = [
    [["in_progress", "failed"], "running"],
    [["done", "runnable", "in_progress"], "running"],
    [["runnable", "done"], "planning"],
    [["done", "done"], "completed"],
    [["done", "pending"], "planning"],
    [["failed", "failed"], "planning"],
    [["blocked"], "planning"],
    [[], null],
  ];
  it.each(statuses)("03§5.3 steps %j: status %s (null: unchanged)", (words, status) => {
    const steps = words.map((word, index): Step => ({ step_id: `${index}`, title: "t", status: word }));
    for (const from of ["queued", "planning", "running", "awaiting_approval", "paused", "blocked"] as const) {
      expect(statusAfterTodos(aRun({ status: from }), steps)).toBe(status ?? from);
    }
    for (const from of ["failed", "completed", "cancelled"] as const) {
      expect(statusAfterTodos(aRun({ status: from }), steps)).toBe(from);
    }
  });

  const reasons: [Record<string, WorkStatus>, string | null][] = [
    [{ a: "done", b: "pending", c: "in_progress" }, "b"],
    [{ a: "blocked", b: "in_progress", c: "runnable" }, "b"],
    [{ a: "failed", b: "runnable" }, "b"],
    [{ a: "done", b: "blocked", c: "failed" }, null],
    [{}, null],
  ];
  it.each(reasons)("03§5.4 steps %j continue with %j", (steps, next) => {
    const why = next === null ? null : `continue task \`${next}\` from synced todo list`;
    expect(whyAfterTodos(stepsOf(steps))).toBe(why);
  });
});

describe("the commit", () => {
  const sync = (todos: Todo[], members: Partial<CommandOf<"sync_todos">> = {}): CommandOf<"sync_todos"> => ({
    op: "sync_todos",
    todos,
    replace: true,
    source_session_id: null,
    source_run_id: null,
    ...members,
  });

  it("03§3.1 todo_synced: declared status, exact payload, the run without its counters raised", () => {
    const run = memoryRun({ last_error: "old", started_at_ms: 5 }, [aTask()]);
    const todos: Todo[] = [{ content: "c" }, { id: "x", content: "d", status: "doing" }];
    const [commit] = committed(sync(todos, { source_session_id: "s", source_run_id: "o" }), run);
    const steps = mergeTodos([], todos, true);
    const why_next_step = "continue task `todo-1` from synced todo list";
    expect(commit?.event).toMatchObject({ type: "todo_synced", status: "running", run_status: "running" });
    expect(commit?.event).not.toHaveProperty("step_id");
    expect(commit?.patch).toBeNull();
    expect(commit?.event.payload).toEqual({
      count: 2,
      replace: true,
      source_session_id: "s",
      source_run_id: "o",
      todos: [
        { id: null, content: "c", status: null },
        { id: "x", content: "d", status: "doing" },
      ],
      why_next_step,
      steps,
      run: {
        ...aRun({ status: "running", steps, why_next_step, last_error: "old", started_at_ms: 5 }),
        tasks: [],
      },
    });
    expect(run.run()).toEqual({
      ...aRun({ status: "running", steps, why_next_step, last_error: "old", started_at_ms: 5 }),
      revision: 2,
      last_event_seq: 1,
      updated_at_ms: NOW,
      tasks: [aTask()],
    });
  });

  it("D66 all done: the run is completed and ended; a later sync leaves status and end alone", () => {
    const run = memoryRun({ status: "running" });
    committed(sync([{ content: "c", status: "done" }]), run);
    expect(run.run()).toMatchObject({ status: "completed", ended_at_ms: NOW, why_next_step: null });
    committed(sync([{ content: "c", status: "doing" }]), run);
    expect(run.run()).toMatchObject({
      status: "completed",
      ended_at_ms: NOW,
      why_next_step: "continue task `todo-1` from synced todo list",
    });
  });

  it("D35 1,000 steps and 512 KiB of them are the limit", () => {
    const many = Array.from({ length: 1_001 }, (): Todo => ({ content: "c" }));
    expect(committed(sync(many.slice(1)), memoryRun())).toHaveLength(1);
    expect(refused(sync(many), memoryRun())).toMatchObject({
      code: "LIMIT_EXCEEDED",
      limit_name: "steps_per_run",
      limit: 1_000,
      actual: 1_001,
    });
    const onTop = memoryRun({ steps: stepsOf({ a: "done" }) });
    expect(refused(sync(many.slice(1), { replace: false }), onTop)).toMatchObject({ actual: 1_001 });
    expect(refused(sync([{ content: "x".repeat(512 * 1024) }]), memoryRun())).toMatchObject({
      code: "LIMIT_EXCEEDED",
      limit_name: "steps_bytes",
      limit: 524_288,
    });
  });
});
