import type { History, LostClaim, Operation } from "./operation.ts";
import { after, expired, FRESH, isHarmless, type Register, type Rules } from "./register.ts";

/** Why a history cannot be. */
export interface Misfit {
  readonly rule: "not_linearizable" | "fence_twice" | "fence_went_back" | "holder_unknown";
  readonly task: string;
  /** The operation that fits nowhere. */
  readonly id: string;
  readonly detail: string;
}

/**
 * Finds out whether every operation of a history can have taken effect at one instant between its call and its answer, in
 * an order that the rules of a lease allow: whether the history is linearizable. It is so exactly when it is so for each task
 * alone, so each task is checked alone.
 *
 * The search goes through calls and answers in order of time and keeps every state that the task may be in by then. An operation is
 * put in its place no sooner than an answer needs it; one that takes no choice away, as soon as it can be; one whose answer was
 * lost, if at all. Fences say in which order claims took effect, so that there are few states, and time grows with the number of operations.
 *
 * @returns the first misfit of each task, in order of time
 */
export function checkHistory(history: History, rules: Rules): Misfit[] {
  const misfits: Misfit[] = [];
  for (const [task, operations] of byTask(history.operations)) {
    const misfit = checkTask(task, withSighted(task, operations, history.lostClaims, misfits), rules);
    if (misfit !== null) misfits.push(misfit);
  }
  return misfits;
}

function byTask(operations: readonly Operation[]): Map<string, Operation[]> {
  const tasks = new Map<string, Operation[]>();
  for (const operation of operations) {
    const known = tasks.get(operation.task);
    if (known === undefined) tasks.set(operation.task, [operation]);
    else known.push(operation);
  }
  return tasks;
}

/** The operations, and the claims without an answer that some answer shows to have taken this task. */
function withSighted(
  task: string,
  operations: Operation[],
  lostClaims: readonly LostClaim[],
  misfits: Misfit[],
): Operation[] {
  const known = new Set(operations.map((one) => (one.act === "claim" ? one.fence : 0)));
  const sighted: Operation[] = [];
  for (const operation of operations) {
    const holder = "holder" in operation ? operation.holder : undefined;
    if (holder === undefined || holder === null || known.has(holder.fence)) continue;
    known.add(holder.fence);
    const { agent, fence } = holder;
    const taken = (claim: LostClaim) => sighted.filter(({ id }) => id === claim.id).length;
    const claim = lostClaims.find(
      (lost) => lost.agent === agent && lost.calledMs <= operation.returnedMs && taken(lost) < lost.max,
    );
    if (claim === undefined) {
      const detail = `${describe(operation)} names ${agent} with fence ${fence}, which nobody was given`;
      misfits.push({ rule: "holder_unknown", task, id: operation.id, detail });
      continue;
    }
    const { id, calledMs, shorterMs } = claim;
    const termMs = shorterMs?.get(task) ?? claim.termMs;
    const returnedMs = Number.POSITIVE_INFINITY;
    sighted.push({ id, task, calledMs, returnedMs, act: "claim", agent, fence, termMs });
  }
  return [...operations, ...sighted];
}

/** A state that the task may be in, and the operations at work that have taken effect by then. */
interface Candidate {
  readonly task: Register;
  readonly placed: ReadonlySet<Operation>;
}

function checkTask(name: string, operations: readonly Operation[], rules: Rules): Misfit | null {
  const claims = operations.filter((one) => one.act === "claim").sort((a, b) => a.fence - b.fence);
  const misfit = misfitAmong(name, claims);
  if (misfit !== null) return misfit;
  const fences = claims.map(({ fence }) => fence);
  const search = new Search(fences, rules);
  let candidates: Candidate[] = [{ task: FRESH, placed: new Set() }];
  for (const { atMs, operation, isCall } of momentsOf(operations)) {
    if (isCall) {
      candidates = search.called(candidates, operation);
      continue;
    }
    const left = search.answered(candidates, operation, atMs);
    if (left.length === 0) {
      const states = [...new Set(candidates.map(({ task }) => stateText(task)))].slice(0, 4).join("; or ");
      const detail = `${describe(operation)} fits nowhere: until its answer the task was ${states}`;
      return { rule: "not_linearizable", task: name, id: operation.id, detail };
    }
    candidates = left;
  }
  return null;
}

