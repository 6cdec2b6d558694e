import { overloaded } from "../../domain/refusals.ts";
import { asciiLowerCase } from "../../protocol/ascii.ts";
import type { BodyOf } from "../../protocol/bodies.ts";
import type { EventRecord } from "../../protocol/event.ts";
import { DEFAULT_WAIT_MS } from "../../protocol/limits.ts";
import type { CommitText, Stretch } from "../../run/stretch.ts";
import { RunSource } from "../../streams/run-source.ts";
import { isShownType } from "../../streams/run-stream.ts";
import { type Call, unwrap } from "../call.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonAnswer } from "../json.ts";
import { RequestRefused } from "../problem.ts";
import { seatFor } from "../seat.ts";
import { refuseEnded } from "../standing.ts";

type Wanted = BodyOf<"waitFor">["for"];

/** What was waited for; null where it has not come. */
type Found = Record<string, unknown> | null;

/** Whether the credential still counts is looked at so often. */
const LOOK_MS = 10_000;

/** A log that is being looked through is not left in the middle of it, but not for longer than this. */
const MAX_LATE_MS = 5_000;

/**
 * `POST /v1/…/wait`: waits until a task or the run is in one of some states, or for the next event of some kind. The run's object may
 * sleep meanwhile.
 */
export async function waitFor(call: Call): Promise<HttpAnswer> {
  const { for: wanted, wait_ms = DEFAULT_WAIT_MS } = await call.body("waitFor");
  const untilMs = Date.now() + wait_ms;
  const there = await present(call, wanted);
  if (there !== null) return jsonAnswer({ matched: true, ...there });
  const seat = await seatFor(call);
  let source: RunSource | null = null;
  try {
    source = await RunSource.open(
      () => call.run(),
      false,
      () => undefined,
    );
    const found = source === null ? await refuseAbsent(call) : await follow(call, source, wanted, untilMs);
    await refuseEnded(call);
    return jsonAnswer(found);
  } finally {
    source?.close();
    seat?.release();
  }
}

/** What is waited for, if it is there already. An event is looked for in the log, from where the wait begins. */
async function present(call: Call, wanted: Wanted): Promise<Found> {
  if ("event" in wanted) return null;
  if ("run_status" in wanted) {
    const run = unwrap(await call.run().readOverview());
    return wanted.run_status.includes(run.status) ? { run } : null;
  }
  const view = unwrap(await call.run().readTask(wanted.task_id));
  if (view === null) throw new RequestRefused({ code: "TASK_NOT_FOUND", error: "task not found" });
  return wanted.status.includes(view.task.status) ? { task: view.task } : null;
}

/** Looks at whatever is committed. `seq`: up to there the log was looked through. */
async function follow(
  call: Call,
  source: RunSource,
  wanted: Wanted,
  untilMs: number,
): Promise<{ matched: boolean; seq: number }> {
  let seq = "event" in wanted ? (wanted.event.since_seq ?? source.head.lastSeq) : source.head.lastSeq;
  source.startAfter(seq);
  // What came between the first look and the socket.
  const there = await present(call, wanted);
  if (there !== null) return { matched: true, ...there, seq };
  for (;;) {
    const restMs = Math.max(0, untilMs - Date.now());
    const next = await source.next(Math.min(restMs, LOOK_MS));
    if (next === "gone") return refuseAbsent(call);
    if (next === "lost") throw new RequestRefused(overloaded("the run cannot be reached"));
    if (next === "nothing") {
      if (restMs === 0) return { matched: false, seq };
      await refuseEnded(call);
      continue;
    }
    const found = await foundIn(call, wanted, next);
    if (found !== null) return { matched: true, seq: next.upto_seq, ...found };
    seq = next.upto_seq;
    if (Date.now() > untilMs + MAX_LATE_MS) return { matched: false, seq };
  }
}

async function foundIn(call: Call, wanted: Wanted, stretch: Stretch): Promise<Found> {
  const commits = stretch.commits ?? [];
  if ("event" in wanted) {
    const event = eventIn(wanted.event, commits);
    return event === null ? null : { event, seq: event.seq };
  }
  const isNews =
    "run_status" in wanted
      ? wanted.run_status.includes(stretch.status)
      : commits.some((commit) => mayChange(commit, wanted.task_id));
  return isNews ? present(call, wanted) : null;
}

/** The first of these events that is wanted. */
function eventIn(
  { types, task_id }: Extract<Wanted, { event: unknown }>["event"],
  commits: readonly CommitText[],
): EventRecord | null {
  const names = types === undefined ? null : new Set(types.map((type) => asciiLowerCase(type.trim())));
  for (const { type, event } of commits) {
    if (!isShownType(names, type)) continue;
    const record = JSON.parse(event) as EventRecord;
    if (task_id === undefined || record.task_id === task_id) return record;
  }
  return null;
}

/** Whether a commit can have changed a task: one of its own, or one of the whole run. */
function mayChange({ type, event }: CommitText, taskId: string): boolean {
  return type.startsWith("context.run.") || (type.startsWith("context.task.") && event.includes(taskId));
}

/** The run is gone: its object says what has become of it. */
async function refuseAbsent(call: Call): Promise<never> {
  unwrap(await call.run().readOverview());
  throw new RequestRefused(overloaded("the run cannot be followed"));
}
