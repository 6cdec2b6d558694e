import type { ServerClock } from "../history/clock.ts";
import type { History, LostClaim, Operation } from "../history/operation.ts";
import type { AuditClocks, CommandPart, CommandRecord, Effect, LockHolder, Resource } from "./records.ts";
import type { DrillTask } from "./rows.ts";

/** What of a drill its commands do not tell. */
export interface Terms {
  readonly plan: readonly DrillTask[];
  /** Of every lease, ms. */
  readonly leaseMs: number;
  readonly clock: ServerClock;
}

const never = Number.POSITIVE_INFINITY;
/** What a claim of several takes at most here. */
const mostClaimed = 3;

/**
 * The agents' records as operations on leases: those of tasks, and those of what is locked by one agent alone, which stands among
 * them as `lock <name>`. What was never answered stands there without an end: it took effect at any time, or never.
 */
export function toHistory(commands: readonly CommandRecord[], terms: Terms): History {
  const clocks = new Map(terms.plan.map((task) => [task.id, task.clocks ?? {}]));
  const onTasks = commands.flatMap((command) => operationsOf(command, terms));
  const clocked = onTasks.flatMap((operation) => endsByClock(operation, clocks, terms));
  const born = commands.find(({ kind }) => kind === "create")?.sent_ms ?? 0;
  const unstarted = terms.plan.flatMap((task) => deadlineOf(task.id, task.clocks ?? {}, born, terms));
  const tasks = [...onTasks, ...clocked, ...unstarted];
  const operations = [...tasks, ...ofLeasedLocks(commands, tasks), ...commands.flatMap(ofLocks(terms))];
  const names = new Set(operations.map(({ task }) => task));
  for (const command of commands) {
    // At the end of the grace any lease may have been taken back.
    if (command.kind === "pause")
      operations.push(...[...names].map((task) => revocation(command, task, terms)));
    else if (command.kind === "redrive" && isLost(command)) {
      // It may have put back any dead letter, after it was answered that there is none.
      for (const { id, retry, clocks } of terms.plan) {
        if (retry === undefined && clocks === undefined) continue;
        operations.push(...reopened(id, command, never, terms));
      }
    } else if (command.kind === "claim" && isLost(command)) {
      operations.push(...lastAttempts(command, terms));
    }
  }
  const shorterMs = new Map<string, number>();
  for (const [task, its] of clocks) if (shortestMs(its) < never) shorterMs.set(task, shortestMs(its));
  // Of a lock that was taken with a claim nobody knows with which task, and what ends that task's lease.
  for (const name of names) if (name.startsWith("lock ")) shorterMs.set(name, 0);
  const lostClaims = commands.flatMap((command) => lostClaimOf(command, terms.leaseMs, shorterMs) ?? []);
  return { operations, lostClaims };
}

/** Whether a request of it was not answered, and none with an effect was: it may have one that nobody was told. */
function isLost({ missed, answers }: CommandRecord): boolean {
  return missed > 0 && !answers.some(({ effect }) => effect !== undefined && effect !== null);
}

function operationsOf(command: CommandRecord, terms: Terms): Operation[] {
  const { command_id: id, kind, sent_ms: calledMs, answers, task_id, fence, lock_id } = command;
  const accepted = answers.find(({ effect }) => effect !== undefined && effect !== null);
  const returnedMs = (accepted ?? answers.at(-1))?.answered_ms ?? never;
  const seen = (task: string) => ({ id, task, calledMs, returnedMs });
  const effect = accepted?.effect;
  const termMs = accepted?.term_ms ?? terms.leaseMs;

  if (kind === "claim") {
    return (effect?.parts ?? [effect]).flatMap((one): Operation[] => {
      const { task_id: task, fence: given } = one ?? {};
      if (task === undefined || given === undefined) return [];
      return [{ ...seen(task), act: "claim", agent: command.agent ?? "", fence: given, termMs }];
    });
  }
  if (kind === "redrive") {
    return (effect?.redriven ?? []).flatMap((task) => reopened(task, command, returnedMs, terms));
  }
  if (kind === "cancel") return cancellationOf(command, accepted?.effect?.status, terms);
  if (kind === "batch") return partsOf(command, accepted !== undefined);
  if (kind === "read") return effect ? [readOf(seen(task_id ?? ""), effect)] : [];
  if (task_id === undefined || fence === undefined || lock_id !== undefined) return [];
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
    case "release":
      return [{ ...under, act: "end", to: "open" }];
    case "fail": {
      const back: Operation = { ...under, act: "end", to: "open" };
      const over: Operation = { ...under, act: "end", to: "over" };
      // Only the answer tells; and once one of them took effect, the other cannot.
      if (effect === undefined || effect === null) return [back, { ...over, id: `${id} for good` }];
      return [effect.status === "failed" ? over : back];
    }
    default:
      return [{ ...under, act: "write" }];
  }
}

