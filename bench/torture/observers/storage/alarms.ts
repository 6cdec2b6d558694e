import type { RunHead } from "../../../../src/domain/head.ts";
import { CHECKPOINT_INTERVAL } from "../../../../src/protocol/limits.ts";
import type { RunHeader } from "../../../../src/protocol/run.ts";
import type { Violation } from "../observer.ts";
import { foldLog } from "./fold.ts";
import type { Alarm, Stored, StoredRun, StoredSubscription } from "./stored.ts";

/*
 * What must have an alarm. Derived from docs/architecture.md ("Time") and written without the code that arms them: from rows
 * to moments. Moments are of the server's clock, epoch ms; alarms of the machine's.
 */

/** Something that an object has to do by itself. */
export interface Owed {
  readonly what: string;
  /** The alarm must not be later; infinite where any alarm will do. */
  readonly atMs: number;
}

/** While messages are on their way, an alarm stands by for no later than this, ms. */
const GUARD_MS = 30_000;
const HEARTBEAT = "context.task.heartbeat";

/**
 * What a run's object owes.
 *
 * @param listedSeq up to where the directory has the run; undefined when it has no row.
 */
export function owedByRun(stored: StoredRun, listedSeq: number | undefined): Owed[] {
  const owed: Owed[] = [];
  const add = (what: string, atMs: number | null | undefined): void => {
    if (atMs !== null && atMs !== undefined) owed.push({ what, atMs });
  };
  for (const { id, queue, lease_expires_at_ms, due_at_ms } of stored.tasks) {
    if (queue === "leased") add(`the lease of ${id}`, lease_expires_at_ms);
    add(`a clock of ${id}`, due_at_ms);
  }
  const lastSeq = stored.commits.at(-1)?.seq ?? 0;
  const head = headAt(stored, lastSeq);
  for (const lock of head?.locks ?? []) add(`the lock ${lock.lock_id}`, lock.expires_at_ms);
  const { halt } = head ?? {};
  const isHeld = stored.tasks.some(
    ({ queue, doc }) =>
      queue === "leased" && ((JSON.parse(doc) as { fence?: number }).fence ?? 0) <= (halt?.seq ?? -1),
  );
  if (halt !== undefined && isHeld) add("the grace of a halt", halt.revoke_at_ms);
  const unlisted = stored.commits.filter(({ seq }) => seq > (listedSeq ?? -1));
  if (listedSeq === undefined || unlisted.some(({ event }) => !event.includes(`"type":"${HEARTBEAT}"`))) {
    add("its row in the directory", Number.POSITIVE_INFINITY);
  }
  const newest = stored.checkpoints.reduce((latest, one) => (one.seq > latest.seq ? one : latest), {
    seq: 0,
    lines: 0 as number | null,
  });
  const interval = Math.max(CHECKPOINT_INTERVAL, stored.tasks.length, newest.lines ?? 0);
  if (lastSeq - newest.seq >= interval) add("a checkpoint", Number.POSITIVE_INFINITY);
  return owed;
}

/** What a subscription's object owes. @param closedMs when the server was closed, by its own clock. */
export function owedBySubscription(stored: StoredSubscription, isActive: boolean, closedMs: number): Owed[] {
  if (!isActive) return [];
  const dues = stored.lines.flatMap(({ due_at_ms }) => due_at_ms ?? []);
  if (dues.length === 0) return [];
  // What is on its way when the server is closed is seen to by the guard.
  const dueMs = Math.max(Math.min(...dues), stored.paused_until_ms, closedMs + GUARD_MS);
  return [{ what: "what is to be delivered", atMs: dueMs }];
}

/**
 * @param owed by the object. @param minOffsetMs of the server's clock since the object was made: an alarm that was set
 * before its clock was moved forward stays where it was.
 */
export function checkAlarm(
  { alarmMs, scheduledMs }: Alarm,
  owed: readonly Owed[],
  minOffsetMs: number,
  run_id: string,
): Violation[] {
  const violations: Violation[] = [];
  for (const { what, atMs } of owed) {
    if (alarmMs === null) violations.push({ rule: "no_alarm", detail: `nothing is set for ${what}`, run_id });
    else if (alarmMs > atMs - minOffsetMs) {
      const detail = `the alarm is set ${alarmMs - (atMs - minOffsetMs)} ms too late for ${what}`;
      violations.push({ rule: "late_alarm", detail, run_id });
    }
  }
  if (alarmMs !== null && (scheduledMs === null || scheduledMs > alarmMs)) {
    const detail = `its alarm is for ${alarmMs}, the scheduler's for ${scheduledMs ?? "never"}`;
    violations.push({ rule: "not_scheduled", detail, run_id });
  }
  return violations;
}

/** Every object's alarm. @param clock the server's: its least offset since a moment that it told, and what it said at the end. */
export function checkAlarms(
  { runs, subscriptions, directory }: Stored,
  clock: { minOffsetSince(madeMs: number): number; closedMs: number },
): { examined: number; violations: Violation[] } {
  const violations: Violation[] = [];
  let examined = 0;
  const check = (alarm: Alarm, owed: readonly Owed[], name: string, madeMs: number): void => {
    examined += owed.length;
    violations.push(...checkAlarm(alarm, owed, clock.minOffsetSince(madeMs), name));
  };
  for (const stored of runs) {
    const { tenant, run_id, madeMs } = identityOf(stored);
    const row = directory.runs.find((one) => one.tenant === tenant && one.run_id === run_id);
    check(stored, owedByRun(stored, row?.last_event_seq), run_id, madeMs);
  }
  for (const stored of subscriptions) {
    const row = directory.subscriptions.find(
      ({ tenant, subscription_id }) => `${tenant}/${subscription_id}` === stored.name,
    );
    const owed = owedBySubscription(stored, row?.status === "active", clock.closedMs);
    check(stored, owed, stored.name, row?.created_at_ms ?? Number.NEGATIVE_INFINITY);
  }
  return { examined, violations };
}

/** The key of the tenant that a run belongs to, its id, and when it was made, by the server's clock. */
export function identityOf({ run }: Pick<StoredRun, "run">): {
  tenant: string;
  run_id: string;
  madeMs: number;
} {
  const { tenant_context: of, run_id, created_at_ms: madeMs } = JSON.parse(run.initial) as RunHeader;
  const tenant = `${encodeURIComponent(of.org_id)}/${encodeURIComponent(of.workspace_id)}`;
  return { tenant, run_id, madeMs };
}

function headAt({ run, commits }: StoredRun, seq: number): RunHead | undefined {
  return foldLog(run.initial, commits, new Set([seq])).heads.get(seq);
}
