/** Moments at which a run's object has something to do by itself, epoch ms; null when there is nothing. */
export interface Wakeups {
  /** No later than the earliest lease expiry. */
  leaseDueAtMs: number | null;
  /** No later than when something becomes ready by itself that a parked claim may wait for. */
  parkedDueAtMs: number | null;
  /** When a lock runs out. */
  lockDueAtMs: number | null;
  /** No later than when a clock of a task runs out. */
  clockDueAtMs: number | null;
  /** When a halted run takes back what is out. */
  haltDueAtMs: number | null;
  /** When the directory row is owed. */
  directoryDueAtMs: number | null;
  /** When a feed is owed a push. */
  feedsDueAtMs: number | null;
  /** When old commits are to be moved to R2. */
  sealDueAtMs: number | null;
  /** When a checkpoint is owed. */
  checkpointDueAtMs: number | null;
  /** When somebody must see whether what is on its way to R2 has arrived: a crash would have ended that. */
  historyDueAtMs: number | null;
}

/** The one moment the object's alarm must not miss, or null. An alarm that fires early finds nothing to do. */
export function earliestWakeup(wakeups: Wakeups): number | null {
  const moments = Object.values<number | null>({ ...wakeups }).filter((moment) => moment !== null);
  return moments.length === 0 ? null : Math.min(...moments);
}
