import { setTimeout as sleep } from "node:timers/promises";
import { Agent } from "./agent.ts";
import { type Api, createApi } from "./api.ts";
import { type AuditReport, audit } from "./audit.ts";
import { Board } from "./board.ts";
import { asObject, listAt, numberAt, objectAt, stringAt } from "./fields.ts";
import { type Counts, createJournal, type Journal, noteLatency } from "./journal.ts";
import type { Plan, PlanTask } from "./plan.ts";
import { batchTasks } from "./plan-batches.ts";
import {
  type ReplayView,
  type RunView,
  toAuditEvent,
  toAuditPatch,
  toAuditTask,
  toReplayView,
  toRunView,
} from "./records.ts";
import { createRng, type Rng } from "./rng.ts";
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
  /** Milliseconds per request, by what was asked. */
  readonly latencies: ReadonlyMap<string, readonly number[]>;
  readonly examined: AuditReport["examined"] | undefined;
  /** How long after the end of its lease each abandoned task was given free, in milliseconds. */
  readonly requeueDelaysMs: readonly number[];
  /** Empty when the server did everything it promises. */
  readonly violations: readonly Violation[];
}

const progressEveryMs = 100;
/** A drill in which nothing was completed for a lease's term and this much is given up, in milliseconds. */
const patienceMs = 30_000;
/** Tasks that are added to be cancelled. */
const fewestExtras = 3;
const mostExtras = 60;
/** How long they may take to end once the work is done, in milliseconds. */
const extrasPatienceMs = 60_000;
/** Far from those of the agents, whatever their number. */
const supervisorStream = 1_000_000;
/** The directory follows a run within about a second; this much is waited for, in milliseconds. */
const directoryPatienceMs = 15_000;

/**
 * Runs one drill: creates a run, puts the plan on its board, lets the agents work it, and audits what the server kept.
 * Whatever the server does wrong is a violation in the result; this throws only when the server cannot be read at all.
 */
export async function runDrill(options: DrillOptions): Promise<DrillResult> {
  const api = createApi({ ...options, connections: options.agents * 2 + 4 });
  try {
    return await new Drill(options, api).run();
  } finally {
    api.close();
  }
}

class Drill {
  readonly #options: DrillOptions;
  readonly #api: Api;
  readonly #journal: Journal = createJournal();
  readonly #runId: string;
  readonly #board: Board;
  readonly #sender: Sender;
  readonly #rng: Rng;
  readonly #leaseMs: number;
  /** The plan, with the tasks that are added to be cancelled. */
  readonly #tasks: readonly DrillTask[];
  readonly #extras: readonly string[];
  #commands = 0;

