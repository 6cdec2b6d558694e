import { describe, expect, it } from "vitest";
import { type BodyName, contextBodies, nativeBodies } from "../../src/protocol/bodies.ts";
import type { Issue } from "../../src/protocol/issue.ts";
import { readShape } from "../../src/protocol/shape.ts";

type Door = "context" | "native";
const DOORS: Door[] = ["context", "native"];
type Read = { ok: true; body: Record<string, unknown> } | { ok: false; issues: Issue[] };

/** Reads a body as that door does. Members that are undefined count as absent. */
function read(door: Door, name: BodyName, sent: unknown): Read {
  const result = readShape((door === "context" ? contextBodies() : nativeBodies())[name], sent);
  return result.ok ? { ok: true, body: JSON.parse(JSON.stringify(result.value)) } : result;
}

/** What is wrong with a body, as `field rule` or `field rule limit`. */
function problems(door: Door, name: BodyName, sent: unknown): string[] {
  const result = read(door, name, sent);
  if (result.ok) return [];
  return result.issues.map(({ field, rule, limit }) =>
    [field, rule, ...(limit === undefined ? [] : [limit])].join(" "),
  );
}

/** A full run, as a PUT may send it. */
const RUN = {
  run_id: "r",
  run_type: "x",
  status: "running",
  objective: "",
  workspace: { workspace_id: "", canonical_path: "", lease_epoch: 0 },
  tasks: [],
  revision: 1,
  created_at_ms: 0,
  updated_at_ms: 0,
};

/** For each body: the least that must be sent, and what it is read as. */
const LEAST: Record<BodyName, [Record<string, unknown>, Record<string, unknown>]> = {
  createRun: [{ objective: "" }, { objective: "" }],
  replaceRun: [RUN, { ...RUN, mcp_servers: [], steps: [], why_next_step: null, last_event_seq: 0 }],
  appendEvent: [
    { type: "", status: "queued" },
    { type: "", status: "queued", payload: null },
  ],
  syncTodos: [{ todos: [] }, { todos: [] }],
  selectNextStep: [{}, {}],
  validateWorkspace: [
    { phase: "", current_path: "" },
    { phase: "", current_path: "" },
  ],
  patchBlackboard: [
    { op: "add_fact", payload: null },
    { op: "add_fact", payload: null },
  ],
  createTasks: [
    { tasks: [{ task_type: "" }] },
    {
      tasks: [{ task_type: "", payload: null, depends_on_task_ids: [], decision_ids: [], artifact_ids: [] }],
    },
  ],
  claimTask: [{ agent_id: "" }, { agent_id: "" }],
  waitFor: [{ for: { run_status: ["failed"] } }, { for: { run_status: ["failed"] } }],
  transitionTask: [{ action: "" }, { action: "" }],
  redriveTask: [{}, {}],
  redriveTasks: [{}, {}],
  acquireLock: [
    { agent_id: "", resources: [] },
    { agent_id: "", resources: [] },
  ],
  heartbeatLock: [{ lease_token: "" }, { lease_token: "" }],
  releaseLock: [{ lease_token: "" }, { lease_token: "" }],
  putSettings: [{}, { settings: {} }],
  commands: [{ commands: [] }, { commands: [] }],
  executeRollback: [{ confirm: "" }, { confirm: "", event_ids: [] }],
  recordMutation: [
    { session_id: "", message_id: "", tool: "", outcome: "failed", files: [] },
    { session_id: "", message_id: "", tool: "", outcome: "failed", files: [] },
  ],
  createCheckpoint: [{ reason: "" }, { reason: "" }],
  createNamedCheckpoint: [{ reason: "" }, { reason: "" }],
  forkRun: [{}, {}],
  appendArtifact: [
    { artifact_type: "", content: null },
    { artifact_type: "", content: null },
  ],
  startUpload: [{ path: "a" }, { path: "a" }],
  completeUpload: [{}, {}],
  changeDependencies: [{}, { add: [], remove: [] }],
  cancelTask: [{}, {}],
  haltRun: [{}, {}],
  resumeRun: [{}, {}],
};
const NAMES = Object.keys(LEAST) as BodyName[];