type Claim = Extract<Operation, { act: "claim" }>;

/** What claims tell by themselves: each has a fence of its own, and who claims later has a larger one. */
function misfitAmong(task: string, claims: readonly Claim[]): Misfit | null {
  let first: Claim | undefined;
  for (const [index, claim] of claims.toReversed().entries()) {
    const larger = index === 0 ? undefined : claims[claims.length - index];
    const told = (rule: Misfit["rule"], other: Claim): Misfit => {
      return { rule, task, id: claim.id, detail: `${describe(claim)} against ${describe(other)}` };
    };
    if (larger?.fence === claim.fence) return told("fence_twice", larger);
    if (first !== undefined && claim.calledMs > first.returnedMs) return told("fence_went_back", first);
    if (first === undefined || claim.returnedMs < first.returnedMs) first = claim;
  }
  return null;
}

interface Moment {
  atMs: number;
  operation: Operation;
  isCall: boolean;
}

/** Calls and answers in order. At the same time calls come first: such operations may have overlapped. */
function momentsOf(operations: readonly Operation[]): Moment[] {
  const moments: Moment[] = [];
  for (const operation of operations) {
    moments.push({ atMs: operation.calledMs, operation, isCall: true });
    const atMs = operation.returnedMs;
    if (!isLost(operation)) moments.push({ atMs, operation, isCall: false });
  }
  return moments.sort((a, b) => a.atMs - b.atMs || Number(b.isCall) - Number(a.isCall));
}

class Search {
  /** Called, and without an answer so far. */
  readonly #atWork = new Set<Operation>();
  /** Heartbeats without an answer. */
  #loose: Operation[] = [];
  readonly #rules: Rules;
  /** The fence that is given out after each: claims take effect in that order. */
  readonly #nextFence = new Map<number, number>();

  constructor(fences: readonly number[], rules: Rules) {
    this.#rules = rules;
    for (const [index, fence] of fences.entries())
      this.#nextFence.set(fences[index - 1] ?? FRESH.fence, fence);
  }

