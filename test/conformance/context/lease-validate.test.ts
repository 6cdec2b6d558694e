import { describe, expect, it } from "vitest";
import {
  arrange,
  eventsOf,
  everything,
  freshId,
  lastEvent,
  must,
  newRun,
  RUN_STATUSES,
  type RunRoutes,
  routes,
  runOf,
  TERMINAL,
} from "../support.ts";

const MATCH = { ok: true, mismatch: false };
const MISMATCH = { ok: false, mismatch: true, status: "paused" };

/** A run bound to a path. */
function runAt(canonical_path: string, lease_epoch = 0): Promise<RunRoutes> {
  return newRun({ workspace: { workspace_id: "w", canonical_path, lease_epoch } });
}

/** Validates a path and answers the body. */
async function validate(
  run: RunRoutes,
  current_path: string,
  fields: Record<string, unknown> = {},
): Promise<unknown> {
  return must(await run.post("/lease/validate", { phase: "p", current_path, ...fields }));
}

describe("POST …/lease/validate", () => {
  const adoptions: [string, number, string, number][] = [
    ["", 0, "/srv/ws", 1],
    ["   ", 0, "/srv/ws", 1],
    ["", 7, "/srv/ws", 7],
    ["", 0, "/srv/ws/", 1],
    ["", 0, "relative", 1],
  ];
  it.each(adoptions)("03§7 path %j, epoch %i adopts %j with epoch %i", async (stored, epoch, path, after) => {
    const run = await runAt(stored, epoch);
    const before = await arrange(run, { status: "running", why_next_step: "w" });
    expect(await validate(run, path, { step_id: "s1", phase: "start" })).toEqual(MATCH);
    const event = await lastEvent(run);
    const workspace = { workspace_id: "w", canonical_path: path, lease_epoch: after };
    expect(await runOf(run)).toEqual({
      ...before,
      workspace,
      revision: before.revision + 1,
      last_event_seq: before.last_event_seq + 1,
      updated_at_ms: event.ts_ms,
    });
    expect(event).toEqual({
      event_id: expect.stringMatching(/^evt-/),
      run_id: run.id,
      seq: before.last_event_seq + 1,
      ts_ms: expect.any(Number),
      type: "workspace_validated",
      status: "running",
      run_status: "running",
      revision: before.revision + 1,
      step_id: "s1",
      payload: {
        phase: "start",
        expected_path: path,
        actual_path: path,
        run: expect.objectContaining({ run_id: run.id, workspace, tasks: [], revision: before.revision }),
      },
    });
  });

  const equals: [string, string][] = [
    ["/srv/ws", "/srv/ws"],
    ["/srv/ws", " /srv/ws "],
    ["/srv/ws", "/srv/ws/"],
    [" /srv/ws/ ", "/srv/ws"],
  ];
  it.each(equals)("D70 %j equals %j: nothing is stored", async (stored, path) => {
    const run = await runAt(stored, 3);
    const before = await everything(run);
    expect(await validate(run, path)).toEqual(MATCH);
    expect(await everything(run)).toEqual(before);
  });

  const differs: [string, string][] = [
    ["/srv/ws", "/srv/other"],
    ["/srv/ws", "/srv/WS"],
    ["/srv/ws", "/srv/ws/sub"],
    ["/srv/ws", ""],
  ];
  it.each(differs)("03§7 %j is not %j: the run is paused", async (stored, path) => {
    const run = await runAt(stored, 3);
    const before = await arrange(run, { status: "running", why_next_step: "w" });
    expect(await validate(run, path, { step_id: "s1" })).toEqual(MISMATCH);
    const event = await lastEvent(run);
    expect(await runOf(run)).toEqual({
      ...before,
      status: "paused",
      revision: before.revision + 1,
      last_event_seq: before.last_event_seq + 1,
      updated_at_ms: event.ts_ms,
    });
    expect(event).toMatchObject({
      type: "workspace_mismatch",
      status: "paused",
      run_status: "paused",
      step_id: "s1",
    });
    expect(event.payload).toEqual({
      phase: "p",
      expected_path: stored,
      actual_path: path,
      run: expect.objectContaining({ run_id: run.id, status: "paused", revision: before.revision }),
    });
  });

  it.each(RUN_STATUSES.filter((status) => status !== "paused" && !TERMINAL.some((end) => end === status)))(
    "03§7 a mismatch pauses a %s run",
    async (status) => {
      const run = await runAt("/srv/ws");
      await arrange(run, { status });
      expect(await validate(run, "/x")).toEqual(MISMATCH);
      expect((await runOf(run)).status).toBe("paused");
    },
  );

  it.each(TERMINAL)("D70 a mismatch leaves a %s run alone", async (status) => {
    const run = await runAt("/srv/ws");
    await arrange(run, { status });
    const before = await everything(run);
    expect(await validate(run, "/x")).toEqual({ ok: false, mismatch: true, status });
    expect(await everything(run)).toEqual(before);
  });

  it("D70 the same mismatch is not logged twice in a row; another phase, step or path is", async () => {
    const run = await runAt("/srv/ws");
    const rows: [string, Record<string, unknown>, number][] = [
      ["/x", {}, 1],
      ["/x", {}, 1],
      ["/y", {}, 2],
      ["/y", {}, 2],
      ["/y", { phase: "q" }, 3],
      ["/y", { phase: "q", step_id: "s" }, 4],
      ["/y", { phase: "q", step_id: "s" }, 4],
      ["/x", {}, 5],
    ];
    for (const [path, fields, count] of rows) {
      expect(await validate(run, path, fields)).toEqual(MISMATCH);
      expect((await eventsOf(run)).length, `${path} ${JSON.stringify(fields)}`).toBe(count);
    }
  });

  it("D70 a run resumed between two equal mismatches is paused again", async () => {
    const run = await runAt("/srv/ws");
    await validate(run, "/x");
    must(await run.post("/events", { type: "run_resumed", status: "running" }));
    expect(await validate(run, "/x")).toEqual(MISMATCH);
    expect((await runOf(run)).status).toBe("paused");
    expect((await lastEvent(run)).type).toBe("workspace_mismatch");
  });

  it.each(["", " "])(
    "D70 current_path %j on a run without a path is 400 and stores nothing",
    async (path) => {
      const run = await newRun();
      const before = await everything(run);
      const answer = await run.post("/lease/validate", { phase: "p", current_path: path });
      expect(answer.status).toBe(400);
      expect(answer.body).toMatchObject({ code: expect.any(String), error: expect.any(String) });
      expect(await everything(run)).toEqual(before);
    },
  );

  it("01§8 404 for an unknown run", async () => {
    expect((await routes(freshId()).post("/lease/validate", { phase: "p", current_path: "" })).status).toBe(
      404,
    );
  });

  const wrong: Record<string, unknown>[] = [
    {},
    { phase: "p" },
    { current_path: "/x" },
    { phase: null, current_path: "/x" },
    { phase: "p", current_path: 1 },
    { phase: "p", current_path: "/x", step_id: 1 },
  ];
  it.each(wrong)("02§1.3 wrong shape is 422: %j", async (body) => {
    expect((await (await newRun()).post("/lease/validate", body)).status).toBe(422);
  });
});
