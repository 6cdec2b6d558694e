import type { Command } from "../domain/command.ts";
import type { Decision } from "../domain/decision.ts";
import type { Outcome } from "../domain/outcome.ts";
import { HEARTBEAT_INTERVAL_MS } from "../protocol/limits.ts";
import type { Answer } from "./engine.ts";
import { HEARTBEAT, type Report } from "./heartbeats.ts";
import type { RunState } from "./run-state.ts";

/** Answers heartbeats that come too soon to be recorded, and has them recorded when that is due (heartbeats.ts). */
export class HeartbeatRecorder {
  readonly #state: RunState;
  readonly #clock: () => number;
  readonly #record: (reports: Report[]) => Promise<Answer>;
  /** Whether a timer runs for heartbeats that are held. */
  #isRecordingLater = false;
  #isClosed = false;

  /** @param record submits what is to be recorded. */
  constructor(state: RunState, clock: () => number, record: (reports: Report[]) => Promise<Answer>) {
    this.#state = state;
    this.#clock = clock;
    this.#record = record;
  }

  /**
   * The answer to a heartbeat that comes too soon to be recorded, which is held instead; null for everything else.
   * @param decision what would be recorded.
   */
  hold(command: Command, decision: Decision, nowMs: number): Outcome | null {
    if (command.op !== "transition_task" || command.strict !== true) return null;
    if (!decision.ok || decision.outcome.op !== "transition_task") return null;
    const [commit] = decision.commits;
    const stored = this.#state.tasks.task(command.task_id);
    if (commit?.event.type !== HEARTBEAT || stored === null) return null;
    const held = this.#state.heartbeats.hold(
      commit.event,
      command.progress !== undefined,
      decision.outcome,
      stored,
      nowMs,
    );
    if (held !== null) this.#recordLater();
    return held;
  }

  /** The run is about to go: what is held goes with it. */
  close(): void {
    this.#isClosed = true;
  }

  /** Records what is held when that is due. A timer is enough: what it waits for is in memory, too. */
  #recordLater(): void {
    const dueAtMs = this.#state.heartbeats.dueAtMs();
    if (dueAtMs === null || this.#isRecordingLater) return;
    this.#isRecordingLater = true;
    const waitMs = Math.min(HEARTBEAT_INTERVAL_MS, Math.max(0, dueAtMs - this.#clock()));
    const record = async (): Promise<void> => {
      await scheduler.wait(waitMs);
      // The wait is over, whatever the clock has done meanwhile.
      const reports = this.#state.heartbeats.due(Math.max(dueAtMs, this.#clock()));
      if (reports.length === 0) return;
      try {
        const answer = await this.#record(reports);
        const isFull = !answer.ok && answer.refusal.code === "OVERLOADED";
        if (isFull) this.#state.heartbeats.postponed(reports, this.#clock() + HEARTBEAT_INTERVAL_MS);
        else this.#state.heartbeats.settled(reports);
      } catch (error) {
        this.#state.heartbeats.settled(reports);
        throw error;
      }
    };
    const again = (): void => {
      this.#isRecordingLater = false;
      if (!this.#isClosed) this.#recordLater();
    };
    record().then(again, again);
  }
}
