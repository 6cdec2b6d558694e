import { describe, expect, it } from "vitest";
import {
  type Answered,
  type Asked,
  changesOf,
  unaskedCommits,
  violationsOf,
} from "../../bench/fuzz/checks.ts";
import {
  judgeMemory,
  MAX_HEAP_GROWTH_MIB,
  MAX_HEAP_MIB,
  MAX_RSS_MIB,
} from "../../bench/fuzz/memory-bound.ts";
import { tableWritten } from "../../bench/raw/fuzz/watch.ts";
import { Writes } from "../../bench/raw/fuzz/writes.ts";

const asked: Asked = { method: "POST", path: "/v1/runs/r/events", faultAt: null };
const problem = {
  type: "http://host/problems/BODY_INVALID",
  title: "Body does not fit",
  status: 422,
  detail: "type: is required",
  instance: "/v1/runs/r/events",
  code: "BODY_INVALID",
  error: "type: is required",
  hint: "Mend",
  retryable: false,
  request_id: "id",
  issues: [{ field: "tasks[1].type", rule: "required", message: "is required" }],
  issue_count: 1,
};
const headers = { "x-request-id": "id", "content-type": "application/problem+json" };
const refusal = (changes: object = {}, more: Partial<Answered> = {}): Answered => ({
  status: 422,
  headers,
  text: JSON.stringify({ ...problem, ...changes }),
  written: {},
  ...more,
});
const rulesOf = (answered: Answered, about: Partial<Asked> = {}) =>
  violationsOf({ ...asked, ...about }, answered).map(({ rule }) => rule);

describe("what is wrong with an answer", () => {
  it("nothing with a good refusal, at both doors, and with what is no refusal", () => {
    expect(violationsOf({ ...asked, faultAt: ["tasks", 1, "type"] }, refusal())).toEqual([]);
    const context = { text: '{"error":"e","code":"RUN_NOT_FOUND"}', status: 404 };
    expect(rulesOf(refusal({}, context), { path: "/context/runs/r" })).toEqual([]);
    const soft = { text: '{"ok":false,"error":"e","code":"TASK_EXISTS"}', status: 200 };
    expect(rulesOf(refusal({}, soft), { path: "/context/runs/r/tasks" })).toEqual([]);
    expect(rulesOf(refusal({}, { status: 201, text: "{}", written: { "run commits x": 1 } }))).toEqual([]);
  });

  it.each<[string, Answered, Partial<Asked>, string]>([
    [
      "a fault",
      refusal({}, { status: 500, text: JSON.stringify({ ...problem, status: 500, code: "INTERNAL" }) }),
      {},
      "server_error",
    ],
    ["a refusal for too much to do", refusal({}, { status: 503 }), {}, "server_error"],
    [
      "a fault that the runtime tells of",
      { status: 500, headers: {}, text: "", written: {} },
      {},
      "server_error",
    ],
    ["no JSON", refusal({}, { text: "not found" }), {}, "shape"],
    ["a missing member", refusal({ hint: undefined }), {}, "shape"],
    ["an unknown code", refusal({ code: "NO_SUCH" }), {}, "shape"],
    ["another status than the code's", refusal({}, { status: 409 }), {}, "shape"],
    ["another status inside", refusal({ status: 409 }), {}, "shape"],
    ["another request's id", refusal({ request_id: "other" }), {}, "shape"],
    ["no issues", refusal({ issues: [] }), {}, "shape"],
    ["an issue without a rule", refusal({ issues: [{ field: "a", message: "m" }] }), {}, "shape"],
    ["a body after HEAD", refusal(), { method: "HEAD" }, "shape"],
    [
      "a 401 that names no way",
      refusal({ code: "AUTH_REQUIRED", status: 401 }, { status: 401 }),
      {},
      "shape",
    ],
    ["another field than the wrong one", refusal(), { faultAt: ["tasks", 2] }, "field"],
    ["a refusal as long as its request", refusal({ detail: "x".repeat(70_000) }), {}, "long"],
    ["something written", refusal({}, { written: { "run commits context.task.created": 1 } }), {}, "changed"],
    [
      "something written softly",
      refusal(
        {},
        { status: 200, text: '{"ok":false,"error":"e","code":"TASK_EXISTS"}', written: { "run tasks": 1 } },
      ),
      { path: "/context/runs/r/tasks" },
      "changed",
    ],
  ])("%s is found", (_, answered, about, rule) => {
    expect(rulesOf(answered, about)).toContain(rule);
  });
});