function readOf(
  seen: { id: string; task: string; calledMs: number; returnedMs: number },
  { status, holder }: Effect,
): Operation {
  if (holder !== undefined) return { ...seen, act: "read", phase: "held", holder };
  const isOver = status === "done" || status === "failed";
  return { ...seen, act: "read", phase: isOver ? "over" : "open", holder: null };
}

/** A task that nobody held is over at once; a holder may go on for a while. */
function cancellationOf(command: CommandRecord, status: string | undefined, terms: Terms): Operation[] {
  const { command_id: id, sent_ms: calledMs, task_id: task = "", answers } = command;
  const close = (returnedMs: number): Operation => ({ id, task, calledMs, returnedMs, act: "close" });
  if (status === "failed") return [close(answers[0]?.answered_ms ?? never)];
  const revoked = revocation(command, task, terms);
  return isLost(command) ? [close(never), { ...revoked, id: `${id} revoked` }] : [revoked];
}

/** The end of a lease, once the grace of a request to stop is over. */
function revocation(command: CommandRecord, task: string, { clock }: Terms): Operation {
  const { command_id: id, sent_ms, grace_ms = 0 } = command;
  const calledMs = clock.earliestEndMs({ calledMs: sent_ms, returnedMs: never, termMs: grace_ms });
  return { id, task, calledMs, returnedMs: never, act: "revoke" };
}

/** A dead letter that is back on the board, and may become one again by a clock that started anew. */
function reopened(task: string, command: CommandRecord, returnedMs: number, terms: Terms): Operation[] {
  const { command_id: id, sent_ms: calledMs } = command;
  const clocks = terms.plan.find((row) => row.id === task)?.clocks ?? {};
  const reopen: Operation = { id, task, calledMs, returnedMs, act: "reopen" };
  return [reopen, ...deadlineOf(task, clocks, calledMs, terms, id)];
}

/** A task that nobody holds may be over once it was not begun, or not done, in time. */
function deadlineOf(
  task: string,
  { start_within_ms, finish_within_ms }: AuditClocks,
  bornMs: number,
  { clock }: Terms,
  id = "created",
): Operation[] {
  const termMs = Math.min(start_within_ms ?? never, finish_within_ms ?? never);
  if (termMs === never) return [];
  const calledMs = clock.earliestEndMs({ calledMs: bornMs, returnedMs: never, termMs });
  return [{ id: `${id} deadline`, task, calledMs, returnedMs: never, act: "close" }];
}

/** The least that a lease may last before a clock of its task ends it: when the task was put back, its holder does not know. */
function shortestMs({ run_within_ms, silent_within_ms, finish_within_ms }: AuditClocks): number {
  return Math.min(
    run_within_ms ?? never,
    silent_within_ms ?? never,
    finish_within_ms === undefined ? never : 0,
  );
}

/** A lease may end sooner than its term by a clock of its task. */
function endsByClock(
  operation: Operation,
  clocks: ReadonlyMap<string, AuditClocks>,
  { clock }: Terms,
): Operation[] {
  if (operation.act !== "claim") return [];
  const { id, task, fence, calledMs } = operation;
  const termMs = shortestMs(clocks.get(task) ?? {});
  if (termMs === never) return [];
  const earliestMs = clock.earliestEndMs({ calledMs, returnedMs: never, termMs });
  return [{ id: `${id} clock`, task, calledMs: earliestMs, returnedMs: never, act: "revoke", fence }];
}

/** A claim that nobody was told of may have been the last attempt at a task: it is over when the lease ends. */
function lastAttempts({ command_id, sent_ms }: CommandRecord, { plan, leaseMs, clock }: Terms): Operation[] {
  return plan.flatMap(({ id: task, retry, clocks = {} }): Operation[] => {
    if (retry === undefined) return [];
    const termMs = Math.min(leaseMs, shortestMs(clocks));
    const calledMs = clock.earliestEndMs({ calledMs: sent_ms, returnedMs: never, termMs });
    return [{ id: `${command_id} for good`, task, calledMs, returnedMs: never, act: "close" }];
  });
}

/** Several commands take effect together, or none does. */
function partsOf(command: CommandRecord, isAccepted: boolean): Operation[] {
  const { command_id, sent_ms: calledMs, answers, parts = [] } = command;
  const [first] = answers;
  const returnedMs = first?.answered_ms ?? never;
  const operationOf = (part: CommandPart, index: number): Operation => {
    const { task_id: task, fence } = part;
    const seen = { id: `${command_id}.${index}`, task, calledMs, returnedMs, fence };
    return part.kind === "complete" ? { ...seen, act: "end", to: "over" } : { ...seen, act: "write" };
  };
  if (isAccepted || first === undefined) return parts.map(operationOf);
  const refused = parts[first.refused_part ?? parts.length];
  // Of the others nothing is known: nobody looked at them.
  if (refused === undefined) return [];
  const { holder } = first;
  const seen = { id: command_id, task: refused.task_id, calledMs, fence: refused.fence };
  const lastMs = answers.at(-1)?.answered_ms ?? never;
  return [{ ...seen, returnedMs: lastMs, act: "refused", ...(holder !== undefined && { holder }) }];
}

