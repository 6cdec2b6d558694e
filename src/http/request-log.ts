import type { Env } from "../env.ts";
import type { Principal } from "../identity/principal.ts";
import { tenantKey } from "../identity/tenant.ts";
import type { HttpAnswer } from "./http-answer.ts";
import type { RouteFacts } from "./route-facts.ts";

/** What is known of a request, for its line in the log: filled in as it is found out. */
export interface RequestFacts {
  /** In the answer as `x-request-id`. */
  id: string;
  method: string;
  startedAtMs: number;
  principal: Principal | null;
  route: Pick<RouteFacts, "path" | "door"> | null;
  /** Checked ones only. */
  ids: Readonly<Record<string, string>>;
  /** Of the problem that it was answered with. */
  code: string | null;
  /** Why a credential was refused: the caller is not told. */
  reason: string | null;
}

/**
 * Writes the one line of a request: who asked for what, and what came of it. Only what cannot hold a secret or a text of a
 * client's: the route and not the path, ids that passed the rule of ids, no query, no header, no payload. A stream's line is
 * written when it begins.
 *
 * With REQUEST_LOG = `problems`, requests that went well leave no line; with `none`, no request does.
 */
export function logRequest(env: Env, facts: RequestFacts, answer: HttpAnswer): void {
  const { route, principal, ids, code } = facts;
  const { REQUEST_LOG: logged } = env;
  if (logged === "none" || (logged === "problems" && code === null)) return;
  console.log(
    JSON.stringify({
      event: "request",
      request_id: facts.id,
      method: facts.method,
      route: route?.path,
      door: route?.door,
      status: answer.status,
      code: code ?? undefined,
      reason: facts.reason ?? undefined,
      duration_ms: Date.now() - facts.startedAtMs,
      tenant: principal === null ? undefined : tenantKey(principal.tenant),
      token_id: principal?.token_id,
      run_id: ids.run_id ?? createdRun(answer),
      task_id: ids.task_id,
      hook_id: ids.hook_id,
      subscription_id: ids.subscription_id,
      delivery_id: ids.delivery_id ?? answer.headers["baton-delivery-id"],
      rows_read: count(answer.headers["baton-rows-read"]),
      rows_written: count(answer.headers["baton-rows-written"]),
    }),
  );
}

/** The run that an answer says was made. */
function createdRun({ headers }: HttpAnswer): string | undefined {
  return /^\/v1\/runs\/([^/]+)$/.exec(headers.location ?? "")?.[1];
}

function count(header: string | undefined): number | undefined {
  return header === undefined ? undefined : Number(header);
}
