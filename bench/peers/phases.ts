import type { Job } from "./peer.ts";

/** What every task carries. */
export interface Payload {
  task: number;
  title: string;
}

/** A task in an agent's hands. */
export interface Hold {
  readonly task: number;
}

/** What an agent does with a queue. A heartbeat or completion that the server refuses rejects. */
export interface Steps<H extends Hold> {
  /** Undefined when nothing is left to claim. */
  claim(agent: number): Promise<H | undefined>;
  heartbeat(hold: H): Promise<void>;
  complete(hold: H): Promise<void>;
}

/** How long the work took. */
export interface WorkTimes {
  work_ms: number;
  claim_p50_ms: number;
  claim_p99_ms: number;
}

/** Creates all tasks, one call each, from `job.agents` callers at the same time; returns the milliseconds it took. */
export async function createAll(job: Job, create: (payload: Payload) => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  let next = 0;
  await atOnce(job.agents, async () => {
    while (next < job.tasks) {
      const task = next++;
      await create({ task, title: `Task ${task}` });
    }
  });
  return elapsedMs(startedAt);
}

/**
 * Works the queue with `job.agents` agents until it is empty: each claims a task, heartbeats once and completes it.
 *
 * @throws Error when a task was not completed exactly once.
 */
export async function workAll<H extends Hold>(job: Job, steps: Steps<H>): Promise<WorkTimes> {
  const tally = new Tally(job.tasks);
  const claimMs: number[] = [];
  const startedAt = performance.now();
  await atOnce(job.agents, async (agent) => {
    for (;;) {
      const claimedAt = performance.now();
      const hold = await steps.claim(agent);
      if (hold === undefined) return;
      claimMs.push(elapsedMs(claimedAt));
      await steps.heartbeat(hold);
      await steps.complete(hold);
      tally.add(hold.task);
    }
  });
  const work_ms = elapsedMs(startedAt);
  tally.check();
  return { work_ms, ...claimPercentiles(claimMs) };
}

/** Counts completions as the agents saw them. */
export class Tally {
  readonly #completions: Uint32Array;
  #total = 0;

  constructor(tasks: number) {
    this.#completions = new Uint32Array(tasks);
  }

  get total(): number {
    return this.#total;
  }

  add(task: number): void {
    this.#completions[task] = (this.#completions[task] ?? 0) + 1;
    this.#total++;
  }

  /** Throws unless every task was counted exactly once. */
  check(): void {
    const task = this.#completions.findIndex((count) => count !== 1);
    if (task !== -1) throw new Error(`task ${task} was completed ${this.#completions[task]} times`);
  }
}

/** The median and the 99th percentile. */
export function claimPercentiles(samples: readonly number[]): Omit<WorkTimes, "work_ms"> {
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.ceil(sorted.length * share) - 1] ?? 0;
  return { claim_p50_ms: at(0.5), claim_p99_ms: at(0.99) };
}

/** Milliseconds since a reading of `performance.now()`, to a hundredth. */
export function elapsedMs(since: number): number {
  return Math.round((performance.now() - since) * 100) / 100;
}

async function atOnce(count: number, body: (index: number) => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: count }, (_, index) => body(index)));
}
