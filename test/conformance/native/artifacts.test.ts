import { describe, expect, inject, it } from "vitest";
import { addTasks, call, claim, eventsOf, everything, must, patchesOf, type RunRoutes } from "../support.ts";
import {
  artifactPath,
  artifactsOf,
  digestOf,
  fileOf,
  hexOf,
  rawHead,
  rawRequest,
  upload,
  versionsOf,
} from "./artifact-calls.ts";
import { allPages, good, newNativeRun, problem } from "./support.ts";

function download(run: RunRoutes, path: string, headers: Record<string, string> = {}, query = "") {
  return call("GET", artifactPath(run, path) + query, undefined, headers);
}

describe("artifacts: what is uploaded is committed and can be downloaded", () => {
  it("an upload becomes one commit that adds an artifact (contract 05 §2)", async () => {
    const run = await newNativeRun();
    const query = "?artifact_type=report&id=a1&step_id=s1&source_event_id=e1";
    const answer = await upload(run, "out/report.txt", "hello", { "content-type": "text/plain" }, query);
    const body = good(answer, 201);
    const artifact = {
      id: "a1",
      ts_ms: expect.any(Number),
      path: "out/report.txt",
      artifact_type: "report",
      step_id: "s1",
      source_event_id: "e1",
    };
    const change = {
      path: "out/report.txt",
      sha256: hexOf("hello"),
      bytes: 5,
      content_type: "text/plain",
    };
    expect(body).toEqual({ artifact, file: { ...change, version: 1, ts_ms: expect.any(Number) } });
    expect(answer.headers.get("etag")).toBe(`"${hexOf("hello")}"`);
    expect(answer.headers.get("location")).toBe(`/v1/runs/${run.id}/artifacts/out/report.txt?version=1`);
    expect(await eventsOf(run)).toMatchObject([
      {
        seq: 1,
        type: "context.artifact.added",
        payload: { op: "add_artifact", payload: artifact, patch_seq: 1, files: [change] },
      },
    ]);
    expect(await patchesOf(run)).toMatchObject([{ seq: 1, op: "add_artifact", payload: artifact }]);
    const { blackboard } = must(await run.get("/blackboard"));
    expect(blackboard.artifacts).toEqual([artifact]);
  });

  it("defaults: type file, bytes, an id of its own", async () => {
    const run = await newNativeRun();
    const answer = await upload(run, "a", "x", { "content-type": null });
    expect(good(answer, 201)).toMatchObject({
      artifact: { artifact_type: "file", id: expect.stringMatching(/^artifact-/) },
      file: { content_type: "application/octet-stream" },
    });
  });

  it("an empty content is one too", async () => {
    const run = await newNativeRun();
    expect(fileOf(await upload(run, "empty", ""))).toMatchObject({ bytes: 0, sha256: hexOf("") });
    const answer = await download(run, "empty");
    expect([answer.status, answer.text, answer.headers.get("content-length")]).toEqual([200, "", "0"]);
    expect((await download(run, "empty", { range: "bytes=0-" })).status).toBe(416);
  });

  it("a new content at a path is a new version; old ones stay", async () => {
    const run = await newNativeRun();
    await upload(run, "a", "one");
    await upload(run, "b", "other");
    await upload(run, "a", "two");
    expect((await download(run, "a")).text).toBe("two");
    expect((await download(run, "a", {}, "?version=1")).text).toBe("one");
    expect((await download(run, "a", {}, "?version=3")).text).toBe("two");
    problem(await download(run, "a", {}, "?version=2"), 404, "ARTIFACT_NOT_FOUND");
    const versions = versionsOf(await run.get("/artifacts?versions=true&path=a"));
    expect(versions.map(({ version, sha256 }) => [version, sha256])).toEqual([
      [1, hexOf("one")],
      [3, hexOf("two")],
    ]);
  });

  it("a deleted path holds nothing; its versions stay, and it can be used again", async () => {
    const run = await newNativeRun();
    await upload(run, "a", "one");
    const removed = await call("DELETE", artifactPath(run, "a"));
    expect(good(removed)).toMatchObject({ file: { path: "a", version: 2, sha256: null, bytes: 0 } });
    problem(await download(run, "a"), 404, "ARTIFACT_NOT_FOUND");
    problem(await download(run, "a", {}, "?version=2"), 404, "ARTIFACT_NOT_FOUND");
    problem(await call("DELETE", artifactPath(run, "a")), 404, "ARTIFACT_NOT_FOUND");
    expect((await download(run, "a", {}, "?version=1")).text).toBe("one");
    expect(artifactsOf(await run.get("/artifacts"))).toEqual([]);
    expect((await eventsOf(run)).at(-1)).toMatchObject({
      type: "context.artifact.removed",
      payload: { removed: { path: "a", version: 1 }, files: [{ path: "a", sha256: null }] },
    });
    await upload(run, "a", "again");
    expect((await download(run, "a")).text).toBe("again");
    const versions = versionsOf(await run.get("/artifacts?versions=true&path=a"));
    expect(versions.map(({ sha256 }) => sha256)).toEqual([hexOf("one"), null, hexOf("again")]);
  });

  it("unknown runs and paths are not found", async () => {
    const run = await newNativeRun();
    problem(await download(run, "a"), 404, "ARTIFACT_NOT_FOUND");
    problem(await run.get("/artifacts?versions=true&path=a"), 404, "ARTIFACT_NOT_FOUND");
    const nobody = { ...run, id: "no-such-run" };
    problem(await download(nobody, "a"), 404, "RUN_NOT_FOUND");
    problem(await upload(nobody, "a", "x"), 404, "RUN_NOT_FOUND");
    problem(await call("DELETE", artifactPath(nobody, "a")), 404, "RUN_NOT_FOUND");
    problem(await call("GET", "/v1/runs/no-such-run/artifacts"), 404, "RUN_NOT_FOUND");
  });
});

