import { describe, expect, inject, it } from "vitest";
import {
  type Answer,
  addTasks,
  call,
  claim,
  eventsOf,
  everything,
  must,
  type RunRoutes,
} from "../support.ts";
import { artifactPath, artifactsOf, digestOf, fileOf, hexOf, rawHead, rawRequest } from "./artifact-calls.ts";
import { good, newNativeRun, problem } from "./support.ts";

const MIB = 1024 * 1024;
const PART = 5 * MIB;

function bytesOf(length: number, seed: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  const words = new Uint32Array(bytes.buffer, 0, Math.floor(length / 4));
  for (let index = 0; index < words.length; index += 1) words[index] = (index + seed) * 2_654_435_761;
  return bytes;
}

interface Started {
  id: string;
  answer: Answer;
}

async function start(run: RunRoutes, body: Record<string, unknown> = {}): Promise<Started> {
  const answer = await run.post("/uploads", { path: "big", ...body });
  return { id: (good(answer, 201) as unknown as { upload_id: string }).upload_id, answer };
}

function putPart(
  run: RunRoutes,
  id: string,
  part: number | string,
  bytes: Uint8Array<ArrayBuffer>,
  headers = {},
) {
  return call("PUT", `/v1/runs/${run.id}/uploads/${id}/parts/${part}`, bytes, headers);
}

function complete(run: RunRoutes, id: string, body?: unknown, headers = {}): Promise<Answer> {
  return run.post(`/uploads/${id}/complete`, body, headers);
}

function abort(run: RunRoutes, id: string): Promise<Answer> {
  return call("DELETE", `/v1/runs/${run.id}/uploads/${id}`);
}

