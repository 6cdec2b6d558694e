import type { Violation } from "./observer.ts";
import type { RunLog } from "./records.ts";

/*
 * What docs/claims.md promises of a lease that has run out, of a clock, and of a lock: to the millisecond, whether anybody has
 * noticed or not, nothing is written under it any more.
 */

/** A write under something that was over. */
export interface Try {
  readonly run_id: string;
  /** For people. */
  readonly what: string;
  /** How long it had been over when the write was sent, ms. */
  readonly lateMs: number;
  /** Of the answer; undefined where none came. */
  readonly status: number | undefined;
}

/** What only a holder brings about. Other ends of an attempt are those of time, too. */
const written: ReadonlySet<string> = new Set([
  "context.task.completed",
  "context.task.heartbeat",
  "context.blackboard.patched",
  "context.lock.renewed",
]);

/** @param logs of runs in which everything but the claims was too late. */
export function checkLatecomers(tries: readonly Try[], logs: readonly RunLog[]): Violation[] {
  const ofAnswers = tries.flatMap(({ run_id, what, lateMs, status }): Violation[] => {
    // A server that is being killed may say that it is not there.
    if (status === undefined || status === 409 || status === 429 || status > 500) return [];
    const rule = status < 300 ? "accepted" : "other";
    return [{ rule, detail: `${what}, ${lateMs} ms too late, was answered ${status}`, run_id }];
  });
  const ofLogs = logs.flatMap(({ run_id, events }) =>
    events
      .filter(({ type }) => written.has(type))
      .map(({ seq, text }) => ({ rule: "written", detail: `in the log is ${text}`, run_id, seq })),
  );
  return [...ofAnswers, ...ofLogs];
}
