import { describe, expect, it } from "vitest";
import { parsePlan } from "../../bench/drill/plan.ts";
import { batchTasks } from "../../bench/drill/plan-batches.ts";

const line = (id: string, more: object = {}): string =>
  JSON.stringify({ id, title: id, issue_type: "task", priority: 2, status: "open", ...more });

const blocks = (...ids: string[]) => ({ dependencies: ids.map((id) => ({ id, type: "blocks" })) });

const parse = (lines: readonly string[], fresh = false) => parsePlan(lines.join("\n"), { fresh });

/** The problems as `kind line id`, in order. */
const problems = (lines: readonly string[], fresh = false): string[] =>
  parse(lines, fresh).problems.map(({ kind, line, id }) => `${kind} ${line} ${id ?? "-"}`);

describe("rows of a plan", () => {
  it("keeps the order, maps urgency so that 0 is first, and puts everything else into the payload", () => {
    const { tasks, problems } = parse([
      line("a", { priority: 0, description: "first", labels: ["x", "y"], issue_type: "bug" }),
      "",
      line("b", { priority: 4, ...blocks("a") }),
    ]);
    expect(problems).toEqual([]);
    expect(tasks).toEqual([
      {
        id: "a",
        task_type: "bug",
        payload: {
          title: "a",
          description: "first",
          labels: ["x", "y"],
          plan_status: "open",
          plan_priority: 0,
        },
        status: "pending",
        priority: 100,
        depends_on_task_ids: [],
      },
      {
        id: "b",
        task_type: "task",
        payload: { title: "b", plan_status: "open", plan_priority: 4 },
        status: "pending",
        priority: 60,
        depends_on_task_ids: ["a"],
      },
    ]);
  });

  it("takes the first parent, and keeps other kinds of dependency in the payload", () => {
    const dependencies = [
      { id: "p", type: "parent-child" },
      { id: "q", type: "parent-child" },
      { id: "q", type: "related" },
    ];
    const lines = [line("p"), line("q"), line("a", { dependencies })];
    expect(parse(lines).tasks[2]).toMatchObject({
      parent_task_id: "p",
      depends_on_task_ids: [],
      payload: {
        references: [
          { id: "q", type: "parent-child" },
          { id: "q", type: "related" },
        ],
      },
    });
    expect(problems(lines)).toEqual(["parent_extra 3 a"]);
  });

  it.each(["closed", "done", "tombstone"])("counts %s as done, unless the plan starts afresh", (status) => {
    expect(parse([line("a", { status })]).tasks[0]?.status).toBe("done");
    expect(parse([line("a", { status })], true).tasks[0]?.status).toBe("pending");
  });

  it.each(["open", "in_progress", "hooked", "blocked"])("leaves %s to be done", (status) => {
    expect(parse([line("a", { status })])).toMatchObject({ tasks: [{ status: "pending" }], problems: [] });
  });

  it("gives an implementation somewhere to write, because the engine insists", () => {
    const target = { output_target: { path: "src/a.ts" } };
    const lines = [
      line("a", { issue_type: "implementation", ...target }),
      line("b", { issue_type: "implementation" }),
      line("c", { issue_type: "fix-proposal" }),
    ];
    const { tasks } = parse(lines);
    expect(tasks[0]?.payload).toMatchObject(target);
    expect(tasks[1]?.payload).toMatchObject({ output_target: { path: "b" } });
    expect(tasks[2]?.task_type).toBe("fix_proposal");
    expect(problems(lines)).toEqual(["output_target_invented 2 b"]);
  });

  it("cuts a description that would cross the engine's limit", () => {
    const { tasks, problems } = parse([line("a", { description: "é".repeat(200_000) })]);
    expect(new TextEncoder().encode(JSON.stringify(tasks[0]?.payload)).length).toBeLessThanOrEqual(
      256 * 1024,
    );
    expect(problems.map((problem) => problem.kind)).toEqual(["payload_shortened"]);
  });
});

