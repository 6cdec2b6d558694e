import { createHash } from "node:crypto";
import { describe, expect, inject, it } from "vitest";
import { call, everything, type RunRoutes } from "../support.ts";
import { artifactPath, artifactsOf, digestOf, fileOf, hexOf, rawHead, rawRequest } from "./artifact-calls.ts";
import { newNativeRun, problem } from "./support.ts";

const MIB = 1024 * 1024;

/** Bytes that are not the same anywhere, piece by piece, with their digest once they are all sent. */
function content(bytes: number) {
  const hash = createHash("sha256");
  let sent = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (sent === bytes) {
        controller.close();
        return;
      }
      const chunk = new Uint8Array(Math.min(256 * 1024, bytes - sent));
      const words = new Uint32Array(chunk.buffer, 0, Math.floor(chunk.length / 4));
      for (let index = 0; index < words.length; index += 1) words[index] = (sent + index * 4) * 2_654_435_761;
      sent += chunk.length;
      hash.update(chunk);
      controller.enqueue(chunk);
    },
  });
  return { body, digest: () => hash.digest("hex") };
}

/** Uploads a stream; its length is declared or it goes out in chunks. */
async function uploadStream(run: RunRoutes, path: string, body: ReadableStream, length: number | null) {
  const headers = new Headers({ "x-agent-token": inject("token") });
  if (length !== null) headers.set("content-length", String(length));
  const init = { method: "PUT", headers, body, duplex: "half" };
  const response = await fetch(inject("baseUrl") + artifactPath(run, path), init as RequestInit);
  return {
    status: response.status,
    body: (await response.json()) as { file: { sha256: string; bytes: number } },
  };
}

/** The digest of a download, read piece by piece, and how long it was. */
async function downloaded(run: RunRoutes, path: string): Promise<{ sha256: string; bytes: number }> {
  const response = await fetch(inject("baseUrl") + artifactPath(run, path), {
    headers: { "x-agent-token": inject("token") },
  });
  expect(response.status).toBe(200);
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { sha256: hash.digest("hex"), bytes };
}

describe("artifacts: bodies flow through", () => {
  it.each([
    ["with a length", 60 * MIB, true],
    ["in chunks", 60 * MIB, false],
    ["in chunks, one part exactly", 8 * MIB, false],
    ["in chunks, a byte more than a part", 8 * MIB + 1, false],
    ["in chunks, short", 1_000, false],
  ])("a body %s of %i bytes arrives whole", { timeout: 120_000 }, async (_, bytes, isDeclared) => {
    const run = await newNativeRun();
    const { body, digest } = content(bytes);
    const answer = await uploadStream(run, "big", body, isDeclared ? bytes : null);
    expect(answer.status, JSON.stringify(answer.body)).toBe(201);
    const sha256 = digest();
    expect(answer.body.file).toMatchObject({ sha256, bytes });
    expect(await downloaded(run, "big")).toEqual({ sha256, bytes });
  });

  it("a body over the limit is refused before it is sent", async () => {
    const run = await newNativeRun();
    const head = rawHead("PUT", artifactPath(run, "a"), { "content-length": String(95 * MIB + 1) });
    const answer = await rawRequest(head);
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    expect(answer).toContain('"code":"BODY_TOO_LARGE"');
    expect(answer).toContain(`"limit":${95 * MIB}`);
  });

  it("a body in chunks is refused once it is over the limit, and leaves nothing", {
    timeout: 120_000,
  }, async () => {
    const run = await newNativeRun();
    const { body } = content(95 * MIB + 1);
    const answer = await uploadStream(run, "a", body, null).catch(() => null);
    // A client that goes on sending may see its connection closed instead of the answer.
    if (answer !== null) expect(answer).toMatchObject({ status: 413, body: { code: "BODY_TOO_LARGE" } });
    expect(artifactsOf(await run.get("/artifacts"))).toEqual([]);
  });
});

describe("artifacts: bodies that break off", () => {
  it.each([
    ["with a length", { "content-length": "1000" }, "only this"],
    ["in chunks", { "transfer-encoding": "chunked" }, "9\r\nonly this\r\n"],
    ["in chunks, within one", { "transfer-encoding": "chunked" }, "ff\r\nonly this"],
    ["before the first byte", { "content-length": "10" }, ""],
  ])("%s: nothing of them is visible", async (_, headers, body) => {
    const run = await newNativeRun();
    const before = await everything(run);
    const head = rawHead("PUT", artifactPath(run, "a"), headers as Record<string, string>);
    await rawRequest(head + body, true);
    // The next request of the same path finds nothing, and works.
    problem(await call("GET", artifactPath(run, "a")), 404, "ARTIFACT_NOT_FOUND");
    expect(await everything(run)).toEqual(before);
    const whole = await call("PUT", artifactPath(run, "a"), new Uint8Array([1]), {});
    expect(fileOf(whole)).toMatchObject({ version: 1, sha256: hexOf(new Uint8Array([1])) });
  });

  it("an upload that its client gives up is not visible", async () => {
    const run = await newNativeRun();
    const abort = new AbortController();
    const { promise: started, resolve: start } = Promise.withResolvers<void>();
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        controller.enqueue(new Uint8Array(64 * 1024));
        start();
        return new Promise(() => undefined);
      },
    });
    const init = {
      method: "PUT",
      headers: { "x-agent-token": inject("token"), "content-length": String(MIB) },
      body,
      duplex: "half",
      signal: abort.signal,
    };
    const sending = fetch(inject("baseUrl") + artifactPath(run, "a"), init as RequestInit);
    await started;
    abort.abort();
    await expect(sending).rejects.toThrow();
    problem(await call("GET", artifactPath(run, "a")), 404, "ARTIFACT_NOT_FOUND");
    expect(artifactsOf(await run.get("/artifacts"))).toEqual([]);
  });

  it("a digest that does not fit a long body leaves nothing", async () => {
    const run = await newNativeRun();
    const bytes = new Uint8Array(3 * MIB);
    const answer = await call("PUT", artifactPath(run, "a"), bytes, {
      "content-type": "application/octet-stream",
      "content-digest": digestOf("other"),
    });
    expect(problem(answer, 422, "DIGEST_MISMATCH")).toMatchObject({ sha256: hexOf(bytes) });
    expect(artifactsOf(await run.get("/artifacts"))).toEqual([]);
  });

  it("a refusal reaches a client that has a long body to send", async () => {
    const run = await newNativeRun();
    const bytes = new Uint8Array(20 * MIB);
    const target = `${artifactPath(run, "a")}?task_id=none&lease_token=x`;
    problem(await call("PUT", target, bytes), 404, "TASK_NOT_FOUND");
  });
});
