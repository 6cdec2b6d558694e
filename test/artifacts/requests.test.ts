import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it, vi } from "vitest";
import { sha256Hex } from "../../src/artifacts/sha256.ts";
import type { Env } from "../../src/env.ts";
import { ROUTES } from "../../src/http/routes.ts";
import { LOCAL_TENANT, runObjectName, tenantKey } from "../../src/identity/tenant.ts";
import { collectArtifacts } from "../../src/maintenance/collect-artifacts.ts";
import { submit } from "../../src/run/run-client.ts";
import {
  accepted,
  claimed,
  creation,
  everything,
  newTestRun,
  row,
  type TestRun,
} from "../run/support/test-run.ts";
import { serve } from "../support/serve.ts";
import { bucket, keysOf, storeOf } from "./support/store.ts";

const TENANT = tenantKey(LOCAL_TENANT);

function request(
  method: string,
  path: string,
  body?: BodyInit,
  headers: Record<string, string> = {},
): Request {
  return new Request(`http://host/v1/runs/${path}`, {
    method,
    headers: { "x-agent-token": "test-token", ...headers },
    ...(body !== undefined && { body }),
  });
}

function upload(
  run: TestRun,
  path: string,
  text: string,
  changed: Partial<Env> = {},
  query = "",
): Promise<Response> {
  const length = { "content-length": String(text.length) };
  return serve(request("PUT", `${run.id}/artifacts/${path}${query}`, text, length), { ...env, ...changed });
}

async function codeOf(response: Response): Promise<[number, string | undefined]> {
  return [response.status, (await response.json<{ code?: string }>()).code];
}

/** What D1 knows of the objects in R2 that hold or held this text, and what it keeps for this run. */
async function traces(run: TestRun): Promise<{ held: string[] }> {
  const { results } = await env.DIRECTORY.prepare(
    "SELECT sha256 FROM blob_holders WHERE tenant = ? AND holder = ?",
  )
    .bind(TENANT, `run:${run.id}`)
    .all<{ sha256: string }>();
  return { held: results.map(({ sha256 }) => sha256) };
}

/** How much there is of everything, of the tenant that requests belong to. */
async function stored(): Promise<{ loose: number; objects: number }> {
  const loose = await env.DIRECTORY.prepare("SELECT count(*) AS count FROM loose_objects").first<{
    count: number;
  }>();
  return { loose: loose?.count ?? -1, objects: (await keysOf(TENANT)).length };
}

/** Makes what this run was held for older than a day. */
async function age(run: TestRun): Promise<void> {
  await env.DIRECTORY.prepare(
    "UPDATE blob_holders SET asked_at_ms = 1 WHERE holder = ? AND asked_at_ms IS NOT NULL",
  )
    .bind(`run:${run.id}`)
    .run();
}