// --- locks -------------------------------------------------------------------------------------------------------------

function lockNames(resources: readonly Resource[] | undefined): string[] {
  return (resources ?? []).filter(({ mode }) => mode === "exclusive").map(({ name }) => `lock ${name}`);
}

/** What commands about locks, and answers that name who has them, tell of what is locked by one agent alone. */
function ofLocks({ leaseMs }: Terms): (command: CommandRecord) => Operation[] {
  return (command) => {
    const { command_id: id, kind, sent_ms: calledMs, answers, fence, resources } = command;
    const names = lockNames(resources);
    const accepted = answers.find(({ effect }) => effect !== undefined && effect !== null);
    const returnedMs = (accepted ?? answers.at(-1))?.answered_ms ?? never;
    const termMs = accepted?.term_ms ?? leaseMs;
    const seen = answers.flatMap(({ conflicts = [], answered_ms }, index) =>
      conflicts.flatMap((conflict) => conflictOf(`${id}/${index}`, names, conflict, calledMs, answered_ms)),
    );
    const each = (
      make: (base: { id: string; task: string; calledMs: number; returnedMs: number }) => Operation,
    ) => names.map((task) => make({ id, task, calledMs, returnedMs }));

    if (kind === "lock") {
      const given = accepted?.effect?.fence;
      if (given === undefined) return seen;
      const agent = command.agent ?? "";
      return [...seen, ...each((base) => ({ ...base, act: "claim", agent, fence: given, termMs }))];
    }
    if (fence === undefined || (kind !== "renew" && kind !== "unlock")) return seen;
    if (accepted === undefined && answers.length > 0) {
      return each((base) => ({ ...base, act: "refused", fence }));
    }
    return each((base) =>
      kind === "renew"
        ? { ...base, act: "heartbeat", fence, termMs }
        : { ...base, act: "end", fence, to: "open" },
    );
  };
}

/** Who wants something alone and is told who has it has seen its holder; who shares it is none for this history. */
function conflictOf(
  id: string,
  names: readonly string[],
  { resource, agent, fence, mode }: LockHolder,
  calledMs: number,
  returnedMs: number,
): Operation[] {
  const task = `lock ${resource}`;
  if (mode !== "exclusive" || !names.includes(task)) return [];
  return [{ id, task, calledMs, returnedMs, act: "read", phase: "held", holder: { agent, fence } }];
}

/** What was locked with a task goes on with the task's lease and ends with it. */
function ofLeasedLocks(commands: readonly CommandRecord[], tasks: readonly Operation[]): Operation[] {
  const names = new Map<string, readonly string[]>();
  for (const { kind, resources, answers } of commands) {
    const effect = answers.find((answer) => answer.effect)?.effect;
    if (kind !== "claim" || effect?.lock_id === undefined) continue;
    names.set(`${effect.task_id} ${effect.fence}`, lockNames(resources));
  }
  const fencesOf = new Map<string, number[]>();
  for (const { act, task, ...rest } of tasks) {
    if (act !== "claim" || !("fence" in rest)) continue;
    fencesOf.set(task, [...(fencesOf.get(task) ?? []), rest.fence ?? 0]);
  }
  return tasks.flatMap((operation): Operation[] => {
    const { task } = operation;
    // Whatever ends the lease of a task, whoever has it, ends each of its locks.
    const fences =
      "fence" in operation && operation.fence !== undefined
        ? [operation.fence]
        : operation.act === "revoke"
          ? (fencesOf.get(task) ?? [])
          : [];
    return fences.flatMap((fence) =>
      (names.get(`${task} ${fence}`) ?? []).map((name) => onLock(operation, name, fence)),
    );
  });
}

function onLock(operation: Operation, task: string, fence: number): Operation {
  switch (operation.act) {
    case "end":
      return { ...operation, task, to: "open" };
    case "refused": {
      const { id, calledMs, returnedMs } = operation;
      return { id, task, calledMs, returnedMs, act: "refused", fence };
    }
    case "revoke":
      return { ...operation, task, fence };
    default:
      return { ...operation, task };
  }
}

/** A request without an answer may be worked after its repeat found nothing; and one may never have been answered. */
function lostClaimOf(
  command: CommandRecord,
  termMs: number,
  shorterMs: ReadonlyMap<string, number>,
): LostClaim | undefined {
  const { command_id: id, kind, agent, sent_ms: calledMs } = command;
  if (agent === undefined || !isLost(command)) return undefined;
  if (kind === "lock") return { id, agent, calledMs, termMs, max: 1 };
  return { id, agent, calledMs, termMs, shorterMs, max: mostClaimed };
}
