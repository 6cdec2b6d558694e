import { describe, expect, inject, it } from "vitest";
import { call, freshId, must, newRun, raw, routes } from "../support.ts";

describe("authentication", () => {
  const token = () => inject("token");
  /** Headers besides none; %T stands for the token. */
  const credentials: [string, Record<string, string>, boolean][] = [
    ["x-agent-token", { "x-agent-token": "%T" }, true],
    ["x-agent-token padded", { "x-agent-token": "  %T " }, true],
    ["x-tandem-token", { "x-tandem-token": "%T" }, true],
    ["Bearer", { authorization: "Bearer %T" }, true],
    ["bearer", { authorization: "bearer  %T " }, true],
    ["blank first header", { "x-agent-token": " ", "x-tandem-token": "%T" }, true],
    ["two blank headers", { "x-agent-token": "", "x-tandem-token": " ", authorization: "Bearer %T" }, true],
    ["right first, wrong second", { "x-agent-token": "%T", authorization: "Bearer no" }, true],
    ["wrong first, right second (D10)", { "x-agent-token": "no", "x-tandem-token": "%T" }, false],
    ["wrong second, right third (D10)", { "x-tandem-token": "no", authorization: "Bearer %T" }, false],
    ["BEARER", { authorization: "BEARER %T" }, false],
    ["Basic", { authorization: "Basic %T" }, false],
    ["no scheme", { authorization: "%T" }, false],
    ["Bearer without a token", { authorization: "Bearer " }, false],
    ["a prefix of the token", { "x-agent-token": "%P" }, false],
    ["the token and more", { "x-agent-token": "%Tx" }, false],
    ["none", {}, false],
  ];
  it.each(credentials)("02§1.1 %s passes: %s", async (_name, headers, passes) => {
    const run = await newRun();
    const sent = Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [
        name,
        value.replace("%T", token()).replace("%P", token().slice(0, -1)),
      ]),
    );
    const answer = await run.get("", { "x-agent-token": null, ...sent });
    expect(answer.status).toBe(passes ? 200 : 401);
    if (!passes) {
      expect(answer.body).toMatchObject({
        error: "Unauthorized: missing or invalid API token",
        code: "AUTH_REQUIRED",
      });
    }
  });

  const unnamed: [string, string][] = [
    ["GET", "/context/runs"],
    ["POST", "/context/runs"],
    ["DELETE", "/context/runs"],
    ["GET", "/context/nothing"],
    ["GET", "/nothing/at/all"],
    ["GET", "/context/runs/x/events"],
  ];
  it.each(unnamed)("02§1.1 401 comes before routing and decoding: %s %s", async (method, path) => {
    const answer = await call(method, path, undefined, { "x-agent-token": null });
    expect([answer.status, answer.body.code]).toEqual([401, "AUTH_REQUIRED"]);
  });

  it("02§1.1 health and OPTIONS need no token", async () => {
    const none = { "x-agent-token": null };
    expect((await call("GET", "/global/health", undefined, none)).status).toBe(200);
    expect((await call("OPTIONS", "/context/runs", undefined, none)).status).toBeLessThan(300);
  });
});

