import { type Audit, type EffectKind, NO_AUDIT, withEvent } from "../domain/audit.ts";
import { ledgerRecordOf, toolManifest } from "../domain/ledger.ts";
import { mutationRecordOf } from "../domain/mutations.ts";
import { historyEntryOf, mutationTotals, stepOf } from "../domain/rollback.ts";
import { undoOf } from "../domain/undo.ts";
import { MAX_PAGE_LENGTH } from "../protocol/limits.ts";
import { type AuditEvent, type AuditSource, auditEvents, type LogRange } from "./audit-events.ts";
import { streamedText, type Text } from "./text.ts";

/** Contract 06 §4, §5, §7, §8. */
export type AuditViewName = "ledger" | "mutations" | "preview" | "history";

export interface AuditQuery {
  view: AuditViewName;
  /** Only what is newer than this seq; */
  sinceSeq: number;
  /** and of all events after it, whatever they are, only the last so many. */
  tail: number | null;
  /** At most so many items, with the totals of the whole run; null for all of them, with their own totals. */
  limit: number | null;
  /** Seq of the last item of the page before; null for the first page. */
  cursorSeq: number | null;
}

export interface AuditPage {
  /** JSON members without braces. */
  members: Text;
  /** Seq of the last item; null when there are no more. */
  nextSeq: number | null;
}

interface AuditView {
  kind: EffectKind;
  /** Whose events count in the totals besides. */
  besides?: EffectKind;
  /** The member that holds the items. */
  member: string;
  newestFirst: boolean;
  /** Null when the event has nothing to show. */
  item(found: AuditEvent): unknown;
  totals(audit: Audit): Record<string, unknown>;
}

const VIEWS: Readonly<Record<AuditViewName, AuditView>> = {
  ledger: {
    kind: "ledger",
    besides: "routing",
    member: "records",
    newestFirst: false,
    item: ({ event }) => {
      const { seq, ts_ms, event_id } = event;
      return { seq, ts_ms, event_id, record: ledgerRecordOf(event) };
    },
    totals: ({ ledger, tools }) => ({ summary: ledger, tool_manifest: toolManifest(tools) }),
  },
  mutations: {
    kind: "mutation",
    member: "records",
    newestFirst: false,
    item: ({ event }) => {
      const { seq, ts_ms, event_id } = event;
      const record = mutationRecordOf(event);
      return record === null ? null : { seq, ts_ms, event_id, record, ...undoOf(record) };
    },
    totals: ({ mutations, preview }) => ({
      summary: mutations,
      ...mutationTotals(mutations.record_count, preview),
    }),
  },
  preview: {
    kind: "mutation",
    member: "steps",
    newestFirst: true,
    item: ({ event, appliedSeq }) => {
      const record = mutationRecordOf(event);
      return record === null ? null : stepOf(event, record, appliedSeq);
    },
    totals: ({ preview }) => ({ ...preview }),
  },
  history: {
    kind: "rollback",
    member: "entries",
    newestFirst: false,
    item: ({ event }) => historyEntryOf(event),
    totals: ({ history }) => ({ summary: history }),
  },
};

/** One of the audit views. What it costs follows what it shows: all other events are skipped by index. */
export async function readAuditView(source: AuditSource, query: AuditQuery): Promise<AuditPage> {
  const view = VIEWS[query.view];
  const { audit, run } = source.state.head();
  const range: LogRange = {
    afterSeq:
      query.tail === null ? query.sinceSeq : Math.max(query.sinceSeq, run.last_event_seq - query.tail),
    uptoSeq: run.last_event_seq,
    newestFirst: view.newestFirst,
  };
  if (query.limit === null) {
    return { members: await streamedText(wholeView(source, view, range)), nextSeq: null };
  }
  if (query.cursorSeq !== null && view.newestFirst)
    range.uptoSeq = Math.min(range.uptoSeq, query.cursorSeq - 1);
  if (query.cursorSeq !== null && !view.newestFirst)
    range.afterSeq = Math.max(range.afterSeq, query.cursorSeq);
  const { items, nextSeq } = await pageOf(source, view, range, query.limit);
  const totals = JSON.stringify(view.totals(audit)).slice(1, -1);
  return { members: `"${view.member}":[${items.join(",")}],${totals}`, nextSeq };
}

/** The totals come last: they are known when the items have been sent. */
async function* wholeView(source: AuditSource, view: AuditView, range: LogRange): AsyncGenerator<string> {
  let audit = NO_AUDIT;
  let separator = `"${view.member}":[`;
  for await (const found of auditEvents(source, view.kind, range)) {
    audit = withEvent(audit, found.event).audit;
    const item = view.item(found);
    if (item === null) continue;
    yield separator + JSON.stringify(item);
    separator = ",";
  }
  if (view.besides !== undefined) {
    for await (const { event } of auditEvents(source, view.besides, range)) {
      audit = withEvent(audit, event).audit;
    }
  }
  yield `${separator === "," ? "" : separator}],${JSON.stringify(view.totals(audit)).slice(1, -1)}`;
}

async function pageOf(
  source: AuditSource,
  view: AuditView,
  range: LogRange,
  limit: number,
): Promise<{ items: string[]; nextSeq: number | null }> {
  const items: string[] = [];
  let length = 0;
  let seq = 0;
  for await (const found of auditEvents(source, view.kind, range)) {
    const item = view.item(found);
    if (item === null) continue;
    if (items.length === limit || length > MAX_PAGE_LENGTH) return { items, nextSeq: seq };
    const text = JSON.stringify(item);
    items.push(text);
    length += text.length;
    seq = found.event.seq;
  }
  return { items, nextSeq: null };
}
