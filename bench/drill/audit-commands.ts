import { clockOf, type ServerClock } from "../history/clock.ts";
import type { AuditInput } from "./audit.ts";
import { type History, keptAttempts } from "./audit-log.ts";
import type { AuditEvent, CommandRecord, Effect } from "./records.ts";
import type { Flag, Place } from "./violation.ts";

/** The agents' records against the log: each command had one effect, the one it was answered with. */
export function checkCommands(input: AuditInput, history: History, flag: Flag): void {
  const bySeq = new Map(input.events.map((event) => [event.seq, event]));
  const byMark = new Map<string, number>();
  for (const { fact_id, marker } of input.events) {
    const mark = marker ?? fact_id;
    if (mark !== undefined) byMark.set(mark, (byMark.get(mark) ?? 0) + 1);
  }

  const kinds = new Map(input.commands.map(({ command_id, kind }) => [command_id, kind]));
  for (const [command_id, events] of history.eventsByCommand) {
    // Some commands change several tasks, but each of them once.
    const changes = new Set(events.map(({ type, task_id, fact_id }) => `${type} ${task_id ?? fact_id}`));
    const most = severalKinds.has(kinds.get(command_id) ?? "") ? changes.size : 1;
    if (events.length > most) {
      const seqs = events.map((event) => event.seq).join(", ");
      flag("commands", "command_repeated", `${command_id} had an effect at seq ${seqs}`, { command_id });
    }
  }
  const clock = clockOf(input.clockJumps);
  const known = new Set(input.commands.map((command) => command.command_id));
  for (const command_id of history.eventsByCommand.keys()) {
    if (!known.has(command_id)) {
      flag("commands", "command_unknown", `nobody sent ${command_id}`, { command_id });
    }
  }
  for (const command of input.commands) {
    checkAgreement(command, flag);
    checkEffect(command, history, bySeq, byMark, flag);
    checkHolder(command, history, input.leaseMs, clock, flag);
  }
}

const severalKinds: ReadonlySet<string> = new Set(["claim", "batch", "redrive"]);

/** All answers to one command must tell the same story, and all but the first say that they repeat it. */
function checkAgreement(command: CommandRecord, flag: Flag): void {
  const { command_id, kind, delivery, answers, missed } = command;
  const accepted = answers.filter((answer) => answer.effect !== undefined);
  if (accepted.length > 0 && accepted.length < answers.length && !mayBeTriedAgain(command)) {
    const statuses = answers.map((answer) => answer.code ?? answer.status).join(", then ");
    flag("commands", "answers_disagree", `${kind} ${command_id}: ${statuses}`, { command_id });
  }
  const effective = accepted.filter(({ effect }) => effect !== undefined && effect !== null);
  const effects = effective.flatMap(({ effect }) => effect ?? []);
  const stories = new Set(effects.map((effect) => story(effect)));
  if (stories.size > 1) {
    flag("commands", "answers_disagree", `${kind} ${command_id}: ${[...stories].join(", then ")}`, {
      command_id,
    });
  }
  // A claim that found nothing leaves no trace, so its repeat may find something. The other way round, the lease is lost.
  const first = accepted[0]?.effect;
  const lostLater =
    delivery === "repeated" && first !== null && accepted.some((answer) => answer.effect === null);
  const lostInReplay =
    effects.length > 0 && accepted.some((answer) => answer.effect === null && answer.replayed);
  if (lostLater || lostInReplay) {
    flag("commands", "answers_disagree", `${kind} ${command_id}: a task, then none`, { command_id });
  }
  if (kind === "read" || effective.length === 0) return;
  const firsts = effective.filter(({ replayed }) => !replayed).length;
  // Where a request was not answered, the first answer may have been its.
  if (firsts > 1 || (firsts === 0 && missed === 0)) {
    const detail = `${kind} ${command_id}: ${firsts} of ${effective.length} answers are no repeats`;
    flag("commands", "repeat_untold", detail, { command_id });
  }
}