describe.each(DOORS)("every body at the door %s", (door) => {
  it.each(NAMES)("02§2 %s: the least that must be sent, and its defaults", (name) => {
    const [sent, body] = LEAST[name];
    expect(read(door, name, sent)).toEqual({ ok: true, body });
  });

  it.each(NAMES)("02§1.3 %s: each required field is missed", (name) => {
    const [sent] = LEAST[name];
    for (const field of Object.keys(sent)) {
      const { [field]: _missing, ...rest } = sent;
      const isDefaulted = door === "context" && name === "replaceRun" && field === "tasks";
      const found = problems(door, name, rest).map((problem) => problem.split(" ")[0]);
      expect(found).toEqual(isDefaulted ? [] : [field]);
    }
  });

  it.each(NAMES)("02§1.3 %s: nothing but an object will do", (name) => {
    for (const sent of [null, [], "", 5, true]) expect(problems(door, name, sent)).toEqual([" object"]);
  });

  it.each(NAMES)("02§1.3 %s: unknown fields are ignored at /context and refused at /v1", (name) => {
    const [sent, body] = LEAST[name];
    const result = read(door, name, { ...sent, Extra: 1, other_field: null });
    if (door === "context") expect(result).toEqual({ ok: true, body });
    else
      expect(problems(door, name, { ...sent, Extra: 1, other_field: null })).toEqual([
        "Extra unknown_field",
        "other_field unknown_field",
      ]);
  });

  // Rows of a batch have ids of their own; an upload is its own key; a wait changes nothing.
  const keyless: BodyName[] = ["createTasks", "startUpload", "completeUpload", "waitFor"];
  it.each(NAMES.filter((name) => !keyless.includes(name)))(
    "D45 %s: a blank command id counts as absent",
    (name) => {
      const [sent, body] = LEAST[name];
      for (const command_id of ["", "  ", null]) {
        expect(read(door, name, { ...sent, command_id })).toEqual({ ok: true, body });
      }
      for (const command_id of ["c", " c ", "x".repeat(200)]) {
        expect(read(door, name, { ...sent, command_id })).toEqual({
          ok: true,
          body: { ...body, command_id },
        });
      }
      expect(problems(door, name, { ...sent, command_id: "x".repeat(201) })).toEqual(["command_id id 200"]);
      expect(problems(door, name, { ...sent, command_id: 5 })).toEqual(["command_id string"]);
    },
  );
});

/** An optional field of a body, a value it takes, one that it does not, and the problem named then. */
const OPTIONAL: [BodyName, string, unknown, unknown, string][] = [
  ["changeDependencies", "expected_task_rev", 1, -1, "too_small 0"],
  ["cancelTask", "reason", "not needed", 5, "string"],
  ["cancelTask", "grace_ms", 0, 3_600_001, "too_big 3600000"],
  ["cancelTask", "expected_task_rev", 1, "1", "number"],
  ["haltRun", "reason", "lunch", 5, "string"],
  ["haltRun", "grace_ms", 3_600_000, -1, "too_small 0"],
  ["resumeRun", "reason", "back", 5, "string"],
  ["createRun", "run_id", "r", 5, "string"],
  ["createRun", "run_type", " x ", 5, "string"],
  ["createRun", "source_client", "c", true, "string"],
  ["createRun", "model_provider", "m", [], "string"],
  ["createRun", "model_id", "m", {}, "string"],
  ["createRun", "mcp_servers", [" a ", "", "a"], "a", "array"],
  ["createRun", "workspace", { workspace_id: "", canonical_path: "", lease_epoch: 3 }, "w", "object"],
  ["replaceRun", "started_at_ms", 5, "5", "number"],
  ["replaceRun", "ended_at_ms", 5, 1.5, "int"],
  ["replaceRun", "last_error", "", 5, "string"],
  ["replaceRun", "source_client", "", 5, "string"],
  ["appendEvent", "step_id", " s ", 5, "string"],
  ["syncTodos", "replace", false, "false", "boolean"],
  ["syncTodos", "source_session_id", "", 5, "string"],
  ["syncTodos", "source_run_id", "r", 5, "string"],
  ["selectNextStep", "dry_run", true, 1, "boolean"],
  ["validateWorkspace", "step_id", "s", 5, "string"],
  ["claimTask", "task_type", " x", 5, "string"],
  ["claimTask", "workflow_id", "", 5, "string"],
  ["claimTask", "lease_ms", 0, -1, "too_small 0"],
  ["waitFor", "wait_ms", 55_000, 55_001, "too_big 55000"],
  ["executeRollback", "policy_ack", " x", 5, "string"],
  ["executeRollback", "executor", "agent", "me", "one_of"],
  ["recordMutation", "tool_call_id", "", 5, "string"],
  ["transitionTask", "expected_task_rev", 0, -1, "too_small 0"],
  ["transitionTask", "lease_token", "", 5, "string"],
  ["transitionTask", "agent_id", "", 5, "string"],
  ["transitionTask", "status", "in_progress", "running", "one_of"],
  ["transitionTask", "error", "", 5, "string"],
  ["transitionTask", "lease_ms", 2 ** 53 - 1, 2.5, "int"],
  ["appendArtifact", "path", "a/b.json", "a//b", "segments"],
  ["appendArtifact", "expected_version", 0, -1, "too_small 0"],
  ["appendArtifact", "lease_token", "t", 5, "string"],
  ["startUpload", "sha256", "a".repeat(64), "a".repeat(63), "invalid_format"],
  ["startUpload", "content_type", "text/plain", 5, "string"],
  ["completeUpload", "parts", [{ part: 1, sha256: "b".repeat(64) }], {}, "array"],
];

