import { type IRequestStrict, Router } from "itty-router";
import type { Env } from "../env.ts";
import { credentialOf, isSameSecret } from "../identity/credential.ts";
import { LOCAL_TENANT } from "../identity/tenant.ts";
import { Call, type Door } from "./call.ts";
import { pathIds } from "./path-ids.ts";
import { contextProblem, nativeProblem, type Problem, RequestRefused } from "./problem.ts";
import { describeProblem, health } from "./resources/system.ts";
import { ROUTES, type Route } from "./routes.ts";

type RequestHandler = (request: IRequestStrict, env: Env, url: URL) => Promise<Response> | Response;

/** Any origin, method and header, as the contract has it (02 §1.4). */
const CORS = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers": "*",
};

/** GET routes answer HEAD too: the same headers, no body. */
export async function serve(request: Request, env: Env): Promise<Response> {
  if (request.method !== "HEAD") return answer(request, env);
  const response = await answer(new Request(request, { method: "GET" }), env);
  await response.body?.cancel();
  return new Response(null, response);
}

/**
 * Answers one request: preflight and public pages, then credential, route, handler. Whatever goes wrong is written by the
 * door that the path belongs to.
 */
async function answer(request: Request, env: Env): Promise<Response> {
  const url = new URL(request.url);
  const requestId = crypto.randomUUID();
  const response = await route(request, env, url).catch((error: unknown) => refusal(error, url, requestId));
  for (const [name, value] of Object.entries(CORS)) response.headers.set(name, value);
  response.headers.set("x-request-id", requestId);
  return response;
}

async function route(request: Request, env: Env, url: URL): Promise<Response> {
  if (request.method === "OPTIONS") return preflight(request);
  const page = publicPage(url.pathname);
  if (page !== null && request.method !== "GET") refuseMethod(request, ["GET", "HEAD"]);
  if (page !== null) return page;

  authenticate(request, env);
  const isClean = url.pathname === "/" || !/\/(\/|$)/.test(url.pathname);
  const response = isClean ? await router.fetch(request as IRequestStrict, env, url) : undefined;
  if (response instanceof Response) return response;
  refuseRoute(request, url, isClean);
}

function authenticate(request: Request, env: Env): void {
  if (!env.BATON_TOKEN) {
    throw new RequestRefused({
      code: "SETUP_REQUIRED",
      error: "this deployment has no token: set the secret BATON_TOKEN (`wrangler secret put BATON_TOKEN`)",
    });
  }
  const credential = credentialOf(request.headers);
  if (credential !== null && isSameSecret(credential, env.BATON_TOKEN)) return;
  throw new RequestRefused({
    code: "AUTH_REQUIRED",
    error: "Unauthorized: missing or invalid API token",
  });
}

const router = Router<IRequestStrict, [Env, URL]>();
for (const { method, path, door, handle } of ROUTES) {
  const handler: RequestHandler = (request, env, url) =>
    handle(new Call(request as unknown as Request, env, url, LOCAL_TENANT, door, pathIds(request.params)));
  router[verbOf(method)](path, handler);
}

function verbOf(method: Route["method"]): "get" | "post" | "put" {
  return method === "GET" ? "get" : method === "POST" ? "post" : "put";
}

/** No route took the request: the path is unknown, or known for other methods. */
function refuseRoute(request: Request, url: URL, isClean: boolean): never {
  const allow = new Set<string>();
  for (const [method, pattern] of router.routes) {
    if (!isClean || !pattern.test(url.pathname)) continue;
    allow.add(method);
    if (method === "GET") allow.add("HEAD");
  }
  if (allow.size === 0)
    throw new RequestRefused({ code: "ROUTE_NOT_FOUND", error: `no route ${url.pathname}` });
  refuseMethod(request, [...allow]);
}

function refuseMethod(request: Request, allow: string[]): never {
  const error = `${request.method} is not allowed here`;
  throw new RequestRefused({ code: "METHOD_NOT_ALLOWED", error, allow });
}

/** Pages that need no credential; null for any other path. */
function publicPage(path: string): Response | null {
  if (path === "/global/health") return health();
  const code = /^\/problems\/([A-Z_]+)$/.exec(path)?.[1];
  return code === undefined ? null : describeProblem(code);
}

function preflight(request: Request): Response {
  return new Response(null, {
    status: 204,
    headers: {
      "access-control-allow-methods": "GET, HEAD, POST, PUT, OPTIONS",
      "access-control-allow-headers": request.headers.get("access-control-request-headers") ?? "*",
      "access-control-max-age": "86400",
    },
  });
}

/** What to tell the caller about an error: refusals as they are, faults as nothing but an id to ask about. */
function refusal(error: unknown, url: URL, requestId: string): Response {
  if (error instanceof RequestRefused) {
    const response = problemAnswer(error.problem, url, requestId);
    for (const [name, value] of Object.entries(error.headers)) response.headers.set(name, value);
    return response;
  }
  const fault = error instanceof Error ? (error.stack ?? error.message) : String(error);
  console.error(JSON.stringify({ event: "request_failed", request_id: requestId, fault }));
  return problemAnswer({ code: "INTERNAL", error: `internal error, request ${requestId}` }, url, requestId);
}

function problemAnswer(problem: Problem, url: URL, requestId: string): Response {
  return doorOf(url) === "context" ? contextProblem(problem) : nativeProblem(problem, url, requestId);
}

function doorOf(url: URL): Door {
  return /^\/v1(\/|$)/.test(url.pathname) ? "native" : "context";
}