describe("artifacts: downloads", () => {
  it("are never shown by a browser, whatever they are (design: never rendered from our origin)", async () => {
    const run = await newNativeRun();
    const page = "<script>alert(1)</script>";
    await upload(run, "dir/página 'a'.html", page, { "content-type": "text/html" });
    const answer = await download(run, "dir/página 'a'.html");
    expect(answer.text).toBe(page);
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      "content-type": "application/octet-stream",
      "content-disposition": "attachment; filename*=UTF-8''p%C3%A1gina%20%27a%27.html",
      "x-content-type-options": "nosniff",
      "content-security-policy": "sandbox; default-src 'none'",
      "repr-digest": digestOf(page),
      etag: `"${hexOf(page)}"`,
      "accept-ranges": "bytes",
      "baton-artifact-version": "1",
      "content-length": String(page.length),
    });
  });

  it.each([
    ["text/plain; charset=UTF-8", "text/plain; charset=utf-8"],
    ["Application/JSON", "application/json"],
    ["image/png", "image/png"],
    ["image/svg+xml", "application/octet-stream"],
    ["text/html; charset=utf-8", "application/octet-stream"],
    ["application/xhtml+xml", "application/octet-stream"],
    ["text/javascript", "application/octet-stream"],
    ["application/pdf", "application/octet-stream"],
    ["multipart/x-mixed-replace", "application/octet-stream"],
  ])("declared as %s, it goes out as %s", async (declared, sent) => {
    const run = await newNativeRun();
    expect(fileOf(await upload(run, "a", "1", { "content-type": declared })).content_type).toBe(declared);
    expect((await download(run, "a")).headers.get("content-type")).toBe(sent);
  });

  it.each([
    ["bytes=0-0", 206, "0", "bytes 0-0/10"],
    ["bytes=2-4", 206, "234", "bytes 2-4/10"],
    ["bytes=7-", 206, "789", "bytes 7-9/10"],
    ["bytes=-3", 206, "789", "bytes 7-9/10"],
    ["bytes=-30", 206, "0123456789", "bytes 0-9/10"],
    ["bytes=5-99999999999999999999", 206, "56789", "bytes 5-9/10"],
    ["bytes=10-", 416, null, "bytes */10"],
    ["bytes=-0", 416, null, "bytes */10"],
    ["bytes=4-2", 200, "0123456789", null],
    ["bytes=0-1,3-4", 200, "0123456789", null],
    ["bytes=a-b", 200, "0123456789", null],
    ["bytes=-", 200, "0123456789", null],
    ["lines=0-1", 200, "0123456789", null],
  ])("range %s: %i (RFC 9110 §14)", async (range, status, text, contentRange) => {
    const run = await newNativeRun();
    await upload(run, "a", "0123456789");
    const answer = await download(run, "a", { range });
    expect(answer.status).toBe(status);
    expect(answer.headers.get("content-range")).toBe(contentRange);
    if (text !== null) {
      expect(answer.text).toBe(text);
      expect(answer.headers.get("content-length")).toBe(String(text.length));
    } else {
      problem(answer, 416, "RANGE_NOT_SATISFIABLE");
    }
  });

  it("a range is only of the content that the client has (If-Range)", async () => {
    const run = await newNativeRun();
    await upload(run, "a", "0123456789");
    const range = "bytes=2-4";
    const same = await download(run, "a", { range, "if-range": `"${hexOf("0123456789")}"` });
    expect([same.status, same.text]).toEqual([206, "234"]);
    const other = await download(run, "a", { range, "if-range": `"${hexOf("else")}"` });
    expect([other.status, other.text]).toEqual([200, "0123456789"]);
  });

  it("what the client has is not sent again (If-None-Match)", async () => {
    const run = await newNativeRun();
    await upload(run, "a", "x");
    const etag = `"${hexOf("x")}"`;
    for (const tags of [etag, `W/${etag}`, `"other", ${etag}`, "*"]) {
      const answer = await download(run, "a", { "if-none-match": tags });
      expect([answer.status, answer.text, answer.headers.get("etag")]).toEqual([304, "", etag]);
    }
    for (const tags of ['"other"', "nonsense"]) {
      expect((await download(run, "a", { "if-none-match": tags })).status).toBe(200);
    }
  });

  it("HEAD has the headers of GET and no body", async () => {
    const run = await newNativeRun();
    await upload(run, "a", "hello");
    const answer = await rawRequest(rawHead("HEAD", artifactPath(run, "a")));
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer.toLowerCase()).toContain("content-length: 5\r\n");
    expect(answer).toMatch(/\r\n\r\n$/);
    const part = await rawRequest(rawHead("HEAD", artifactPath(run, "a"), { range: "bytes=1-2" }));
    expect(part).toMatch(/^HTTP\/1\.1 206 /);
    expect(part.toLowerCase()).toContain("content-range: bytes 1-2/5\r\n");
  });
});

