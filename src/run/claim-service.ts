import { claimStop } from "../domain/claim-stop.ts";
import type { AnyCommand } from "../domain/command.ts";
import type { Context } from "../domain/draft.ts";
import { heldLocks } from "../domain/locks.ts";
import { claimsOf, emptyClaim, type Outcome } from "../domain/outcome.ts";
import { overloaded, type Refusal } from "../domain/refusals.ts";
import { isTerminal } from "../domain/run.ts";
import { MAX_ECHO_LENGTH, MAX_PARKED_CLAIMS } from "../protocol/limits.ts";
import type { Lock } from "../protocol/lock.ts";
import type { Answer, Submission } from "./engine.ts";
import { packAnswer } from "./packed-answer.ts";
import { type ParkedClaim, ParkedClaims } from "./parked-claims.ts";
import type { RunState } from "./run-state.ts";

/** What came of a submission: its answer, or the fault that undid it. */
export interface Attempt {
  answer?: Answer;
  fault?: unknown;
}

/** What one transaction holds until it is flushed, and what parked claims may yet be given in it. */
export interface Serving {
  /** The answers. */
  settle: (() => void)[];
  /** How long those are that are long, in UTF-16 units. */
  held: number;
  /** Tasks that parked claims may yet be given. */
  room: number;
  /** Parked claims that had their turn: they wait again if the transaction is undone. */
  served: ParkedClaim[];
}

/** What serving needs of the engine, inside the engine's transaction. */
interface ServingEngine {
  /** What decisions of this moment go by. */
  context(): Context;
  /** Takes in all that time has brought for claims, in a nested transaction. Throws for a fault, which undid it. */
  makeReady(context: Context): void;
  /** Carries a submission out in a nested transaction. */
  attempt(submission: Submission): Attempt;
  /** Whether a command of that id was taken in before. */
  isRepeat(commandId: string): boolean;
  /** Whether the run takes nothing more until there is room. */
  isFull(): boolean;
}

/**
 * The claims that wait for something to be given to them, and how they are given it.
 *
 * G6 A parked claim is a command whose turn has not come. In each transaction, before other claims and at its end, those that
 *    something can be given to have their turn, the first by place first (parked-claims.ts). So a task that becomes ready
 *    is held by one of them with the very flush that makes it ready, and nobody who comes later is served before them.
 */
export class ClaimService {
  readonly #state: RunState;
  readonly #engine: ServingEngine;
  readonly #parked = new ParkedClaims();
  /** Of parked claims that found their resources locked: the lock. As long as that is out, they need not look again. */
  readonly #lockedOutBy = new WeakMap<ParkedClaim, string>();
  #isDue = false;

  constructor(state: RunState, engine: ServingEngine) {
    this.#state = state;
    this.#engine = engine;
  }

  /** Whether parked claims may have something to be given though no command waits. */
  get isDue(): boolean {
    return this.#isDue;
  }