describe("routing", () => {
  const unknown: [string, string][] = [
    ["GET", "/context"],
    ["GET", "/context/run"],
    ["GET", "/Context/runs"],
    ["GET", "/context/runs/"],
    ["POST", "/context/runs/"],
    ["GET", "/context/runs/x/"],
    ["GET", "/context/runs/x/event"],
    ["POST", "/context/runs/x/tasks/claim/"],
    ["POST", "/context/runs/x/tasks/t"],
    ["POST", "/context/runs/x/tasks/t/transition/more"],
    ["GET", "/context/runs/x/todos"],
    ["GET", "//context/runs"],
  ];
  it.each(unknown)("02§1.3 404 for the unknown path %s %s", async (method, path) => {
    const answer = await call(method, path, method === "POST" ? {} : undefined);
    expect([answer.status, answer.body.code], answer.text).toEqual([404, "ROUTE_NOT_FOUND"]);
  });

  const methods: [string, string[]][] = [
    ["", ["GET", "POST"]],
    ["/x", ["GET", "PUT"]],
    ["/x/events", ["GET", "POST"]],
    ["/x/todos/sync", ["POST"]],
    ["/x/driver/next", ["POST"]],
    ["/x/lease/validate", ["POST"]],
    ["/x/blackboard", ["GET"]],
    ["/x/blackboard/patches", ["GET", "POST"]],
    ["/x/tasks", ["POST"]],
    ["/x/tasks/claim", ["POST"]],
    ["/x/tasks/t/transition", ["POST"]],
    ["/x/checkpoints", ["POST"]],
    ["/x/checkpoints/latest", ["GET"]],
    ["/x/replay", ["GET"]],
  ];
  it.each(methods)("02§1.3 405 with Allow on /context/runs%s", async (path, allowed) => {
    for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE"].filter(
      (name) => !allowed.includes(name),
    )) {
      const answer = await call(method, `/context/runs${path}`, method === "GET" ? undefined : {});
      expect([answer.status, answer.body.code], method).toEqual([405, "METHOD_NOT_ALLOWED"]);
      const allow = (answer.headers.get("allow") ?? "").split(",").map((name) => name.trim());
      expect(allow.filter((name) => !["HEAD", "OPTIONS"].includes(name)).sort(), method).toEqual(allowed);
    }
  });

  it("02§1 ids in the path are percent-decoded", async () => {
    const id = freshId("a:b");
    must(await call("POST", "/context/runs", { run_id: id, objective: "o" }));
    expect(must(await call("GET", `/context/runs/${id}`)).run.run_id).toBe(id);
    expect(
      must(await call("GET", `/context/runs/${id.replace(":", "%3A").replace("b", "%62")}`)).run.run_id,
    ).toBe(id);
    const run = routes(id);
    must(await run.post("/tasks", { tasks: [{ id: "t:1", task_type: "t", status: "failed" }] }));
    expect(must(await run.post("/tasks/%74%3a1/transition", { action: "retry" })).task.id).toBe("t:1");
  });

  const badIds = [
    "a%2Fb",
    "a%20b",
    "%C3%A9",
    "%FF",
    "a%00",
    "%",
    "%zz",
    "a%5Cb",
    "x".repeat(201),
    "a+b",
    "a~b",
  ];
  it.each(badIds)("D03 400 for the id %s in the path", async (id) => {
    const run = await newRun();
    for (const answer of [
      await call("GET", `/context/runs/${id}`),
      await call("GET", `/context/runs/${id}/events?tail=x`),
      await call("POST", `/context/runs/${id}/events`, raw("{"), { "content-type": "text/plain" }),
      await run.post(`/tasks/${id}/transition`, raw("{")),
    ]) {
      expect(answer.status, answer.text).toBe(400);
      expect(answer.body.code).toBe("ID_INVALID");
    }
  });

  it("D99 every hard refusal has a JSON body with error and code", async () => {
    const run = await newRun();
    for (const answer of [
      await routes(freshId()).get(),
      await run.post("/tasks/none/transition", { action: "retry" }),
      await run.get("/events?tail=x"),
      await run.post("/events", {}),
      await call("DELETE", "/context/runs"),
      await call("GET", "/none"),
    ]) {
      expect(answer.status).toBeGreaterThanOrEqual(400);
      expect(answer.headers.get("content-type")).toMatch(/json/);
      expect(answer.body).toMatchObject({
        error: expect.any(String),
        code: expect.stringMatching(/^[A-Z_]+$/),
      });
    }
  });

  it("D104 CORS: any origin, any method, any header", async () => {
    const origin = { origin: "https://somewhere.example" };
    const asked = {
      ...origin,
      "x-agent-token": null,
      "access-control-request-method": "PUT",
      "access-control-request-headers": "content-type,x-agent-token,if-match",
    };
    const preflight = await call("OPTIONS", "/context/runs/x", undefined, asked);
    expect(preflight.status).toBeLessThan(300);
    expect(["*", origin.origin]).toContain(preflight.headers.get("access-control-allow-origin"));
    expect(preflight.headers.get("access-control-allow-methods")).toMatch(/\*|PUT/);
    expect(preflight.headers.get("access-control-allow-headers")).toMatch(/\*|x-agent-token/i);
    const answer = await (await newRun()).get("", origin);
    expect(["*", origin.origin]).toContain(answer.headers.get("access-control-allow-origin"));
  });
});