  /** What the candidates become when `operation` may take effect from now on. */
  called(candidates: readonly Candidate[], operation: Operation): Candidate[] {
    if (isLost(operation)) {
      // A heartbeat without an answer only makes the end of the lease uncertain, whether or not it takes effect.
      if (operation.act === "heartbeat") {
        this.#loose.push(operation);
        return candidates.map(({ task, placed }) => ({ task: this.#loosened(task), placed }));
      }
      // Nothing is known of a look without an answer.
      if (isHarmless(operation)) return [...candidates];
    }
    this.#atWork.add(operation);
    return unique(candidates.map((candidate) => this.#settled(candidate)));
  }

  /** What the candidates become when `operation` must have taken effect by now; none when it cannot have. */
  answered(candidates: readonly Candidate[], operation: Operation, nowMs: number): Candidate[] {
    const found: Candidate[] = [];
    const seen = new Set<string>();
    const ahead = [...candidates];
    for (let one = ahead.pop(); one !== undefined; one = ahead.pop()) {
      if (one.placed.has(operation)) {
        found.push(one);
        continue;
      }
      const key = keyOf(one);
      if (seen.has(key)) continue;
      seen.add(key);
      ahead.push(...this.#next(one, nowMs));
    }
    this.#atWork.delete(operation);
    if (operation.act === "claim") this.#forget(found);
    return unique(found.map(({ task, placed }) => ({ task, placed: without(placed, operation) })));
  }

  /** Lets go of lost operations that can no longer take effect, because the task was given out again since. */
  #forget(candidates: readonly Candidate[]): void {
    const fence = candidates.reduce(
      (least, { task }) => Math.min(least, task.fence),
      Number.POSITIVE_INFINITY,
    );
    for (const operation of this.#atWork) if (isStale(operation, fence)) this.#atWork.delete(operation);
    this.#loose = this.#loose.filter((operation) => !isStale(operation, fence));
  }

  /** The task with the end of its lease made uncertain by what may have reached it. */
  #loosened(task: Register): Register {
    return this.#loose.reduce((loosened, one) => after(loosened, one, this.#rules) ?? loosened, task);
  }

  /** The candidate with everything placed that takes no choice away. */
  #settled(candidate: Candidate): Candidate {
    let { task } = candidate;
    const placed = new Set(candidate.placed);
    for (let isChanged = true; isChanged; ) {
      isChanged = false;
      for (const operation of this.#atWork) {
        if (!isHarmless(operation) || placed.has(operation)) continue;
        const changed = after(task, operation, this.#rules);
        if (changed === null) continue;
        placed.add(operation);
        // A heartbeat leaves more time for what was looked at before it.
        isChanged ||= changed !== task;
        task = changed;
      }
    }
    return { task, placed };
  }

  /** Every candidate that one more operation, or the end of the lease, makes of this one. */
  #next({ task, placed }: Candidate, nowMs: number): Candidate[] {
    const next: Candidate[] = [];
    const ended = expired(task, nowMs, this.#rules);
    if (ended !== null) next.push(this.#settled({ task: ended, placed }));
    const tried = new Set<string>();
    for (const operation of this.#atWork) {
      if (placed.has(operation) || isHarmless(operation)) continue;
      if (isLikeOthers(operation)) {
        if (tried.has(operation.act)) continue;
        tried.add(operation.act);
      }
      if (operation.act === "claim" && operation.fence !== this.#nextFence.get(task.fence)) continue;
      const changed = after(task, operation, this.#rules);
      if (changed === null) continue;
      const kept = [...placed].filter((one) => !isStale(one, changed.fence));
      const loosened = operation.act === "claim" ? this.#loosened(changed) : changed;
      next.push(this.#settled({ task: loosened, placed: new Set([...kept, operation]) }));
    }
    return next;
  }
}

function isLost({ returnedMs }: Operation): boolean {
  return returnedMs === Number.POSITIVE_INFINITY;
}

/** Whether it makes no difference which of several such operations takes effect: nobody read the answer, and they name no lease. */
function isLikeOthers(operation: Operation): boolean {
  return isLost(operation) && !("fence" in operation);
}

/** Whether nobody read its answer, and it is of a lease before that of `fence`. */
function isStale(operation: Operation, fence: number): boolean {
  return isLost(operation) && "fence" in operation && operation.fence < fence;
}

function without(placed: ReadonlySet<Operation>, operation: Operation): Set<Operation> {
  const rest = new Set(placed);
  rest.delete(operation);
  return rest;
}

function unique(candidates: readonly Candidate[]): Candidate[] {
  if (candidates.length < 2) return [...candidates];
  return [...new Map(candidates.map((candidate) => [keyOf(candidate), candidate])).values()];
}

function keyOf({ task, placed }: Candidate): string {
  const { phase, fence, endsAfterMs, endsBeforeMs, looseMs } = task;
  const ids = [...placed].map((one) => (isLikeOthers(one) ? one.act : `${one.act} ${one.id}`)).sort();
  return `${phase} ${fence} ${endsAfterMs} ${endsBeforeMs} ${looseMs} ${ids.join(",")}`;
}

function stateText({ phase, fence, agent, endsAfterMs }: Register): string {
  if (phase === "held") {
    return `held by ${agent} with fence ${fence}, until ${Math.round(endsAfterMs)} ms at least`;
  }
  return `${phase}, its last fence ${fence}`;
}

function describe(operation: Operation): string {
  const { act, id, calledMs, returnedMs } = operation;
  const fence = "fence" in operation ? ` with fence ${operation.fence}` : "";
  const times = `${calledMs.toFixed(1)} to ${returnedMs.toFixed(1)} ms`;
  return `${act} ${id}${fence} (${times})`;
}