/** A lock that others had is no trace either: the same request, sent again, may be given it; and two at once in any order. */
function mayBeTriedAgain({ kind, delivery, answers }: CommandRecord): boolean {
  if (kind !== "lock") return false;
  const isRefusedLast = answers.at(-1)?.effect === undefined;
  return delivery === "twice" || !isRefusedLast;
}

function story(effect: Effect): string {
  return JSON.stringify(effect);
}

/** What the answers said must be in the log, once; what was refused must not be. */
function checkEffect(
  command: CommandRecord,
  history: History,
  bySeq: ReadonlyMap<number, AuditEvent>,
  byMark: ReadonlyMap<string, number>,
  flag: Flag,
): void {
  const { command_id, kind, missed, answers, mark } = command;
  const at: Place = { command_id, ...(command.task_id === undefined ? {} : { task_id: command.task_id }) };
  const effect = answers.find((answer) => answer.effect !== undefined && answer.effect !== null)?.effect;
  const answered = answers.length > 0;

  if (mark !== undefined) {
    const isAccepted = effect !== undefined;
    checkMark(mark, answered ? isAccepted : undefined, byMark, `${kind} ${command_id}`, at, flag);
    const event = bySeq.get(effect?.seq ?? 0);
    if (effect?.seq !== undefined && (event?.marker ?? event?.fact_id) !== mark) {
      flag("commands", "effect_mismatch", `${kind} ${command_id} was answered with seq ${effect.seq}`, at);
    }
    return;
  }
  if (kind === "batch") {
    checkBatch(command, effect ?? undefined, history, byMark, bySeq, flag);
    return;
  }
  if (!taskKinds.has(kind)) return;

  const logged = history.eventsByCommand.get(command_id) ?? [];
  if (effect !== undefined && effect !== null) {
    for (const part of effect.parts ?? [effect]) {
      // Of several tasks that one claim takes, only the first event bears its id.
      const byFence = part === effect || part.fence === undefined ? undefined : bySeq.get(part.fence);
      const isIts = byFence?.type === "context.task.claimed" && byFence.task_id === part.task_id;
      const event = isIts ? byFence : (logged.find(({ task_id }) => task_id === part.task_id) ?? logged[0]);
      checkTold(command, part, event, history, flag);
    }
    return;
  }
  // A request without an answer may be worked after its repeat found nothing; nobody was told, and the lease runs out by itself.
  const [event] = logged;
  if (event !== undefined && answered && !(kind === "claim" && missed > 0)) {
    const rule = kind === "claim" ? "claim_lost" : "refused_but_done";
    flag(
      "commands",
      rule,
      `${kind} ${command_id} is in the log at seq ${event.seq}, but was answered otherwise`,
      at,
    );
  }
}

const taskKinds: ReadonlySet<string> = new Set([
  "claim",
  "heartbeat",
  "complete",
  "fail",
  "release",
  "cancel",
]);

/** One task that an answer told of, against the event of that command about it. */
function checkTold(
  { command_id, kind }: CommandRecord,
  effect: Effect,
  event: AuditEvent | undefined,
  history: History,
  flag: Flag,
): void {
  const at: Place = {
    command_id,
    ...(effect.task_id === undefined ? {} : { task_id: effect.task_id }),
  };
  if (event === undefined) {
    flag("commands", "effect_missing", `${kind} ${command_id} was accepted but is not in the log`, at);
    return;
  }
  if (event.task_id !== effect.task_id || event.task?.task_rev !== effect.task_rev) {
    const logged = `${event.task_id} revision ${event.task?.task_rev}`;
    const told = `${effect.task_id} revision ${effect.task_rev}`;
    flag("commands", "effect_mismatch", `${kind} ${command_id}: answered ${told}, logged ${logged}`, at);
  }
  if (kind !== "claim") return;
  if (effect.fence !== event.seq) {
    const detail = `claim ${command_id} was told fence ${effect.fence}, and is in the log at ${event.seq}`;
    flag("leases", "fence_unlike_log", detail, at);
  }
  if (event.task?.lease_token !== undefined && event.task.lease_token === effect.lease_token) {
    flag("leases", "token_in_log", `the token of claim ${command_id} can be read in the log`, at);
  }
  const before = (history.attemptsBefore.get(event.seq) ?? []).slice(-keptAttempts).join(", ");
  const told = effect.handover?.join(", ") ?? "";
  if (told !== before) {
    const detail = `claim ${command_id} was handed over ${told || "nothing"}, not ${before || "nothing"}`;
    flag("retries", "handover_unlike_log", detail, at);
  }
}