/** The tests' bucket with some of its methods replaced. */
function bucketWith(methods: Partial<R2Bucket>): R2Bucket {
  return new Proxy(bucket(), {
    get: (target, name) => {
      const own = methods[name as keyof R2Bucket] ?? target[name as keyof R2Bucket];
      return typeof own === "function" ? (own as () => unknown).bind(target) : own;
    },
  });
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe("design: an upload that fails on its way is not visible", () => {
  it("a bucket that fails is a fault, and nothing stays", async () => {
    vi.spyOn(console, "error").mockReturnValue(undefined);
    const run = await newTestRun();
    const before = await everything(run);
    const failing = bucketWith({
      put: async () => {
        throw new Error("the bucket is away");
      },
    });
    expect(await codeOf(await upload(run, "a", "hello", { ARTIFACTS: failing }))).toEqual([500, "INTERNAL"]);
    expect(await everything(run)).toEqual(before);
    expect((await upload(run, "a", "hello")).status).toBe(201);
  });

  it("a write that failed only to be seen through later leaves nothing for ever", async () => {
    vi.spyOn(console, "error").mockReturnValue(undefined);
    const run = await newTestRun();
    const late = Promise.withResolvers<string>();
    const failing = bucketWith({
      put: (async (key: string) => {
        late.resolve(key);
        throw new Error("the answer was lost");
      }) as unknown as R2Bucket["put"],
    });
    expect(await codeOf(await upload(run, "a", "hello", { ARTIFACTS: failing }))).toEqual([500, "INTERNAL"]);
    const key = await late.promise;
    await bucket().put(key, "hello");
    await env.DIRECTORY.prepare("UPDATE loose_objects SET due_at_ms = 1 WHERE key = ?").bind(key).run();
    await collectArtifacts(env, Date.now());
    expect(await bucket().head(key)).toBeNull();
  });

  it.each([
    ["ends early", (controller: ReadableStreamDefaultController) => controller.close()],
    ["breaks off", (controller: ReadableStreamDefaultController) => controller.error(new Error("gone"))],
  ])("a body that %s is refused, and leaves neither object nor announcement", async (_, end) => {
    const run = await newTestRun();
    const before = await stored();
    for (const headers of [{ "content-length": "10" }, {}] as Record<string, string>[]) {
      const body = new ReadableStream({
        start(controller) {
          controller.enqueue(new TextEncoder().encode("hello"));
        },
        pull: end,
      });
      const response = await serve(request("PUT", `${run.id}/artifacts/a`, body, headers), env);
      // Without a length, an end is an end.
      const isWhole = headers["content-length"] === undefined && _ === "ends early";
      if (!isWhole) expect(await codeOf(response)).toEqual([400, "UPLOAD_TRUNCATED"]);
      else expect(response.status).toBe(201);
    }
    const after = await stored();
    expect(after.loose).toBe(before.loose);
    expect(after.objects - before.objects).toBeLessThanOrEqual(1);
  });

  it("a lease that is lost while the body flows is refused at the commit, naming the holder", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("t")));
    const { token } = await claimed(run, { agent_id: "ann" });
    const text = crypto.randomUUID();
    const stealing = bucketWith({
      put: (async (key: string, value: ReadableStream) => {
        const put = await bucket().put(key, value);
        const task = { op: "transition_task", task_id: "t" } as const;
        await accepted(run, { ...task, action: "release", lease_token: token });
        await claimed(run, { agent_id: "bob" });
        return put;
      }) as R2Bucket["put"],
    });
    const query = `?task_id=t&lease_token=${token}`;
    const response = await upload(run, "a", text, { ARTIFACTS: stealing }, query);
    expect(response.status).toBe(409);
    expect(await response.json()).toMatchObject({ code: "TASK_LEASE_INVALID", lease_owner: "bob" });
    expect(await run.client.readFile("a", null)).toEqual({ ok: true, value: null });

    // The orphan is kept for a day, and then collected.
    const [sha256 = ""] = (await traces(run)).held;
    const { store } = storeOf(TENANT);
    await collectArtifacts(env, Date.now());
    expect(await store.read(sha256).then((read) => read?.body.cancel())).toBeUndefined();
    expect((await traces(run)).held).toEqual([sha256]);
    await age(run);
    await collectArtifacts(env, Date.now());
    expect((await traces(run)).held).toEqual([]);
    expect(await store.read(sha256)).toBeNull();
  });

  it("a condition that fails while the body flows is refused at the commit", async () => {
    const run = await newTestRun();
    const racing = bucketWith({
      put: (async (key: string, value: ReadableStream) => {
        const put = await bucket().put(key, value);
        expect((await upload(run, "a", crypto.randomUUID())).status).toBe(201);
        return put;
      }) as R2Bucket["put"],
    });
    const query = "?expected_version=0";
    const response = await upload(run, "a", crypto.randomUUID(), { ARTIFACTS: racing }, query);
    expect(await codeOf(response)).toEqual([412, "ARTIFACT_PRECONDITION_FAILED"]);
    expect(await run.client.readFile("a", null)).toMatchObject({ value: { version: 1 } });
  });

  it("a commit stands even when it cannot be confirmed", async () => {
    vi.spyOn(console, "error").mockReturnValue(undefined);
    const run = await newTestRun();
    const failing = new Proxy(env.DIRECTORY, {
      get: (target, name) => {
        if (name !== "prepare") return (target[name as keyof D1Database] as () => unknown).bind(target);
        return (query: string) => {
          if (query.includes("SET asked_at_ms = NULL")) throw new Error("the directory is away");
          return target.prepare(query);
        };
      },
    });
    expect((await upload(run, "a", "hello", { DIRECTORY: failing })).status).toBe(201);
    await age(run);
    await collectArtifacts(env, Date.now());
    const response = await serve(request("GET", `${run.id}/artifacts/a`), env);
    expect(await response.text()).toBe("hello");
  });

  it("an adoption whose answer is lost keeps its object", async () => {
    vi.spyOn(console, "error").mockReturnValue(undefined);
    const [run, other] = [await newTestRun(), await newTestRun()];
    const text = crypto.randomUUID();
    let isAdoption = false;
    const losing = new Proxy(env.DIRECTORY, {
      get: (target, name) => {
        if (name === "prepare") {
          return (query: string) => {
            isAdoption ||= query.includes("INSERT INTO blobs");
            return target.prepare(query);
          };
        }
        return async (statements: D1PreparedStatement[]) => {
          const results = await target.batch(statements);
          if (isAdoption) throw new Error("the answer is lost");
          return results;
        };
      },
    });
    expect((await upload(run, "a", text, { DIRECTORY: losing })).status).toBe(500);
    // The content is there: the next upload of it takes it, and it can be read.
    expect((await upload(other, "b", text)).status).toBe(201);
    const response = await serve(request("GET", `${other.id}/artifacts/b`), env);
    expect(await response.text()).toBe(text);
  });

  it("an upload that is refused beforehand writes nothing to R2", async () => {
    const run = await newTestRun();
    const untouched = bucketWith({
      put: async () => {
        throw new Error("nothing must be written");
      },
    });
    const changed = { ARTIFACTS: untouched };
    expect(await codeOf(await upload(run, "a", "x", changed, "?expected_version=7"))).toEqual([
      412,
      "ARTIFACT_PRECONDITION_FAILED",
    ]);
    const nobody = { ...run, id: "no-such-run" };
    expect(await codeOf(await upload(nobody, "a", "x", changed))).toEqual([404, "RUN_NOT_FOUND"]);
  });

  it("a content that the tenant has is not written again when its digest is said", async () => {
    const [run, other] = [await newTestRun(), await newTestRun()];
    const text = crypto.randomUUID();
    expect((await upload(run, "a", text)).status).toBe(201);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
    const headers = {
      "content-length": String(text.length),
      "content-digest": `sha-256=:${btoa(String.fromCharCode(...digest))}:`,
    };
    const untouched = bucketWith({
      put: async () => {
        throw new Error("nothing must be written");
      },
    });
    const again = request("PUT", `${other.id}/artifacts/b`, text, headers);
    expect((await serve(again, { ...env, ARTIFACTS: untouched })).status).toBe(201);
    const response = await serve(request("GET", `${other.id}/artifacts/b`), env);
    expect(await response.text()).toBe(text);
  });
});

