/** What is checked; the values are the lines of the summary. */
export const checks = {
  done_once: "every task done exactly once",
  dependencies: "no task claimed or completed before its dependencies",
  leases: "never two live leases on one task",
  fences: "fences grow, and no write lands under a stale one",
  retries: "attempts within their cap, handed over as they were; dead letters have causes",
  clocks: "clocks end what was due by then, and nothing goes on past them",
  keys: "never more tasks of a concurrency key at once than its limit",
  locks: "never two locks on one resource, unless both share it",
  stops: "nothing claimed while paused; what was cancelled ends as done or cancelled",
  history: "claims, locks and completions, as they were answered, linearizable one by one",
  sequence: "seq contiguous from 1; revisions, times and patches in step",
  commands: "every command had one effect, and repeats had the same answer",
  replay: "replay without drift",
  views: "tasks, blackboard and run agree with the log",
  directory: "directory row equal to the run",
  answers: "no unexpected answer",
} as const;

export type Check = keyof typeof checks;

/** One proof that something is wrong. */
export interface Violation {
  readonly check: Check;
  /** The rule that was broken, stable for machines. */
  readonly rule: string;
  readonly detail: string;
  readonly seq?: number;
  readonly task_id?: string;
  readonly command_id?: string;
}

/** Where it was found. */
export type Place = Omit<Violation, "check" | "rule" | "detail">;

/** How a check reports what it found. */
export type Flag = (check: Check, rule: string, detail: string, place?: Place) => void;