describe("what a plan may not say", () => {
  it.each<[string, string[], string[]]>([
    ["a line that is no JSON", ["{", line("a")], ["line_malformed 1 -"]],
    ["a line that is no object", ["[1]", line("a")], ["line_malformed 1 -"]],
    ["an id the engine refuses", [line("a b"), line("..")], ["id_invalid 1 a b", "id_invalid 2 .."]],
    ["an id that is there twice", [line("a"), line("a")], ["id_duplicate 2 a"]],
    ["a dependency on nothing", [line("a", blocks("gone"))], ["dependency_dangling 1 a"]],
    [
      "a dependency on a line that was left out",
      [line("a", blocks("b b")), line("b b")],
      ["dependency_dangling 1 a", "id_invalid 2 b b"],
    ],
    ["a dependency on itself", [line("a", blocks("a"))], ["dependency_self 1 a"]],
    ["the same dependency twice", [line("a"), line("b", blocks("a", "a"))], ["dependency_repeated 2 b"]],
    [
      "a dependency without a type",
      [line("a", { dependencies: [{ id: "b" }] })],
      ["dependency_malformed 1 a"],
    ],
    ["dependencies that are no list", [line("a", { dependencies: "b" })], ["dependency_malformed 1 a"]],
    [
      "a parent that is not there",
      [line("a", { dependencies: [{ id: "p", type: "parent-child" }] })],
      ["parent_dangling 1 a"],
    ],
    [
      "a relation to nothing",
      [line("a", { dependencies: [{ id: "p", type: "related" }] })],
      ["reference_dangling 1 a"],
    ],
    ["an unknown status", [line("a", { status: "simmering" })], ["status_unknown 1 a"]],
    ["a priority in words", [line("a", { priority: "high" })], ["field_invalid 1 a"]],
    ["no type", [line("a", { issue_type: " " })], ["field_invalid 1 a"]],
  ])("reports %s", (_, lines, expected) => {
    expect(problems(lines)).toEqual(expected);
  });

  it("reports finished tasks whose dependencies are open, and not when the plan starts afresh", () => {
    const lines = [line("a"), line("b", { status: "closed", ...blocks("a") })];
    expect(problems(lines)).toEqual(["closed_before_dependency 2 b"]);
    expect(problems(lines, true)).toEqual([]);
  });

  it("keeps what it leaves out of the dependencies in the payload", () => {
    const [task] = parse([line("a", blocks("gone"))]).tasks;
    expect(task).toMatchObject({
      depends_on_task_ids: [],
      payload: { references: [{ id: "gone", type: "blocks" }] },
    });
  });
});

describe("cycles", () => {
  const edges = (lines: readonly string[]) =>
    Object.fromEntries(parse(lines).tasks.map((task) => [task.id, task.depends_on_task_ids]));

  it("drops the edge that closes one, and says how it went", () => {
    const lines = [line("a", blocks("b")), line("b", blocks("c")), line("c", blocks("a"))];
    expect(edges(lines)).toEqual({ a: ["b"], b: ["c"], c: [] });
    expect(parse(lines).problems).toEqual([
      {
        kind: "dependency_cycle",
        line: 3,
        id: "c",
        detail: "a → b → c → a is a cycle; c → a is left out",
      },
    ]);
  });

  it("finds each of several, also inside one another", () => {
    const lines = [
      line("a", blocks("b")),
      line("b", blocks("a", "c", "d")),
      line("c", blocks("b")),
      line("d"),
    ];
    expect(edges(lines)).toEqual({ a: ["b"], b: ["c", "d"], c: [], d: [] });
    expect(problems(lines)).toEqual(["dependency_cycle 2 b", "dependency_cycle 3 c"]);
  });

  it("takes a diamond for what it is", () => {
    const lines = [line("a", blocks("b", "c")), line("b", blocks("d")), line("c", blocks("d")), line("d")];
    expect(problems(lines)).toEqual([]);
  });

  it("walks chains deeper than any call stack", () => {
    const lines = Array.from({ length: 50_000 }, (_, n) => line(`t${n}`, blocks(`t${n + 1}`)));
    lines.push(line("t50000", blocks("t0")));
    expect(problems(lines)).toEqual(["dependency_cycle 50001 t50000"]);
  });
});

describe("batches", () => {
  it("hold at most 500 rows and 2 MiB, in order", () => {
    const big = "x".repeat(200_000);
    const lines = Array.from({ length: 1_020 }, (_, n) => line(`t${n}`, n < 30 ? { description: big } : {}));
    const { tasks } = parse(lines);
    const batches = batchTasks(tasks);
    expect(batches.flat()).toEqual(tasks);
    expect(Math.max(...batches.map((batch) => batch.length))).toBe(500);
    for (const batch of batches) {
      const body = JSON.stringify({ tasks: batch });
      expect(new TextEncoder().encode(body).length).toBeLessThanOrEqual(2 * 1024 * 1024);
    }
    expect(batches.length).toBe(4);
  });
});
