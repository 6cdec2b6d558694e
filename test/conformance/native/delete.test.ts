import { describe, expect, it } from "vitest";
import { newRunAt, note, openSocket, openStream } from "../stream-reader.ts";
import { addTasks, call, claim, freshId, must, routes } from "../support.ts";
import { good, newNativeRun, problem } from "./support.ts";

const remove = (id: string, headers = {}) => call("DELETE", `/v1/runs/${id}`, undefined, headers);

describe("DELETE /v1/runs/{id}", () => {
  it("takes the run from every route and list, whatever it was doing; again it is 204", async () => {
    const run = await newNativeRun();
    await addTasks(routes(run.id), { id: "a" });
    const { lease_token } = await claim(routes(run.id));
    expect(await remove(run.id)).toMatchObject({ status: 204, text: "" });
    for (const sub of [
      "",
      "/events",
      "/tasks",
      "/tasks/a",
      "/blackboard",
      "/export",
      "/replay",
      "/events/stream",
    ]) {
      problem(await run.get(sub), 404, "RUN_NOT_FOUND");
    }
    expect((await routes(run.id).get()).status).toBe(404);
    problem(
      await run.post("/tasks/a/transition", { action: "heartbeat", lease_token }),
      404,
      "RUN_NOT_FOUND",
    );
    const { runs } = good(await call("GET", "/v1/runs?limit=1000")) as unknown as {
      runs: { run_id: string }[];
    };
    expect(runs.map(({ run_id }) => run_id)).not.toContain(run.id);
    expect((await remove(run.id)).status).toBe(204);
  });

  it("of a run that never was is 404", async () => {
    problem(await remove(freshId()), 404, "RUN_NOT_FOUND");
  });

  it("leaves an id that is never used again, by either door", async () => {
    const run = await newNativeRun();
    await remove(run.id);
    problem(await call("POST", "/v1/runs", { objective: "", run_id: run.id }), 409, "RUN_DELETED");
    expect(await call("POST", "/context/runs", { objective: "", run_id: run.id })).toMatchObject({
      status: 409,
      body: { code: "RUN_DELETED" },
    });
  });

  it("with If-Match deletes that revision or nothing", async () => {
    const run = await newNativeRun();
    must(await routes(run.id).post("/events", { type: "e", status: "running" }));
    problem(await remove(run.id, { "if-match": '"1"' }), 409, "RUN_REVISION_MISMATCH");
    problem(await remove(run.id, { "if-match": "nonsense" }), 400, "HEADER_INVALID");
    good(await run.get());
    expect((await remove(run.id, { "if-match": '"2"' })).status).toBe(204);
  });

  it("answers who waits for news, and ends streams and sockets: the run is gone", async () => {
    const run = await newNativeRun();
    const waiting = run.get("/events?wait_ms=30000");
    const stream = await openStream(`/v1/runs/${run.id}/events/stream`);
    const socket = await openSocket(`/v1/runs/${run.id}/events/stream`);
    await Promise.all([stream.frame(), socket.message()]);
    await remove(run.id);
    problem(await waiting, 404, "RUN_NOT_FOUND");
    const end = { event: "end", json: { reason: "deleted" } };
    expect(await stream.rest()).toMatchObject([end]);
    expect(await socket.message()).toContain('"reason":"deleted"');
  });

  it("leaves the streams of many runs going on with the others", async () => {
    const path = `/w/${freshId()}`;
    const [gone, kept] = [await newRunAt(path, "/v1"), await newRunAt(path, "/v1")];
    const stream = await openStream(`/v1/events/stream?workspace=${path}`);
    const seen: string[] = [];
    const until = async (runId: string) => {
      while (seen.at(-1) !== runId) seen.push((await stream.frame()).json.run_id);
    };
    await note(gone);
    await until(gone.id);
    await remove(gone.id);
    await note(kept);
    await until(kept.id);
    const late = await openStream(`/v1/events/stream?workspace=${path}&tail=5`);
    await note(kept);
    await until(kept.id);
    const ready = await late.frame();
    expect(ready.json.subscribed_run_ids).toEqual([kept.id]);
  });
});
