import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Env } from "../../src/env.ts";
import { CODES } from "../../src/protocol/codes.ts";
import { bindingsUntil } from "../hooks/mapping/faults.ts";
import { serve } from "../support/serve.ts";

const HOST = "https://baton.example";

/** A request with the root credential, unless it brings headers of its own. */
function ask(
  path: string,
  { headers = {}, ...init }: RequestInit & { headers?: Record<string, string> } = {},
  bindings: Env = env,
): Promise<Response> {
  const all = { authorization: "Bearer test-token", "content-type": "application/json", ...headers };
  return serve(new Request(`${HOST}${path}`, { ...init, headers: all }), bindings);
}

const SAFE = {
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "strict-transport-security": "max-age=31536000",
  "x-content-type-options": "nosniff",
};

describe("headers of every answer", () => {
  const answers: [string, string, RequestInit & { headers?: Record<string, string> }][] = [
    ["a page", "/global/health", {}],
    ["a read", "/v1/runs", {}],
    ["a refusal", "/v1/runs/none", {}],
    ["a refusal on /context", "/context/runs/none", {}],
    ["a stranger's", "/v1/runs", { headers: { authorization: "Bearer wrong" } }],
    ["an unknown path", "/nothing/here", {}],
    ["a wrong method", "/v1/runs", { method: "PATCH" }],
    ["a preflight", "/v1/runs", { method: "OPTIONS" }],
    ["a HEAD", "/global/health", { method: "HEAD" }],
  ];
  it.each(answers)(
    "%s is safe to open in a browser, in no cache, and has an id",
    async (_name, path, init) => {
      const answer = await ask(path, init);
      const { headers } = answer;
      expect(Object.fromEntries(headers)).toMatchObject({ ...SAFE, "cache-control": "no-store" });
      expect(headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
      await answer.body?.cancel();
    },
  );

  it("over HTTP, nothing is said of HTTPS", async () => {
    const answer = await serve(new Request("http://127.0.0.1/global/health"), env);
    expect(answer.headers.get("strict-transport-security")).toBeNull();
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
  });
});

describe("CORS", () => {
  const preflight = (origin: string | null, bindings: Env) =>
    ask(
      "/v1/runs",
      {
        method: "OPTIONS",
        headers: { ...(origin !== null && { origin }), "access-control-request-headers": "if-match" },
      },
      bindings,
    );

  it.each([undefined, "*", "https://a.example *"])(
    "CORS_ORIGINS %s lets any page read",
    async (CORS_ORIGINS) => {
      const bindings = { ...env, ...(CORS_ORIGINS !== undefined && { CORS_ORIGINS }) };
      const answer = await ask("/v1/runs", { headers: { origin: "https://any.example" } }, bindings);
      expect(answer.headers.get("access-control-allow-origin")).toBe("*");
      expect(answer.headers.get("vary")).toBeNull();
      const asked = await preflight("https://any.example", bindings);
      expect(asked.status).toBe(204);
      expect(asked.headers.get("access-control-allow-methods")).toContain("DELETE");
      expect(asked.headers.get("access-control-allow-headers")).toBe("if-match");
    },
  );

  const named = { ...env, CORS_ORIGINS: "https://a.example, https://b.example/" };
  it.each([
    ["https://a.example", true],
    ["https://b.example", true],
    ["https://c.example", false],
    ["https://a.example.evil.example", false],
    ["http://a.example", false],
    ["null", false],
    [null, false],
  ])("with origins named, %s may read: %s", async (origin, may) => {
    const allowed = may ? origin : null;
    const answer = await ask("/v1/runs", { headers: origin === null ? {} : { origin } }, named);
    const asked = await preflight(origin, named);
    for (const { headers } of [answer, asked]) {
      expect(headers.get("access-control-allow-origin")).toBe(allowed);
      expect(headers.get("vary")).toBe("Origin");
    }
    expect(asked.headers.has("access-control-allow-methods")).toBe(may);
  });

  it("an empty list lets no page read", async () => {
    const answer = await ask("/v1/runs", { headers: { origin: HOST } }, { ...env, CORS_ORIGINS: "" });
    expect(answer.headers.get("access-control-allow-origin")).toBeNull();
  });
});

describe("a deployment without its secret", () => {
  const { BATON_TOKEN: _none, ...without } = env as Env;

  it.each([without, { ...without, BATON_TOKEN: "" }])(
    "says at / what to do, and tells nothing else",
    async (bindings) => {
      const page = await ask("/", {}, bindings);
      expect(page.status).toBe(503);
      expect(page.headers.get("content-type")).toBe("text/plain; charset=utf-8");
      const text = await page.text();
      expect(text).toContain("npx wrangler secret put BATON_TOKEN");
      expect(text).toContain(`curl -s ${HOST}/v1/runs`);
    },
  );

  it.each([
    ["GET", "/v1/runs"],
    ["POST", "/context/runs"],
    ["GET", "/v1/nothing"],
    ["GET", "/problems/SETUP_REQUIRED"],
    ["GET", "/global/none"],
    ["POST", "/hooks/none"],
  ])("refuses %s %s, whatever credential comes", async (method, path) => {
    for (const authorization of ["Bearer ", "Bearer undefined", "Bearer test-token", ""]) {
      const answer = await ask(path, { method, headers: { authorization } }, without);
      expect(answer.status).toBe(503);
      expect(await answer.json()).toMatchObject({ code: "SETUP_REQUIRED" });
    }
  });

  it("is healthy all the same: the platform must not think that it is broken", async () => {
    expect((await ask("/global/health", {}, without)).status).toBe(200);
  });

  it("with its secret, / says what this is, without a secret", async () => {
    const page = await ask("/", { headers: { authorization: "" } });
    expect(page.status).toBe(200);
    const text = await page.text();
    expect(text).toContain("docs/http-api.md");
    expect(text).not.toContain("test-token");
  });
});

describe("the log line of a request", () => {
  afterEach(() => void vi.restoreAllMocks());

  /** The lines that a request leaves. */
  async function linesOf(
    path: string,
    init: Parameters<typeof ask>[1] = {},
    bindings: Env = { ...env, REQUEST_LOG: "all" },
  ): Promise<Record<string, unknown>[]> {
    const log = vi.spyOn(console, "log").mockImplementation(() => undefined);
    const answer = await ask(path, init, bindings);
    await answer.body?.cancel();
    const lines = log.mock.calls.map(([line]) => JSON.parse(line as string) as Record<string, unknown>);
    log.mockRestore();
    return lines.filter(({ event }) => event === "request");
  }

  const created = (run_id: string) => ({
    method: "POST",
    body: JSON.stringify({ run_id, objective: "Log" }),
  });

  it("says who asked for what, and what came of it", async () => {
    const run_id = `run-${crypto.randomUUID()}`;
    const [line, ...more] = await linesOf("/v1/runs", created(run_id));
    expect(more).toEqual([]);
    expect(line).toEqual({
      event: "request",
      request_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      method: "POST",
      route: "/v1/runs",
      door: "native",
      status: 201,
      duration_ms: expect.any(Number),
      tenant: "local/local",
      token_id: "root",
      run_id,
      rows_read: expect.any(Number),
      rows_written: expect.any(Number),
    });
    const [task] = await linesOf(`/v1/runs/${run_id}/tasks/none`);
    expect(task).toMatchObject({
      route: "/v1/runs/:run_id/tasks/:task_id",
      run_id,
      task_id: "none",
      status: 404,
      code: "TASK_NOT_FOUND",
    });
  });

  it("has the tenant that a request without one was handled for", async () => {
    const run_id = `run-${crypto.randomUUID()}`;
    const org_id = `org-${crypto.randomUUID()}`;
    await linesOf("/context/runs", { ...created(run_id), headers: { "x-tandem-org-id": org_id } });
    const [line] = await linesOf(`/context/runs/${run_id}`);
    expect(line).toMatchObject({ status: 200, tenant: `${org_id}/local`, token_id: "root", run_id });
  });

  it("has the code of a refusal that /context answers with 200", async () => {
    const run_id = `run-${crypto.randomUUID()}`;
    await linesOf("/context/runs", created(run_id));
    const [line] = await linesOf("/context/runs", created(run_id));
    expect(line).toMatchObject({ status: 200, code: "CONTEXT_RUN_EXISTS", door: "context" });
  });

  it("has the id of the answer", async () => {
    const log = vi.spyOn(console, "log").mockImplementation(() => undefined);
    const answer = await ask("/v1/runs", {}, { ...env, REQUEST_LOG: "all" });
    const line = JSON.parse(log.mock.calls[0]?.[0] as string) as Record<string, unknown>;
    expect(line.request_id).toBe(answer.headers.get("x-request-id"));
  });

  it("never has a credential, a query, a payload, a header or a path that no route has", async () => {
    const secret = "s3cret-of-the-client";
    const requests: [string, Parameters<typeof ask>[1]][] = [
      [`/v1/runs?cursor=${secret}`, {}],
      [`/v1/${secret}`, {}],
      [`/v1/runs/${secret}%20`, {}],
      ["/v1/runs", { headers: { authorization: `Bearer ${secret}` } }],
      ["/v1/runs", { headers: { "x-agent-token": secret, "idempotency-key": secret } }],
      ["/v1/runs", { method: "POST", body: JSON.stringify({ objective: secret, [secret]: 1 }) }],
      ["/v1/runs", { method: "POST", body: secret }],
    ];
    for (const [path, init] of requests) {
      const lines = await linesOf(path, init);
      expect(lines).toHaveLength(1);
      expect(JSON.stringify(lines)).not.toContain(secret);
    }
  });

  it("REQUEST_LOG = problems leaves out what went well, none all", async () => {
    const problems = { ...env, REQUEST_LOG: "problems" };
    expect(await linesOf("/v1/runs", {}, problems)).toEqual([]);
    expect(await linesOf("/v1/runs/none", {}, problems)).toHaveLength(1);
    expect(await linesOf("/v1/runs/none", {}, { ...env, REQUEST_LOG: "none" })).toEqual([]);
  });
});

describe("what goes wrong inside", () => {
  afterEach(() => void vi.restoreAllMocks());

  const INSIDE = "at RunObject.submit (/src/run/run-object.ts:1:2) SQLITE_ERROR: no such table: commits";
  const faults: [string, (bindings: Env) => Env][] = [
    [
      "an object that throws",
      (bindings) => ({
        ...bindings,
        RUNS: {
          getByName: () =>
            new Proxy(
              {},
              { get: (_, name) => (name === "then" ? undefined : () => Promise.reject(fault())) },
            ),
        } as never,
      }),
    ],
    [
      "a database that throws",
      (bindings) => ({
        ...bindings,
        DIRECTORY: {
          prepare: () => {
            throw fault();
          },
        } as never,
      }),
    ],
    [
      "a bucket that throws",
      (bindings) => ({
        ...bindings,
        ARTIFACTS: new Proxy({}, { get: () => () => Promise.reject(fault()) }) as never,
      }),
    ],
    ["no database at all", (bindings) => ({ ...bindings, DIRECTORY: undefined as never })],
    [
      "no objects at all",
      (bindings) => ({ ...bindings, RUNS: undefined as never, FEEDS: undefined as never }),
    ],
  ];
  function fault(): Error {
    return Object.assign(new Error(INSIDE), { stack: INSIDE });
  }
  const requests: [string, string, unknown?][] = [
    ["GET", "/v1/runs"],
    ["POST", "/v1/runs", { objective: "Fail" }],
    ["GET", "/v1/runs/run-1"],
    ["GET", "/context/runs/run-1"],
    ["POST", "/context/runs", { objective: "Fail" }],
    ["POST", "/v1/runs/run-1/events", { type: "note", status: "running", payload: {} }],
    ["GET", "/v1/runs/run-1/artifacts/a.txt"],
    ["PUT", "/v1/runs/run-1/artifacts/a.txt", { any: "thing" }],
    ["GET", "/v1/runs/run-1/export"],
    ["GET", "/v1/retention"],
    ["DELETE", "/v1/runs/run-1"],
  ];
  const cases = faults.flatMap(([name, broken]) =>
    requests.map(([method, path, body]): [string, string, string, unknown, (bindings: Env) => Env] => [
      name,
      method,
      path,
      body,
      broken,
    ]),
  );
  it.each(cases)("%s: %s %s tells nothing of the inside", async (_name, method, path, body, broken) => {
    vi.spyOn(console, "error").mockImplementation(() => undefined);
    const init = { method, ...(body !== undefined && { body: JSON.stringify(body) }) };
    const answer = await ask(path, init, broken(env));
    const text = await answer.text();
    expect([...answer.headers.values(), text].join("\n")).not.toMatch(
      /SQLITE|\.ts|RunObject|TypeError|undefined|no such table/,
    );
    if (answer.status < 500) return;
    const { code, error } = JSON.parse(text) as { code: string; error: string };
    expect(Object.keys(CODES)).toContain(code);
    if (code === "INTERNAL")
      expect(error).toBe(`internal error, request ${answer.headers.get("x-request-id")}`);
  });

  /** Each makes the run that it needs, and is then asked with a fault at its first call to the platform, its second, … */
  const steps: [string, string, (run: string) => string, (run: string) => string | undefined][] = [
    ["makes a run", "POST", () => "/v1/runs", (run) => `{"run_id":"${run}-new","objective":"Fail"}`],
    [
      "makes a run on /context",
      "POST",
      () => "/context/runs",
      (run) => `{"run_id":"${run}-new","objective":"Fail"}`,
    ],
    ["forks", "POST", (run) => `/v1/runs/${run}/fork`, () => "{}"],
    ["appends", "POST", (run) => `/v1/runs/${run}/events`, () => '{"type":"note","status":"running"}'],
    ["stores an artifact", "PUT", (run) => `/v1/runs/${run}/artifacts/a.json`, () => '{"a":1}'],
    ["begins an upload", "POST", (run) => `/v1/runs/${run}/uploads`, () => '{"path":"b"}'],
    ["checkpoints", "POST", (run) => `/v1/runs/${run}/checkpoints`, () => "{}"],
    ["archives", "POST", (run) => `/v1/runs/${run}/archive`, () => undefined],
    ["deletes", "DELETE", (run) => `/v1/runs/${run}`, () => undefined],
    ["reads the past", "GET", (run) => `/v1/runs/${run}/state`, () => undefined],
    ["verifies", "GET", (run) => `/v1/runs/${run}/verify`, () => undefined],
    ["lists on /context", "GET", () => "/context/runs?limit=1", () => undefined],
    ["sets quotas", "PUT", () => "/v1/quotas", () => '{"runs":null,"artifact_bytes":null,"streams":null}'],
  ];
  it.each(steps)(
    "%s: a fault at any call to the platform tells nothing of the inside",
    async (_name, method, pathOf, bodyOf) => {
      vi.spyOn(console, "error").mockImplementation(() => undefined);
      for (let call = 0, isDone = false; !isDone; call += 1) {
        const run = `run-${crypto.randomUUID()}`;
        const body = JSON.stringify({ run_id: run, objective: "Fail" });
        expect((await ask("/v1/runs", { method: "POST", body })).status).toBe(201);
        const cut = bindingsUntil(env, { call, when: call % 2 === 0 ? "before" : "after" });
        const asked = bodyOf(run);
        const init = { method, ...(asked !== undefined && { body: asked }) };
        const answer = await ask(pathOf(run), init, { ...env, ...cut.env });
        const text = await answer.text();
        expect(text).not.toMatch(/\.ts\b|CutOff|node_modules| at /);
        if (answer.status >= 500) {
          const id = answer.headers.get("x-request-id");
          expect(JSON.parse(text)).toMatchObject({
            code: "INTERNAL",
            error: `internal error, request ${id}`,
          });
        }
        isDone = cut.calls() <= call;
        expect(call).toBeLessThan(60);
      }
    },
  );
});
