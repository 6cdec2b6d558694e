/** What the server under test offers. A rule that is not in force is not asked about. */
export interface Features {
  /** A lease is stale the moment it expires, refusals name fence and holder, and any write may be made under a lease. */
  fencing: boolean;
  /** Retry policies, dead letters, redrive. */
  retries: boolean;
  /** Reports of progress, and heartbeats that coalesce. */
  progress: boolean;
  /** Start, run time, silence and total deadlines. */
  clocks: boolean;
  /** What becomes of a task when a dependency fails, and edges that change. */
  dependencies: boolean;
  /** Cancelled tasks; runs that are paused, resumed and cancelled, and what that does to leases. */
  stops: boolean;
  /** Claims of several tasks. */
  several: boolean;
  /** Claims that wait. */
  waiting: boolean;
  /** Several commands in one request. */
  batches: boolean;
  /** Concurrency keys. */
  keys: boolean;
  /** Named locks. */
  locks: boolean;
}

/** The one place that says what is in force. */
export const FEATURES: Features = {
  fencing: true,
  retries: true,
  progress: true,
  clocks: true,
  dependencies: true,
  stops: true,
  several: true,
  waiting: false,
  batches: true,
  keys: true,
  locks: true,
};
