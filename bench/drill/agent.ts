import { setTimeout as sleep } from "node:timers/promises";
import { type AgentCommands, agentCommands } from "./agent-commands.ts";
import type { Board } from "./board.ts";
import type { Journal } from "./journal.ts";
import { drawLot, type Lot } from "./lot.ts";
import type { Effect, Resource } from "./records.ts";
import type { Rng } from "./rng.ts";
import { type Command, Forgotten, outcome, type Sender } from "./sender.ts";

export interface AgentOptions {
  readonly runId: string;
  /** 0 for the first agent. */
  readonly number: number;
  /** The share of claims an agent crashes on, 0 to 1. */
  readonly crash: number;
  /** The share of other claims whose work fails, or is given back, 0 to 1. */
  readonly fail: number;
  /** The term of every lease, in milliseconds. */
  readonly leaseMs: number;
  /** How long the work on one task takes, in milliseconds; drawn evenly from this range. */
  readonly workMs: { readonly min: number; readonly max: number };
}

/** A lease as its holder knows it. */
export interface Held {
  readonly task_id: string;
  readonly lease_token: string;
  readonly fence: number;
  /** Whether the task's attempts are capped: only then does a failure not end it. */
  readonly has_policy: boolean;
}

/** A lock as its holder knows it. */
export interface HeldLock {
  readonly lock_id: string;
  readonly lease_token: string;
  readonly fence: number;
  readonly resources: readonly Resource[];
}

/** What agents lock: few things, so that they meet. All of them want the well, and most are content to share it. */
const things = ["drill/barrow", "drill/pump"] as const;
const shared = "drill/well";
const shareShare = 0.8;
/** Claims of one task that bring locks. */
const lockingShare = 0.08;

/** Claims that wait, and claims of several tasks. */
const waitingShare = 0.7;
const severalShare = 0.3;
const waitMs = { min: 200, max: 1_500 };
const several = 3;
/** Pauses after a claim that did not wait and found nothing, in milliseconds: they double, with jitter. */
const firstPauseMs = 8;
const longestPauseMs = 250;
/** A claim that took longer than this has waited. */
const waitedMs = 50;
/** Who has forgotten what it sent takes this long to come back, in milliseconds. */
const restartMs = { min: 50, max: 400 };

/**
 * One worker of the fleet: claims with a short lease, waiting or not, one task or several; works for a while, sends a heartbeat,
 * writes a fact under its lease, and completes, in one request or in two. Now and then its work fails, or it crashes, loses
 * everything it knew and starts again under a new name.
 */
export class Agent {
  readonly #options: AgentOptions;
  readonly #sender: Sender;
  readonly #board: Board;
  readonly #journal: Journal;
  readonly #lots: Rng;
  readonly #claims: Rng;
  readonly #stalled: Promise<void>[] = [];
  #commands: AgentCommands;
  #lives = 1;
  /** After the next claim that does not wait and finds nothing. */
  #pauseMs = firstPauseMs;

  /**
   * @param random.lots what happens during the work on each claim
   * @param random.claims how it claims, and jitter between claims
   */
  constructor(
    options: AgentOptions,
    sender: Sender,
    board: Board,
    journal: Journal,
    random: { readonly lots: Rng; readonly claims: Rng },
  ) {
    this.#options = options;
    this.#sender = sender;
    this.#board = board;
    this.#journal = journal;
    this.#lots = random.lots;
    this.#claims = random.claims;
    this.#commands = agentCommands(options, this.#name);
  }

