import { CODES, isCode } from "../../protocol/codes.ts";

/** `GET /global/health`: answers without a credential and without touching storage. */
export function health(): Response {
  return Response.json({ healthy: true, ok: true, engine: "baton" });
}

/** `GET /problems/{code}`: what a problem's `type` URL leads to (RFC 9457 §3.1.1); null for no such code. */
export function describeProblem(code: string): Response | null {
  if (!isCode(code)) return null;
  const { status, title, hint, retryable } = CODES[code];
  return Response.json({ code, status, title, hint, retryable });
}
