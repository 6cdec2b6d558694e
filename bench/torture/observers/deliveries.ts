import type { Disturbances, Violation } from "./observer.ts";
import type { RunLog } from "./records.ts";

/*
 * What docs/webhooks-out.md promises to a receiver: at least once, under the same id, and each run's events by seq, of which
 * one that fails holds up those behind it.
 */

/** A delivery that reached the receiver whole. */
export interface Arrival {
  /** By this machine's clock, epoch ms. */
  readonly atMs: number;
  /** `webhook-id`. */
  readonly messageId: string;
  readonly body: string;
  readonly run_id: string;
  readonly seq: number;
  /** The record that it brought, as text like a log's. */
  readonly text: string;
  /** Whether the signature is that of the body. */
  readonly signed: boolean;
  /** When it was answered that it is taken, by this machine's clock; undefined when it was refused, or not answered. */
  readonly takenMs: number | undefined;
  /** Whether that answer broke off: the server may have understood it or not. */
  readonly isUnsure: boolean;
}

/** What was taken is noted within this, ms; the server must have died, or been dying, in that time to send it again. */
const NOTING_MS = 2_000;

/**
 * @param wanted tells which events the subscription wants.
 * @param sinceMs by the server's clock: what is older need not come.
 */
export function checkDeliveries(
  logs: readonly RunLog[],
  arrivals: readonly Arrival[],
  {
    wanted,
    sinceMs,
    outages,
  }: {
    wanted(type: string): boolean;
    sinceMs: number;
    outages: Disturbances["outages"];
  },
): Violation[] {
  const violations: Violation[] = [];
  const known = new Set(logs.map(({ run_id }) => run_id));
  const bodies = new Map<string, Arrival>();
  for (const arrival of arrivals) {
    const { run_id, seq, messageId, body, signed } = arrival;
    const flag = (rule: string, detail: string) => violations.push({ rule, detail, run_id, seq });
    if (!known.has(run_id)) flag("foreign", `message ${messageId} is about a run that nobody made`);
    if (!signed) flag("unsigned", `message ${messageId} is not signed by the subscription's secret`);
    const before = bodies.get(messageId);
    if (before === undefined) bodies.set(messageId, arrival);
    else if (before.body !== body)
      flag("changed", `message ${messageId} came as ${before.body}, then as ${body}`);
  }
  for (const log of logs) {
    const own = arrivals.filter(({ run_id }) => run_id === log.run_id);
    violations.push(...checkRun(log, own, { wanted, sinceMs, outages }));
  }
  return violations;
}

function checkRun(
  { run_id, events }: RunLog,
  arrivals: readonly Arrival[],
  { wanted, sinceMs, outages }: Parameters<typeof checkDeliveries>[2],
): Violation[] {
  const violations: Violation[] = [];
  const texts = new Map(events.map(({ seq, text }) => [seq, text]));
  const wantedSeqs = events.filter(({ type }) => wanted(type)).map(({ seq }) => seq);
  const isOld = new Set(events.filter(({ ts_ms }) => ts_ms < sinceMs).map(({ seq }) => seq));
  const ids = new Map<number, string>();
  const taken = new Set<number>();
  const surely = new Map<number, number>();
  let highest = 0;
  for (const { seq, messageId, text, takenMs, isUnsure, atMs } of arrivals) {
    const flag = (rule: string, detail: string) => violations.push({ rule, detail, run_id, seq });
    if (!wantedSeqs.includes(seq)) flag("foreign", `event ${seq} is not in the log, or not wanted`);
    else if (texts.get(seq) !== text)
      flag("changed", `event ${seq} came as ${text}, the log has ${texts.get(seq)}`);
    const id = ids.get(seq);
    if (id !== undefined && id !== messageId)
      flag("other_id", `event ${seq} came as ${id} and as ${messageId}`);
    ids.set(seq, messageId);
    if (seq < highest) flag("out_of_order", `event ${seq} came after ${highest}`);
    const skipped = wantedSeqs.filter((one) => one > highest && one < seq && !isOld.has(one));
    const untaken = taken.has(highest) || highest === 0 || seq <= highest ? [] : [highest];
    for (const one of [...untaken, ...skipped]) flag("skipped", `event ${seq} came before ${one} was taken`);
    const before = surely.get(seq);
    if (before !== undefined && !outages.some((outage) => isBetween(outage, before, atMs))) {
      flag(
        "repeated",
        `event ${seq} came again ${atMs - before} ms after it was taken, and the server had not died`,
      );
    }
    if (takenMs !== undefined) {
      taken.add(seq);
      if (!isUnsure) surely.set(seq, takenMs);
    }
    highest = Math.max(highest, seq);
  }
  const lost = wantedSeqs.filter((seq) => !taken.has(seq) && !isOld.has(seq));
  if (lost.length > 0) {
    const detail = `${lost.length} of ${wantedSeqs.length} wanted events were never delivered: ${lost.slice(0, 5).join(", ")}`;
    violations.push({ rule: "lost", detail, run_id, seq: lost[0] ?? 0 });
  }
  return violations;
}

/** Whether the server may have died after an answer, before it had noted it. The end of an outage is when it lived again. */
function isBetween(
  { fromMs, untilMs }: Disturbances["outages"][number],
  takenMs: number,
  againMs: number,
): boolean {
  return fromMs <= Math.min(takenMs + NOTING_MS, againMs) && (untilMs ?? againMs) >= takenMs;
}
