import { CODES, isCode } from "../../protocol/codes.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonAnswer } from "../json.ts";

/** `GET /global/health`: answers without a credential and without touching storage. */
export function health(): HttpAnswer {
  return jsonAnswer({ healthy: true, ok: true, engine: "baton" });
}

/** `GET /problems/{code}`: what a problem's `type` URL leads to (RFC 9457 §3.1.1); null for no such code. */
export function describeProblem(code: string): HttpAnswer | null {
  if (!isCode(code)) return null;
  const { status, title, hint, retryable } = CODES[code];
  return jsonAnswer({ code, status, title, hint, retryable });
}