describe.each(DOORS)("optional fields at the door %s", (door) => {
  it.each(OPTIONAL)("02§1.3 %s.%s takes %j and null, not %j", (name, field, good, bad, problem) => {
    const [sent, body] = LEAST[name];
    expect(read(door, name, { ...sent, [field]: good })).toEqual({
      ok: true,
      body: { ...body, [field]: good },
    });
    expect(read(door, name, { ...sent, [field]: null })).toEqual({ ok: true, body });
    expect(problems(door, name, { ...sent, [field]: bad })).toEqual([`${field} ${problem}`]);
  });

  it("02§1.3 a field with a default takes no null", () => {
    for (const field of ["mcp_servers", "steps", "tasks", "last_event_seq"]) {
      expect(problems(door, "replaceRun", { ...RUN, [field]: null })).toHaveLength(1);
    }
    const task = { id: "t", task_type: "x", status: "done", created_ts: 1, updated_ts: 2 };
    for (const field of ["priority", "attempt", "max_attempts", "task_rev"]) {
      const sent = { ...RUN, tasks: [{ ...task, [field]: null }] };
      expect(problems(door, "replaceRun", sent)).toEqual([`tasks[0].${field} number`]);
    }
    for (const field of ["depends_on_task_ids", "decision_ids", "artifact_ids"]) {
      const sent = { tasks: [{ task_type: "x", [field]: null }] };
      expect(problems(door, "createTasks", sent)).toEqual([`tasks[0].${field} array`]);
    }
  });
});

describe.each(DOORS)("createRun at the door %s", (door) => {
  const ALIASES = [
    ["model_provider", "modelProvider", "openai"],
    ["model_id", "modelId", "m"],
    ["mcp_servers", "mcpServers", ["a"]],
  ] as const;
  it.each(ALIASES)("02§2.1 %s is also %s, but not both", (name, alias, value) => {
    const body = { objective: "o", [name]: value };
    expect(read(door, "createRun", { objective: "o", [alias]: value })).toEqual({ ok: true, body });
    expect(read(door, "createRun", { objective: "o", [alias]: null })).toEqual({
      ok: true,
      body: { objective: "o" },
    });
    expect(problems(door, "createRun", { ...body, [alias]: value })).toEqual([`${name} one_spelling`]);
  });

  it.each(["workspace_id", "canonical_path", "lease_epoch"])("D105 a workspace needs its %s", (field) => {
    const whole = { workspace_id: "w", canonical_path: "/", lease_epoch: 1 };
    const { [field as keyof typeof whole]: _missing, ...workspace } = whole;
    const [problem, ...others] = problems(door, "createRun", { objective: "o", workspace });
    expect(problem).toMatch(new RegExp(`^workspace\\.${field} `));
    expect(others).toEqual([]);
  });
});
