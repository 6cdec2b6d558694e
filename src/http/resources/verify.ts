import { verifyLog } from "../../run/verify-log.ts";
import { type Call, unwrap } from "../call.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonAnswer } from "../json.ts";
import { isWholeNumber, pageLinks, readCursor } from "../pages.ts";
import { refuseIssues } from "../problem.ts";

/** `GET /v1/…/verify`: whether the log is what was committed (docs/log.md). A long one is verified in several requests. */
export async function verify(call: Call): Promise<HttpAnswer> {
  const { from_seq, upto_seq, cursor } = call.query({ from_seq: "uint", upto_seq: "uint", cursor: "string" });
  if (from_seq === 0) refuse("from_seq", "min", 1, "from_seq must be at least 1");
  const from = readCursor(cursor, isPosition) ?? from_seq ?? 1;
  if (upto_seq !== undefined && upto_seq < from) {
    refuse("upto_seq", "min", from, `upto_seq must be at least ${from}, where verifying begins`);
  }
  const { next_seq, ...verification } = unwrap(await verifyLog(call.run(), from, upto_seq ?? null));
  return jsonAnswer({ ...verification, ...pageLinks(call, next_seq) });
}

function isPosition(value: unknown): value is number {
  return isWholeNumber(value) && value > 0;
}

function refuse(field: string, rule: string, limit: number, message: string): never {
  refuseIssues("QUERY_INVALID", [{ field, rule, limit, message }]);
}