describe("artifacts: uploads in parts", () => {
  it("become one artifact, checked by its digest; to complete them again changes nothing", async () => {
    const run = await newNativeRun();
    const whole = bytesOf(2 * PART + 7, 1);
    const { id, answer } = await start(run, {
      artifact_type: "video",
      content_type: "video/mp4",
      sha256: hexOf(whole).toUpperCase(),
      id: "v1",
      step_id: "s",
    });
    expect(answer.body).toMatchObject({
      min_part_bytes: PART,
      max_part_bytes: 95 * MIB,
      max_parts: 10_000,
      max_bytes: 5 * 1024 * MIB,
    });
    const parts = [2, 1, 3].map((part) => ({
      part,
      bytes: whole.slice((part - 1) * PART, part * PART),
    }));
    for (const { part, bytes } of parts) {
      const stored = await putPart(run, id, part, bytes, { "content-digest": digestOf(bytes) });
      expect(good(stored)).toEqual({ part, sha256: hexOf(bytes), bytes: bytes.length });
    }
    // Nothing shows before it is complete.
    expect(artifactsOf(await run.get("/artifacts"))).toEqual([]);
    const named = parts.map(({ part, bytes }) => ({ part, sha256: hexOf(bytes) }));
    const done = await complete(run, id, { parts: named, sha256: hexOf(whole) });
    expect(good(done, 201)).toMatchObject({
      artifact: { id: "v1", artifact_type: "video", step_id: "s", path: "big" },
      file: { bytes: whole.length, sha256: hexOf(whole), content_type: "video/mp4", version: 1 },
    });
    const range = { range: `bytes=${PART - 2}-${PART + 1}` };
    const part = await fetch(inject("baseUrl") + artifactPath(run, "big"), {
      headers: { ...range, "x-agent-token": inject("token") },
    });
    expect(new Uint8Array(await part.arrayBuffer())).toEqual(whole.slice(PART - 2, PART + 2));
    for (const body of [undefined, {}]) {
      const again = await complete(run, id, body);
      expect(good(again, 201)).toEqual(done.body);
      expect(again.headers.get("idempotency-replayed")).toBe("true");
    }
    expect(await eventsOf(run)).toHaveLength(1);
    problem(await putPart(run, id, 1, new Uint8Array(1)), 409, "UPLOAD_COMPLETED");
    problem(await abort(run, id), 409, "UPLOAD_COMPLETED");
  });

  it("of one part need not be read again, and a part may be sent anew", async () => {
    const run = await newNativeRun();
    const { id } = await start(run);
    good(await putPart(run, id, 1, bytesOf(10, 1)));
    good(await putPart(run, id, 1, bytesOf(12, 2)));
    expect(fileOf(await complete(run, id))).toMatchObject({ bytes: 12, sha256: hexOf(bytesOf(12, 2)) });
  });

  it("whose digest is another one are gone, and nothing is visible", async () => {
    for (const lengths of [[5], [PART, 5]]) {
      const run = await newNativeRun();
      const { id } = await start(run, { sha256: hexOf("other") });
      for (const [index, length] of lengths.entries()) {
        good(await putPart(run, id, index + 1, bytesOf(length, index)));
      }
      const before = await everything(run);
      problem(await complete(run, id), 422, "DIGEST_MISMATCH");
      expect(await everything(run)).toEqual(before);
      problem(await complete(run, id), 404, "UPLOAD_NOT_FOUND");
    }
  });

  it.each<[string, number[], number[], string]>([
    ["no part", [], [], "non_empty"],
    ["a gap", [1, 3], [PART, PART], "missing"],
    ["not from the first on", [2], [10], "missing"],
    ["a short part before the last", [1, 2], [10, 10], "min_bytes"],
    ["parts of different lengths", [1, 2, 3], [PART, PART + 1, 1], "same_bytes"],
    ["a last part longer than the others", [1, 2], [PART, PART + 1], "same_bytes"],
  ])("are refused with %s, and can be mended", async (_, numbers, lengths, rule) => {
    const run = await newNativeRun();
    const { id } = await start(run);
    for (const [index, part] of numbers.entries()) {
      good(await putPart(run, id, part, bytesOf(lengths[index] ?? 0, part)));
    }
    const refused = problem(await complete(run, id), 422, "UPLOAD_INCOMPLETE");
    expect(refused.issues).toContainEqual(expect.objectContaining({ rule }));
    for (const part of [1, 2, 3]) good(await putPart(run, id, part, bytesOf(PART, part)));
    expect(fileOf(await complete(run, id))).toMatchObject({ bytes: 3 * PART });
  });

  it("are completed only with the parts that the client names", async () => {
    const run = await newNativeRun();
    const { id } = await start(run);
    good(await putPart(run, id, 1, bytesOf(10, 1)));
    const sha256 = hexOf(bytesOf(10, 1));
    for (const parts of [
      [],
      [{ part: 1, sha256: hexOf("x") }],
      [
        { part: 1, sha256 },
        { part: 2, sha256 },
      ],
    ]) {
      problem(await complete(run, id, { parts }), 422, "UPLOAD_INCOMPLETE");
    }
    good(await complete(run, id, { parts: [{ part: 1, sha256 }] }), 201);
  });

  it("can be given up", async () => {
    const run = await newNativeRun();
    const { id } = await start(run);
    good(await putPart(run, id, 1, bytesOf(10, 1)));
    expect((await abort(run, id)).status).toBe(204);
    expect((await abort(run, id)).status).toBe(204);
    problem(await abort(run, "none"), 404, "UPLOAD_NOT_FOUND");
    problem(await putPart(run, id, 1, bytesOf(10, 1)), 404, "UPLOAD_NOT_FOUND");
    problem(await complete(run, id), 404, "UPLOAD_NOT_FOUND");
    expect(artifactsOf(await run.get("/artifacts"))).toEqual([]);
  });

  it("belong to one run", async () => {
    const [run, other] = [await newNativeRun(), await newNativeRun()];
    const { id } = await start(run);
    problem(await putPart(other, id, 1, bytesOf(1, 1)), 404, "UPLOAD_NOT_FOUND");
    problem(await complete(other, id), 404, "UPLOAD_NOT_FOUND");
    problem(await abort(other, id), 404, "UPLOAD_NOT_FOUND");
    problem(await call("POST", "/v1/runs/no-such-run/uploads", { path: "a" }), 404, "RUN_NOT_FOUND");
  });

  it.each(["0", "10001", "-1", "x", "1.5", "01", "99999999999"])("have no part %s", async (part) => {
    const run = await newNativeRun();
    const { id } = await start(run);
    problem(await putPart(run, id, part, bytesOf(1, 1)), 400, "ID_INVALID");
  });

  it("take parts only with a length, and the digest that is said", async () => {
    const run = await newNativeRun();
    const { id } = await start(run);
    const target = `/v1/runs/${run.id}/uploads/${id}/parts/1`;
    const chunked = await rawRequest(
      `${rawHead("PUT", target, { "transfer-encoding": "chunked" })}1\r\nx\r\n0\r\n\r\n`,
    );
    expect(chunked).toMatch(/^HTTP\/1\.1 411 /);
    const long = await rawRequest(rawHead("PUT", target, { "content-length": String(95 * MIB + 1) }));
    expect(long).toMatch(/^HTTP\/1\.1 413 /);
    good(await putPart(run, id, 1, bytesOf(10, 1)));
    const wrong = { "content-digest": digestOf("other") };
    problem(await putPart(run, id, 1, bytesOf(10, 2), wrong), 422, "DIGEST_MISMATCH");
    // What the part was before is gone with it.
    problem(await complete(run, id), 422, "UPLOAD_INCOMPLETE");
    await rawRequest(`${rawHead("PUT", target, { "content-length": "1000" })}short`, true);
    problem(await complete(run, id), 422, "UPLOAD_INCOMPLETE");
  });

  it.each([
    [{}, 422, "BODY_INVALID"],
    [{ path: "../a" }, 422, "BODY_INVALID"],
    [{ path: "a", sha256: "abc" }, 422, "BODY_INVALID"],
    [{ path: "a", unknown: 1 }, 422, "BODY_INVALID"],
    [{ path: "a", content_type: "nonsense" }, 400, "HEADER_INVALID"],
    [{ path: "a", expected_version: 1 }, 412, "ARTIFACT_PRECONDITION_FAILED"],
    [{ path: "a", task_id: "none", lease_token: "x" }, 404, "TASK_NOT_FOUND"],
  ])("do not begin with %j", async (body, status, code) => {
    const run = await newNativeRun();
    problem(await run.post("/uploads", body), status, code);
  });

  it("are refused when the lease is lost by the time of completion, naming the holder", async () => {
    const run = await newNativeRun();
    await addTasks(run, { id: "t" });
    const { lease_token } = await claim(run, { agent_id: "ann" });
    const { id } = await start(run, { task_id: "t", lease_token });
    good(await putPart(run, id, 1, bytesOf(10, 1)));
    problem(await complete(run, id), 409, "TASK_LEASE_REQUIRED");
    must(await run.post("/tasks/t/transition", { action: "release", lease_token }));
    const { lease_token: next } = await claim(run, { agent_id: "bob" });
    const before = await everything(run);
    const refused = problem(await complete(run, id, { lease_token }), 409, "TASK_LEASE_INVALID");
    expect(refused).toMatchObject({ lease_owner: "bob" });
    expect(await everything(run)).toEqual(before);
    good(await complete(run, id, undefined, { "baton-lease-token": next }), 201);
    // A repeat proves nothing any more, and need not.
    good(await complete(run, id), 201);
  });

  it("are bounded in number", { timeout: 60_000 }, async () => {
    const run = await newNativeRun();
    const ids: string[] = [];
    for (let index = 0; index < 100; index += 1) ids.push((await start(run)).id);
    expect(problem(await run.post("/uploads", { path: "a" }), 413, "LIMIT_EXCEEDED")).toMatchObject({
      limit_name: "open_uploads_per_run",
      limit: 100,
    });
    await abort(run, ids[0] ?? "");
    good(await putPart(run, ids[1] ?? "", 1, bytesOf(10, 1)));
    good(await complete(run, ids[1] ?? ""), 201);
    await start(run);
    await start(run);
    problem(await run.post("/uploads", { path: "a" }), 413, "LIMIT_EXCEEDED");
  });
});
