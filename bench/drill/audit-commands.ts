import type { AuditInput } from "./audit.ts";
import type { History } from "./audit-log.ts";
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

  for (const [command_id, events] of history.eventsByCommand) {
    if (events.length > 1) {
      const seqs = events.map((event) => event.seq).join(", ");
      flag("commands", "command_repeated", `${command_id} had an effect at seq ${seqs}`, { command_id });
    }
  }
  const known = new Set(input.commands.map((command) => command.command_id));
  for (const command_id of history.eventsByCommand.keys()) {
    if (!known.has(command_id)) {
      flag("commands", "command_unknown", `nobody sent ${command_id}`, { command_id });
    }
  }
  for (const command of input.commands) {
    checkAgreement(command, flag);
    checkEffect(command, history, bySeq, byMark, flag);
    checkHolder(command, history, input.leaseMs, flag);
  }
}

/** All answers to one command must tell the same story. */
function checkAgreement({ command_id, kind, delivery, answers }: CommandRecord, flag: Flag): void {
  const accepted = answers.filter((answer) => answer.effect !== undefined);
  if (accepted.length > 0 && accepted.length < answers.length) {
    const statuses = answers.map((answer) => answer.code ?? answer.status).join(", then ");
    flag("commands", "answers_disagree", `${kind} ${command_id}: ${statuses}`, { command_id });
  }
  const effects = accepted
    .map((answer) => answer.effect)
    .filter((effect) => effect !== undefined && effect !== null);
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
}

function story(effect: Effect): string {
  return JSON.stringify(effect, Object.keys(effect).sort());
}

/** What the answers said must be in the log, once; what was refused must not be. */
function checkEffect(
  command: CommandRecord,
  history: History,
  bySeq: ReadonlyMap<number, AuditEvent>,
  byMark: ReadonlyMap<string, number>,
  flag: Flag,
): void {
  const { command_id, kind, delivery, answers, mark } = command;
  const at: Place = { command_id, ...(command.task_id === undefined ? {} : { task_id: command.task_id }) };
  const effect = answers.find((answer) => answer.effect !== undefined && answer.effect !== null)?.effect;
  const answered = answers.length > 0;

  if (mark !== undefined) {
    const found = byMark.get(mark) ?? 0;
    const expected = effect === undefined ? 0 : 1;
    if (answered && found !== expected) {
      const detail = `${kind} ${command_id} is in the log ${found} times instead of ${expected}`;
      flag("commands", found > expected ? "command_repeated" : "effect_missing", detail, at);
    }
    const event = bySeq.get(effect?.seq ?? 0);
    if (effect?.seq !== undefined && (event?.marker ?? event?.fact_id) !== mark) {
      flag("commands", "effect_mismatch", `${kind} ${command_id} was answered with seq ${effect.seq}`, at);
    }
    return;
  }
  if (kind !== "claim" && kind !== "heartbeat" && kind !== "complete") return;

  const event = history.eventsByCommand.get(command_id)?.[0];
  if (effect !== undefined && effect !== null) {
    if (event === undefined) {
      flag("commands", "effect_missing", `${kind} ${command_id} was accepted but is not in the log`, at);
    } else if (event.task_id !== effect.task_id || event.task?.task_rev !== effect.task_rev) {
      const logged = `${event.task_id} revision ${event.task?.task_rev}`;
      const told = `${effect.task_id} revision ${effect.task_rev}`;
      flag("commands", "effect_mismatch", `${kind} ${command_id}: answered ${told}, logged ${logged}`, at);
    }
    if (kind === "claim" && effect.fence !== undefined && effect.fence !== event?.seq) {
      const detail = `claim ${command_id} was told fence ${effect.fence}, and is in the log at ${event?.seq}`;
      flag("leases", "fence_unlike_log", detail, at);
    }
    if (
      kind === "claim" &&
      event?.task?.lease_token !== undefined &&
      event.task.lease_token === effect.lease_token
    ) {
      flag("leases", "token_in_log", `the token of claim ${command_id} can be read in the log`, at);
    }
    return;
  }
  // A cut request may be worked after its repeat found nothing; nobody was told, and the lease runs out by itself.
  if (event !== undefined && answered && !(kind === "claim" && delivery === "cut")) {
    const rule = kind === "claim" ? "claim_lost" : "refused_but_done";
    flag(
      "commands",
      rule,
      `${kind} ${command_id} is in the log at seq ${event.seq}, but was answered otherwise`,
      at,
    );
  }
}

/** Whoever holds a lease is never refused: a refusal must be explained by a lease that had run out. */
function checkHolder(command: CommandRecord, history: History, leaseMs: number, flag: Flag): void {
  const { command_id, kind, answers, claim_id } = command;
  if (claim_id === undefined || answers.length === 0) return;
  if (answers.some((answer) => answer.effect !== undefined)) return;
  const expired = history.leaseEnds.get(claim_id) === "expired";
  if (expired && (command.lease_age_ms ?? 0) >= leaseMs) return;
  const codes = answers.map((answer) => answer.code ?? answer.status).join(", ");
  const lease = expired
    ? `its lease was ${Math.round(command.lease_age_ms ?? 0)} ms old`
    : "its lease never ran out";
  const at: Place = { command_id, ...(command.task_id === undefined ? {} : { task_id: command.task_id }) };
  flag("leases", "holder_refused", `${kind} ${command_id} was refused (${codes}) though ${lease}`, at);
}
