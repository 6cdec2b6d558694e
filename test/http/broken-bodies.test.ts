import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { serve } from "../support/serve.ts";
import { answered, callAs, ROOT } from "../support/tokens.ts";

const run_id = `broken-${crypto.randomUUID()}`;
beforeAll(async () => {
  await callAs(ROOT, "POST", "/v1/runs", { run_id, objective: "o" });
});

/** A body that breaks off as it does where the client's connection is lost, or its chunks are none. */
function brokenBody(beginning: string): ReadableStream<Uint8Array> {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const writer = writable.getWriter();
  const fault = Object.assign(new Error("Network connection lost."), { retryable: true });
  writer
    .write(new TextEncoder().encode(beginning))
    .then(() => writer.abort(fault))
    .catch(() => undefined);
  return readable;
}

const send = async (method: string, path: string, type: string, beginning: string) =>
  answered(
    await serve(
      new Request(`http://host${path}`, {
        method,
        headers: { authorization: `Bearer ${ROOT}`, "content-type": type },
        body: brokenBody(beginning),
      }),
      env,
    ),
  );

describe("a body that cannot be read to its end is the client's fault, not the server's", () => {
  it.each([
    ["JSON at /v1", "POST", `/v1/runs/${run_id}/events`, "application/json", '{"type":"n', "BODY_MALFORMED"],
    ["JSON at /context", "POST", `/context/runs/${run_id}/events`, "application/json", "{", "BODY_MALFORMED"],
    [
      "files of the reference engine",
      "POST",
      "/v1/runs/import/reference",
      "multipart/form-data; boundary=b",
      "--b\r\n",
      "BODY_MALFORMED",
    ],
    [
      "an export",
      "POST",
      `/v1/runs/import?run_id=${run_id}-i`,
      "application/x-ndjson",
      "{",
      "IMPORT_INVALID",
    ],
    ["an export of the wrong type", "POST", "/v1/runs/import", "text/plain", "{", "CONTENT_TYPE_UNSUPPORTED"],
    ["content", "PUT", `/v1/runs/${run_id}/artifacts/a`, "text/plain", "some of it", "UPLOAD_TRUNCATED"],
  ])("%s", async (_, method, path, type, beginning, code) => {
    const answer = await send(method, path, type, beginning);
    expect(answer.body.code).toBe(code);
    expect(answer.status).toBeLessThan(500);
  });
});
