import type { DisabledReason } from "../../directory/subscriptions.ts";
import type { Refusal } from "../../domain/refusals.ts";
import type { Env } from "../../env.ts";
import { runObjectName } from "../../identity/tenant.ts";
import type { EventRecord } from "../../protocol/event.ts";
import { type RunClient, runClient } from "../../run/run-client.ts";
import type { Result } from "../../run/run-object.ts";
import type { Sql } from "../../run/storage/sql.ts";
import { unpackStretches } from "../../run/stretch.ts";
import { faultOfTarget, hostOf } from "./egress.ts";
import { wantsEvent } from "./event-filter.ts";
import type { Line, Lines } from "./lines.ts";
import { messageBody, messageId } from "./message.ts";
import type { AttemptRecord, DeliveryRecord } from "./record.ts";
import { isFailingTooLong, judge, type Verdict } from "./schedule.ts";
import { type Sent, send } from "./send.ts";
import { activeSecrets, SECRETS_CLOSED, type Settings } from "./settings.ts";
import { signatureHeaders } from "./signature.ts";
import { seqBefore } from "./start-seq.ts";

/** Events of one line that are delivered before another has its turn. */
const MAX_PER_TURN = 100;
/** A log that cannot be read is looked at again after this: somebody has to mend it first. */
const DAMAGED_MS = 3_600_000;
/** A subscription that is to be disabled, and cannot be just now, tries its receiver again after this. */
const GONE_MS = 60_000;

/** What a turn works with. */
export interface Desk {
  env: Env;
  sql: Sql;
  lines: Lines;
  record: DeliveryRecord;
  settings: Settings;
  /** Whether the settings still hold. */
  isCurrent(): boolean;
}

/**
 * Sends the next events of a line, one after the other, until one fails, the line or the turn is at its end, or the settings
 * change. What came of each is stored before the next.
 * @returns why the subscription must be disabled, or null.
 */
export async function takeTurn(desk: Desk, line: Line): Promise<DisabledReason | null> {
  const { env, lines, settings } = desk;
  const { subscription } = settings;
  const run = runClient(env.RUNS, runObjectName(subscription.tenant, line.run_id));
  const isNew = line.after_seq < 0;
  const start: Result<number> = isNew
    ? await startOf(run, line, subscription.since_ms)
    : { ok: true, value: line.after_seq };
  // The line may have been left out meanwhile, and another one be in its place.
  if (isNew && !desk.isCurrent()) return null;
  if (!start.ok) return putOff(lines, line, start.refusal);
  const afterSeq = start.value;
  if (isNew) lines.start(line.line_id, afterSeq);
  const uptoSeq = line.kind === "live" ? null : line.upto_seq;
  const answer = await run.readStretch({ afterSeq, uptoSeq, withPatches: false });
  if (!answer.ok) return putOff(lines, line, answer.refusal);
  const stretch = unpackStretches(answer.value)[0];
  let doneSeq = afterSeq;
  let attempts = line.attempts;
  let sent = 0;
  for (const { seq, event: text } of stretch?.commits ?? []) {
    if (!desk.isCurrent() || sent >= MAX_PER_TURN) break;
    const event = JSON.parse(text) as EventRecord;
    const isWanted =
      line.kind === "letter" ||
      wantsEvent({ events: subscription.events, status: subscription.filter.status ?? [] }, event);
    if (isWanted) {
      sent += 1;
      const { verdict, reason } = await deliver(desk, line, event, attempts + 1);
      if (verdict.kind === "gone" || (verdict.kind === "failed" && verdict.waitMs !== null)) return reason;
      if (reason !== null) return reason;
    }
    attempts = 0;
    doneSeq = seq;
  }
  lines.looked({ ...line, after_seq: doneSeq }, doneSeq, stretch?.last_seq ?? 0, Date.now());
  return null;
}

/** A run that has gone has nothing to tell any more; should it come back from the archive, it is heard of again. */
function putOff(lines: Lines, line: Line, { code }: Refusal): null {
  if (code === "LOG_DAMAGED") lines.postpone(line.line_id, Date.now() + DAMAGED_MS);
  else lines.stop(line);
  return null;
}

