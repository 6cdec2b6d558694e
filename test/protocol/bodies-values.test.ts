import { describe, expect, it } from "vitest";
import { PATCH_OPS } from "../../src/protocol/blackboard.ts";
import { type BodyName, contextBodies, nativeBodies } from "../../src/protocol/bodies.ts";
import { readShape } from "../../src/protocol/shape.ts";
import { RUN_STATUSES, WORK_STATUSES } from "../../src/protocol/status.ts";

const DOORS = ["context", "native"] as const;

/** What is wrong with a body, as `field rule` or `field rule limit`; the same at both doors. */
function problems(name: BodyName, sent: unknown): string[] {
  const [atContext, atNative] = DOORS.map((door) => {
    const result = readShape((door === "context" ? contextBodies() : nativeBodies())[name], sent);
    if (result.ok) return [];
    return result.issues.map(({ field, rule, limit }) =>
      [field, rule, ...(limit === undefined ? [] : [limit])].join(" "),
    );
  });
  expect(atNative).toEqual(atContext);
  return atContext ?? [];
}

const row = (members: Record<string, unknown>) => ({ tasks: [{ task_type: "x", ...members }] });

describe("ids", () => {
  const good = ["a", " a ", "", "  ", "a.b_c:d-1", "x".repeat(200), ` ${"x".repeat(200)} `];
  it.each(good)("02§2.1 %j is taken as a task's id and as a reference", (id) => {
    expect(problems("createTasks", row({ id }))).toEqual([]);
    expect(problems("createTasks", row({ depends_on_task_ids: ["ok", id] }))).toEqual([]);
  });

  const bad: [string, string][] = [
    ...[".", "..", " .. ", "a/b", "a b", "é", "a%2f"].map((id): [string, string] => [id, "id"]),
    ["x".repeat(201), "id 200"],
  ];
  it.each(bad)("D03 %j is none: %s", (id, rule) => {
    expect(problems("createTasks", row({ id }))).toEqual([`tasks[0].id ${rule}`]);
    expect(problems("createTasks", row({ depends_on_task_ids: ["ok", id] }))).toEqual([
      `tasks[0].depends_on_task_ids[1] ${rule}`,
    ]);
  });

  it("04§5 a row has a command id of its own, with the same bounds", () => {
    expect(problems("createTasks", row({ command_id: "x".repeat(200) }))).toEqual([]);
    expect(problems("createTasks", row({ command_id: "x".repeat(201) }))).toEqual([
      "tasks[0].command_id id 200",
    ]);
    expect(contextBodies().createTasks.parse(row({ command_id: " " })).tasks[0]?.command_id).toBeUndefined();
  });

  it("04§1 references to tasks are trimmed and blanks dropped", () => {
    const { tasks } = contextBodies().createTasks.parse(
      row({ depends_on_task_ids: [" a ", "", "b", " ", "a"] }),
    );
    expect(tasks[0]?.depends_on_task_ids).toEqual(["a", "b", "a"]);
  });

  it("04§1 decisions and artifacts are any texts", () => {
    expect(problems("createTasks", row({ decision_ids: ["a/b", ""], artifact_ids: ["é é"] }))).toEqual([]);
  });
});

describe("numbers", () => {
  const MAX_I32 = 2 ** 31 - 1;
  const MAX_U53 = 2 ** 53 - 1;
  const bounds: [BodyName, string, (value: unknown) => unknown, number, number][] = [
    ["createTasks", "tasks[0].priority", (priority) => row({ priority }), -MAX_I32 - 1, MAX_I32],
    ["claimTask", "lease_ms", (lease_ms) => ({ agent_id: "a", lease_ms }), 0, MAX_U53],
    ["transitionTask", "lease_ms", (lease_ms) => ({ action: "a", lease_ms }), 0, MAX_U53],
    [
      "transitionTask",
      "expected_task_rev",
      (expected_task_rev) => ({ action: "a", expected_task_rev }),
      0,
      MAX_U53,
    ],
    [
      "createRun",
      "workspace.lease_epoch",
      (lease_epoch) => ({ objective: "", workspace: { workspace_id: "", canonical_path: "", lease_epoch } }),
      0,
      MAX_U53,
    ],
  ];
  it.each(bounds)("D108 %s %s: whole numbers within its bounds", (name, field, body, min, max) => {
    for (const value of [min, max, 0]) expect(problems(name, body(value))).toEqual([]);
    expect(problems(name, body(min - 1))).toEqual([`${field} too_small ${min}`]);
    const tooBig = problems(name, body(max + 1));
    expect(tooBig[0]).toBe(`${field} too_big ${max}`);
    expect(problems(name, body(0.5))).toEqual([`${field} int`]);
    for (const value of ["1", true, [1], {}])
      expect(problems(name, body(value))).toEqual([`${field} number`]);
  });
});