describe("artifacts: conditions", () => {
  it("a path is only written when it holds what the client thinks", async () => {
    const run = await newNativeRun();
    const none = { "if-none-match": "*" };
    good(await upload(run, "a", "one", none), 201);
    const refused = problem(await upload(run, "a", "two", none), 412, "ARTIFACT_PRECONDITION_FAILED");
    expect(refused).toMatchObject({ path: "a", version: 1, sha256: hexOf("one") });
    const match = (content: string) => ({ "if-match": `"${hexOf(content)}"` });
    problem(await upload(run, "a", "two", match("two")), 412, "ARTIFACT_PRECONDITION_FAILED");
    problem(
      await upload(run, "a", "two", { "if-match": `W/"${hexOf("one")}"` }),
      412,
      "ARTIFACT_PRECONDITION_FAILED",
    );
    problem(await upload(run, "b", "two", { "if-match": "*" }), 412, "ARTIFACT_PRECONDITION_FAILED");
    good(await upload(run, "a", "two", match("one")), 201);
    good(await upload(run, "a", "three", { "if-match": `"x", "${hexOf("two")}"` }), 201);
    good(await upload(run, "a", "four", { "if-match": "*" }), 201);
    problem(await upload(run, "a", "five", {}, "?expected_version=3"), 412, "ARTIFACT_PRECONDITION_FAILED");
    good(await upload(run, "a", "five", {}, "?expected_version=4"), 201);
    good(await upload(run, "new", "x", {}, "?expected_version=0"), 201);
    problem(
      await call("DELETE", artifactPath(run, "a"), undefined, match("one")),
      412,
      "ARTIFACT_PRECONDITION_FAILED",
    );
    good(await call("DELETE", artifactPath(run, "a"), undefined, match("five")));
    expect((await eventsOf(run)).map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });

  it.each([
    ["If-Match", "abc"],
    ["If-None-Match", '"abc"'],
    ["If-None-Match", "x"],
  ])("%s: %s is refused where something is written", async (name, value) => {
    const run = await newNativeRun();
    problem(await upload(run, "a", "x", { [name]: value }), 400, "HEADER_INVALID");
    const both = { "if-match": "*", "if-none-match": "*" };
    problem(await upload(run, "a", "x", both), 400, "HEADER_INVALID");
  });
});

describe("artifacts: digests", () => {
  it.each(["content-digest", "repr-digest"])("%s is checked (RFC 9530)", async (name) => {
    const run = await newNativeRun();
    const before = await everything(run);
    const refused = problem(
      await upload(run, "a", "hello", { [name]: digestOf("other") }),
      422,
      "DIGEST_MISMATCH",
    );
    expect(refused).toMatchObject({ sha256: hexOf("hello") });
    expect(await everything(run)).toEqual(before);
    good(await upload(run, "a", "hello", { [name]: digestOf("hello") }), 201);
    good(await upload(run, "b", "hello", { [name]: `sha-512=:AAAA:, ${digestOf("hello")}` }), 201);
    // A content that is there already is not believed either.
    problem(await upload(run, "c", "forged", { [name]: digestOf("hello") }), 422, "DIGEST_MISMATCH");
  });

  it.each(["sha-256=abc", "sha-256=:AAAA:", "nonsense", `${digestOf("a")}, ${digestOf("b")}`])(
    "%s is no digest",
    async (value) => {
      const run = await newNativeRun();
      problem(await upload(run, "a", "x", { "content-digest": value }), 400, "HEADER_INVALID");
    },
  );

  it("encoded bodies and malformed content types are refused", async () => {
    const run = await newNativeRun();
    problem(await upload(run, "a", "x", { "content-encoding": "gzip" }), 400, "HEADER_INVALID");
    problem(await upload(run, "a", "x", { "content-type": "nonsense" }), 400, "HEADER_INVALID");
    problem(
      await upload(run, "a", "x", { "content-type": `text/${"x".repeat(300)}` }),
      400,
      "HEADER_INVALID",
    );
    problem(await upload(run, "a", "x", {}, `?artifact_type=${"x".repeat(1_001)}`), 400, "QUERY_INVALID");
  });
});

describe("artifacts: idempotency", () => {
  it("the same upload under the same key is one commit, even when its condition no longer holds", async () => {
    const run = await newNativeRun();
    const headers = { "idempotency-key": "k1", "if-none-match": "*" };
    const first = await upload(run, "a", "x", headers);
    const again = await upload(run, "a", "x", headers);
    expect(good(again, 201)).toEqual(good(first, 201));
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    problem(await upload(run, "a", "y", headers), 422, "COMMAND_ID_CONFLICT");
    problem(await upload(run, "b", "x", headers), 422, "COMMAND_ID_CONFLICT");
    problem(
      await upload(run, "a", "x", { ...headers, "content-type": "text/plain" }),
      422,
      "COMMAND_ID_CONFLICT",
    );
    expect(await eventsOf(run)).toHaveLength(1);
    const gone = { "idempotency-key": "k2" };
    const removal = await call("DELETE", artifactPath(run, "a"), undefined, gone);
    expect(good(await call("DELETE", artifactPath(run, "a"), undefined, gone))).toEqual(good(removal));
    expect(await eventsOf(run)).toHaveLength(2);
  });
});

describe("artifacts: leases", () => {
  it("a lost lease is refused, naming the holder, and changes nothing", async () => {
    const run = await newNativeRun();
    await addTasks(run, { id: "t" });
    const first = await claim(run, { agent_id: "ann" });
    const proof = { "baton-lease-token": first.lease_token };
    const body = good(await upload(run, "a", "x", proof, "?task_id=t"), 201);
    expect((await eventsOf(run)).at(-1)?.payload).toMatchObject({ task_id: "t" });
    expect(JSON.stringify(body)).not.toContain(first.lease_token);
    good(await upload(run, "q", "x", {}, `?task_id=t&lease_token=${first.lease_token}`), 201);
    must(await run.post("/tasks/t/transition", { action: "release", lease_token: first.lease_token }));
    await claim(run, { agent_id: "bob" });
    const before = await everything(run);
    const refused = problem(await upload(run, "a", "y", proof, "?task_id=t"), 409, "TASK_LEASE_INVALID");
    expect(refused).toMatchObject({ lease_owner: "bob", lease_expires_at_ms: expect.any(Number) });
    problem(await upload(run, "a", "y", {}, "?task_id=t"), 409, "TASK_LEASE_REQUIRED");
    problem(await upload(run, "a", "y", proof), 400, "FIELD_INVALID");
    problem(await upload(run, "a", "y", proof, "?task_id=none"), 404, "TASK_NOT_FOUND");
    const path = `${artifactPath(run, "a")}?task_id=t`;
    problem(await call("DELETE", path, undefined, proof), 409, "TASK_LEASE_INVALID");
    expect(await everything(run)).toEqual(before);
    expect((await download(run, "a")).text).toBe("x");
  });
});

describe("artifacts: lists", () => {
  it("by path, by prefix, in pages", async () => {
    const run = await newNativeRun();
    const paths = ["a/1", "a/2", "a/z/3", "a-b", "b", "a/ü", "a/\u{1F600}", "B"];
    for (const path of paths) await upload(run, path, path);
    const ordered = ["B", "a-b", "a/1", "a/2", "a/z/3", "a/ü", "a/\u{1F600}", "b"];
    const pathsOf = async (query: string) =>
      artifactsOf(await run.get(`/artifacts${query}`)).map(({ path }) => path);
    expect(await pathsOf("")).toEqual(ordered);
    expect(await pathsOf("?prefix=a%2F")).toEqual(ordered.slice(2, 7));
    expect(await pathsOf("?prefix=a")).toEqual(ordered.slice(1, 7));
    expect(await pathsOf("?prefix=c")).toEqual([]);
    expect(await pathsOf("?prefix=%F4%8F%BF%BF")).toEqual([]);
    for (const limit of [1, 3, 8]) {
      const start = `/v1/runs/${run.id}/artifacts?prefix=a&limit=${limit}`;
      const { rows } = await allPages(
        start,
        (body) => (body as unknown as { artifacts: { path: string }[] }).artifacts,
      );
      expect(rows.map(({ path }) => path)).toEqual(ordered.slice(1, 7));
    }
    for (let round = 0; round < 4; round += 1) await upload(run, "b", `round ${round}`);
    const { rows, sizes } = await allPages(
      `/v1/runs/${run.id}/artifacts?versions=true&path=b&limit=2`,
      (body) => (body as unknown as { versions: { version: number }[] }).versions,
    );
    expect(rows.map(({ version }) => version)).toEqual([5, 9, 10, 11, 12]);
    expect(sizes).toEqual([2, 2, 1]);
  });

  it("bad queries are refused", async () => {
    const run = await newNativeRun();
    problem(await run.get("/artifacts?path=a"), 400, "QUERY_INVALID");
    problem(await run.get("/artifacts?versions=true"), 400, "ARTIFACT_PATH_INVALID");
    problem(await run.get("/artifacts?versions=true&path=../a"), 400, "ARTIFACT_PATH_INVALID");
    problem(await run.get("/artifacts?cursor=bm9uc2Vuc2U"), 400, "CURSOR_INVALID");
    for (const position of [5, "", "%"]) {
      const cursor = Buffer.from(JSON.stringify(position)).toString("base64url");
      problem(await run.get(`/artifacts?cursor=${cursor}`), 400, "CURSOR_INVALID");
    }
    problem(await download(run, "a", {}, "?version=x"), 400, "QUERY_INVALID");
  });
});

describe("artifacts: JSON documents in one call (contract 05 §6)", () => {
  it("stores the document and names it on the blackboard", async () => {
    const run = await newNativeRun();
    const content = { a: [1, { b: null }], ü: "\u{1F600}" };
    const answer = await run.post("/artifacts", { artifact_type: "plan", content, id: "p1", step_id: "s" });
    expect(good(answer, 201)).toMatchObject({
      artifact: { id: "p1", path: "plan/p1.json", artifact_type: "plan", step_id: "s" },
      file: { path: "plan/p1.json", content_type: "application/json", version: 1 },
    });
    const stored = await download(run, "plan/p1.json");
    expect(JSON.parse(stored.text)).toEqual(content);
    expect(stored.headers.get("content-type")).toBe("application/json");
    const own = good(await run.post("/artifacts", { artifact_type: "plan", content: null }), 201);
    expect(own).toMatchObject({ artifact: { path: expect.stringMatching(/^plan\/artifact-.*\.json$/) } });
    good(await run.post("/artifacts", { artifact_type: "a/b", content: 0, path: "x.json" }), 201);
  });

  it("is repeatable under a key, with the id that was made first", async () => {
    const run = await newNativeRun();
    const body = { artifact_type: "plan", content: { a: 1 }, command_id: "k" };
    const first = good(await run.post("/artifacts", body), 201);
    const again = await run.post("/artifacts", body);
    expect(good(again, 201)).toEqual(first);
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    problem(await run.post("/artifacts", { ...body, content: 2 }), 422, "COMMAND_ID_CONFLICT");
  });

  it.each([
    [{ artifact_type: "t" }, 422, "BODY_INVALID"],
    [{ content: 1 }, 422, "BODY_INVALID"],
    [{ artifact_type: "t", content: 1, path: "../a" }, 422, "BODY_INVALID"],
    [{ artifact_type: "..", content: 1 }, 400, "ARTIFACT_PATH_INVALID"],
    [{ artifact_type: "t", content: 1, id: "a\\b" }, 400, "ARTIFACT_PATH_INVALID"],
    [{ artifact_type: "t", content: 1, unknown: 1 }, 422, "BODY_INVALID"],
    [{ artifact_type: "t", content: 1, task_id: "none", lease_token: "x" }, 404, "TASK_NOT_FOUND"],
  ])("%j is refused", async (body, status, code) => {
    const run = await newNativeRun();
    problem(await run.post("/artifacts", body), status, code);
    expect(await eventsOf(run)).toEqual([]);
  });
});

describe("artifacts: payloads by reference", () => {
  it("an event's payload refers to the very version", async () => {
    const run = await newNativeRun();
    await upload(run, "big.json", "[1]", { "content-type": "application/json" });
    await upload(run, "big.json", "[2]", { "content-type": "application/json" });
    const event = { type: "note", status: "running" };
    const refOf = (version: number, content: string) => ({
      path: "big.json",
      version,
      sha256: hexOf(content),
      bytes: 3,
      content_type: "application/json",
    });
    const now = good(await run.post("/events", { ...event, payload_artifact: { path: "big.json" } }), 201);
    expect(now.event.payload).toEqual({ artifact_ref: refOf(2, "[2]") });
    const merged = { ...event, payload: { kind: "x" }, payload_artifact: { path: "big.json", version: 1 } };
    expect(good(await run.post("/events", merged), 201).event.payload).toEqual({
      kind: "x",
      artifact_ref: refOf(1, "[1]"),
    });
    const tasks = [{ task_type: "custom", payload_artifact: { path: "big.json" } }];
    expect(good(await run.post("/tasks", { tasks }), 201).tasks[0]?.payload).toEqual({
      artifact_ref: refOf(2, "[2]"),
    });
  });

  it("what there is not, and what cannot be merged, is refused", async () => {
    const run = await newNativeRun();
    await upload(run, "a", "x");
    await call("DELETE", artifactPath(run, "a"));
    await upload(run, "b", "x");
    const event = { type: "note", status: "running" };
    const before = await everything(run);
    for (const pointer of [
      { path: "a" },
      { path: "a", version: 2 },
      { path: "b", version: 1 },
      { path: "c" },
    ]) {
      problem(await run.post("/events", { ...event, payload_artifact: pointer }), 404, "ARTIFACT_NOT_FOUND");
      const tasks = [{ task_type: "custom" }, { task_type: "custom", payload_artifact: pointer }];
      const refused = problem(await run.post("/tasks", { tasks }), 404, "ARTIFACT_NOT_FOUND");
      expect(refused.issues).toMatchObject([{ field: "tasks[1]" }]);
    }
    const b = { payload_artifact: { path: "b" } };
    problem(await run.post("/events", { ...event, ...b, payload: [1] }), 400, "FIELD_INVALID");
    problem(
      await run.post("/events", { ...event, ...b, payload: { artifact_ref: 1 } }),
      400,
      "FIELD_INVALID",
    );
    problem(await run.post("/events", { ...event, payload_artifact: { path: "/b" } }), 422, "BODY_INVALID");
    problem(await run.post("/events", { ...event, payload_artifact: "b" }), 422, "BODY_INVALID");
    expect(await everything(run)).toEqual(before);
  });

  it("a payload over the limit is told where it belongs", async () => {
    const run = await newNativeRun();
    const event = { type: "note", status: "running", payload: "x".repeat(256 * 1024) };
    const refused = problem(await run.post("/events", event), 413, "LIMIT_EXCEEDED");
    expect((refused as unknown as { hint: string }).hint).toContain("payload_artifact");
  });

  it("the contract's own door knows nothing of it", async () => {
    const run = await newNativeRun();
    const body = { type: "note", status: "running", payload: 1, payload_artifact: { path: "none" } };
    const answer = await call("POST", `/context/runs/${run.id}/events`, body);
    expect(must(answer).event.payload).toBe(1);
  });
});

describe("artifacts: methods", () => {
  it("name what they allow", async () => {
    const run = await newNativeRun();
    const item = await call("POST", artifactPath(run, "a"), {});
    problem(item, 405, "METHOD_NOT_ALLOWED");
    expect(item.headers.get("allow")).toBe("GET, HEAD, PUT, DELETE");
    const list = await call("DELETE", `/v1/runs/${run.id}/artifacts`);
    expect(list.headers.get("allow")).toBe("GET, HEAD, POST");
    const response = await fetch(inject("baseUrl") + artifactPath(run, "a"), { method: "OPTIONS" });
    expect(response.headers.get("access-control-allow-methods")).toContain("DELETE");
    expect((await call("GET", `/context/runs/${run.id}/artifacts/a`)).status).toBe(404);
  });
});
