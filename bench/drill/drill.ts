import { setTimeout as sleep } from "node:timers/promises";
import type { ClockJump } from "../history/clock.ts";
import { Agent } from "./agent.ts";
import { type Api, createApi, NoAnswer } from "./api.ts";
import { type AuditReport, audit } from "./audit.ts";
import { Board } from "./board.ts";
import { asObject } from "./fields.ts";
import { type Counts, createJournal, type Journal } from "./journal.ts";
import { sendUntilAnswered } from "./patience.ts";
import type { Plan } from "./plan.ts";
import { batchTasks } from "./plan-batches.ts";
import { readBack } from "./read-back.ts";
import { Reader } from "./reader.ts";
import type { CommandRecord } from "./records.ts";
import { createRng, type Rng } from "./rng.ts";
import { concurrencyLimits, type DrillTask, extrasFor, rowsOf } from "./rows.ts";
import { type Command, CommandFailed, Sender } from "./sender.ts";
import { Supervisor } from "./supervisor.ts";
import type { Violation } from "./violation.ts";

export interface DrillOptions {
  readonly plan: Plan;
  /** URL of the deployment, without `/v1`. */
  readonly baseUrl: string;
  readonly token: string;
  /** How many agents work at the same time. */
  readonly agents: number;
  /** The share of claimed tasks an agent crashes on, 0 to less than 1. */
  readonly crash: number;
  /** The share of other claims whose work fails or is given back, 0 to less than 1. Default 0.05. */
  readonly fail?: number;
  /** The share of commands that are sent more than once, 0 to 1. */
  readonly retry: number;
  /** Whole number from 0 to 2^32 − 1. It fixes what befalls the n-th task of each agent, not which task that is. */
  readonly seed: number;
  /** The term of every lease in milliseconds, 5000 to 300000 (the engine's own bounds). Default 5000. */
  readonly leaseMs?: number;
  /** How long the work on one task takes, in milliseconds. Default 5 to 40. */
  readonly workMs?: { readonly min: number; readonly max: number };
  /** Where the audit reads, without `/v1`. Default `baseUrl`. */
  readonly auditUrl?: string;
  /** How long the server may be away, in milliseconds: commands are sent again for so long. Default 30000. */
  readonly outageMs?: number;
  /** How the server's clock has jumped; the list may grow until the audit begins. Default: not at all. */
  readonly clockJumps?: readonly ClockJump[];
  /** Tells the runs of one seed apart, in the characters of a run id. Default: the time of day. */
  readonly name?: string;
  /** Called about ten times a second while agents work. */
  readonly onProgress?: (progress: Progress) => void;
}

export interface Progress {
  readonly done: number;
  readonly total: number;
  readonly elapsedMs: number;
  readonly counts: Counts;
}

export interface DrillResult {
  readonly runId: string;
  /** Milliseconds: putting the plan on the board, working it, and reading everything back. */
  readonly timesMs: { readonly created: number; readonly worked: number; readonly audited: number };
  readonly tasksDone: number;
  readonly events: number;
  readonly counts: Counts;
  /** Commands, whatever the number of times they were sent; the rest got no answer at all. */
  readonly commands: { readonly sent: number; readonly acknowledged: number };
  /** Milliseconds per request, by what was asked. */
  readonly latencies: ReadonlyMap<string, readonly number[]>;
  readonly examined: AuditReport["examined"] | undefined;
  /** How long after the end of its lease each abandoned task was given free, in milliseconds. */
  readonly requeueDelaysMs: readonly number[];
  /** Empty when the server did everything it promises. */
  readonly violations: readonly Violation[];
}

/** A drill that works and is audited when its maker says so. */
export interface RunningDrill {
  readonly runId: string;
  /** Everything that was sent and answered so far: what the audit holds against the log. */
  readonly records: readonly CommandRecord[];
  /** Until all is done, or cannot be; whatever the server does wrong is kept for the result. Throws what is no fault of the server. */
  work(): Promise<void>;
  /** Reads everything back and gives the result. Throws when the server cannot be read at all. */
  audit(): Promise<DrillResult>;
  /** Closes all connections. */
  close(): void;
}

const progressEveryMs = 100;
/** A drill in which nothing was completed for a lease's term, an outage and this much is given up, in milliseconds. */
const patienceMs = 30_000;
/** How long what was cancelled may take to end once the work is done, in milliseconds. */
const extrasPatienceMs = 60_000;
const defaultOutageMs = 30_000;
/** Of the commands of agents that meet with no answer, those over which they crash. */
const forgetShare = 0.25;
/** Far from those of the agents, whatever their number. */
const supervisorStream = 1_000_000;

/** A drill that has not begun yet: its run is made when it works. */
export function startDrill(options: DrillOptions): RunningDrill {
  return new Drill(options);
}

/**
 * Runs one drill: creates a run, puts the plan on its board, lets the agents work it, and audits what the server kept.
 * Whatever the server does wrong is a violation in the result; this throws only when the server cannot be read at all.
 */