describe("what a refused request may have written", () => {
  it.each<[string, string, string[]]>([
    ["nothing", "BODY_INVALID", []],
    [
      "what time brought, with its tables",
      "TASK_LEASE_INVALID",
      ["run commits context.task.stale_requeued", "run tasks"],
    ],
    [
      "a clock's end",
      "TASK_NOT_FOUND",
      ["run commits context.task.failed run_time_limit", "run tasks", "run task_edges"],
    ],
    [
      "what follows behind",
      "RUN_NOT_FOUND",
      ["run>directory runs", "run run", "feed rows", "subscription lines"],
    ],
    ["the mismatch that it is about", "WORKSPACE_MISMATCH", ["run commits workspace_mismatch"]],
    ["its count at the hook", "SIGNATURE_INVALID", ["directory hooks"]],
    [
      "content that is thrown away",
      "DIGEST_MISMATCH",
      ["bucket put", "bucket delete", "directory loose_objects"],
    ],
  ])("%s", (_, code, written) => {
    expect(changesOf(code, counted(written))).toEqual([]);
  });

  it.each<[string, string, string[]]>([
    ["a commit", "TASK_EXISTS", ["run commits context.task.created", "run tasks"]],
    [
      "a commit beside one that time brought",
      "TASK_EXISTS",
      ["run commits context.task.stale_requeued", "run commits note"],
    ],
    ["a row without a commit", "TASK_EXISTS", ["run tasks"]],
    [
      "a checkpoint beside what time brought",
      "TASK_EXISTS",
      ["run commits context.task.stale_requeued", "run checkpoints"],
    ],
    ["a mismatch that another refusal is about", "TASK_EXISTS", ["run commits workspace_mismatch"]],
    ["a run's object", "RUN_NOT_FOUND", ["run schema", "run schema_version"]],
    ["a run's content", "CONTEXT_RUN_EXISTS", ["run wiped"]],
    ["the directory", "HOOK_NOT_FOUND", ["directory hooks"]],
    ["content that stays", "DIGEST_MISMATCH", ["bucket put", "directory loose_objects"]],
  ])("but not %s", (_, code, written) => {
    expect(changesOf(code, counted(written))).not.toEqual([]);
  });

  it("by itself a run commits what time brings, and what is delivered to it", () => {
    const note = counted(["run commits note"]);
    expect(unaskedCommits("fuzz-0/local/r", note)).toEqual(["run commits note"]);
    expect(unaskedCommits("fuzz-0/local/hook-1", note)).toEqual([]);
    expect(unaskedCommits("fuzz-0/local/r", counted(["run commits context.lock.released expired"]))).toEqual(
      [],
    );
  });
});

describe("what was written is noted", () => {
  it.each([
    ["INSERT INTO commits (seq) VALUES (?)", "commits"],
    ["  insert or replace into tasks VALUES (1)", "tasks"],
    ['DELETE FROM "run"', "run"],
    ["UPDATE runs SET a = 1", "runs"],
    ["CREATE TABLE IF NOT EXISTS x (a)", "schema"],
    ["WITH a AS (SELECT 1) INSERT INTO b SELECT * FROM a", "with"],
    ["SELECT * FROM runs", null],
    ["WITH a AS (SELECT 1) SELECT * FROM a", null],
  ])("%s writes %s", (query, table) => {
    expect(tableWritten(query)).toBe(table);
  });

  it("but not what a transaction undid, nor what was brought to an object that is empty again", () => {
    const [one, other] = [{}, {}];
    const writes = new Writes();
    writes.add(one, "run tasks");
    const before = writes.length;
    writes.add(one, "run commits x");
    writes.undoTo(before);
    writes.found(other, false);
    writes.add(other, "run schema");
    writes.wiped(other);
    expect(writes.counts()).toEqual({ "run tasks": 1 });
  });

  it("and that an object has lost what it held", () => {
    const object = {};
    const writes = new Writes();
    writes.found(object, true);
    writes.add(object, "run tasks");
    writes.wiped(object);
    expect(writes.counts()).toEqual({ "run wiped": 1 });
  });
});

describe("memory", () => {
  const steady = Array.from({ length: 40 }, (_, index) => 20 + (index % 3));
  const rssMib = [MAX_RSS_MIB];
  const faultsOf = (heapMib: number[], rss = rssMib) => judgeMemory({ heapMib, rssMib: rss }, 0).faults;

  it("is good when what lives stays the same after the warm-up, few samples or many", () => {
    expect(faultsOf(steady)).toEqual([]);
    expect(faultsOf([1, 2, 20])).toEqual([]);
    expect(faultsOf([20], [])).toEqual([]);
  });

  it("is not when it grows on, is too much at any time, or the process takes too much", () => {
    expect(faultsOf(steady.map((mib, index) => mib + index * (MAX_HEAP_GROWTH_MIB / 16)))).toHaveLength(1);
    expect(faultsOf([...steady, MAX_HEAP_MIB + 1])).toHaveLength(1);
    expect(faultsOf(steady, [MAX_RSS_MIB + 1])).toHaveLength(1);
  });
});

function counted(written: string[]): Record<string, number> {
  return Object.fromEntries(written.map((what) => [what, 1]));
}
