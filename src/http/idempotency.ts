import type { Principal } from "../identity/principal.ts";
import { readIdempotencyKey } from "../protocol/idempotency-key.ts";
import type { Call } from "./call.ts";
import { RequestRefused, refuseIssues } from "./problem.ts";
import { pathOf, targetOf } from "./target.ts";

/** The command id of a request with its digest. */
export interface Identified {
  commandId: string;
  fingerprint: string;
}

/**
 * The request's idempotency key with a digest of who asks for what and where, to tell a repeat from another request under the same
 * key.
 * @param asked the input; equal requests must give equal JSON.
 * @throws RequestRefused as {@link keyOf}
 */
export async function identify(
  call: Call,
  bodyCommandId: string | undefined,
  asked: unknown,
): Promise<Identified | null> {
  const commandId = keyOf(call, bodyCommandId);
  return commandId === null ? null : { commandId, fingerprint: await fingerprintOf(call, asked) };
}

/**
 * The `Idempotency-Key` header, or else the body's `command_id`.
 * @throws RequestRefused when both are given and differ, or the header cannot be read.
 */
export function keyOf({ request }: Call, bodyCommandId: string | undefined): string | null {
  const header = readIdempotencyKey(request.headers.get("idempotency-key"));
  if (!header.ok) refuseIssues("HEADER_INVALID", [header.issue]);
  if (header.key !== null && bodyCommandId !== undefined && header.key !== bodyCommandId) {
    const message = "differs from the Idempotency-Key header";
    throw new RequestRefused({
      code: "FIELD_INVALID",
      error: `command_id: ${message}`,
      issues: [{ field: "command_id", rule: "same_as_header", message }],
    });
  }
  return header.key ?? bodyCommandId ?? null;
}

/** A digest of who asks, of the method and path, and of the input. */
export function fingerprintOf({ principal, request, runId }: Call, asked: unknown): Promise<string> {
  // The router has decoded it before: a path and its percent-encoded spelling are one.
  const path = decodeURIComponent(pathOf(targetOf(request.url)));
  // A run may have been moved under another id, with all that was asked of it.
  const place = runId === null ? path : path.replace(`/runs/${runId}`, "/runs/:run_id");
  return digest([actorOf(principal), request.method, place, asked]);
}

/**
 * Who asks, as far as that outlasts a credential: one that is renewed is still the same asker. Those that are bound to an actor or an
 * agent are that; of others, what their tokens were first minted from, or whom another issuer says that they are of.
 */
function actorOf({ tenant, agent_id, ancestors, subject, token_id }: Principal): unknown {
  const { actor_id = null } = tenant;
  if (actor_id !== null || agent_id !== null) return { actor_id, agent_id };
  return ancestors[0] ?? subject ?? token_id;
}

/** SHA-256 of a value's JSON, hex. */
export async function digest(value: unknown): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify(value));
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