/** Sends one event and stores what came of it. */
async function deliver(
  { env, sql, lines, record, settings }: Desk,
  line: Line,
  event: EventRecord,
  number: number,
): Promise<{ verdict: Verdict; reason: DisabledReason | null }> {
  const { subscription } = settings;
  const { run_id, seq, type } = event;
  const webhook_id = messageId(subscription.subscription_id, run_id, seq);
  const message = { webhook_id, type, run_id, seq, attempt: number };
  const { attempt, verdict } = await attemptMessage(env, settings, message, messageBody(subscription, event));
  const nowMs = Date.now();
  sql.transaction(() => {
    record.attempted(attempt, verdict.kind === "failed" ? verdict.pauseMs : 0);
    if (verdict.kind === "delivered") {
      lines.moveTo(line.line_id, seq);
      record.removeLetter(webhook_id);
    } else if (verdict.kind === "gone") {
      // Should the subscription be enabled again, it goes on with this event.
      lines.retry(line.line_id, seq - 1, number - 1, nowMs + GONE_MS);
    } else if (verdict.waitMs !== null) {
      lines.retry(line.line_id, seq - 1, number, nowMs + verdict.waitMs);
    } else {
      lines.moveTo(line.line_id, seq);
      const { status, error } = attempt;
      record.giveUp({
        letter_id: webhook_id,
        run_id,
        seq,
        type,
        status,
        error: error ?? "status",
        dead_at_ms: nowMs,
      });
    }
  });
  if (verdict.kind === "gone") return { verdict, reason: "gone" };
  const { failing_since_ms, failures_in_row } = record.health();
  const isOver = verdict.kind === "failed" && isFailingTooLong(failing_since_ms, failures_in_row, nowMs);
  return { verdict, reason: isOver ? "failing" : null };
}

/** One attempt to send a message, whatever comes of it. */
export async function attemptMessage(
  env: Env,
  settings: Settings,
  message: Pick<AttemptRecord, "webhook_id" | "type" | "run_id" | "seq" | "attempt">,
  body: string,
): Promise<{ attempt: AttemptRecord; verdict: Verdict }> {
  const { url, origin } = settings.subscription;
  const at_ms = Date.now();
  const fault = faultOfTarget(url, {
    ownHosts: [hostOf(origin) ?? ""],
    anyTarget: env.WEBHOOK_TARGETS === "any",
  });
  let sent: Omit<Sent, "error"> & { error: string | null };
  if (fault === null) {
    const secrets = activeSecrets(settings, at_ms);
    if (secrets.length === 0) throw new Error(SECRETS_CLOSED);
    const headers = await signatureHeaders({ id: message.webhook_id, sentAtMs: at_ms, body }, secrets);
    sent = await send(url, headers, body);
  } else {
    sent = { status: null, retryAfter: null, error: `target_${fault.rule}` };
  }
  const verdict = judge(sent, message.attempt, Date.now(), Math.random());
  const { status } = sent;
  const delivered = verdict.kind === "delivered";
  const error = delivered ? null : (sent.error ?? `status_${status}`);
  return {
    attempt: { at_ms, ...message, status, delivered, error, duration_ms: Date.now() - at_ms },
    verdict,
  };
}

/** After which seq a run's events are the subscription's affair. */
async function startOf(
  run: RunClient,
  { since_ms, upto_seq }: Line,
  subscriptionSinceMs: number,
): Promise<Result<number>> {
  const sinceMs = since_ms ?? subscriptionSinceMs;
  if (sinceMs === 0) return { ok: true, value: 0 };
  let refusal: Refusal | null = null;
  const value = await seqBefore(sinceMs, upto_seq, async (seq) => {
    const read = await run.readRecords({
      column: "event",
      afterSeq: seq - 1,
      uptoSeq: seq,
      tail: null,
      // Of the record only its time is wanted.
      maxLength: 1,
    });
    if (!read.ok) refusal = read.refusal;
    return read.ok ? (read.value.records[0]?.ts_ms ?? 0) : 0;
  });
  return refusal === null ? { ok: true, value } : { ok: false, refusal };
}