  /** Lets a claim that is no repeat wait. @returns why it cannot, or null. */
  park(claim: ParkedClaim): Refusal | null {
    if (this.#parked.size >= MAX_PARKED_CLAIMS) this.#forgetLeft();
    if (this.#parked.size >= MAX_PARKED_CLAIMS) return overloaded("too many claims wait for this run");
    this.#parked.add(claim);
    this.#isDue = true;
    return null;
  }

  /** Takes back a claim that was parked before the object slept: nothing has become ready meanwhile. */
  parkAgain(claim: ParkedClaim): void {
    this.#parked.add(claim);
  }

  /** Ends a claim's wait; false when it has ended, and the answer is on its way. */
  unpark(claim: ParkedClaim): boolean {
    return this.#parked.remove(claim);
  }

  /** Forgets all that wait: they are not answered. */
  clear(): void {
    this.#parked.clear();
  }

  /** When something becomes ready by itself that a parked claim may wait for, epoch ms, or earlier; null when nothing does. */
  dueAtMs(): number | null {
    if (this.#parked.size === 0 || claimStop(this.#state.head().run.status) !== null) return null;
    return this.#state.delayedDueAtMs();
  }

  /** A transaction begins, at whose end parked claims have their turn: until then they are not due. */
  begin(): void {
    this.#isDue = false;
  }

  /** Serves those that come before a command, if it may be given what they wait for. False as for `serve`. */
  serveBefore(command: AnyCommand, round: Serving): boolean {
    return !givesOutWork(command) || this.serve(round);
  }

  /** Gives parked claims what there is for them. False when the transaction has no room for more, though there may be more. */
  serve(round: Serving): boolean {
    // In a run that is full no claim is carried out; that it is so may end while they wait.
    if (this.#parked.size === 0 || this.#engine.isFull()) return true;
    const { status } = this.#state.head().run;
    if (claimStop(status) !== null) {
      // A pause may end while they wait.
      if (isTerminal(status)) this.#dismissParked(round);
      return true;
    }
    const context = this.#engine.context();
    if (!this.#hasRequeued(context)) return true;
    const unserved = new Set<ParkedClaim>();
    const locks = new HeldLocks(context.nowMs);
    const isLockedOut = (claim: ParkedClaim) =>
      locks.has(this.#lockedOutBy.get(claim), this.#state.head().locks);
    const passed = { has: (claim: ParkedClaim) => unserved.has(claim) || isLockedOut(claim) };
    for (;;) {
      const claim = this.#parked.first(this.#state.readyLanes(context.nowMs), passed);
      if (claim === null) return true;
      if (!claim.isAwaited()) {
        this.#parked.remove(claim);
        continue;
      }
      if (round.room <= 0 || round.held > MAX_ECHO_LENGTH) {
        this.#isDue = true;
        return false;
      }
      if (this.#giveTurn(claim, round)) this.serveTwins(claim.submission, round);
      else unserved.add(claim);
    }
  }

  /** Answers those that wait under the id of a command that was just done. */
  serveTwins({ commandId }: Submission, round: Serving): void {
    if (commandId === undefined || this.#parked.size === 0) return;
    const twins = this.#parked.withCommandId(commandId);
    if (twins.length === 0 || !this.#engine.isRepeat(commandId)) return;
    for (const twin of twins) this.#giveTurn(twin, round);
  }

  /** The transaction was undone: who was served in it waits on, for the next one. */
  undo({ served }: Serving, error: unknown): void {
    for (const claim of served) this.#parked.add(claim);
    this.#isDue = false;
    if (this.#parked.size > 0) reportServing(error);
  }

  /** Takes in what time has brought, in a transaction of its own. False when it failed: whoever claims will be told. */
  #hasRequeued(context: Context): boolean {
    const dueAtMs = this.#state.leaseDueAtMs();
    const isLeaseDue = dueAtMs !== null && dueAtMs <= context.nowMs;
    if (!isLeaseDue && !this.#state.isSettleDue(context.nowMs)) return true;
    try {
      this.#engine.makeReady(context);
      return true;
    } catch (error) {
      reportServing(error);
      return false;
    }
  }

  /** A parked claim has its turn. False when there was nothing for it after all. */
  #giveTurn(claim: ParkedClaim, round: Serving): boolean {
    const { answer } = this.#engine.attempt(claim.submission);
    const given = answer?.ok ? claimsOf(answer.outcome).length : 0;
    if (answer?.ok && answer.repeat === null && given === 0) {
      this.#noteLock(claim, answer.outcome);
      return false;
    }
    this.#parked.remove(claim);
    round.served.push(claim);
    round.room -= Math.max(1, given);
    const packed = answer && packAnswer(answer);
    round.held += packed?.length ?? 0;
    round.settle.push(() => (packed === undefined ? claim.fail() : claim.answer(packed)));
    return true;
  }

  #noteLock(claim: ParkedClaim, outcome: Outcome | null): void {
    const [conflict] = (outcome?.op === "claim_task" && outcome.conflicts) || [];
    if (conflict === undefined) this.#lockedOutBy.delete(claim);
    else this.#lockedOutBy.set(claim, conflict.lock_id);
  }

  /** The run is over: all that wait are told so. */
  #dismissParked(round: Serving): void {
    const { status } = this.#state.head().run;
    const reason = claimStop(status) ?? "run_ended";
    for (const claim of this.#parked.all()) {
      const outcome = emptyClaim(claim.submission.command, reason, status);
      const packed = packAnswer({ ok: true, outcome, repeat: null, rows: { read: 0, written: 0 } });
      this.#parked.remove(claim);
      round.served.push(claim);
      round.settle.push(() => claim.answer(packed));
    }
  }

  /** Forgets claims whose claimer is known to have left. */
  #forgetLeft(): void {
    for (const claim of this.#parked.all()) if (!claim.isAwaited()) this.#parked.remove(claim);
  }
}

/** The ids of the locks that are out at one moment, told apart anew only when the locks change. */
class HeldLocks {
  readonly #nowMs: number;
  #of: readonly Lock[] | undefined;
  #ids: ReadonlySet<string> = new Set();

  constructor(nowMs: number) {
    this.#nowMs = nowMs;
  }

  has(id: string | undefined, locks: readonly Lock[] | undefined): boolean {
    if (id === undefined || locks === undefined) return false;
    if (this.#of !== locks) this.#ids = new Set(heldLocks(locks, this.#nowMs).map(({ lock_id }) => lock_id));
    this.#of = locks;
    return this.#ids.has(id);
  }
}

/** Whether a command may be given what a parked claim waits for. */
function givesOutWork(command: AnyCommand): boolean {
  if (command.op !== "batch") return command.op === "claim_task";
  return command.commands.some(({ op }) => op === "claim_task");
}

/** Nobody is asked about what parked claims wait for: a fault there would go unseen. */
function reportServing(error: unknown): void {
  console.error(JSON.stringify({ event: "serving_failed", fault: String(error) }));
}