  /**
   * Works until the board is empty or stopped, and until all stalled former selves have woken up. Throws CommandFailed
   * when the server gives an answer no agent should get.
   */
  async run(): Promise<void> {
    try {
      await this.#loop();
    } finally {
      // Also after a failure: nobody may send anything once the drill is read back.
      await Promise.allSettled(this.#stalled);
    }
    await Promise.all(this.#stalled);
  }

  async #loop(): Promise<void> {
    while (!this.#board.over) {
      try {
        await this.#turn();
      } catch (error) {
        if (!(error instanceof Forgotten)) throw error;
        this.#noteDoubt(error.command);
        await this.#restart(this.#claims.between(restartMs.min, restartMs.max));
      }
    }
  }

  /** One claim, and the work on what it was given. */
  async #turn(): Promise<void> {
    const sentMs = performance.now();
    const isWaiting = this.#claims.chance(waitingShare);
    const isOfSeveral = this.#claims.chance(severalShare);
    const isLocking = !isOfSeveral && this.#claims.chance(lockingShare);
    const command = this.#commands.claim({
      ...(isWaiting && { wait_ms: this.#claims.between(waitMs.min, waitMs.max) }),
      ...(isOfSeveral && { max: several }),
      ...(isLocking && { locks: this.#drawResources() }),
    });
    const effect = await this.#sender.send(command);
    const leases = leasesOf(effect);
    if (leases.length === 0) {
      this.#journal.counts.emptyClaims += 1;
      if (isWaiting) return;
      await sleep(this.#pauseMs * (0.5 + this.#claims.next()));
      this.#pauseMs = Math.min(this.#pauseMs * 2, longestPauseMs);
      return;
    }
    if (isWaiting && performance.now() - sentMs > waitedMs) this.#journal.counts.waitedClaims += 1;
    if (isLocking) this.#journal.counts.locks += 1;
    this.#pauseMs = firstPauseMs;
    const lot = drawLot(this.#lots, this.#options, this.#options.workMs);
    const lock = lot.locks ? await this.#lock() : undefined;
    await this.#work(leases, lock, lot, sentMs);
  }

  #drawResources(): Resource[] {
    const mode = this.#claims.chance(shareShare) ? "shared" : "exclusive";
    return [
      { name: this.#claims.pick(things), mode: "exclusive" },
      { name: shared, mode },
    ];
  }

  /** A lock beside the lease, or none where others have it. */
  async #lock(): Promise<HeldLock | undefined> {
    const resources = this.#drawResources();
    const effect = await this.#sender.send(this.#commands.lock(resources));
    const { lock_id, lease_token, fence } = effect ?? {};
    if (lock_id === undefined || lease_token === undefined || fence === undefined) {
      this.#journal.counts.locksRefused += 1;
      return undefined;
    }
    this.#journal.counts.locks += 1;
    return { lock_id, lease_token, fence, resources };
  }

  get #name(): string {
    return `agent-${this.#options.number + 1}.${this.#lives}`;
  }

  /** @param sentMs when the claim was first sent: no lease is older. */
  async #work(claimed: readonly Held[], lock: HeldLock | undefined, lot: Lot, sentMs: number): Promise<void> {
    const { fate, crashPoint, workMs } = lot;
    // When the last lease's term began, at the latest.
    let termMs = performance.now();
    if (fate === "silent" && crashPoint === 0) return this.#crash(lot);

    await sleep((workMs * claimed.length) / 2);
    let held = claimed;
    if (lot.heartbeat) {
      held = await this.#heartbeat(claimed, sentMs);
      if (lock !== undefined) await this.#sender.send(this.#commands.renew(lock));
      termMs = performance.now();
    }
    if (fate === "silent" && crashPoint === 1) return this.#crash(lot);

    await sleep((workMs * claimed.length) / 2);
    if (fate === "silent") return this.#crash(lot);
    if (fate === "stalled") {
      const stalled = this.#oversleep(held, lock, sentMs, termMs + this.#options.leaseMs + lot.oversleepMs);
      // It is awaited at the end; until then a failure must not count as unhandled.
      stalled.catch(() => undefined);
      this.#stalled.push(stalled);
      return this.#crash(lot);
    }
    await this.#end(held, lot, sentMs);
    // Who crashed has forgotten the lock.
    if (lock !== undefined && fate !== "late") await this.#sender.send(this.#commands.unlock(lock));
  }

  async #end(held: readonly Held[], lot: Lot, sentMs: number): Promise<void> {
    const { fate, inOne } = lot;
    const [first, ...others] = held;
    if (first === undefined) return;
    if (fate === "none") return this.#finish(held, inOne || held.length > 1, sentMs);
    await this.#endOddly(first, lot, sentMs);
    // Who crashed over the first has forgotten the others.
    if (fate !== "late") await this.#finish(others, others.length > 1, sentMs);
  }