export async function runDrill(options: DrillOptions): Promise<DrillResult> {
  const drill = new Drill(options);
  try {
    await drill.knock();
    await drill.work();
    return await drill.audit();
  } finally {
    drill.close();
  }
}

class Drill implements RunningDrill {
  readonly runId: string;
  readonly #options: DrillOptions;
  readonly #api: Api;
  readonly #journal: Journal = createJournal();
  readonly #board: Board;
  readonly #sender: Sender;
  readonly #rng: Rng;
  readonly #leaseMs: number;
  readonly #outageMs: number;
  /** The plan, with the tasks that are added to be cancelled. */
  readonly #tasks: readonly DrillTask[];
  readonly #extras: readonly string[];
  readonly #timesMs = { created: 0, worked: 0, audited: 0 };
  #isWorked = false;
  #commands = 0;

  constructor(options: DrillOptions) {
    const { plan, seed, agents, leaseMs, outageMs, name } = options;
    this.#options = options;
    this.#api = createApi({ ...options, connections: agents * 2 + 4 });
    this.#leaseMs = leaseMs ?? 5_000;
    this.#outageMs = outageMs ?? defaultOutageMs;
    this.runId = `drill-${seed}-${name ?? Date.now().toString(36)}`;
    this.#board = new Board(plan.tasks.filter((task) => task.status !== "done").map((task) => task.id));
    this.#extras = extrasFor(plan).map(({ id }) => id);
    this.#tasks = [...rowsOf(plan), ...extrasFor(plan)];
    // Stream 0 is the drill's own; the agents follow.
    this.#rng = createRng(seed, 0);
    this.#sender = this.#senderWith(this.#rng);
  }

  /** Throws NoAnswer: without a server at all there is nothing to insist on. */
  async knock(): Promise<void> {
    await this.#api.send({ method: "GET", path: "/global/health" });
  }

  async work(): Promise<void> {
    const startedMs = performance.now();
    try {
      await this.#create();
      this.#timesMs.created = performance.now() - startedMs;
      this.#board.start();
      await this.#letAgentsWork();
      await this.#awaitExtras();
      await this.#append("drill_finished", "completed");
      this.#isWorked = true;
    } catch (error) {
      // What was measured until then is still worth showing. A command that failed is in the journal already.
      if (error instanceof NoAnswer) {
        this.#journal.violations.push({ check: "answers", rule: "no_answer", detail: error.message });
      } else if (!(error instanceof CommandFailed)) throw error;
    } finally {
      this.#timesMs.worked = this.#board.workedMs;
    }
  }

  async audit(): Promise<DrillResult> {
    const startedMs = performance.now();
    // What broke off has nothing that could be held against its plan.
    const audited = this.#isWorked ? await this.#auditLog() : undefined;
    if (audited !== undefined) this.#timesMs.audited = performance.now() - startedMs;
    return {
      runId: this.runId,
      timesMs: { ...this.#timesMs },
      tasksDone: this.#board.done,
      events: audited?.events ?? 0,
      counts: this.#journal.counts,
      commands: {
        sent: this.#journal.commands.length,
        acknowledged: this.#journal.commands.filter(({ answers }) => answers.length > 0).length,
      },
      latencies: this.#journal.latencies,
      examined: audited?.report.examined,
      requeueDelaysMs: audited?.report.requeueDelaysMs ?? [],
      violations: [...this.#journal.violations, ...(audited?.report.violations ?? [])],
    };
  }

  get records(): readonly CommandRecord[] {
    return this.#journal.commands;
  }

  close(): void {
    this.#api.close();
  }

  async #create(): Promise<void> {
    const { plan, seed, retry } = this.#options;
    await this.#sender.send({
      kind: "run",
      path: "/v1/runs",
      body: {
        run_id: this.runId,
        objective: `Drill: ${plan.tasks.length} tasks, seed ${seed}`,
        run_type: "drill",
        source_client: "baton-drill",
        // A workspace of its own, so that the directory can be asked for this run alone.
        workspace: { workspace_id: this.runId, canonical_path: `/drill/${this.runId}`, lease_epoch: 0 },
        settings: { concurrency_limits: concurrencyLimits },
      },
      commandId: this.#nextCommandId(),
    });
    for (const [index, tasks] of batchTasks(this.#tasks).entries()) {
      // Batches are few; the first one is always repeated, so that no drill with retries goes without one.
      const delivery = index === 0 && retry > 0 ? "repeated" : this.#sender.drawDelivery();
      await this.#sender.send(this.#command("create", "tasks", { tasks }), delivery);
    }
    await this.#append("drill_started", "running");
  }