describe("design: completing an upload can be cut off anywhere and repeated", () => {
  const places = [
    ["before the parts are put together", "resumeMultipartUpload"],
    ["before the whole is read through", "get"],
  ] as const;
  it.each(places)("%s", async (_, method) => {
    vi.spyOn(console, "error").mockReturnValue(undefined);
    const run = await newTestRun();
    const id = await startedUpload(run, 2);
    const failing = bucketWith({
      [method]: () => {
        throw new Error("the bucket is away");
      },
    });
    const path = `${run.id}/uploads/${id}/complete`;
    const first = await serve(request("POST", path), { ...env, ARTIFACTS: failing });
    expect(first.status).toBe(500);
    const second = await serve(request("POST", path), env);
    expect(second.status).toBe(201);
    expect(await second.json()).toMatchObject({ file: { version: 1 } });
  });

  const statements = ["UPDATE uploads SET sha256", "INSERT INTO blobs", "UPDATE uploads SET done"];
  it.each(statements)("at the statement %s", async (start) => {
    vi.spyOn(console, "error").mockReturnValue(undefined);
    const run = await newTestRun();
    const id = await startedUpload(run, 2);
    const failing = new Proxy(env.DIRECTORY, {
      get: (target, name) => {
        if (name !== "prepare") return (target[name as keyof D1Database] as () => unknown).bind(target);
        return (query: string) => {
          if (query.trim().startsWith(start)) throw new Error("the directory is away");
          return target.prepare(query);
        };
      },
    });
    const path = `${run.id}/uploads/${id}/complete`;
    expect((await serve(request("POST", path), { ...env, DIRECTORY: failing })).status).toBe(500);
    expect((await serve(request("POST", path), env)).status).toBe(201);
    expect((await serve(request("POST", path), env)).status).toBe(201);
    const overview = await run.client.readOverview();
    expect(overview).toMatchObject({ value: { last_event_seq: 1 } });
  });

  it("beside one that says another digest, what was put in stays readable", async () => {
    vi.spyOn(console, "error").mockReturnValue(undefined);
    const run = await newTestRun();
    const json = { "content-type": "application/json" };
    for (let round = 0; round < 5; round += 1) {
      const path = `${run.id}/uploads/${await startedUpload(run, 2)}/complete`;
      const wrong = JSON.stringify({ sha256: "0".repeat(64) });
      const [first] = await Promise.all([
        serve(request("POST", path), env),
        serve(request("POST", path, wrong, json), env),
      ]);
      if (first.status !== 201) continue;
      const { file } = await first.json<{ file: { version: number; bytes: number } }>();
      const read = await serve(request("GET", `${run.id}/artifacts/big?version=${file.version}`), env);
      expect((await read.arrayBuffer()).byteLength).toBe(file.bytes);
    }
  });

  it("by many at once it becomes one commit", async () => {
    vi.spyOn(console, "error").mockReturnValue(undefined);
    const run = await newTestRun();
    const id = await startedUpload(run, 2);
    const path = `${run.id}/uploads/${id}/complete`;
    await Promise.all(Array.from({ length: 4 }, () => serve(request("POST", path), env)));
    const last = await serve(request("POST", path), env);
    expect(last.status).toBe(201);
    expect(await run.client.readOverview()).toMatchObject({ value: { last_event_seq: 1 } });
  });

  it("under whose own key something else was put in, it is refused and not taken for that", async () => {
    const run = await newTestRun();
    const id = await startedUpload(run, 1);
    const taken = await serve(
      request("PUT", `${run.id}/artifacts/other`, "x", { "idempotency-key": `upload:${id}` }),
      env,
    );
    expect(taken.status).toBe(201);
    const path = `${run.id}/uploads/${id}/complete`;
    for (let time = 0; time < 2; time += 1) {
      expect(await codeOf(await serve(request("POST", path), env))).toEqual([422, "COMMAND_ID_CONFLICT"]);
    }
    // Of what was refused the run is asked, as of everything that it may not have.
    const asked = env.DIRECTORY.prepare(
      "SELECT count(*) AS count FROM blob_holders WHERE tenant = ? AND holder = ? AND asked_at_ms IS NOT NULL",
    );
    expect(await asked.bind(TENANT, `run:${run.id}`).first("count")).toBe(1);
  });

  it("parts that were sent twice at a time, and are noted as the wrong one, are asked for again", async () => {
    const run = await newTestRun();
    const id = await startedUpload(run, 1);
    const part = (text: string) =>
      request("PUT", `${run.id}/uploads/${id}/parts/1`, text, { "content-length": String(text.length) });
    const slow = Promise.withResolvers<void>();
    const written = Promise.withResolvers<void>();
    const notesLate = new Proxy(env.DIRECTORY, {
      get: (target, name) => {
        if (name !== "prepare") return (target[name as keyof D1Database] as () => unknown).bind(target);
        return (query: string) => {
          const statement = target.prepare(query);
          if (!query.startsWith("UPDATE upload_parts")) return statement;
          return {
            bind: (...values: unknown[]) => ({
              run: async () => {
                written.resolve();
                await slow.promise;
                return statement.bind(...values).run();
              },
            }),
          };
        };
      },
    });
    const first = serve(part("first"), { ...env, DIRECTORY: notesLate });
    await written.promise;
    expect((await serve(part("second"), env)).status).toBe(200);
    slow.resolve();
    expect((await first).status).toBe(200);
    const path = `${run.id}/uploads/${id}/complete`;
    expect(await codeOf(await serve(request("POST", path), env))).toEqual([422, "UPLOAD_INCOMPLETE"]);
    expect((await serve(part("third"), env)).status).toBe(200);
    expect((await serve(request("POST", path), env)).status).toBe(201);
    expect(await (await serve(request("GET", `${run.id}/artifacts/big`), env)).text()).toBe("third");
  });

  it("beside a part that is sent again, it is all parts that become the content", async () => {
    vi.spyOn(console, "error").mockReturnValue(undefined);
    const run = await newTestRun();
    const id = await startedUpload(run, 2);
    const failing = bucketWith({
      get: () => {
        throw new Error("the bucket is away");
      },
    });
    const path = `${run.id}/uploads/${id}/complete`;
    expect((await serve(request("POST", path), { ...env, ARTIFACTS: failing })).status).toBe(500);
    // The parts are one object by now. Sent again, one of them goes off the list of parts, and is then refused.
    const again = request("PUT", `${run.id}/uploads/${id}/parts/2`, "late", { "content-length": "4" });
    expect(await codeOf(await serve(again, env))).toEqual([409, "UPLOAD_COMPLETED"]);
    const completed = await serve(request("POST", path), env);
    expect(completed.status).toBe(201);
    const { file } = await completed.json<{ file: { sha256: string; bytes: number } }>();
    const read = await serve(request("GET", `${run.id}/artifacts/big`), env);
    const bytes = new Uint8Array(await read.arrayBuffer());
    expect(file).toMatchObject({ bytes: bytes.length, sha256: sha256Hex(bytes) });
    expect(bytes.length).toBe(5 * 1024 * 1024 + 36);
  });

  async function startedUpload(run: TestRun, parts: number): Promise<string> {
    const json = { "content-type": "application/json" };
    const started = await serve(request("POST", `${run.id}/uploads`, '{"path":"big"}', json), env);
    const { upload_id } = await started.json<{ upload_id: string }>();
    for (let part = 1; part <= parts; part += 1) {
      const bytes = new Uint8Array(part === parts ? 36 : 5 * 1024 * 1024);
      crypto.getRandomValues(bytes.subarray(0, 36));
      const headers = { "content-length": String(bytes.length) };
      const target = `${run.id}/uploads/${upload_id}/parts/${part}`;
      expect((await serve(request("PUT", target, bytes, headers), env)).status).toBe(200);
    }
    return upload_id;
  }
});

