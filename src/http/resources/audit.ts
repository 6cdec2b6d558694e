import type { AuditViewName } from "../../run/audit-views.ts";
import { type Call, unwrap } from "../call.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonText } from "../json.ts";
import { isWholeNumber, pageLimit, pageLinks, readCursor } from "../pages.ts";

/** A view on `/context`: all of it, with totals of what it shows (contract 02 §6). */
async function viewContext(call: Call, view: AuditViewName): Promise<HttpAnswer> {
  const { since_seq, tail } = call.query({ since_seq: "uint", tail: "uint" });
  const query = { view, sinceSeq: since_seq ?? 0, tail: tail ?? null, limit: null, cursorSeq: null };
  const { members } = unwrap(await call.run().readAuditView(query));
  return jsonText(["{", members, "}"]);
}

/** A view on `/v1`: pages, with the totals of the whole run on each. */
async function viewNative(call: Call, view: AuditViewName): Promise<HttpAnswer> {
  const { since_seq, tail, limit, cursor } = call.query({
    since_seq: "uint",
    tail: "uint",
    limit: "uint",
    cursor: "string",
  });
  const query = {
    view,
    sinceSeq: since_seq ?? 0,
    tail: tail ?? null,
    limit: pageLimit(limit),
    cursorSeq: readCursor(cursor, isWholeNumber),
  };
  const { members, nextSeq } = unwrap(await call.run().readAuditView(query));
  return jsonText(["{", members, ",", JSON.stringify(auditLinks(call, nextSeq)).slice(1)]);
}

/** The links of a page. They keep `since_seq`: pages that go from new to old end there. */
function auditLinks(call: Call, nextSeq: number | null) {
  const links = pageLinks(call, nextSeq);
  const since = call.url.searchParams.get("since_seq");
  return links.next === null || since === null
    ? links
    : { ...links, next: `${links.next}&since_seq=${encodeURIComponent(since)}` };
}

/** `GET …/ledger` (contract 06 §4). */
export const ledgerContext = (call: Call) => viewContext(call, "ledger");
export const ledgerNative = (call: Call) => viewNative(call, "ledger");

/** `GET …/checkpoints/mutations` (contract 06 §5). */
export const mutationsContext = (call: Call) => viewContext(call, "mutations");
export const mutationsNative = (call: Call) => viewNative(call, "mutations");

/** `GET …/checkpoints/mutations/rollback-preview` (contract 06 §7). */
export const previewContext = (call: Call) => viewContext(call, "preview");
export const previewNative = (call: Call) => viewNative(call, "preview");

/** `GET …/checkpoints/mutations/rollback-history` (contract 06 §8). */
export const historyContext = (call: Call) => viewContext(call, "history");
export const historyNative = (call: Call) => viewNative(call, "history");

/** `GET …/governance-evidence` (contract 02 §9.1). */
export async function getEvidence(call: Call): Promise<HttpAnswer> {
  return jsonText(["{", unwrap(await call.run().readEvidence()), "}"]);
}
