import { describe, expect, it } from "vitest";
import { everything } from "../support.ts";
import { artifactsOf, fileOf, rawHead, rawRequest } from "./artifact-calls.ts";
import { good, newNativeRun } from "./support.ts";

/** The rest of a request target as it is sent, and the code it is refused with. */
const REFUSED: [string, string][] = [
  ["..", "ARTIFACT_PATH_INVALID"],
  [".", "ARTIFACT_PATH_INVALID"],
  ["a/..", "ARTIFACT_PATH_INVALID"],
  ["a/../b", "ARTIFACT_PATH_INVALID"],
  ["../../other/artifacts/a", "ARTIFACT_PATH_INVALID"],
  ["../tasks", "ARTIFACT_PATH_INVALID"],
  ["a/./b", "ARTIFACT_PATH_INVALID"],
  ["%2e%2e/a", "ARTIFACT_PATH_INVALID"],
  ["a/%2E./b", "ARTIFACT_PATH_INVALID"],
  ["a%2f..%2fb", "ARTIFACT_PATH_INVALID"],
  ["%2fetc/passwd", "ARTIFACT_PATH_INVALID"],
  ["/etc/passwd", "ARTIFACT_PATH_INVALID"],
  ["a//b", "ARTIFACT_PATH_INVALID"],
  ["a/", "ARTIFACT_PATH_INVALID"],
  ["a%2F", "ARTIFACT_PATH_INVALID"],
  ["", "ARTIFACT_PATH_INVALID"],
  ["%20/%00", "ARTIFACT_PATH_INVALID"],
  ["a%0d%0aSet-Cookie:x", "ARTIFACT_PATH_INVALID"],
  ["a%5cb", "ARTIFACT_PATH_INVALID"],
  ["..%5c..%5cwindows", "ARTIFACT_PATH_INVALID"],
  ["a\\b", "ARTIFACT_PATH_INVALID"],
  ["%ff", "ARTIFACT_PATH_INVALID"],
  ["%c0%ae%c0%ae/a", "ARTIFACT_PATH_INVALID"],
  ["%ed%a0%80", "ARTIFACT_PATH_INVALID"],
  ["%", "ARTIFACT_PATH_INVALID"],
  ["%zz", "ARTIFACT_PATH_INVALID"],
  ["e%CC%81", "ARTIFACT_PATH_INVALID"],
  ["x".repeat(256), "ARTIFACT_PATH_INVALID"],
  [`${"x/".repeat(512)}xx`, "ARTIFACT_PATH_INVALID"],
];

/** The rest of a request target as it is sent, and the path it is. */
const TAKEN: [string, string][] = [
  ["a", "a"],
  ["a%2Fb", "a/b"],
  ["a/b", "a/b"],
  ["%61", "a"],
  ["%252e%252e/a", "%2e%2e/a"],
  ["a+b", "a+b"],
  ["a%20b", "a b"],
  ["a%3Fb%23c", "a?b#c"],
  ["a;b=c", "a;b=c"],
  ["a&b=c", "a&b=c"],
  ["...", "..."],
  ["artifacts/a", "artifacts/a"],
  ["uploads", "uploads"],
  [".git/config", ".git/config"],
  ["%C3%A9", "é"],
  ["%F0%9F%98%80", "\u{1F600}"],
  ["__proto__", "__proto__"],
  ["constructor/toString", "constructor/toString"],
  ["%25", "%"],
  ["'\"--; DROP TABLE files".replaceAll(" ", "%20").replaceAll('"', "%22"), "'\"--; DROP TABLE files"],
];

describe("artifacts: odd names, as they come over the wire", () => {
  it.each(REFUSED)("%j is refused: %s", async (rest, code) => {
    const run = await newNativeRun();
    const before = await everything(run);
    const target = `/v1/runs/${run.id}/artifacts/${rest}`;
    for (const method of ["PUT", "GET", "DELETE"]) {
      const body = method === "PUT" ? "x" : "";
      const headers = { "content-length": String(body.length) };
      const answer = await rawRequest(rawHead(method, target, headers) + body);
      expect(answer, method).toMatch(/^HTTP\/1\.1 400 /);
      expect(answer, method).toContain(`"code":"${code}"`);
    }
    expect(await everything(run)).toEqual(before);
    expect(artifactsOf(await run.get("/artifacts"))).toEqual([]);
  });

  it.each(TAKEN)("%j is the path %j, decoded once", async (rest, path) => {
    const run = await newNativeRun();
    const target = `/v1/runs/${run.id}/artifacts/${rest}`;
    const put = await rawRequest(`${rawHead("PUT", target, { "content-length": "5" })}hello`);
    expect(put).toMatch(/^HTTP\/1\.1 201 /);
    expect(artifactsOf(await run.get("/artifacts"))).toMatchObject([{ path }]);
    const got = await rawRequest(rawHead("GET", target));
    expect(got).toMatch(/^HTTP\/1\.1 200 /);
    expect(got).toMatch(/\r\n\r\nhello$/);
    const versions = await run.get(`/artifacts?versions=true&path=${encodeURIComponent(path)}`);
    expect(good(versions)).toMatchObject({ versions: [{ path, version: 1 }] });
  });

  it("the location of an upload leads to it", async () => {
    const run = await newNativeRun();
    const target = `/v1/runs/${run.id}/artifacts/d%20%3F/%23%25`;
    const put = await rawRequest(`${rawHead("PUT", target, { "content-length": "1" })}x`);
    const location = /^location: (.*)\r$/im.exec(put)?.[1] ?? "";
    expect(await rawRequest(rawHead("GET", location))).toMatch(/\r\n\r\nx$/);
    expect(fileOf({ body: JSON.parse(put.slice(put.indexOf("\r\n\r\n"))) } as never).path).toBe("d ?/#%");
  });
});
