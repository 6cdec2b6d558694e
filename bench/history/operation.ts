/*
 * What clients saw of the leases of one run: one operation for each command, with the times between which it took effect. Times
 * are milliseconds of one clock, the recorder's own; of the server's clock only its jumps are known (clock.ts).
 */

/** Where an operation stands. */
interface Seen {
  /** Names it in what is found; a command id, say. */
  readonly id: string;
  readonly task: string;
  /** When it was first sent. */
  readonly calledMs: number;
  /** When its first answer came; Infinity when none did: it took effect at any time since, or never. */
  readonly returnedMs: number;
}

/** Whom an answer names as the holder of a task. */
export interface Holder {
  readonly agent: string;
  readonly fence: number;
}

/** What a task looks like from outside: free to be given out, leased, or at its end. */
export type Phase = "open" | "held" | "over";

type Act =
  /** Somebody was given the task. */
  | {
      readonly act: "claim";
      readonly agent: string;
      readonly fence: number;
      /** What was left of the lease when it was told, ms. */
      readonly termMs: number;
    }
  /** The holder was given more time. `shortens`: it asked for less than before, so that the end may have come nearer. */
  | { readonly act: "heartbeat"; readonly fence: number; readonly termMs: number; readonly shortens?: true }
  /** Something else was written under the lease. */
  | { readonly act: "write"; readonly fence: number }
  /** The holder completed, failed or released the task. */
  | { readonly act: "end"; readonly fence: number; readonly to: "open" | "over" }
  /** A command under the lease was refused as stale. `holder`: whom the refusal named, null for nobody, absent for no word of it. */
  | { readonly act: "refused"; readonly fence: number; readonly holder?: Holder | null }
  /** The task was read. */
  | { readonly act: "read"; readonly phase: Phase; readonly holder: Holder | null }
  /** A lease may end here before its time: a limit was reached, or a grace period ran out. `fence`: of which; absent, of whoever has it. */
  | { readonly act: "revoke"; readonly fence?: number }
  /** A task at its end was put back on the board. */
  | { readonly act: "reopen" }
  /** A task that nobody holds was ended. */
  | { readonly act: "close" };

export type Operation = Seen & Act;

/** A claim whose answer nobody read: it may have taken some task, or none. */
export interface LostClaim {
  readonly id: string;
  readonly agent: string;
  readonly calledMs: number;
  readonly termMs: number;
  /** What may end its lease on these tasks sooner, ms. */
  readonly shorterMs?: ReadonlyMap<string, number>;
  /** Tasks it may have taken, at most. */
  readonly max: number;
}

export interface History {
  readonly operations: readonly Operation[];
  readonly lostClaims: readonly LostClaim[];
}