  /** Lets all agents work until the board is empty, and takes a checkpoint on the way. */
  async #letAgentsWork(): Promise<void> {
    const ticker = setInterval(() => this.#tick(), progressEveryMs);
    const agents = Array.from({ length: this.#options.agents }, (_, number) => this.#hire(number));
    const supervisor = this.#supervise();
    try {
      const results = await Promise.allSettled([
        ...agents.map((agent) => agent.run()),
        supervisor.run(this.#extras),
        this.#checkpointHalfway(),
      ]);
      // Agents end by themselves; one that met an impossible answer stops the others, and its answer is in the journal.
      for (const result of results) {
        if (result.status === "rejected" && !(result.reason instanceof CommandFailed)) throw result.reason;
      }
    } finally {
      clearInterval(ticker);
      this.#tick();
    }
  }

  /** Who is no agent has streams of its own, before theirs. */
  #supervise(): Supervisor {
    const rng = createRng(this.#options.seed, supervisorStream);
    const reader = new Reader(this.#api, this.#journal, { outageMs: this.#outageMs, rng });
    return new Supervisor(this.runId, reader, this.#senderWith(rng), this.#board, this.#journal, rng);
  }

  #senderWith(rng: Rng, forget = 0): Sender {
    const { retry } = this.#options;
    return new Sender(this.#api, this.#journal, rng, { retry, outageMs: this.#outageMs, forget });
  }

  #hire(number: number): { run(): Promise<void> } {
    const { seed, crash, workMs } = this.#options;
    // Three streams each, so that waiting longer or sending more does not change what happens to an agent's next task.
    const stream = (index: number): Rng => createRng(seed, 1 + number * 3 + index);
    const options = {
      runId: this.runId,
      number,
      crash,
      fail: this.#options.fail ?? 0.05,
      leaseMs: this.#leaseMs,
      workMs: workMs ?? { min: 5, max: 40 },
    };
    const agent = new Agent(options, this.#senderWith(stream(0), forgetShare), this.#board, this.#journal, {
      lots: stream(1),
      claims: stream(2),
    });
    return {
      run: async () => {
        try {
          await agent.run();
        } catch (error) {
          this.#board.stop();
          throw error;
        }
      },
    };
  }

  #tick(): void {
    const { done, total, elapsedMs } = this.#board;
    this.#options.onProgress?.({ done, total, elapsedMs, counts: this.#journal.counts });
    if (this.#board.over || this.#board.idleMs < this.#leaseMs + this.#outageMs + patienceMs) return;
    const left = this.#board.left;
    this.#journal.violations.push({
      check: "done_once",
      rule: "stalled",
      detail: `nothing was completed for ${Math.round(this.#board.idleMs)} ms; ${left.length} left: ${left.slice(0, 5).join(", ")}`,
    });
    this.#board.stop();
  }

  /** A checkpoint amid the work is the hardest one to take right: replay starts from it later. */
  async #checkpointHalfway(): Promise<void> {
    while (!this.#board.over && this.#board.done * 2 < this.#board.total) await sleep(progressEveryMs / 5);
    await this.#sender.send(
      this.#command("checkpoint", "checkpoints", { reason: "half of the plan is done" }),
    );
  }

  /** Waits until nobody works on what was cancelled any more. */
  async #awaitExtras(): Promise<void> {
    const deadlineMs = performance.now() + extrasPatienceMs + this.#outageMs;
    const patience = { outageMs: this.#outageMs, rng: this.#rng };
    const path = `/v1/runs/${this.runId}/wait`;
    for (const task_id of this.#extras) {
      const body = { for: { task_id, status: ["done", "failed"] }, wait_ms: 10_000 };
      for (;;) {
        const answer = await sendUntilAnswered(this.#api, { method: "POST", path, body }, patience);
        if (asObject(answer.body)?.matched === true) break;
        if (answer.status === 200 && performance.now() < deadlineMs) continue;
        const detail = `${task_id} did not end: ${answer.status} ${JSON.stringify(answer.body)}`;
        this.#journal.violations.push({ check: "stops", rule: "never_ended", detail, task_id });
        break;
      }
    }
  }

  async #append(type: string, status: string): Promise<void> {
    const mark = `${this.runId}.${type}`;
    const command = this.#command("event", "events", { type, status, payload: { drill_marker: mark } });
    await this.#sender.send({ ...command, mark });
  }

  #command(kind: Command["kind"], resource: string, body: unknown): Command {
    return { kind, path: `/v1/runs/${this.runId}/${resource}`, body, commandId: this.#nextCommandId() };
  }

  #nextCommandId(): string {
    this.#commands += 1;
    return `${this.runId}.d.${this.#commands}`;
  }

  async #auditLog(): Promise<{ report: AuditReport; events: number }> {
    const { auditUrl, baseUrl, token, clockJumps } = this.#options;
    const api = createApi({ baseUrl: auditUrl ?? baseUrl, token, connections: 1 });
    try {
      const reader = new Reader(api, this.#journal, { outageMs: this.#outageMs, rng: this.#rng });
      const read = await readBack(reader, this.runId);
      const report = audit({
        ...read,
        plan: this.#tasks,
        extras: this.#extras,
        commands: this.#journal.commands,
        leaseMs: this.#leaseMs,
        concurrencyLimits,
        clockJumps: clockJumps ?? [],
      });
      return { report, events: read.events.length };
    } finally {
      api.close();
    }
  }
}