describe("design: without a bucket artifacts are refused, and everything else works", () => {
  const { ARTIFACTS: _bucket, ...without } = env;
  const routes = ROUTES.filter(({ path }) => /\/(artifacts|uploads)\b/.test(path));

  it.each(routes)("$method $path", async ({ method, path }) => {
    const run = await newTestRun();
    const target = path.replace("/v1/runs/:run_id", run.id).replace(":path+", "a").replace(/:\w+/g, "1");
    const needsStore =
      !(path.endsWith("/artifacts") && method === "GET") &&
      !(path.endsWith("/:path+") && method === "DELETE");
    const answer = await serve(request(method, target), without as Env);
    if (needsStore) {
      expect(await codeOf(answer)).toEqual([501, "ARTIFACT_STORE_MISSING"]);
    } else {
      // These need no content.
      expect(answer.status).toBe(method === "GET" ? 200 : 404);
    }
  });

  it("runs, tasks and events", async () => {
    const json = { "content-type": "application/json" };
    const id = crypto.randomUUID();
    const post = (path: string, body: unknown) =>
      serve(request("POST", path, JSON.stringify(body), json), without as Env);
    const created = await serve(
      new Request("http://host/v1/runs", {
        method: "POST",
        headers: { "x-agent-token": "test-token", ...json },
        body: JSON.stringify({ objective: "o", run_id: id }),
      }),
      without as Env,
    );
    expect(created.status).toBe(201);
    expect((await post(`${id}/events`, { type: "note", status: "running" })).status).toBe(201);
    expect((await post(`${id}/tasks`, { tasks: [{ task_type: "x" }] })).status).toBe(201);
    expect((await post(`${id}/tasks/claim`, { agent_id: "a" })).status).toBe(200);
    expect(env.RUNS.getByName(runObjectName(TENANT, id))).toBeDefined();
  });
});

describe("design: what is asked before an upload changes nothing", () => {
  it("the run is as it was, and a repeat is admitted", async () => {
    const run = await newTestRun();
    const command = {
      op: "put_artifact",
      path: "a",
      sha256: "0".repeat(64),
      bytes: 0,
      content_type: "text/plain",
      artifact: { artifact_type: "file" },
      expected: { exists: false },
    } as const;
    const before = await everything(run);
    expect(await run.client.admits({ command })).toEqual({ ok: true, value: { isRepeat: false } });
    expect(await everything(run)).toEqual(before);
    await submit(run.client, { command, commandId: "k" });
    expect(await run.client.admits({ command })).toMatchObject({ ok: false });
    expect(await run.client.admits({ command, commandId: "k" })).toEqual({
      ok: true,
      value: { isRepeat: true },
    });
  });
});