/**
 * Of several commands all are in the log, or none: also of those that nobody was answered. Who was, knows which; whether the others
 * took effect, the first fact tells.
 */
function checkBatch(
  { command_id, parts = [], answers }: CommandRecord,
  effect: Effect | undefined,
  history: History,
  byMark: ReadonlyMap<string, number>,
  bySeq: ReadonlyMap<number, AuditEvent>,
  flag: Flag,
): void {
  const isAnswered = answers.length > 0;
  const first = parts.find(({ mark }) => mark !== undefined)?.mark;
  const isDone = isAnswered ? effect !== undefined : byMark.has(first ?? "");
  for (const [index, { kind, task_id, fence, mark }] of parts.entries()) {
    const at: Place = { command_id, task_id };
    const name = `${kind} ${index} of batch ${command_id}`;
    if (mark !== undefined) checkMark(mark, isDone, byMark, name, at, flag);
    const seq = effect?.parts?.[index]?.seq;
    if (mark !== undefined && seq !== undefined && bySeq.get(seq)?.fact_id !== mark) {
      flag("commands", "effect_mismatch", `${name} was answered with seq ${seq}`, at);
    }
    // Who was refused ends its tasks one by one; who was not answered, never.
    if (kind !== "complete" || (isAnswered && !isDone)) continue;
    const isCompleted = history.leaseEnds.get(fence) === "completed";
    if (isCompleted === isDone) continue;
    const detail = `${name} ${isDone ? "is not" : "is"} in the log, ${isDone ? "and" : "but not"} the facts beside it`;
    flag("commands", "batch_torn", detail, at);
  }
}

/** What was accepted is in the log once; what was refused is not in it. @param isAccepted undefined where nobody was answered. */
function checkMark(
  mark: string,
  isAccepted: boolean | undefined,
  byMark: ReadonlyMap<string, number>,
  name: string,
  at: Place,
  flag: Flag,
): void {
  const found = byMark.get(mark) ?? 0;
  const expected = isAccepted === undefined ? Math.min(found, 1) : isAccepted ? 1 : 0;
  if (found === expected) return;
  const detail = `${name} is in the log ${found} times instead of ${expected}`;
  flag("commands", found > expected ? "command_repeated" : "effect_missing", detail, at);
}

/** Whoever holds a lease is never refused: a refusal must be explained by a lease that had run out, or was taken away. */
function checkHolder(
  command: CommandRecord,
  history: History,
  leaseMs: number,
  clock: ServerClock,
  flag: Flag,
): void {
  const { command_id, kind, answers, parts, lock_id } = command;
  const last = answers.at(-1);
  if (last === undefined || answers.some((answer) => answer.effect !== undefined)) return;
  const refused = parts?.[answers[0]?.refused_part ?? 0];
  const fence = command.fence ?? refused?.fence;
  const task_id = command.task_id ?? refused?.task_id;
  if (fence === undefined || lock_id !== undefined) return;
  const end = history.leaseEnds.get(fence);
  if (end === "revoked" || end === "cancelled" || end === "timed_out") return;
  const claimedMs = command.claimed_ms ?? last.answered_ms;
  const oldest = { calledMs: claimedMs, returnedMs: claimedMs, termMs: leaseMs };
  if (end === "expired" && clock.earliestEndMs(oldest) <= last.answered_ms) return;
  const ageMs = last.answered_ms - claimedMs;
  const codes = answers.map((answer) => answer.code ?? answer.status).join(", ");
  const lease = end === "expired" ? `its lease was ${Math.round(ageMs)} ms old` : "its lease never ran out";
  const at: Place = { command_id, ...(task_id === undefined ? {} : { task_id }) };
  flag("leases", "holder_refused", `${kind} ${command_id} was refused (${codes}) though ${lease}`, at);
}
