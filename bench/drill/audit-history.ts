import { checkHistory } from "../history/check.ts";
import { STEADY } from "../history/clock.ts";
import type { History, LostClaim, Operation } from "../history/operation.ts";
import type { AuditInput } from "./audit.ts";
import type { CommandPart, CommandRecord } from "./records.ts";
import type { Flag } from "./violation.ts";

/** By how much the clocks of drill and server may come apart over a lease: rounding, and one part in a thousand. */
const slackMs = 5;
const slackShare = 0.001;

/**
 * What agents were answered, against the rules of a lease, without a look at the log: a server that keeps a tidy log and tells
 * agents something else is found here. Returns how many operations there were.
 */
export function checkAnswers({ commands, leaseMs }: AuditInput, flag: Flag): number {
  const history = toHistory(commands, leaseMs);
  const rules = { isStrict: true, slackMs: slackMs + leaseMs * slackShare, clock: STEADY };
  for (const { rule, task, id, detail } of checkHistory(history, rules)) {
    flag("history", rule, `${task}: ${detail}`, { task_id: task, command_id: id });
  }
  return history.operations.length;
}

/** The agents' records as operations on leases. */
export function toHistory(commands: readonly CommandRecord[], leaseMs: number): History {
  const operations = commands.flatMap((command) => operationsOf(command, leaseMs));
  const tasks = new Set(operations.map(({ task }) => task));
  for (const { command_id, kind, sent_ms, grace_ms = 0 } of commands) {
    // At the end of the grace any lease may have been taken back.
    if (kind !== "pause") continue;
    const times = { calledMs: sent_ms + grace_ms, returnedMs: never };
    for (const task of tasks) operations.push({ id: command_id, task, ...times, act: "revoke" });
  }
  return { operations, lostClaims: commands.flatMap((command) => lostClaimOf(command, leaseMs) ?? []) };
}

const never = Number.POSITIVE_INFINITY;

function operationsOf(command: CommandRecord, leaseMs: number): Operation[] {
  const { command_id: id, kind, sent_ms: calledMs, answers, task_id, fence } = command;
  const accepted = answers.find(({ effect }) => effect !== undefined && effect !== null);
  const returnedMs = (accepted ?? answers.at(-1))?.answered_ms ?? never;
  const seen = (task: string) => ({ id, task, calledMs, returnedMs });
  const effect = accepted?.effect;
  const termMs = accepted?.term_ms ?? leaseMs;

  if (kind === "claim") {
    return (effect?.parts ?? [effect]).flatMap((one): Operation[] => {
      const { task_id: task, fence: given } = one ?? {};
      if (task === undefined || given === undefined) return [];
      return [{ ...seen(task), act: "claim", agent: command.agent ?? "", fence: given, termMs }];
    });
  }
  if (kind === "redrive") return (effect?.redriven ?? []).map((task) => ({ ...seen(task), act: "reopen" }));
  if (kind === "cancel") return cancellationOf(command, accepted?.effect?.status);
  if (kind === "batch") return partsOf(command, accepted !== undefined);
  if (task_id === undefined || fence === undefined) return [];
  if (accepted === undefined && answers.length > 0) {
    const holder = answers[0]?.holder;
    return [{ ...seen(task_id), act: "refused", fence, ...(holder !== undefined && { holder }) }];
  }
  const under = { ...seen(task_id), fence };
  switch (kind) {
    case "heartbeat":
      return [{ ...under, act: "heartbeat", termMs }];
    case "complete":
      return [{ ...under, act: "end", to: "over" }];
    case "fail":
    case "release":
      return [{ ...under, act: "end", to: effect?.status === "failed" ? "over" : "open" }];
    default:
      return [{ ...under, act: "write" }];
  }
}

/** A task that nobody held is over at once; a holder may go on for a while. */
function cancellationOf(command: CommandRecord, status: string | undefined): Operation[] {
  const { command_id: id, sent_ms: calledMs, task_id: task = "", grace_ms = 0, answers } = command;
  if (status === "failed") {
    return [{ id, task, calledMs, returnedMs: answers[0]?.answered_ms ?? never, act: "close" }];
  }
  return [{ id, task, calledMs: calledMs + grace_ms, returnedMs: never, act: "revoke" }];
}

/** Several commands take effect together, or none does. */
function partsOf(command: CommandRecord, isAccepted: boolean): Operation[] {
  const { command_id, sent_ms: calledMs, answers, parts = [] } = command;
  const [first] = answers;
  const returnedMs = first?.answered_ms ?? never;
  const operationOf = (part: CommandPart, index: number): Operation => {
    const seen = {
      id: `${command_id}.${index}`,
      task: part.task_id,
      calledMs,
      returnedMs,
      fence: part.fence,
    };
    return part.kind === "complete" ? { ...seen, act: "end", to: "over" } : { ...seen, act: "write" };
  };
  if (isAccepted) return parts.map(operationOf);
  const at = first?.refused_part;
  const refused = at === undefined ? undefined : parts[at];
  // Of the others nothing is known: nobody looked at them.
  if (refused === undefined) return [];
  const holder = first?.holder;
  const seen = { id: command_id, task: refused.task_id, calledMs, fence: refused.fence };
  const lastMs = answers.at(-1)?.answered_ms ?? never;
  return [{ ...seen, returnedMs: lastMs, act: "refused", ...(holder !== undefined && { holder }) }];
}

/** A claim whose connection was cut may be worked after its repeat found nothing; and one may never have been answered. */
function lostClaimOf(
  { command_id, agent, sent_ms, delivery, answers }: CommandRecord,
  leaseMs: number,
): LostClaim | undefined {
  const isTold = answers.some(({ effect }) => effect !== undefined && effect !== null);
  if (agent === undefined || isTold || (delivery !== "cut" && answers.length > 0)) return undefined;
  return { id: command_id, agent, calledMs: sent_ms, termMs: leaseMs, max: mostClaimed };
}

/** What a claim of several takes at most here. */
const mostClaimed = 3;
