import { setTimeout as sleep } from "node:timers/promises";
import type { Board } from "./board.ts";
import type { Journal } from "./journal.ts";
import type { Effect } from "./records.ts";
import type { Rng } from "./rng.ts";
import { type Command, outcome, type Sender } from "./sender.ts";

export interface AgentOptions {
  readonly runId: string;
  /** 0 for the first agent. */
  readonly number: number;
  /** The share of claimed tasks an agent crashes on, 0 to 1. */
  readonly crash: number;
  /** The term of every lease, in milliseconds. */
  readonly leaseMs: number;
  /** How long the work on one task takes, in milliseconds; drawn evenly from this range. */
  readonly workMs: { readonly min: number; readonly max: number };
}

/** What can go wrong with an agent that holds a lease. */
type Fate =
  | "none"
  /** It vanishes; nobody ever hears of this lease again. */
  | "silent"
  /** It vanishes right after it sent its completion, comes back and sends it again. */
  | "late"
  /** It hangs until its lease has run out, and then completes as if nothing had happened. */
  | "stalled";

/**
 * Everything about the work on one task that is left to chance. It is drawn at once and from a stream of its own: the n-th
 * task of an agent meets the same fate with the same seed, however often claims found nothing before.
 */
interface Lot {
  readonly fate: Fate;
  /** Where a silent crash happens: 0 after the claim, 1 after the first half of the work, 2 before the completion. */
  readonly crashPoint: number;
  readonly workMs: number;
  readonly heartbeat: boolean;
  readonly restartMs: number;
  readonly oversleepMs: number;
}

type Lease = Effect & { readonly task_id: string; readonly lease_token: string };

/** Half of the tasks see a heartbeat: enough to prove it, without measuring little else. */
const heartbeatShare = 0.5;
/** A restarted agent takes this long to come back, in milliseconds. */
const restartMs = { min: 50, max: 400 };
/** A stalled agent wakes up this long after the term of its lease, in milliseconds. */
const oversleepMs = { min: 100, max: 1_500 };
/** Pauses after a claim that found nothing, in milliseconds: they double from the first to the longest, with jitter. */
const firstPauseMs = 8;
const longestPauseMs = 250;

/**
 * One worker of the fleet: claims with a short lease, works for a while, sends a heartbeat, writes a fact, completes. Now
 * and then it crashes, loses everything it knew and starts again under a new name.
 */
export class Agent {
  readonly #options: AgentOptions;
  readonly #sender: Sender;
  readonly #board: Board;
  readonly #journal: Journal;
  readonly #lots: Rng;
  readonly #pauses: Rng;
  readonly #stalled: Promise<void>[] = [];
  #lives = 1;
  #commands = 0;

