import { checkHistory } from "../history/check.ts";
import type { History, LostClaim, Operation } from "../history/operation.ts";
import type { AuditInput } from "./audit.ts";
import type { CommandRecord } from "./records.ts";
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
  const rules = { isStrict: false, slackMs: slackMs + leaseMs * slackShare };
  for (const { rule, task, id, detail } of checkHistory(history, rules)) {
    flag("history", rule, `${task}: ${detail}`, { task_id: task, command_id: id });
  }
  return history.operations.length;
}

/** The agents' records as operations on leases. Commands under claims that told no fence are left out. */
export function toHistory(commands: readonly CommandRecord[], leaseMs: number): History {
  const fenceOf = new Map<string, number>();
  for (const { command_id, kind, answers } of commands) {
    const fence = kind === "claim" ? answers.find(({ effect }) => effect?.fence)?.effect?.fence : undefined;
    if (fence !== undefined) fenceOf.set(command_id, fence);
  }
  const operations: Operation[] = [];
  const lostClaims: LostClaim[] = [];
  for (const command of commands) {
    if (command.kind === "claim") {
      const operation = claimOf(command, leaseMs);
      if (operation !== undefined) operations.push(operation);
      const lost = lostClaimOf(command, leaseMs);
      if (lost !== undefined) lostClaims.push(lost);
      continue;
    }
    const fence = fenceOf.get(command.claim_id ?? "");
    if (fence !== undefined) operations.push(underLease(command, fence, leaseMs));
  }
  return { operations, lostClaims };
}

function claimOf(command: CommandRecord, leaseMs: number): Operation | undefined {
  const answer = command.answers.find(({ effect }) => effect?.fence !== undefined);
  const { task_id: task, fence } = answer?.effect ?? {};
  if (answer === undefined || task === undefined || fence === undefined) return undefined;
  return {
    id: command.command_id,
    task,
    calledMs: command.sent_ms,
    returnedMs: answer.answered_ms,
    act: "claim",
    agent: command.agent ?? "",
    fence,
    termMs: answer.term_ms ?? leaseMs,
  };
}

/** A claim whose connection was cut may be worked after its repeat found nothing; and one may never have been answered. */
function lostClaimOf({ command_id, agent, sent_ms, delivery, answers }: CommandRecord, leaseMs: number) {
  const isTold = answers.some(({ effect }) => effect !== undefined && effect !== null);
  if (agent === undefined || isTold || (delivery !== "cut" && answers.length > 0)) return undefined;
  return { id: command_id, agent, calledMs: sent_ms, termMs: leaseMs, max: 1 };
}

function underLease(command: CommandRecord, fence: number, leaseMs: number): Operation {
  const { command_id: id, kind, sent_ms: calledMs, answers } = command;
  const accepted = answers.find(({ effect }) => effect !== undefined && effect !== null);
  const task = command.task_id ?? "";
  const returnedMs = (accepted ?? answers.at(-1))?.answered_ms ?? Number.POSITIVE_INFINITY;
  const seen = { id, task, calledMs, returnedMs, fence };
  if (accepted === undefined && answers.length > 0) {
    const holder = answers[0]?.holder;
    return { ...seen, act: "refused", ...(holder !== undefined && { holder }) };
  }
  if (kind === "heartbeat") return { ...seen, act: "heartbeat", termMs: accepted?.term_ms ?? leaseMs };
  if (kind === "complete") return { ...seen, act: "end", to: "over" };
  return { ...seen, act: "write" };
}