  constructor(options: DrillOptions, api: Api) {
    this.#options = options;
    this.#api = api;
    this.#leaseMs = options.leaseMs ?? 5_000;
    this.#runId = `drill-${options.seed}-${Date.now().toString(36)}`;
    this.#board = new Board(
      options.plan.tasks.filter((task) => task.status !== "done").map((task) => task.id),
    );
    this.#extras = extrasFor(options.plan).map(({ id }) => id);
    this.#tasks = [...options.plan.tasks.map(withPolicy), ...extrasFor(options.plan)];
    // Stream 0 is the drill's own; the agents follow.
    this.#rng = createRng(options.seed, 0);
    this.#sender = new Sender(api, this.#journal, this.#rng, options.retry);
  }

  async run(): Promise<DrillResult> {
    const startedMs = performance.now();
    let createdMs = startedMs;
    let workedMs = startedMs;
    let report: Audited | undefined;
    // Without a server at all there is nothing to insist on.
    await this.#api.send({ method: "GET", path: "/global/health" });
    try {
      await this.#create();
      createdMs = performance.now();
      this.#board.start();
      await this.#work();
      await this.#awaitExtras();
      await this.#append("drill_finished", "completed");
      workedMs = performance.now();
      report = await this.#audit();
    } catch (error) {
      // Already in the journal as a violation; what was measured until then is still worth showing.
      if (!(error instanceof CommandFailed)) throw error;
    }
    return {
      runId: this.#runId,
      timesMs: {
        created: createdMs - startedMs,
        worked: this.#board.workedMs,
        audited: report === undefined ? 0 : performance.now() - workedMs,
      },
      tasksDone: this.#board.done,
      events: report?.events ?? 0,
      counts: this.#journal.counts,
      latencies: this.#journal.latencies,
      examined: report?.report.examined,
      requeueDelaysMs: report?.report.requeueDelaysMs ?? [],
      violations: [...this.#journal.violations, ...(report?.report.violations ?? [])],
    };
  }

  async #create(): Promise<void> {
    const { plan, seed, retry } = this.#options;
    await this.#sender.send({
      kind: "run",
      path: "/v1/runs",
      body: {
        run_id: this.#runId,
        objective: `Drill: ${plan.tasks.length} tasks, seed ${seed}`,
        run_type: "drill",
        source_client: "baton-drill",
        // A workspace of its own, so that the directory can be asked for this run alone.
        workspace: { workspace_id: this.#runId, canonical_path: `/drill/${this.#runId}`, lease_epoch: 0 },
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
  async #work(): Promise<void> {
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
    const { seed, retry } = this.#options;
    const rng = createRng(seed, supervisorStream);
    const sender = new Sender(this.#api, this.#journal, rng, retry);
    return new Supervisor(this.#runId, this.#api, sender, this.#board, this.#journal, rng);
  }

  #hire(number: number): { run(): Promise<void> } {
    const { seed, retry, crash, workMs } = this.#options;
    // Three streams each, so that waiting longer or sending more does not change what happens to an agent's next task.
    const stream = (index: number): Rng => createRng(seed, 1 + number * 3 + index);
    const sender = new Sender(this.#api, this.#journal, stream(0), retry);
    const options = {
      runId: this.#runId,
      number,
      crash,
      fail: this.#options.fail ?? 0.05,
      leaseMs: this.#leaseMs,
      workMs: workMs ?? { min: 5, max: 40 },
    };
    const agent = new Agent(options, sender, this.#board, this.#journal, {
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
    if (this.#board.over || this.#board.idleMs < this.#leaseMs + patienceMs) return;
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
    const deadlineMs = performance.now() + extrasPatienceMs;
    for (const task_id of this.#extras) {
      const body = { for: { task_id, status: ["done", "failed"] }, wait_ms: 10_000 };
      const path = `/v1/runs/${this.#runId}/wait`;
      for (;;) {
        const answer = await this.#api.send({ method: "POST", path, body });
        if (asObject(answer.body)?.matched === true) break;
        if (answer.status === 200 && performance.now() < deadlineMs) continue;
        const detail = `${task_id} did not end: ${answer.status} ${JSON.stringify(answer.body)}`;
        this.#journal.violations.push({ check: "stops", rule: "never_ended", detail, task_id });
        break;
      }
    }
  }

  async #append(type: string, status: string): Promise<void> {
    const mark = `${this.#runId}.${type}`;
    const command = this.#command("event", "events", { type, status, payload: { drill_marker: mark } });
    await this.#sender.send({ ...command, mark });
  }

  #command(kind: Command["kind"], resource: string, body: unknown): Command {
    return { kind, path: `/v1/runs/${this.#runId}/${resource}`, body, commandId: this.#nextCommandId() };
  }

  #nextCommandId(): string {
    this.#commands += 1;
    return `${this.#runId}.d.${this.#commands}`;
  }

  /** Reads everything back. Nothing is written any more, so the views must agree to the last digit. */
  async #audit(): Promise<Audited> {
    const path = `/v1/runs/${this.#runId}`;
    const events = await this.#readAll(`${path}/events`, "events", toAuditEvent);
    const patches = await this.#readAll(`${path}/blackboard/patches`, "patches", toAuditPatch);
    const tasks = await this.#readAll(`${path}/tasks`, "tasks", toAuditTask);
    const blackboard = objectAt(await this.#get(`${path}/blackboard`), "blackboard");
    const run = toRunView(objectAt(await this.#get(path), "run"));
    const replays: ReplayView[] = [];
    for (const fromCheckpoint of [false, true]) {
      replays.push(toReplayView(await this.#get(`${path}/replay?from_checkpoint=${fromCheckpoint}`)));
    }
    const report = audit({
      plan: this.#tasks,
      extras: this.#extras,
      events,
      patches,
      tasks,
      facts: listAt(blackboard, "facts").map((fact) => stringAt(fact, "id") ?? ""),
      blackboardRevision: numberAt(blackboard, "revision") ?? 0,
      run,
      directoryRow: await this.#readDirectoryRow(run),
      replays,
      commands: this.#journal.commands,
      leaseMs: this.#leaseMs,
    });
    return { report, events: events.length };
  }

  async #readAll<T>(path: string, member: string, read: (row: unknown) => T): Promise<T[]> {
    const rows: T[] = [];
    for await (const page of this.#api.pages(path, member)) rows.push(...page.map(read));
    return rows;
  }

  /** Waits for the row to catch up with the run; gives the row as it is when it does not. */
  async #readDirectoryRow(run: RunView): Promise<RunView | undefined> {
    const deadlineMs = performance.now() + directoryPatienceMs;
    const path = `/v1/runs?workspace=${encodeURIComponent(run.workspace)}`;
    for (;;) {
      const rows = await this.#readAll(path, "runs", toRunView);
      const row = rows.find((candidate) => candidate.run_id === run.run_id);
      if (row?.last_event_seq === run.last_event_seq || performance.now() > deadlineMs) return row;
      await sleep(250);
    }
  }

  async #get(path: string): Promise<unknown> {
    const answer = await this.#api.send({ method: "GET", path });
    if (answer.status !== 200) {
      throw new Error(`GET ${path} was answered ${answer.status}: ${JSON.stringify(answer.body)}`);
    }
    noteLatency(this.#journal, path.includes("/replay") ? "replay" : "read", answer.elapsedMs);
    return answer.body;
  }
}

/** A row with what the plan does not say. */
interface DrillTask extends PlanTask {
  readonly max_attempts?: number;
  readonly retry?: object;
}

/** Attempts of every second task are capped; their dead letters are redriven. */
function withPolicy(task: PlanTask, index: number): DrillTask {
  if (task.status === "done" || index % 2 === 1) return task;
  const retry = { base_ms: 30, factor: 2, max_ms: 300, jitter: 0.5, non_retryable: ["hopeless"] };
  return { ...task, max_attempts: 3, retry };
}

/** Tasks that nobody wants: one for each 25 of the plan, of no interest to any of its. */
function extrasFor({ tasks }: Plan): DrillTask[] {
  const count = Math.min(mostExtras, Math.max(fewestExtras, Math.ceil(tasks.length / 25)));
  return Array.from({ length: count }, (_, index) => ({
    id: `drill-extra-${index + 1}`,
    task_type: "drill_extra",
    payload: {},
    status: "pending",
    // Some are claimed early, some late, some never.
    priority: (index % 5) * 25,
    depends_on_task_ids: [],
  }));
}

interface Audited {
  readonly report: AuditReport;
  readonly events: number;
}
