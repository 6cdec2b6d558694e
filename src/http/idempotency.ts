import { readIdempotencyKey } from "../protocol/idempotency-key.ts";
import { RequestRefused, refuseIssues } from "./problem.ts";

/** The command id of a request with its digest. */
export interface Identified {
  commandId: string;
  fingerprint: string;
}

/**
 * The request's idempotency key: the `Idempotency-Key` header or the body's `command_id`, with a digest of what was
 * asked, to tell a repeat from another request under the same key.
 * @param asked operation, target and input; equal requests must give equal JSON.
 * @throws RequestRefused when both are given and differ, or the header cannot be read.
 */
export async function identify(
  request: Request,
  bodyCommandId: string | undefined,
  asked: unknown,
): Promise<Identified | null> {
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
  const commandId = header.key ?? bodyCommandId;
  return commandId === undefined ? null : { commandId, fingerprint: await digest(asked) };
}

/** SHA-256 of a value's JSON, hex. */
export async function digest(value: unknown): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify(value));
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
