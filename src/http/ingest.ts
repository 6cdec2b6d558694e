import { findHookByPublicId, type Hook } from "../directory/hooks.ts";
import type { Env } from "../env.ts";
import { processDelivery } from "../hooks/in/process.ts";
import { maxBodyBytes, type Receipt, receive } from "../hooks/in/receive.ts";
import { Received } from "../hooks/in/received.ts";
import { noteRefusal } from "../hooks/in/refusals.ts";
import { hasScope } from "../identity/scopes.ts";
import { tenantKey } from "../identity/tenant.ts";
import { MAX_DELIVERY_BYTES } from "../protocol/limits.ts";
import { authenticate } from "./authenticate.ts";
import { bodyTooLarge, readBytes } from "./body.ts";
import { afterBody, declaredLength } from "./content-headers.ts";
import type { HttpAnswer } from "./http-answer.ts";
import { jsonAnswer } from "./json.ts";
import { keyringFor } from "./keyring.ts";
import { RequestRefused } from "./problem.ts";
import { limitRate, networkOf } from "./rate.ts";
import { refuseMethod } from "./router.ts";

/** The route of deliveries, as the log has it. It is in no list: it needs no credential. */
export const INGEST = { path: "/hooks/:public_id", door: "native" } as const;

/** A request to a hook. */
interface Incoming {
  request: Request;
  env: Env;
  context: ExecutionContext;
  publicId: string;
  /** Told which hook it is, before anything else is done. */
  onFound(hook: Hook): void;
}

/** What stands in a hook's URL behind `/hooks/`; null for any other path. */
export function publicIdOf(path: string): string | null {
  return /^\/hooks\/([^/]{1,200})$/.exec(path)?.[1] ?? null;
}

/**
 * `POST /hooks/{public_id}`: takes in a delivery. No credential but what the hook's scheme wants. Cheap checks come first, and
 * nothing is answered with 202 that is not durable; what is made of it comes after the answer.
 */
export async function ingest(incoming: Incoming): Promise<HttpAnswer> {
  const { request } = incoming;
  if (request.method !== "POST") refuseMethod(request.method, ["POST"]);
  return afterBody(request, take(incoming));
}

async function take({ request, env, context, publicId, onFound }: Incoming): Promise<HttpAnswer> {
  if ((declaredLength(request) ?? 0) > MAX_DELIVERY_BYTES) throw bodyTooLarge(MAX_DELIVERY_BYTES);
  await limitRate(env, "network", networkOf(request));
  const keyring = keyringFor(env);
  const hook = await findHookByPublicId(env.DIRECTORY, publicId);
  if (hook === null) throw new RequestRefused({ code: "HOOK_NOT_FOUND", error: "hook not found" });
  onFound(hook);
  if (!hook.enabled) throw new RequestRefused({ code: "HOOK_DISABLED", error: "the hook is disabled" });
  await limitRate(env, "hook", hook.hook_id);

  const received = new Received(request.headers, await readBytes(request, maxBodyBytes(env, hook)));
  const nowMs = Date.now();
  const hasCredential = () => mayDeliver(request, env, context, hook);
  const receipt = await receive(env, keyring, hook, received, { nowMs, hasCredential });
  if ("failure" in receipt) {
    context.waitUntil(noteRefusal(env.DIRECTORY, hook, receipt.failure, nowMs));
    throw new RequestRefused({ code: "SIGNATURE_INVALID", error: "signature_invalid" });
  }
  if ("exceeded" in receipt) throw new RequestRefused(receipt.exceeded);
  // A repeat is left alone: the first one is at work, or cron is about to be.
  if ("kept" in receipt && receipt.kept.status === "accepted") {
    context.waitUntil(processDelivery(env, receipt.kept.key, nowMs));
  }
  return answerOf(receipt, hook, received);
}

/** Whether the request's own credential may deliver to the hook: one of the same tenant, with the scope `ingest`. */
async function mayDeliver(
  request: Request,
  env: Env,
  context: ExecutionContext,
  hook: Hook,
): Promise<boolean> {
  const principal = await authenticate(request, env, context).catch((error: unknown) => {
    if (error instanceof RequestRefused && error.problem.code === "AUTH_REQUIRED") return null;
    throw error;
  });
  if (principal === null) return false;
  // Whoever holds the root credential acts for every tenant. One that is bound to a run delivers to no other.
  const isOfTenant = principal.kind === "root" || tenantKey(principal.tenant) === hook.tenant;
  return isOfTenant && principal.run_id === null && hasScope(principal.scopes, "ingest");
}

function answerOf(
  receipt: Exclude<Receipt, { failure: unknown } | { exceeded: unknown }>,
  hook: Hook,
  received: Received,
): HttpAnswer {
  if ("handshake" in receipt) {
    const { handshake } = receipt;
    return jsonAnswer(
      handshake.kind === "challenge" ? { challenge: handshake.challenge } : { status: "pong" },
    );
  }
  const { key, status, keyed_by, run_id } = receipt.kept;
  const headers = { "baton-delivery-id": key.delivery_id };
  // Slack shows its user whatever a command or button is answered with, and wants 200 of them.
  if (hook.scheme.kind === "slack" && received.isForm) return { status: 200, headers, body: null };
  return jsonAnswer(
    { delivery_id: key.delivery_id, status, keyed_by, run_id: run_id ?? undefined },
    { status: 202, headers },
  );
}
