/** One proof that something is wrong. */
export interface Violation {
  /** The rule that was broken, stable for machines. */
  readonly rule: string;
  readonly detail: string;
  readonly run_id?: string;
  readonly seq?: number;
}

/** What one check found: one line of the report. */
export interface Finding {
  readonly name: string;
  /** How many things it looked at; a check that looked at nothing proves nothing. */
  readonly examined: number;
  readonly violations: readonly Violation[];
}

/**
 * What was done to the server, as it went. Its lists grow while the torture goes on. All moments are epoch milliseconds
 * of this machine's clock, which nobody moves.
 */
export interface Disturbances {
  /** Times without a server: from just before a kill until the server answered again; without an end while it lasts. */
  readonly outages: readonly { readonly fromMs: number; readonly untilMs?: number }[];
  /** The server's clock was moved by so much, at some moment between the request for it and its answer. */
  readonly jumps: readonly { readonly askedMs: number; readonly answeredMs: number; readonly byMs: number }[];
}

/** Where observers are, and what they may know. */
export interface Surroundings {
  /** The server, seen through the proxy: where observers look while the torture goes on. */
  readonly proxyUrl: string;
  /** The server itself: for what must not depend on luck, and for judging at the end. */
  readonly url: string;
  readonly token: string;
  /** Whole number from 0 to 2^32 − 1. */
  readonly seed: number;
  readonly disturbances: Disturbances;
}

/** Watches one side of the server while it is tortured, and judges at the end what it saw. */
export interface Observer {
  /** A run is made, or about to be. */
  runStarted?(runId: string): void;
  /** The server dies as soon as this resolves: within about a second. Never rejects. */
  beforeKill?(): Promise<void>;
  /** The server's clock is about to be moved by so much, as soon as this resolves. Never rejects. */
  beforeJump?(byMs: number): Promise<void>;
  /** It was moved, just now. Never rejects. */
  afterJump?(): Promise<void>;
  /**
   * The server is at rest, and nobody but observers talks to it: brings about what it still has to see, waits for it
   * within its own bounds, and judges.
   *
   * @param runIds every run that any observer or drill has made.
   */
  check(runIds: readonly string[]): Promise<readonly Finding[]>;
  /** Stops looking. What it saw can no longer be judged. */
  close(): Promise<void>;
}

/** All observers as one. Judged in this order: `check`, `close`, then, once the server is closed, `checkStorage`. */
export interface Observers {
  /** To be told of each run that others make, once; best before it is made. */
  runStarted(runId: string): void;
  beforeKill(): Promise<void>;
  beforeJump(byMs: number): Promise<void>;
  afterJump(): Promise<void>;
  check(): Promise<readonly Finding[]>;
  close(): Promise<void>;
  /**
   * Reads what the server has left on the disk. It must have been closed in order, and not be running.
   *
   * @returns null where this Node has no SQLite (it has from 22.13 on).
   */
  checkStorage(stateDir: string): Promise<readonly Finding[] | null>;
}
