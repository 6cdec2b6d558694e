import { describe, expect, it } from "vitest";
import { type BodyName, contextBodies, nativeBodies } from "../../src/protocol/bodies.ts";
import { readShape } from "../../src/protocol/shape.ts";
import { DEFAULT_RETRY } from "../../src/protocol/task-life.ts";

type Read = { ok: true; body: unknown } | { ok: false; problems: string[] };

function read(door: "context" | "native", name: BodyName, sent: unknown): Read {
  const result = readShape((door === "context" ? contextBodies() : nativeBodies())[name], sent);
  if (result.ok) return { ok: true, body: JSON.parse(JSON.stringify(result.value)) };
  return { ok: false, problems: result.issues.map(({ field, rule }) => `${field} ${rule}`) };
}

/** A row's members as `/v1` reads them. */
function rowOf(members: Record<string, unknown>): unknown {
  const result = read("native", "createTasks", { tasks: [{ task_type: "t", ...members }] });
  return result.ok ? (result.body as { tasks: unknown[] }).tasks[0] : result.problems;
}

const DAY = 24 * 60 * 60 * 1_000;

describe("what a row of /v1 may say of its life", () => {
  it("claims: a policy has defaults for what it leaves open", () => {
    expect(rowOf({ retry: {} })).toMatchObject({ retry: DEFAULT_RETRY });
    const retry = { base_ms: 0, factor: 1, max_ms: 400 * DAY, jitter: 1, non_retryable: ["E"] };
    expect(rowOf({ retry })).toMatchObject({ retry });
    expect(rowOf({ retry: { ...retry, jitter: null, factor: null } })).toMatchObject({
      retry: { ...retry, jitter: 0.2, factor: 2 },
    });
  });

  it.each([
    [{ retry: { base_ms: -1 } }, "retry.base_ms too_small"],
    [{ retry: { base_ms: 400 * DAY + 1 } }, "retry.base_ms too_big"],
    [{ retry: { factor: 0.5 } }, "retry.factor too_small"],
    [{ retry: { factor: 101 } }, "retry.factor too_big"],
    [{ retry: { jitter: 1.1 } }, "retry.jitter too_big"],
    [{ retry: { max_ms: 1.5 } }, "retry.max_ms int"],
    [{ retry: { non_retryable: Array(51).fill("E") } }, "retry.non_retryable max_length"],
    [{ retry: { non_retryable: ["E".repeat(201)] } }, "retry.non_retryable[0] max_length"],
    [{ retry: { attempts: 3 } }, "retry.attempts unknown_field"],
    [{ retry: 3 }, "retry object"],
    [{ max_attempts: 0 }, "max_attempts too_small"],
    [{ clocks: { start_within_ms: 0 } }, "clocks.start_within_ms too_small"],
    [{ clocks: { run_within_ms: 400 * DAY + 1 } }, "clocks.run_within_ms too_big"],
    [{ clocks: { within_ms: 1 } }, "clocks.within_ms unknown_field"],
    [{ on_dependency_failure: "stop" }, "on_dependency_failure one_of"],
    [{ concurrency_key: 5 }, "concurrency_key string"],
  ])("claims: %j is refused as %s", (members, problem) => {
    expect(rowOf(members)).toEqual([`tasks[0].${problem}`]);
  });

  it("claims: /context does not know these fields, whatever is in them", () => {
    const row = { task_type: "t", payload: null };
    const life = { retry: 5, clocks: [], on_dependency_failure: "x", concurrency_key: {} };
    const plain = read("context", "createTasks", { tasks: [row] });
    expect(read("context", "createTasks", { tasks: [{ ...row, ...life }] })).toEqual(plain);
    const transition = { action: "fail" };
    const more = { retryable: "no", error_code: 5, progress: "half" };
    expect(read("context", "transitionTask", { ...transition, ...more })).toEqual({
      ok: true,
      body: transition,
    });
    expect(read("context", "createRun", { objective: "", settings: 5 })).toEqual({
      ok: true,
      body: { objective: "" },
    });
  });
});

describe("a task that is put back", () => {
  const task = { id: "t", task_type: "x", status: "done", created_ts: 1, updated_ts: 2 };
  const life = {
    retry: DEFAULT_RETRY,
    clocks: { run_within_ms: 5 },
    on_dependency_failure: "skip",
    concurrency_key: "k",
    redriven_at_ms: 3,
    fence: 4,
    claimed_at_ms: 5,
    progress: { percent: 50, note: "n", data: { a: [1] }, at_ms: 6 },
    attempts: [
      {
        fence: 1,
        agent_id: "a",
        claimed_at_ms: 1,
        ended_at_ms: 2,
        outcome: "failed",
        error: "e",
        error_code: "E",
        progress: { at_ms: 1 },
      },
    ],
    dead_letter: true,
    failure: { cause: "attempts_exhausted", at_ms: 7, error_code: "E" },
    skipped: true,
    cancellation: { requested_at_ms: 8, revoke_at_ms: 9, reason: "r" },
  };
  const run = {
    run_id: "r",
    run_type: "x",
    status: "running",
    objective: "",
    workspace: { workspace_id: "", canonical_path: "", lease_epoch: 0 },
    revision: 1,
    created_at_ms: 0,
    updated_at_ms: 0,
  };
  const putting = (door: "context" | "native", members: Record<string, unknown>): unknown => {
    const result = read(door, "replaceRun", { ...run, tasks: [{ ...task, ...members }] });
    return result.ok ? (result.body as { tasks: unknown[] }).tasks[0] : result.problems;
  };

  it.each(["context", "native"] as const)("claims: what was read at %s can be put, whole", (door) => {
    expect(putting(door, life)).toMatchObject(life);
  });

  it.each(Object.keys(life))("claims: a malformed %s is refused at /v1, and nothing to /context", (name) => {
    const bad = name === "dead_letter" || name === "skipped" ? "yes" : -1;
    expect(putting("native", { [name]: bad })).toEqual([expect.stringContaining(`tasks[0].${name}`)]);
    expect(putting("context", { [name]: bad })).toEqual(putting("context", {}));
  });
});

describe("settings", () => {
  it("claims: what is left open is absent", () => {
    expect(read("native", "putSettings", {})).toEqual({ ok: true, body: { settings: {} } });
    const settings = {
      task_defaults: { max_attempts: 5, clocks: { run_within_ms: 1_000 }, on_dependency_failure: "fail" },
      concurrency_limits: { migration: 1, none: 0 },
      grace_ms: 0,
    };
    expect(read("native", "putSettings", settings)).toEqual({ ok: true, body: { settings } });
  });

  it.each([
    [{ grace_ms: 3_600_001 }, "grace_ms too_big"],
    [{ concurrency_limits: { a: -1 } }, "concurrency_limits.a too_small"],
    [{ task_defaults: { max_attempts: 0 } }, "task_defaults.max_attempts too_small"],
    [{ task_defaults: { priority: 1 } }, "task_defaults.priority unknown_field"],
    [
      { concurrency_limits: Object.fromEntries(Array.from({ length: 201 }, (_, n) => [`k${n}`, 1])) },
      "concurrency_limits max_keys",
    ],
  ])("claims: %j is refused", (settings, problem) => {
    expect(read("native", "putSettings", settings)).toEqual({ ok: false, problems: [problem] });
  });
});

it("claims: a limit for a key that no object can have is refused, and not passed over", () => {
  const concurrency_limits = JSON.parse('{"__proto__":3,"gpu":1}');
  expect(read("native", "putSettings", { concurrency_limits })).toEqual({
    ok: false,
    problems: ["concurrency_limits.__proto__ name"],
  });
});
