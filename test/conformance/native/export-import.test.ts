import { randomBytes } from "node:crypto";
import { beforeAll, describe, expect, inject, it } from "vitest";
import {
  type Answer,
  addTasks,
  call,
  claim,
  everything,
  freshId,
  must,
  newRun,
  type RunRoutes,
  raw,
  routes,
} from "../support.ts";
import { good, problem } from "./support.ts";

const NDJSON = { "content-type": "application/x-ndjson" };

async function filled(): Promise<RunRoutes> {
  const run = await newRun({ objective: "to be moved" });
  await addTasks(run, { id: "a" }, { id: "b", depends_on_task_ids: ["a"] }, { id: "c" });
  const task = await claim(run);
  must(await run.post(`/tasks/${task.id}/transition`, { action: "complete", lease_token: task.lease_token }));
  must(await run.post("/events", { type: "noted", status: "running", payload: { text: "äöü 😀\n" } }));
  must(await run.post("/blackboard/patches", { op: "add_fact", payload: { id: "f", ts_ms: 1, text: "so" } }));
  return run;
}

const exportOf = async (run: RunRoutes): Promise<string> => {
  const answer = await routes(run.id, "/v1").get("/export");
  expect(answer.status, answer.text).toBe(200);
  return answer.text;
};

const importOf = (text: string | Uint8Array, query = "", headers = {}): Promise<Answer> =>
  call("POST", `/v1/runs/import${query}`, typeof text === "string" ? raw(text) : text, {
    ...NDJSON,
    ...headers,
  });

let run: RunRoutes;
let text: string;

beforeAll(async () => {
  run = await filled();
  text = await exportOf(run);
});

describe("GET /v1/runs/{id}/export", () => {
  it("gives the run as lines, to be saved", async () => {
    const answer = await routes(run.id, "/v1").get("/export?artifacts=true");
    expect(answer.headers.get("content-type")).toBe("application/x-ndjson");
    expect(answer.headers.get("content-disposition")).toMatch(/^attachment; filename="/);
    expect(answer.headers.get("etag")).toMatch(/^"\d+"$/);
    const lines = answer.text
      .trimEnd()
      .split("\n")
      .map((line) => Object.keys(JSON.parse(line) as object)[0]);
    expect(lines[0]).toBe("baton_export");
    expect(new Set(lines.slice(1, -1))).toEqual(new Set(["commit"]));
    expect(lines.at(-1)).toBe("end");
  });

  it("of no run is 404, and on /context there is none", async () => {
    problem(await routes(freshId(), "/v1").get("/export"), 404, "RUN_NOT_FOUND");
    expect((await routes(run.id).get("/export")).status).toBe(404);
  });
});

describe("POST /v1/runs/import", () => {
  it("makes the same run under another id, and says what was proved", async () => {
    const id = freshId("imported");
    const answer = await importOf(text, `?run_id=${id}`);
    const body = good(answer, 201) as unknown as {
      run: { run_id: string };
      checked: Record<string, unknown>;
    };
    expect(answer.headers.get("location")).toBe(`/v1/runs/${id}`);
    expect(body.run.run_id).toBe(id);
    const { end } = JSON.parse(text.trimEnd().split("\n").at(-1) ?? "") as { end: object };
    expect(body.checked).toMatchObject(end);
    const copy = JSON.parse(JSON.stringify(await everything(routes(id))).replaceAll(id, run.id));
    expect(copy).toEqual(await everything(run));
    const { drift } = must(await routes(id).get("/replay")) as unknown as { drift: { mismatch: boolean } };
    expect(drift.mismatch).toBe(false);
    const listed = good(await call("GET", "/v1/runs?limit=1000")) as unknown as {
      runs: { run_id: string }[];
    };
    expect(listed.runs.map(({ run_id }) => run_id)).toContain(id);
    expect((await claim(routes(id))).id).toBe("b");
  });

  it("takes the id from the export when none is asked for, and never another run's place", async () => {
    problem(await importOf(text), 409, "CONTEXT_RUN_EXISTS");
    expect(await exportOf(run)).toBe(text);
  });

  it("is done once under one idempotency key", async () => {
    const id = freshId("imported");
    const key = { "idempotency-key": `key-${id}` };
    good(await importOf(text, `?run_id=${id}`, key), 201);
    const again = await importOf(text, `?run_id=${id}`, key);
    good(again, 201);
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    const other = await exportOf(await newRun());
    problem(await importOf(other, `?run_id=${id}`, key), 422, "COMMAND_ID_CONFLICT");
  });

  it("is refused with the line and the rule, and makes nothing", async () => {
    const id = freshId("imported");
    const bad = text.replace('"seq":2,', '"seq":7,');
    const { issues } = problem(await importOf(bad, `?run_id=${id}`), 422, "IMPORT_INVALID") as unknown as {
      issues: object[];
    };
    expect(issues).toEqual([
      { field: "line 3: commit.seq", rule: "contiguous", message: expect.stringContaining("7") },
    ]);
    problem(await routes(id, "/v1").get(), 404, "RUN_NOT_FOUND");
  });

  const garbage: [string, () => string | Uint8Array, number, string][] = [
    ["nothing", () => new Uint8Array(), 422, "IMPORT_INVALID"],
    ["noise", () => new Uint8Array(randomBytes(5_000)), 422, "IMPORT_INVALID"],
    ["one long line", () => new Uint8Array(9 * 1024 * 1024).fill(97), 422, "IMPORT_INVALID"],
    ["JSON of another kind", () => '{"objective":"o"}\n', 422, "IMPORT_INVALID"],
    ["null", () => "null\n", 422, "IMPORT_INVALID"],
    ["the head alone", () => `${text.split("\n")[0]}\n`, 422, "IMPORT_INVALID"],
    ["deep nesting", () => `${"[".repeat(100_000)}\n`, 422, "IMPORT_INVALID"],
    ["another version", () => text.replace('"baton_export":1', '"baton_export":2'), 422, "IMPORT_INVALID"],
  ];
  it.each(garbage)("refuses %s", async (_name, body, status, code) => {
    const id = freshId("imported");
    problem(await importOf(body(), `?run_id=${id}`), status, code);
    problem(await routes(id, "/v1").get(), 404, "RUN_NOT_FOUND");
  });

  it("refuses what names no run, an id that is none, and another content type", async () => {
    problem(await importOf("{}\n"), 422, "IMPORT_INVALID");
    problem(await importOf(text, "?run_id=a%20b"), 400, "ID_INVALID");
    const json = { "content-type": "application/json" };
    problem(await importOf(text, "", json), 415, "CONTENT_TYPE_UNSUPPORTED");
  });
});

describe("an upload that is aborted", () => {
  it("leaves no run", async () => {
    const id = freshId("imported");
    const half = raw(text).slice(0, raw(text).length / 2);
    const controller = new AbortController();
    let isSent = false;
    const body = new ReadableStream({
      pull(stream) {
        if (isSent) controller.abort();
        else stream.enqueue(half);
        isSent = true;
      },
    });
    await fetch(`${inject("baseUrl")}/v1/runs/import?run_id=${id}`, {
      method: "POST",
      headers: { ...NDJSON, "x-agent-token": inject("token") },
      body,
      duplex: "half",
      signal: controller.signal,
    } as RequestInit).catch(() => undefined);
    problem(await routes(id, "/v1").get(), 404, "RUN_NOT_FOUND");
    good(await importOf(text, `?run_id=${id}`), 201);
  });
});