describe("lengths", () => {
  const limits: [BodyName, string, (text: string) => unknown, number][] = [
    ["appendEvent", "type", (type) => ({ type, status: "queued" }), 1_000],
    ["appendEvent", "step_id", (step_id) => ({ type: "x", status: "queued", step_id }), 1_000],
    ["createTasks", "tasks[0].task_type", (task_type) => row({ task_type }), 1_000],
    ["createTasks", "tasks[0].workflow_id", (workflow_id) => row({ workflow_id }), 1_000],
    ["claimTask", "agent_id", (agent_id) => ({ agent_id }), 1_000],
    ["transitionTask", "action", (action) => ({ action }), 1_000],
    ["transitionTask", "agent_id", (agent_id) => ({ action: "x", agent_id }), 1_000],
    ["transitionTask", "lease_token", (lease_token) => ({ action: "x", lease_token }), 1_000],
    ["transitionTask", "error", (error) => ({ action: "x", error }), 65_536],
    ["validateWorkspace", "phase", (phase) => ({ phase, current_path: "/" }), 1_000],
    ["validateWorkspace", "current_path", (current_path) => ({ phase: "x", current_path }), 4_096],
    ["createRun", "run_type", (run_type) => ({ objective: "", run_type }), 1_000],
    ["createCheckpoint", "reason", (reason) => ({ reason }), 65_536],
  ];
  it.each(limits)("D35 %s %s: as long as its limit, not longer", (name, field, body, limit) => {
    expect(problems(name, body("é".repeat(limit)))).toEqual([]);
    expect(problems(name, body("é".repeat(limit + 1)))).toEqual([`${field} max_length ${limit}`]);
  });
});

describe("list lengths", () => {
  const some = <T>(count: number, element: T) => Array.from({ length: count }, () => element);
  const limits: [BodyName, string, (count: number) => unknown, number][] = [
    ["createTasks", "tasks", (count) => ({ tasks: some(count, { task_type: "x" }) }), 500],
    [
      "createTasks",
      "tasks[0].depends_on_task_ids",
      (n) => row({ depends_on_task_ids: some(n, "a") }),
      10_000,
    ],
    ["createTasks", "tasks[0].decision_ids", (n) => row({ decision_ids: some(n, "a") }), 10_000],
    ["createTasks", "tasks[0].artifact_ids", (n) => row({ artifact_ids: some(n, "a") }), 10_000],
    ["syncTodos", "todos", (count) => ({ todos: some(count, { content: "c" }) }), 1_000],
    ["createRun", "mcp_servers", (n) => ({ objective: "", mcp_servers: some(n, "a") }), 1_000],
  ];
  it.each(limits)("D35 %s %s: as long as its limit, not longer", (name, field, body, limit) => {
    expect(problems(name, body(limit))).toEqual([]);
    expect(problems(name, body(limit + 1))).toEqual([`${field} max_length ${limit}`]);
  });

  it("D35 of a list that is too long the elements are not looked at", () => {
    expect(problems("createTasks", { tasks: some(501, 5) })).toEqual(["tasks max_length 500"]);
  });
});

