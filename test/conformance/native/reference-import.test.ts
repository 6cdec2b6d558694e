import { describe, expect, inject, it } from "vitest";
import { claim, eventsOf, freshId, must, patchesOf, routes, runOf } from "../support.ts";
import { type NativeBody, problem } from "./support.ts";

const TOKEN = "lease-00000000-0000-4000-8000-000000000000";

/** Files as the reference engine leaves them after a crash: see the contract, 01 §9. */
function directory(id: string): Record<string, string> {
  const at = { created_ts: 1, updated_ts: 3 };
  const leased = { lease_owner: "gone", lease_token: TOKEN, lease_expires_at_ms: 5_000, task_rev: 2 };
  const task = { id: "t", task_type: "custom", status: "in_progress", ...leased, ...at };
  const fact = { id: "f", ts_ms: 1, text: "known" };
  const record = (seq: number, type: string, payload: unknown) =>
    JSON.stringify({
      event_id: `evt-${seq}`,
      run_id: id,
      event_seq: seq,
      ts_ms: seq,
      type,
      status: "running",
      payload,
    });
  const patch = (seq: number, op: string, payload: unknown) =>
    JSON.stringify({ patch_id: `bbp-${seq}`, run_id: id, seq, ts_ms: seq, op, payload });
  return {
    "run_state.json": JSON.stringify({
      run_id: id,
      status: "running",
      objective: "moved here",
      tasks: [task],
      last_event_seq: 3,
      revision: 4,
      created_at_ms: 1,
      updated_at_ms: 3,
    }),
    "events.jsonl": [
      record(2, "context.task.claimed", { task_id: "t", task }),
      record(1, "context.task.created", { task: { ...task, ...at, status: "pending" } }),
      record(3, "context.blackboard.patched", { op: "add_fact", payload: fact, patch_seq: 3 }),
      record(4, "run_paused", null).slice(0, 30),
    ].join("\n"),
    "blackboard.json": JSON.stringify({ facts: [fact, fact, { ...fact, id: "lost" }], revision: 3 }),
    "blackboard_patches.jsonl": `${patch(1, "add_task", task)}\n${patch(3, "add_fact", fact)}\n`,
    "checkpoints/00000000000000000002.json": JSON.stringify({ checkpoint_id: "cp-1", seq: 2, ts_ms: 2 }),
  };
}

async function send(files: Record<string, string>, query = "", headers: Record<string, string> = {}) {
  const form = new FormData();
  for (const [name, text] of Object.entries(files)) form.append("file", new File([text], name));
  const response = await fetch(`${inject("baseUrl")}/v1/runs/import/reference${query}`, {
    method: "POST",
    headers: { "x-agent-token": inject("token"), ...headers },
    body: form,
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, body: JSON.parse(text) as NativeBody };
}

describe("POST /v1/runs/import/reference", () => {
  it("brings a run whose workspace's path has half a surrogate pair, and the run goes on", async () => {
    const id = freshId("reference");
    const files = directory(id);
    const state = JSON.parse(files["run_state.json"] ?? "");
    const workspace = { workspace_id: "w", canonical_path: "/srv/\ud800", lease_epoch: 1 };
    const answer = await send({ ...files, "run_state.json": JSON.stringify({ ...state, workspace }) });
    expect(answer.status, answer.text).toBe(201);
    must(await routes(id).post("/events", { type: "note", status: "running" }));
    expect(must(await routes(id).get()).run.workspace.canonical_path).toBe("/srv/\ud800");
  });

  it.each(["constructor", "a/toString", "__proto__"])("knows no file of the name %s", async (name) => {
    const answer = await send({ ...directory(freshId("reference")), [name]: "{}" });
    expect(answer.status, answer.text).toBe(422);
    expect(answer.body).toMatchObject({ issues: [{ field: name, rule: "known_file" }] });
  });

  it("brings a run of the reference engine here, says what was found, and it does not drift", async () => {
    const id = freshId("reference");
    const answer = await send(directory(id));
    expect(answer.status, answer.text).toBe(201);
    expect(answer.body).toMatchObject({
      run: { run_id: id, status: "running" },
      checked: { commits: expect.any(Number) },
      report: {
        events: { lines: 4, taken: 3, unparsable_lines: [4], torn_last_line: true, out_of_order: 1 },
        patches: { taken: 2 },
        blackboard: { doubled: 1, recovered: 1 },
        leases: { ended: 1 },
        checkpoints: { found: [{ checkpoint_id: "cp-1", seq: 2 }], unreadable: [] },
      },
    });
    const run = routes(id);
    const { drift } = must(await run.get("/replay")) as unknown as { drift: { mismatch: boolean } };
    expect(drift.mismatch).toBe(false);
    const events = await eventsOf(run);
    expect(events.slice(0, 3).map(({ event_id, seq }) => [event_id, seq])).toEqual([
      ["evt-1", 1],
      ["evt-2", 2],
      ["evt-3", 3],
    ]);
    const shown = JSON.stringify([events, await patchesOf(run), await runOf(run)]);
    expect(shown).not.toContain(TOKEN);
    expect((await claim(run)).id).toBe("t");
  });

  it("takes another id when asked, is done once under one key, and takes no other run's place", async () => {
    const id = freshId("reference");
    const other = freshId("reference");
    const key = { "idempotency-key": other };
    const files = directory(id);
    expect((await send(files, `?run_id=${other}`, key)).status).toBe(201);
    const again = await send(files, `?run_id=${other}`, key);
    expect([again.status, again.headers.get("idempotency-replayed")]).toEqual([201, "true"]);
    problem(
      await send({ ...files, "blackboard.json": "{}" }, `?run_id=${other}`, key),
      422,
      "COMMAND_ID_CONFLICT",
    );
    problem(await send(files, `?run_id=${other}`), 409, "CONTEXT_RUN_EXISTS");
    problem(await routes(id, "/v1").get(), 404, "RUN_NOT_FOUND");
  });

  it("is refused for files that are no run's, naming them", async () => {
    const files = directory(freshId("reference"));
    const { "run_state.json": _state, ...stateless } = files;
    for (const [bad, field] of [
      [stateless, "run_state.json"],
      [{ ...files, "run_state.json": "{torn" }, "run_state.json"],
      [{ ...files, "notes.txt": "x" }, "notes.txt"],
      [{ ...files, "old/events.jsonl": "" }, "old/events.jsonl"],
    ] as [Record<string, string>, string][]) {
      const { issues } = problem(await send(bad), 422, "IMPORT_INVALID") as unknown as {
        issues: { field: string }[];
      };
      expect(issues[0]?.field).toBe(field);
    }
    const run_state = JSON.stringify({ ...JSON.parse(files["run_state.json"] ?? ""), run_id: "a b" });
    problem(await send({ ...files, "run_state.json": run_state }), 400, "ID_INVALID");
    problem(await send(files, "", { "content-type": "application/json" }), 415, "CONTENT_TYPE_UNSUPPORTED");
    problem(await send(files, "", { "content-type": "multipart/form-data" }), 400, "BODY_MALFORMED");
    problem(await send({ ...files, "events.jsonl": " ".repeat(17 * 1024 * 1024) }), 413, "BODY_TOO_LARGE");
  });
});
