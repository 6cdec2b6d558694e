import type { Env } from "../env.ts";
import type { Principal } from "../identity/principal.ts";
import { hasScope } from "../identity/scopes.ts";
import { authenticate } from "./authenticate.ts";
import { checkRunBound } from "./bounds.ts";
import { Call } from "./call.ts";
import { corsHeaders, preflightHeaders } from "./cors.ts";
import { frontPage, requireSetup } from "./front-page.ts";
import { handleAnywhere, isHomeless } from "./homeless.ts";
import type { HttpAnswer } from "./http-answer.ts";
import { INGEST, ingest, publicIdOf } from "./ingest.ts";
import { passingFault } from "./platform-fault.ts";
import { contextProblem, nativeProblem, type Problem, RequestRefused } from "./problem.ts";
import { overQuota } from "./quota.ts";
import { limitPrincipal, limitRate, networkOf } from "./rate.ts";
import { logRequest, type RequestFacts } from "./request-log.ts";
import { describeProblem, health } from "./resources/system.ts";
import type { Door } from "./route-facts.ts";
import { findRoute, refuseMethod } from "./router.ts";
import { safeHeaders } from "./safe-headers.ts";
import { originOf, pathOf, targetOf } from "./target.ts";

/** One request, with what every answer to it needs. */
interface Incoming extends RequestFacts {
  request: Request;
  /** Percent-encoded, as it came. */
  path: string;
}

/**
 * Answers one request. GET routes answer HEAD too: the same headers, no body. Whatever goes wrong is written by the
 * door that the path belongs to.
 */
export async function serve(request: Request, env: Env, context: ExecutionContext): Promise<Response> {
  const isHead = request.method === "HEAD";
  const incoming: Incoming = {
    request,
    // HEAD is answered like GET.
    method: isHead ? "GET" : request.method,
    // Parsing the whole URL would cost each request more than finding its route.
    path: pathOf(targetOf(request.url)),
    id: crypto.randomUUID(),
    startedAtMs: Date.now(),
    principal: null,
    route: null,
    ids: {},
    code: null,
    reason: null,
  };
  const answered = await answer(incoming, env, context).catch((error: unknown) => refusal(error, incoming));
  const { status, headers, body, webSocket } = answered;
  if (isHead && body instanceof ReadableStream) await body.cancel();
  const response = new Response(isHead ? null : body, {
    status,
    headers: {
      ...safeHeaders(request.url),
      ...headers,
      ...corsHeaders(env, request),
      "x-request-id": incoming.id,
    },
    ...(webSocket !== undefined && { webSocket }),
  });
  logRequest(env, incoming, answered);
  return response;
}

/** Preflight and public pages, then credential, route, scope, handler. */
async function answer(incoming: Incoming, env: Env, context: ExecutionContext): Promise<HttpAnswer> {
  const { request, method, path } = incoming;
  if (method === "OPTIONS") return { status: 204, headers: preflightHeaders(env, request), body: null };
  const page = publicPage(path, env, request);
  if (page !== null && method !== "GET") refuseMethod(method, ["GET", "HEAD"]);
  if (page !== null) return page;

  requireSetup(env);
  const publicId = publicIdOf(path);
  if (publicId !== null) {
    incoming.route = INGEST;
    const onFound = ({ hook_id }: { hook_id: string }) => {
      incoming.ids = { hook_id };
    };
    return ingest({ request, env, context, publicId, onFound });
  }

  const principal = await principalOf(request, env, context);
  incoming.principal = principal;
  const { route, ids } = findRoute(method, path);
  incoming.route = route;
  incoming.ids = ids;
  if (route.needs !== null && !hasScope(principal.scopes, route.needs)) {
    throw new RequestRefused({
      code: "SCOPE_INSUFFICIENT",
      error: `this needs the scope ${route.needs}`,
      needs: route.needs,
      scopes: [...principal.scopes],
    });
  }
  checkRunBound(principal, route, ids.run_id);
  const over = principal.kind === "root" ? null : await overQuota(env, principal, route, request);
  const call = new Call({ request, env, context, principal, door: route.door, ids, over });
  if (!isHomeless(call)) return route.handle(call);
  return handleAnywhere(route, call, ids.run_id, (other) => {
    incoming.principal = other;
  });
}

/**
 * Who sends a request; both those who cannot say it and those who can are counted.
 * @throws RequestRefused as `authenticate`, and `RATE_LIMITED`
 */
async function principalOf(request: Request, env: Env, context: ExecutionContext): Promise<Principal> {
  let principal: Principal;
  try {
    principal = await authenticate(request, env, context);
  } catch (error) {
    const isStranger = error instanceof RequestRefused && error.problem.code === "AUTH_REQUIRED";
    if (isStranger) await limitRate(env, "network", networkOf(request));
    throw error;
  }
  // Awaiting nothing would still cost the root credential a turn.
  if (principal.kind !== "root") await limitPrincipal(env, principal);
  return principal;
}

/** Pages that need no credential; null for any other path. Without its secret, a deployment has but two. */
function publicPage(path: string, env: Env, request: Request): HttpAnswer | null {
  if (path === "/global/health") return health();
  if (path === "/") return frontPage(env, originOf(request.url));
  const code = /^\/problems\/([A-Z_]+)$/.exec(path)?.[1];
  return code === undefined || !env.BATON_TOKEN ? null : describeProblem(code);
}

/** What to tell the caller about an error: refusals as they are, faults as nothing but an id to ask about. */
function refusal(error: unknown, incoming: Incoming): HttpAnswer {
  if (error instanceof RequestRefused) {
    incoming.code = error.problem.code;
    incoming.reason = error.reason;
    const answer = problemAnswer(error.problem, incoming);
    return { ...answer, headers: { ...answer.headers, ...error.headers } };
  }
  const passing = passingFault(error);
  if (passing !== null) {
    incoming.code = passing.code;
    console.error(JSON.stringify({ event: "platform_fault", request_id: incoming.id, fault: String(error) }));
    return problemAnswer(passing, incoming);
  }
  const fault = error instanceof Error ? (error.stack ?? error.message) : String(error);
  console.error(JSON.stringify({ event: "request_failed", request_id: incoming.id, fault }));
  incoming.code = "INTERNAL";
  return problemAnswer({ code: "INTERNAL", error: `internal error, request ${incoming.id}` }, incoming);
}

function problemAnswer(problem: Problem, { request, path, id }: Incoming): HttpAnswer {
  if (doorOf(path) === "context") return contextProblem(problem);
  return nativeProblem(problem, { origin: originOf(request.url), path, requestId: id });
}

function doorOf(path: string): Door {
  return /^\/(v1|hooks)(\/|$)/.test(path) ? "native" : "context";
}
