import type { Env } from "../env.ts";
import type { Principal } from "../identity/principal.ts";
import { hasScope } from "../identity/scopes.ts";
import { authenticate } from "./authenticate.ts";
import { Call, type Door } from "./call.ts";
import type { HttpAnswer } from "./http-answer.ts";
import { contextProblem, nativeProblem, type Problem, RequestRefused } from "./problem.ts";
import { limitPrincipal, limitRate, networkOf } from "./rate.ts";
import { describeProblem, health } from "./resources/system.ts";
import { findRoute, refuseMethod } from "./router.ts";
import { pathOf, targetOf } from "./target.ts";

/** One request, with what every answer to it needs. */
interface Incoming {
  request: Request;
  /** HEAD is answered like GET. */
  method: string;
  /** Percent-encoded, as it came. */
  path: string;
  id: string;
}

/**
 * Answers one request. GET routes answer HEAD too: the same headers, no body. Whatever goes wrong is written by the
 * door that the path belongs to.
 */
export async function serve(request: Request, env: Env, context: ExecutionContext): Promise<Response> {
  const isHead = request.method === "HEAD";
  const incoming: Incoming = {
    request,
    method: isHead ? "GET" : request.method,
    // Parsing the whole URL would cost each request more than finding its route.
    path: pathOf(targetOf(request.url)),
    id: crypto.randomUUID(),
  };
  const { status, headers, body, webSocket } = await answer(incoming, env, context).catch((error: unknown) =>
    refusal(error, incoming),
  );
  if (isHead && body instanceof ReadableStream) await body.cancel();
  return new Response(isHead ? null : body, {
    status,
    headers: {
      ...headers,
      // Any origin, method and header, as the contract has it (02 §1.4).
      "access-control-allow-origin": "*",
      "access-control-expose-headers": "*",
      "x-request-id": incoming.id,
    },
    ...(webSocket !== undefined && { webSocket }),
  });
}

/** Where the deployment is, as the client calls it; nothing when it calls it by no name a URL can have. */
function originOf(url: string): string {
  return URL.canParse(url) ? new URL(url).origin : "";
}

/** Preflight and public pages, then credential, route, scope, handler. */
async function answer(
  { request, method, path }: Incoming,
  env: Env,
  context: ExecutionContext,
): Promise<HttpAnswer> {
  if (method === "OPTIONS") return preflight(request);
  const page = publicPage(path);
  if (page !== null && method !== "GET") refuseMethod(method, ["GET", "HEAD"]);
  if (page !== null) return page;

  const principal = await identify(request, env);
  const { route, ids } = findRoute(method, path);
  if (!hasScope(principal.scopes, route.needs)) {
    throw new RequestRefused({
      code: "SCOPE_INSUFFICIENT",
      error: `this needs the scope ${route.needs}`,
      needs: route.needs,
      scopes: [...principal.scopes],
    });
  }
  return route.handle(new Call({ request, env, context, principal, door: route.door, ids }));
}

/**
 * Who sends a request; both those who cannot say it and those who can are counted.
 * @throws RequestRefused as `authenticate`, and `RATE_LIMITED`
 */
async function identify(request: Request, env: Env): Promise<Principal> {
  let principal: Principal;
  try {
    principal = await authenticate(request, env);
  } catch (error) {
    const isStranger = error instanceof RequestRefused && error.problem.code === "AUTH_REQUIRED";
    if (isStranger) await limitRate(env, "network", networkOf(request));
    throw error;
  }
  // Awaiting nothing would still cost the root credential a turn.
  if (principal.kind !== "root") await limitPrincipal(env, principal);
  return principal;
}

/** Pages that need no credential; null for any other path. */
function publicPage(path: string): HttpAnswer | null {
  if (path === "/global/health") return health();
  const code = /^\/problems\/([A-Z_]+)$/.exec(path)?.[1];
  return code === undefined ? null : describeProblem(code);
}

function preflight(request: Request): HttpAnswer {
  return {
    status: 204,
    headers: {
      "access-control-allow-methods": "GET, HEAD, POST, PUT, DELETE, OPTIONS",
      "access-control-allow-headers": request.headers.get("access-control-request-headers") ?? "*",
      "access-control-max-age": "86400",
    },
    body: null,
  };
}

/** What to tell the caller about an error: refusals as they are, faults as nothing but an id to ask about. */
function refusal(error: unknown, incoming: Incoming): HttpAnswer {
  if (error instanceof RequestRefused) {
    const answer = problemAnswer(error.problem, incoming);
    return { ...answer, headers: { ...answer.headers, ...error.headers } };
  }
  const fault = error instanceof Error ? (error.stack ?? error.message) : String(error);
  console.error(JSON.stringify({ event: "request_failed", request_id: incoming.id, fault }));
  return problemAnswer({ code: "INTERNAL", error: `internal error, request ${incoming.id}` }, incoming);
}

function problemAnswer(problem: Problem, { request, path, id }: Incoming): HttpAnswer {
  if (doorOf(path) === "context") return contextProblem(problem);
  return nativeProblem(problem, { origin: originOf(request.url), path, requestId: id });
}

function doorOf(path: string): Door {
  return /^\/v1(\/|$)/.test(path) ? "native" : "context";
}