  /**
   * @param random.lots what happens during the work on each task
   * @param random.pauses jitter between claims
   */
  constructor(
    options: AgentOptions,
    sender: Sender,
    board: Board,
    journal: Journal,
    random: { readonly lots: Rng; readonly pauses: Rng },
  ) {
    this.#options = options;
    this.#sender = sender;
    this.#board = board;
    this.#journal = journal;
    this.#lots = random.lots;
    this.#pauses = random.pauses;
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
    let pauseMs = firstPauseMs;
    while (!this.#board.over) {
      const sentMs = performance.now();
      const claim = this.#claim();
      const lease = asLease(await this.#sender.send(claim));
      if (lease === undefined) {
        this.#journal.counts.emptyClaims += 1;
        await sleep(pauseMs * (0.5 + this.#pauses.next()));
        pauseMs = Math.min(pauseMs * 2, longestPauseMs);
        continue;
      }
      pauseMs = firstPauseMs;
      await this.#work(lease, claim.commandId, sentMs);
    }
  }

  get #name(): string {
    return `agent-${this.#options.number + 1}.${this.#lives}`;
  }

  async #work(lease: Lease, claimId: string, sentMs: number): Promise<void> {
    const lot = this.#draw();
    const { fate, crashPoint, workMs } = lot;
    // When the lease's term began, at the latest.
    let termMs = performance.now();
    if (fate === "silent" && crashPoint === 0) return this.#crash(lot);

    await sleep(workMs / 2);
    if (lot.heartbeat) {
      const heartbeat = await this.#sender.send(this.#heartbeat(lease, claimId), undefined, sentMs);
      if (heartbeat === undefined) return this.#loseLease();
      this.#journal.counts.heartbeats += 1;
      termMs = performance.now();
    }
    if (fate === "silent" && crashPoint === 1) return this.#crash(lot);

    await sleep(workMs / 2);
    await this.#sender.send(this.#fact(lease));
    this.#journal.counts.facts += 1;
    if (fate === "silent") return this.#crash(lot);

    const complete = this.#complete(lease, claimId);
    if (fate === "late") return this.#completeLate(complete, sentMs, lot);
    if (fate === "stalled") {
      const stalled = this.#oversleep(complete, sentMs, termMs + this.#options.leaseMs + lot.oversleepMs);
      // It is awaited at the end; until then a failure must not count as unhandled.
      stalled.catch(() => undefined);
      this.#stalled.push(stalled);
      return this.#crash(lot);
    }
    this.#finish(complete, await this.#sender.send(complete, undefined, sentMs));
  }

  #draw(): Lot {
    const lots = this.#lots;
    const fate = lots.pick<Fate>(["silent", "silent", "late", "stalled"]);
    return {
      fate: lots.chance(this.#options.crash) ? fate : "none",
      crashPoint: lots.between(0, 2),
      workMs: lots.between(this.#options.workMs.min, this.#options.workMs.max),
      heartbeat: lots.chance(heartbeatShare),
      restartMs: lots.between(restartMs.min, restartMs.max),
      oversleepMs: lots.between(oversleepMs.min, oversleepMs.max),
    };
  }

  /** Forgets everything and comes back as somebody else. */
  async #crash(lot: Lot): Promise<void> {
    if (lot.fate !== "none") this.#journal.counts.crashes[lot.fate] += 1;
    this.#lives += 1;
    await sleep(lot.restartMs);
  }

  /** Sends a completion, crashes before reading the answer, and sends it again from its notes after the restart. */
  async #completeLate(complete: Command, sentMs: number, lot: Lot): Promise<void> {
    const record = this.#sender.open(complete, "repeated");
    await this.#sender.sendOnce(complete, record);
    await this.#crash(lot);
    await this.#sender.sendOnce(complete, record);
    record.lease_age_ms = performance.now() - sentMs;
    this.#finish(complete, outcome(record));
  }

  /** The former self that hangs past the end of its lease. It must be refused, unless nobody has noticed yet. */
  async #oversleep(complete: Command, sentMs: number, untilMs: number): Promise<void> {
    await sleep(Math.max(0, untilMs - performance.now()));
    this.#finish(complete, await this.#sender.send(complete, undefined, sentMs));
  }

  #finish({ taskId }: Command, effect: Effect | null | undefined): void {
    if (effect === undefined || effect === null) this.#loseLease();
    else if (taskId !== undefined) this.#board.markDone(taskId);
  }

  #loseLease(): void {
    this.#journal.counts.leasesLost += 1;
  }

  #claim(): Command {
    return {
      kind: "claim",
      path: `/v1/runs/${this.#options.runId}/tasks/claim`,
      body: { agent_id: this.#name, lease_ms: this.#options.leaseMs },
      commandId: this.#nextCommandId(),
      agent: this.#name,
    };
  }

  #heartbeat(lease: Lease, claimId: string): Command {
    return this.#transition("heartbeat", lease, claimId, { lease_ms: this.#options.leaseMs });
  }

  #complete(lease: Lease, claimId: string): Command {
    return this.#transition("complete", lease, claimId, {});
  }

  #transition(action: "heartbeat" | "complete", lease: Lease, claimId: string, more: object): Command {
    return {
      kind: action,
      path: `/v1/runs/${this.#options.runId}/tasks/${encodeURIComponent(lease.task_id)}/transition`,
      body: { action, agent_id: this.#name, lease_token: lease.lease_token, ...more },
      commandId: this.#nextCommandId(),
      taskId: lease.task_id,
      claimId,
    };
  }

  #fact(lease: Lease): Command {
    const commandId = this.#nextCommandId();
    const mark = `fact-${commandId}`;
    return {
      kind: "fact",
      path: `/v1/runs/${this.#options.runId}/blackboard/patches`,
      body: {
        op: "add_fact",
        payload: { id: mark, ts_ms: Date.now(), text: `${this.#name} worked on ${lease.task_id}` },
      },
      commandId,
      taskId: lease.task_id,
      mark,
    };
  }

  /** Names the run too: command ids belong to a run, but people read them in logs of many. */
  #nextCommandId(): string {
    this.#commands += 1;
    return `${this.#options.runId}.a${this.#options.number + 1}.${this.#commands}`;
  }
}

function asLease(effect: Effect | null | undefined): Lease | undefined {
  const { task_id, lease_token } = effect ?? {};
  return task_id === undefined || lease_token === undefined ? undefined : { ...effect, task_id, lease_token };
}
