import { type RunningDrill, startDrill } from "../drill/drill.ts";
import type { Plan } from "../drill/plan.ts";
import { createRng } from "../drill/rng.ts";
import type { ClockJump } from "../history/clock.ts";
import { makePlan } from "./make-plan.ts";

export interface LanesOptions {
  /** How many drills are at work at the same time. */
  readonly lanes: number;
  /** Agents of each. */
  readonly agents: number;
  readonly seed: number;
  /** Worked by every drill; without it each has one of its own, of so many tasks. */
  readonly plan?: Plan;
  readonly tasks: { readonly min: number; readonly max: number };
  /** Where drills work, and where they are audited. */
  readonly url: string;
  readonly auditUrl: string;
  readonly token: string;
  readonly outageMs: number;
  readonly clockJumps: readonly ClockJump[];
  /** Told of each run before it is made. */
  readonly onRun: (runId: string) => void;
}

const lanesStream = 3_000_000;
/** One that breaks off at once must not be followed by others for ever. */
const mostDrills = 1_000;
/** Short work and many crashes: what a drill has to do lies in the server. */
const load = { crash: 0.05, fail: 0.15, retry: 0.1, workMs: { min: 5, max: 60 } };

/** Lanes in which one drill follows the other, each with a run of its own. */
export class Lanes {
  readonly #options: LanesOptions;
  readonly #drills: RunningDrill[] = [];
  readonly #work: Promise<unknown>;
  #isOver = false;

  /** The first drills begin at once. */
  constructor(options: LanesOptions) {
    this.#options = options;
    const lanes = Array.from({ length: options.lanes }, (_, lane) => this.#run(lane));
    this.#work = Promise.all(lanes);
    // Whoever finishes hears of it; until then it must not count as unhandled.
    this.#work.catch(() => undefined);
  }

  get drills(): readonly RunningDrill[] {
    return this.#drills;
  }

  /** Lets the drills at work end, and no other begin. Throws what is no fault of the server. */
  async finish(): Promise<void> {
    this.#isOver = true;
    await this.#work;
  }

  close(): void {
    this.#isOver = true;
    for (const drill of this.#drills) drill.close();
  }

  async #run(lane: number): Promise<void> {
    const options = this.#options;
    for (let count = 0; !this.#isOver && count < mostDrills; count += 1) {
      const rng = createRng(options.seed, lanesStream + lane * mostDrills + count);
      const drill = startDrill({
        plan: options.plan ?? makePlan(rng, rng.between(options.tasks.min, options.tasks.max)),
        baseUrl: options.url,
        auditUrl: options.auditUrl,
        token: options.token,
        agents: options.agents,
        ...load,
        seed: rng.between(0, 2 ** 32 - 1),
        name: `lane${lane + 1}.${count + 1}`,
        outageMs: options.outageMs,
        clockJumps: options.clockJumps,
      });
      this.#drills.push(drill);
      options.onRun(drill.runId);
      await drill.work();
    }
  }
}