  /** Tells of progress, and drops what was lost or is to be stopped. Gives what is left. */
  async #heartbeat(held: readonly Held[], sentMs: number): Promise<Held[]> {
    const kept: Held[] = [];
    for (const lease of held) {
      const effect = await this.#sender.send(this.#commands.heartbeat(lease), undefined, sentMs);
      if (effect === undefined || effect === null) {
        this.#loseLease();
        continue;
      }
      this.#journal.counts.heartbeats += 1;
      if (effect.stop === undefined) kept.push(lease);
      else await this.#giveBack(lease, sentMs);
    }
    return kept;
  }

  /** Ends one task the way its lot says, which is none of a silent or stalled crash. */
  async #endOddly(lease: Held, lot: Lot, sentMs: number): Promise<void> {
    switch (lot.fate) {
      case "late":
        await this.#note(lease, sentMs);
        return this.#completeLate(this.#commands.complete(lease), sentMs, lot);
      case "gives_back":
        return this.#giveBack(lease, sentMs);
      case "fails":
      case "hopeless":
        // Without a policy a failure is final, and the plan would never be done.
        if (!lease.has_policy) return this.#finish([lease], lot.inOne, sentMs);
        if (await this.#isAccepted(this.#commands.fail(lease, lot.fate), sentMs)) {
          this.#journal.counts.failures += 1;
        }
    }
  }

  async #giveBack(lease: Held, sentMs: number): Promise<void> {
    if (await this.#isAccepted(this.#commands.release(lease), sentMs)) this.#journal.counts.releases += 1;
  }

  /** Writes facts and completes, with one request or with two for each task. */
  async #finish(held: readonly Held[], isInOne: boolean, sentMs: number): Promise<void> {
    if (held.length === 0) return;
    if (isInOne) {
      if (await this.#isAccepted(this.#commands.finish(held), sentMs)) {
        this.#journal.counts.batches += 1;
        this.#journal.counts.facts += held.length;
        for (const { task_id } of held) this.#board.markDone(task_id);
        return;
      }
      // One lease was lost, and all went back: the others are ended one by one.
    }
    for (const lease of held) {
      if (await this.#note(lease, sentMs)) await this.#complete(lease, sentMs);
    }
  }

  async #note(lease: Held, sentMs: number): Promise<boolean> {
    const isWritten = await this.#isAccepted(this.#commands.fact(lease), sentMs);
    if (isWritten) this.#journal.counts.facts += 1;
    return isWritten;
  }

  async #complete(lease: Held, sentMs: number): Promise<void> {
    if (await this.#isAccepted(this.#commands.complete(lease), sentMs)) this.#board.markDone(lease.task_id);
  }

  /** Forgets everything and comes back as somebody else. */
  async #crash({ fate, restartMs }: Lot): Promise<void> {
    if (fate === "silent" || fate === "late" || fate === "stalled") this.#journal.counts.crashes[fate] += 1;
    await this.#restart(restartMs);
  }

  async #restart(restartMs: number): Promise<void> {
    this.#lives += 1;
    this.#commands = this.#commands.renamed(this.#name);
    await sleep(restartMs);
  }

  /** What a forgotten command may have completed, others have to look after. */
  #noteDoubt({ kind, taskId, parts = [] }: Command): void {
    if (kind === "complete" && taskId !== undefined) this.#board.doubt(taskId);
    for (const part of parts) if (part.kind === "complete") this.#board.doubt(part.task_id);
  }

  /** Sends a completion, crashes before reading the answer, and sends it again from its notes after the restart. */
  async #completeLate(complete: Command, sentMs: number, lot: Lot): Promise<void> {
    const record = this.#sender.open(complete, "repeated", sentMs);
    await this.#sender.sendOnce(complete, record);
    await this.#crash(lot);
    await this.#sender.sendOnce(complete, record);
    if (!outcome(record)) this.#loseLease();
    else if (complete.taskId !== undefined) this.#board.markDone(complete.taskId);
  }

  /** The former self that hangs past the end of its lease: nothing that it sends may count. */
  async #oversleep(
    held: readonly Held[],
    lock: HeldLock | undefined,
    sentMs: number,
    untilMs: number,
  ): Promise<void> {
    const commands = this.#commands;
    await sleep(Math.max(0, untilMs - performance.now()));
    try {
      if (lock !== undefined) await this.#sender.send(commands.unlock(lock));
      for (const lease of held) {
        for (const command of [commands.fact(lease), commands.complete(lease)]) {
          const isAccepted = await this.#isAccepted(command, sentMs);
          if (isAccepted && command.kind === "complete") this.#board.markDone(lease.task_id);
        }
      }
    } catch (error) {
      if (!(error instanceof Forgotten)) throw error;
      this.#noteDoubt(error.command);
    }
  }

  async #isAccepted(command: Command, sentMs: number): Promise<boolean> {
    const effect = await this.#sender.send(command, undefined, sentMs);
    if (effect !== undefined && effect !== null) return true;
    this.#loseLease();
    return false;
  }

  #loseLease(): void {
    this.#journal.counts.leasesLost += 1;
  }
}

function leasesOf(effect: Effect | null | undefined): Held[] {
  if (effect === null || effect === undefined) return [];
  return (effect.parts ?? [effect]).flatMap(({ task_id, lease_token, fence, has_policy }) =>
    task_id === undefined || lease_token === undefined || fence === undefined
      ? []
      : [{ task_id, lease_token, fence, has_policy: has_policy === true }],
  );
}
