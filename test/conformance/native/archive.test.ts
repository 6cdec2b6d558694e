import { describe, expect, it } from "vitest";
import { addTasks, call, claim, everything, freshId, must, type RunRoutes, routes } from "../support.ts";
import { good, newNativeRun, problem } from "./support.ts";

async function ended(): Promise<RunRoutes> {
  const run = await newNativeRun();
  await addTasks(routes(run.id), { id: "a" });
  must(await routes(run.id).post("/events", { type: "e", status: "completed" }));
  must(await routes(run.id).post("/checkpoints", { reason: "kept" }));
  return run;
}

/** The run's row in the list with that filter. */
async function inList(run: RunRoutes, query = ""): Promise<{ archived_at_ms: number | null } | undefined> {
  const answer = await call("GET", `/v1/runs?limit=1000${query}`);
  const { runs } = good(answer) as unknown as { runs: { run_id: string; archived_at_ms: number | null }[] };
  return runs.find(({ run_id }) => run_id === run.id);
}

describe("POST /v1/runs/{id}/archive and …/restore", () => {
  it("the run is gone from its routes, stays in the list, and comes back as it was", async () => {
    const run = await ended();
    const before = await everything(run);
    const texts = await Promise.all(
      ["/export", "/events", "/blackboard", "/tasks"].map((sub) => run.get(sub)),
    );
    expect(await inList(run)).toMatchObject({ archived_at_ms: null });
    const archived = good(await run.post("/archive"));
    expect(archived).toMatchObject({
      run_id: run.id,
      archived_at_ms: expect.any(Number),
      archive: { sha256: expect.stringMatching(/^[0-9a-f]{64}$/), bytes: texts[0]?.text.length },
    });
    const gone = problem(await run.get(), 410, "RUN_ARCHIVED") as unknown as { hint: string };
    expect(gone.hint).toContain("restore");
    problem(await run.post("/events", { type: "e", status: "running" }), 410, "RUN_ARCHIVED");
    problem(await run.get("/events/stream"), 410, "RUN_ARCHIVED");
    expect(await routes(run.id).get()).toMatchObject({ status: 404, body: { code: "RUN_NOT_FOUND" } });
    expect(await inList(run)).toMatchObject({ archived_at_ms: expect.any(Number) });
    expect(await inList(run, "&archived=true")).toBeDefined();
    expect(await inList(run, "&archived=false")).toBeUndefined();

    good(await run.post("/restore"));
    expect(await everything(run)).toEqual(before);
    const again = await Promise.all(
      ["/export", "/events", "/blackboard", "/tasks"].map((sub) => run.get(sub)),
    );
    expect(again.map(({ text }) => text)).toEqual(texts.map(({ text }) => text));
    expect(await inList(run, "&archived=false")).toBeDefined();
    good(await run.post("/restore"));
  });

  it("is refused while a task is leased", async () => {
    const run = await newNativeRun();
    await addTasks(routes(run.id), { id: "a" });
    await claim(routes(run.id));
    problem(await run.post("/archive"), 409, "RUN_BUSY");
    good(await run.get());
  });

  it("of no run is 404", async () => {
    const run = routes(freshId(), "/v1");
    problem(await run.post("/archive"), 404, "RUN_NOT_FOUND");
    problem(await run.post("/restore"), 404, "RUN_NOT_FOUND");
  });
});

describe("/v1/retention", () => {
  it("is kept as it was put, and refused where it makes no sense", async () => {
    const put = (body: unknown) => call("PUT", "/v1/retention", body);
    const year = 365 * 86_400_000;
    const retention = { archive_after_ms: year, delete_after_ms: null };
    expect(good(await put(retention))).toEqual({ retention });
    expect(good(await call("GET", "/v1/retention"))).toEqual({ retention });
    for (const bad of [
      {},
      { archive_after_ms: 1 },
      { archive_after_ms: -1, delete_after_ms: null },
      { archive_after_ms: 1.5, delete_after_ms: null },
      { archive_after_ms: "1", delete_after_ms: null },
      { ...retention, more: 1 },
      null,
    ]) {
      problem(await put(bad), 422, "BODY_INVALID");
    }
    const none = { archive_after_ms: null, delete_after_ms: null };
    expect(good(await put(none))).toEqual({ retention: none });
  });
});
