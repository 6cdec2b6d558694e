import { describe, expect, it } from "vitest";
import { addTasks, call, claim, must, type RunRoutes, routes } from "../support.ts";
import { digestOf, fileOf, upload } from "./artifact-calls.ts";
import { good, newNativeRun, problem } from "./support.ts";

/** A run with something of everything that a run can hold. */
async function full(): Promise<RunRoutes> {
  const run = await newNativeRun({
    objective: "drill",
    workspace: { workspace_id: "w", canonical_path: "/w/drill", lease_epoch: 1 },
    source_client: "drill",
  });
  await addTasks(
    routes(run.id),
    { id: "a" },
    { id: "b", depends_on_task_ids: ["a"], payload: { deep: [1, "ü"] } },
  );
  const { lease_token } = await claim(routes(run.id));
  must(await routes(run.id).post("/tasks/a/transition", { action: "complete", lease_token }));
  good(await run.post("/todos/sync", { todos: [{ id: "s", content: "step", status: "done" }] }));
  for (const op of ["add_fact", "add_decision", "add_open_question"]) {
    good(await run.post("/blackboard/patches", { op, payload: { id: op, ts_ms: 1, text: `${op} 😀` } }), 201);
  }
  good(await run.post("/blackboard/patches", { op: "set_rolling_summary", payload: "so far" }), 201);
  good(await run.post("/checkpoints", { reason: "halfway", name: "half" }), 201);
  for (const [path, content] of [
    ["a.txt", "first"],
    ["a.txt", "second"],
    ["dir/b.bin", "\u0000\u0001"],
  ] as const) {
    fileOf(await upload(run, path, content));
  }
  must(await call("DELETE", `/v1/runs/${run.id}/artifacts/dir/b.bin`));
  good(
    await run.post(
      "/events",
      { type: "session_run_finished", status: "completed" },
      { "idempotency-key": "k1" },
    ),
    201,
  );
  return run;
}

const READS = [
  "",
  "/events",
  "/events?tail=3",
  "/blackboard",
  "/blackboard/patches",
  "/tasks",
  "/tasks/b",
  "/checkpoints",
  "/checkpoints/half",
  "/checkpoints/latest",
  "/replay",
  "/replay?from_checkpoint=false",
  "/state?at_seq=5",
  "/state",
  "/diff?from=2&to=9",
  "/artifacts",
  "/artifacts?path=a.txt&versions=true",
  "/artifacts/a.txt",
  "/export?artifacts=true",
];

const CONTEXT_READS = ["", "/events", "/blackboard", "/blackboard/patches", "/checkpoints/latest", "/replay"];

async function reads(run: RunRoutes): Promise<Record<string, string>> {
  const texts: Record<string, string> = {};
  for (const sub of READS) {
    const { status, text } = await run.get(sub, { prefer: "return=representation" });
    texts[`v1 ${sub}`] = `${status} ${text}`;
  }
  for (const sub of CONTEXT_READS) {
    const { status, text } = await routes(run.id).get(sub);
    texts[`context ${sub}`] = `${status} ${text}`;
  }
  return texts;
}

describe("restore drill", () => {
  it("a run with everything in it is archived, gone, and restored: every read answers what it did, byte for byte", async () => {
    const run = await full();
    const before = await reads(run);
    for (const [path, text] of Object.entries(before)) expect(text, path).toMatch(/^200 /);
    good(await run.post("/archive"));
    problem(await run.get(), 410, "RUN_ARCHIVED");
    good(await run.post("/restore"));
    expect(await reads(run)).toEqual(before);

    const repeat = { type: "session_run_finished", status: "completed" };
    const repeated = await run.post("/events", repeat, { "idempotency-key": "k1" });
    expect(repeated.headers.get("idempotency-replayed")).toBe("true");
    expect((await claim(routes(run.id))).id).toBe("b");
    const { text } = await run.get("/artifacts/a.txt");
    expect([text, digestOf(text)]).toEqual(["second", digestOf("second")]);
  });

  it("what was exported with its artifacts makes the same run again after the first was deleted", async () => {
    const run = await full();
    const before = await reads(run);
    const { text } = await run.get("/export?artifacts=true");
    expect((await call("DELETE", `/v1/runs/${run.id}`)).status).toBe(204);
    const sent = new TextEncoder().encode(text);
    const type = { "content-type": "application/x-ndjson" };
    problem(await call("POST", "/v1/runs/import", sent, type), 409, "RUN_DELETED");
    const id = `${run.id}-again`;
    good(await call("POST", `/v1/runs/import?run_id=${id}`, sent, type), 201);
    const named = (texts: Record<string, string>) =>
      JSON.stringify(texts)
        .replaceAll(id, run.id)
        .replaceAll(/[0-9a-f]{64}/g, "");
    expect(named(await reads(routes(id, "/v1")))).toBe(named(before));
  });
});
