import type { Disturbances, Violation } from "./observer.ts";
import type { LogRecord, RunLog } from "./records.ts";
import { latestMoment } from "./timeline.ts";

/** Something that a run has to do by itself. */
export interface Due {
  readonly run_id: string;
  /** The id of the task or lock that it is about. */
  readonly subject: string;
  /** What it is, for people. */
  readonly what: string;
  /** By the server's clock, epoch ms. */
  readonly dueMs: number;
  /** It is the first event about that after this one. */
  readonly afterSeq: number;
  /** When it was acknowledged, by this machine's clock, epoch ms. */
  readonly knownSinceMs: number;
  /** The type that this event must have. */
  readonly type: string;
}

/**
 * Whether what was due happened, not before its time, and soon after it. The logs must have been read no sooner than
 * `slackMs` after the last of these moments, and nobody may have touched the runs until then.
 *
 * @param slackMs of a living server in one piece.
 */
export function checkPunctual(
  logs: readonly RunLog[],
  dues: readonly Due[],
  disturbances: Disturbances,
  slackMs: number,
): Violation[] {
  const known = new Map(logs.map((log) => [log.run_id, log]));
  return dues.flatMap((due) => {
    const { run_id, subject, what, dueMs, afterSeq, knownSinceMs, type } = due;
    const event = known.get(run_id)?.events.find((one) => one.seq > afterSeq && isAbout(one, subject));
    const flag = (rule: string, detail: string): Violation[] => [
      { rule, detail: `${what} of ${subject}: ${detail}`, run_id, ...(event && { seq: event.seq }) },
    ];
    if (event === undefined) return flag("never", "nothing has happened");
    if (event.type !== type) return flag("other", `what happened is ${event.text}`);
    if (event.ts_ms < dueMs) return flag("early", `${dueMs - event.ts_ms} ms before its time`);
    const latest = latestMoment(disturbances, dueMs, knownSinceMs, slackMs).serverMs;
    if (event.ts_ms > latest) {
      return flag(
        "late",
        `${event.ts_ms - dueMs} ms after its time, at most ${latest - dueMs} are explained`,
      );
    }
    return [];
  });
}

function isAbout({ task_id, type, text }: LogRecord, subject: string): boolean {
  return task_id === subject || (type.startsWith("context.lock.") && text.includes(JSON.stringify(subject)));
}