describe("enumerations", () => {
  it("01§3 exact words only", () => {
    for (const status of RUN_STATUSES) expect(problems("appendEvent", { type: "x", status })).toEqual([]);
    for (const status of ["Running", " running", "done", "", null, 5]) {
      expect(problems("appendEvent", { type: "x", status })).toEqual(["status one_of"]);
    }
    for (const status of WORK_STATUSES) expect(problems("createTasks", row({ status }))).toEqual([]);
    for (const status of ["running", "Done", ""]) {
      expect(problems("createTasks", row({ status }))).toEqual(["tasks[0].status one_of"]);
    }
    for (const op of PATCH_OPS) expect(problems("patchBlackboard", { op, payload: 1 })).toEqual([]);
    for (const op of ["add_note", "ADD_FACT", "", null]) {
      expect(problems("patchBlackboard", { op, payload: 1 })).toEqual(["op one_of"]);
    }
  });
});

describe("free JSON", () => {
  const values = [null, false, 0, "", [], {}, { a: { __b: [1, null] } }];
  it.each(values)("01§4 %j passes as it is", (payload) => {
    expect(contextBodies().appendEvent.parse({ type: "x", status: "queued", payload }).payload).toEqual(
      payload,
    );
    expect(contextBodies().createTasks.parse(row({ payload })).tasks[0]?.payload).toEqual(payload);
    expect(nativeBodies().patchBlackboard.parse({ op: "add_fact", payload }).payload).toEqual(payload);
  });
});

describe("todos", () => {
  it("02§4.1 id and status are free texts, content is required", () => {
    const todos = [
      { content: "" },
      { id: null, content: "c", status: null },
      { id: "/", content: "c", status: "?" },
    ];
    expect(problems("syncTodos", { todos })).toEqual([]);
    expect(problems("syncTodos", { todos: [{ id: "x" }, { content: 5 }, "c"] })).toEqual([
      "todos[0].content required",
      "todos[1].content string",
      "todos[2] object",
    ]);
  });
});

describe("a run put back", () => {
  const task = { id: "t", task_type: "x", status: "done", created_ts: 1, updated_ts: 2 };
  const run = {
    run_id: "r",
    run_type: "x",
    status: "running",
    objective: "",
    workspace: { workspace_id: "", canonical_path: "", lease_epoch: 0 },
    tasks: [task],
    revision: 1,
    created_at_ms: 0,
    updated_at_ms: 0,
  };

  it("04§1 of a task only five members are required; the others have the defaults of imported data", () => {
    expect(nativeBodies().replaceRun.parse(run).tasks).toEqual([
      {
        ...task,
        payload: null,
        depends_on_task_ids: [],
        decision_ids: [],
        artifact_ids: [],
        priority: 0,
        attempt: 0,
        max_attempts: 0,
        task_rev: 0,
      },
    ]);
    for (const field of Object.keys(task)) {
      const { [field as keyof typeof task]: _missing, ...rest } = task;
      expect(problems("replaceRun", { ...run, tasks: [rest] })).toHaveLength(1);
    }
    for (const id of ["../x", "", "  "]) {
      expect(problems("replaceRun", { ...run, tasks: [{ ...task, id }] })).toEqual(["tasks[0].id id"]);
    }
  });

  it("02§2.4 what is read can be put: tenant, counts, board revision and log hash are not looked at", () => {
    const shown = { task_counts: { total: 1 }, blackboard_revision: 3, log_hash: "ab" };
    const read = { ...run, tenant_context: 5, ...shown };
    expect(problems("replaceRun", { ...read, why_next_step: null })).toEqual([]);
  });

  it("02§2.4 steps are whole", () => {
    const steps = [{ step_id: "s", title: "t", status: "done" }, { step_id: "s" }];
    expect(problems("replaceRun", { ...run, steps })).toEqual([
      "steps[1].title required",
      "steps[1].status required",
    ]);
  });

  it("02§2.4 unknown members of a step or task are refused at /v1 only", () => {
    const sent = {
      ...run,
      tasks: [{ ...task, extra: 1 }],
      steps: [{ step_id: "s", title: "", status: "done", x: 1 }],
    };
    expect(readShape(contextBodies().replaceRun, sent).ok).toBe(true);
    const refused = readShape(nativeBodies().replaceRun, sent);
    const fields = refused.ok ? [] : refused.issues.map(({ field, rule }) => [field, rule]);
    expect(fields).toEqual([
      ["steps[0].x", "unknown_field"],
      ["tasks[0].extra", "unknown_field"],
    ]);
  });
});
