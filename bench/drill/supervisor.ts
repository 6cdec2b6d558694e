import { setTimeout as sleep } from "node:timers/promises";
import type { Board } from "./board.ts";
import { listAt, stringAt } from "./fields.ts";
import type { Journal } from "./journal.ts";
import type { Reader } from "./reader.ts";
import type { Rng } from "./rng.ts";
import type { Command, Sender } from "./sender.ts";

/** How often dead letters are looked for, in milliseconds. */
const redriveEveryMs = 150;
const pollMs = 20;
/** How often tasks in doubt are looked at, in milliseconds. */
const doubtEveryMs = 250;
/** How long holders may go on after a request to stop, and how long the run stands still, in milliseconds. */
const graceMs = 300;
const pauseMs = 900;

/** Who is not an agent: puts dead letters back on the board, cancels what is not wanted, pauses the run once. */
export class Supervisor {
  readonly #run: { readonly id: string; readonly path: string };
  readonly #reader: Reader;
  readonly #sender: Sender;
  readonly #board: Board;
  readonly #journal: Journal;
  readonly #rng: Rng;
  #commands = 0;

  constructor(runId: string, reader: Reader, sender: Sender, board: Board, journal: Journal, rng: Rng) {
    this.#run = { id: runId, path: `/v1/runs/${runId}` };
    this.#reader = reader;
    this.#sender = sender;
    this.#board = board;
    this.#journal = journal;
    this.#rng = rng;
  }

  /** @param extras ids of the tasks that shall be cancelled */
  async run(extras: readonly string[]): Promise<void> {
    await Promise.all([this.#redrive(), this.#cancel(extras), this.#pause(), this.#settleDoubts()]);
  }

  /** Reads tasks whose completion nobody was answered, until they are done by that or by somebody else. */
  async #settleDoubts(): Promise<void> {
    while (!this.#board.over) {
      await sleep(doubtEveryMs);
      for (const id of this.#board.doubtful) {
        const command = this.#command("read", `tasks/${encodeURIComponent(id)}`, undefined);
        const effect = await this.#sender.send({ ...command, method: "GET", taskId: id }, "once");
        if (effect?.status === "done") this.#board.markDone(id);
      }
    }
  }

  /** Puts dead letters back until the board is empty: many by filter, or a single one. */
  async #redrive(): Promise<void> {
    while (!this.#board.over) {
      await sleep(redriveEveryMs);
      const letter = this.#rng.chance(0.5) ? await this.#letter() : undefined;
      const path = letter === undefined ? "tasks/redrive" : `tasks/${encodeURIComponent(letter)}/redrive`;
      const effect = await this.#sender.send({
        ...this.#command("redrive", path, letter === undefined ? { limit: this.#rng.pick([1, 500]) } : {}),
        mayBe: ["TASK_TRANSITION_INVALID"],
      });
      this.#journal.counts.redriven += effect?.redriven?.length ?? 0;
    }
  }

  async #letter(): Promise<string | undefined> {
    const body = await this.#reader.glance(`${this.#run.path}/tasks?dead_letter=true&limit=5`);
    return stringAt(listAt(body, "tasks")[0], "id");
  }

  /** Cancels all extras over the first half of the work: some before anybody claimed them, some while they are held, some too late. */
  async #cancel(extras: readonly string[]): Promise<void> {
    for (const [index, id] of extras.entries()) {
      await this.#reached(index / extras.length / 2);
      const effect = await this.#sender.send({
        ...this.#command("cancel", `tasks/${encodeURIComponent(id)}/cancel`, {
          reason: "not wanted any more",
          grace_ms: graceMs,
        }),
        taskId: id,
        graceMs,
        mayBe: ["TASK_TRANSITION_INVALID"],
      });
      if (effect) this.#journal.counts.cancelled += 1;
    }
  }

  /** Pauses the run once, for longer than holders may go on. */
  async #pause(): Promise<void> {
    await this.#reached(1 / 3);
    if (this.#board.over) return;
    await this.#sender.send({ ...this.#command("pause", "pause", { grace_ms: graceMs }), graceMs });
    this.#journal.counts.pauses += 1;
    await sleep(pauseMs);
    await this.#sender.send(this.#command("resume", "resume", {}));
  }

  /** Waits until so much of the plan is done, or nothing more is. */
  async #reached(share: number): Promise<void> {
    while (!this.#board.over && this.#board.done < this.#board.total * share) await sleep(pollMs);
  }

  #command(kind: Command["kind"], resource: string, body: unknown): Command {
    this.#commands += 1;
    return {
      kind,
      path: `${this.#run.path}/${resource}`,
      body,
      commandId: `${this.#run.id}.s.${this.#commands}`,
    };
  }
}
