import { runInDurableObject } from "cloudflare:test";
import { afterEach, describe, expect, it, vi } from "vitest";
import { claimStop } from "../../src/domain/claim-stop.ts";
import type { Command, CommandOf, TaskRow } from "../../src/domain/command.ts";
import type { Commit } from "../../src/domain/commit.ts";
import { decide } from "../../src/domain/decide.ts";
import type { Decision } from "../../src/domain/decision.ts";
import type { Context } from "../../src/domain/draft.ts";
import { newHead } from "../../src/domain/head.ts";
import { MemoryRun } from "../../src/domain/memory.ts";
import { taskOf } from "../../src/domain/outcome.ts";
import { newRun } from "../../src/domain/run.ts";
import type { View } from "../../src/domain/view.ts";
import { LOCAL_TENANT } from "../../src/identity/tenant.ts";
import { withoutAbsent } from "../../src/protocol/absent.ts";
import type { Task } from "../../src/protocol/task.ts";
import { LeaseTokens } from "../../src/run/lease-tokens.ts";
import { RunState } from "../../src/run/run-state.ts";
import { migrate } from "../../src/run/storage/migrate.ts";
import { MIGRATIONS } from "../../src/run/storage/schema.ts";
import { Sql } from "../../src/run/storage/sql.ts";
import { readWhy } from "../../src/run/why.ts";
import { draftOf, objectOf } from "./support/test-run.ts";

const START_MS = Date.UTC(2100, 0, 1);
const TOKENS = new LeaseTokens("00".repeat(32));
const STEPS = 150;
const LAST_COMMANDS = 3;

const STATUSES = ["pending", "runnable", "blocked", "done", "failed"] as const;
/** Finishing is what a task is claimed for: twice as likely as the rest. */
const ACTIONS = ["complete", "complete", "fail", "retry", "release", "heartbeat", "status"] as const;
const WORKFLOWS = [undefined, "w1"] as const;
const FILTERS = [undefined, "t0", "t1"].flatMap((task_type) =>
  WORKFLOWS.map((workflow_id) => ({ task_type, workflow_id })),
);

/** How large a board gets. */
interface Scale {
  /** Task ids in use: with few, commands meet on one task; with many, lanes grow. */
  ids: number;
  /** Tasks of a large batch, at most. */
  batch: number;
  /** Task types, the more frequent ones several times. */
  types: readonly string[];
  /** How often a claim is repeated, at most: what drains a long lane. */
  claims: number;
  /** Whether tasks have clocks, mind failed dependencies and are to be cancelled, and runs are halted. */
  clocks?: true;
  /** Concurrency keys that tasks may have, and their limits, which change; none when absent. */
  keys?: readonly string[];
}

const SMALL: Scale = { ids: 8, batch: 60, types: ["t0", "t1"], claims: 1 };
const MIDDLE: Scale = { ids: 30, batch: 60, types: ["t0", "t1"], claims: 1 };
/** Tasks that wait for places of their keys. */
const KEYED: Scale = {
  ids: 20,
  batch: 20,
  types: ["t0", "t1"],
  claims: 3,
  keys: ["one", "two", "two", "many"],
};
/** Lanes longer than what is kept of them in memory (64). */
const LARGE: Scale = { ids: 600, batch: 400, types: ["t0", "t0", "t0", "t0", "t0", "t1"], claims: 250 };

/** Small boards on which the engine has much to do by itself. */
const CLOCKED: Scale = { ids: 12, batch: 6, types: ["t0", "t1"], claims: 1, clocks: true };

/** What JSON makes of a value: what both sides must agree in. */
function json(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

/** What both sides must decide alike. Of several cycles either may find another one first: the code is enough. */
function comparable(decision: Decision): unknown {
  if (!decision.ok) return decision.refusal.code;
  const { outcome } = decision;
  // Which clocks were noted too early is the SQL view's own affair.
  return json(outcome.op === "settle_due" ? { ...decision, outcome: { ...outcome, early: [] } } : decision);
}

/** Random choices that a seed repeats. The seeds named below depend on every draw and its order. */
class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** From 0 up to 1, by mulberry32. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(values: readonly T[]): T {
    // The index is always one of the list's, which its type cannot tell.
    return values[this.below(values.length)] as T;
  }
}

/** Thrown to undo a transaction. */
class Undone extends Error {}

/** One board in SQL and in memory, under the same random commands. */
class Boards {
  readonly #dice: Dice;
  readonly #scale: Scale;
  readonly #sql: Sql;
  readonly #memory: MemoryRun;
  /** Of every claim, by task; some of them no longer hold. */
  readonly #tokens = new Map<string, string>();
  readonly #commands: Command[] = [];
  #state: RunState;
  #clockMs = START_MS;
  #decisions = 0;

  constructor(storage: DurableObjectStorage, runId: string, seed: number, scale: Scale) {
    this.#dice = new Dice(seed);
    this.#scale = scale;
    this.#sql = new Sql(storage);
    const run = newRun(draftOf(runId), LOCAL_TENANT, START_MS);
    this.#state = this.#sql.transaction(() => {
      migrate(this.#sql, MIGRATIONS);
      return RunState.create(this.#sql, run, "00", null);
    });
    this.#memory = new MemoryRun(newHead(run));
  }

  /** Does something at random, and compares now and then, or when told to. */
  step(isCompared: boolean): void {
    const kind = this.#dice.next();
    if (kind < 0.1) {
      this.#clockMs += this.#dice.pick([1, 1, 3, 1_000, 6_000, 61_000]);
    } else if (kind < 0.13) {
      this.#state = this.#awake();
    } else {
      const command = this.#command();
      this.#commands.push(command);
      if (kind < 0.2) this.#undo(command, this.#dice.chance(0.5));
      else this.#submitOften(command);
    }
    if (this.#dice.chance(0.05) || isCompared) this.#compare();
  }

  #compare(): void {
    const nowMs = this.#nowMs();
    for (const filter of FILTERS) {
      const expected = this.#memory.nextClaimable(filter, nowMs);
      expect(this.#state.nextClaimable(filter, nowMs), JSON.stringify(filter)).toEqual(json(expected));
      const all = [...this.#state.claimables(filter, nowMs)].map(({ id }) => id);
      expect(all).toEqual(this.#memory.claimables(filter, nowMs).map(({ id }) => id));
    }
    const { tasks } = this.#memory.run();
    expect(tasks.map(({ id }) => this.#state.task(id))).toEqual(json(tasks));
    const isStopped = claimStop(this.#state.head().run.status) !== null;
    for (const task of tasks) {
      const { claimable } = this.#state.tasks.standing(task, nowMs, this.#state.limitOf);
      expect(readWhy(this.#state, task.id, nowMs)?.claimable, task.id).toBe(claimable && !isStopped);
    }
    expect(this.#state.taskCount()).toBe(tasks.length);
    expect(this.#state.isIndexSound()).toBe(true);
    expect(json(this.#state.head())).toEqual(json(this.#memory.head()));
    expect(json(this.#awake().head())).toEqual(json(this.#memory.head()));
    const due = (state: RunState) => state.dueTasks(nowMs, tasks.length).map(({ id }) => id);
    const expectedDue = this.#memory.dueTasks(nowMs, tasks.length).map(({ id }) => id);
    expect(due(this.#state)).toEqual(expect.arrayContaining(expectedDue));
    expect(due(this.#awake())).toEqual(expect.arrayContaining(expectedDue));
    const held = (view: View) => view.heldUpTo(this.#heldUpTo(), tasks.length);
    expect(json(held(this.#state))).toEqual(json(held(this.#memory)));
    expect(this.#awake().taskCounts()).toEqual(this.#state.taskCounts());
  }

  /** The commands that led here. */
  lastCommands(): string {
    const texts = this.#commands.slice(-LAST_COMMANDS).map((command) => JSON.stringify(command));
    return texts.map((text) => (text.length > 1_000 ? `${text.slice(0, 1_000)}…` : text)).join("\n");
  }

  /** The run as an object finds it that wakes now. */
  #awake(): RunState {
    const state = RunState.open(this.#sql);
    if (state === null) throw new Error("the run is gone");
    return state;
  }

  #submitOften(command: Command): void {
    const { claims } = this.#scale;
    const times = command.op === "claim_task" && claims > 1 ? 1 + this.#dice.below(claims) : 1;
    for (let time = 0; time < times; time += 1) this.#submit(command);
  }

  #submit(command: Command): void {
    this.#sql.transaction(() => {
      // As the engine does it (contract 04 §4): a claim comes after the requeue of what is stale.
      if (this.#scale.clocks) this.#settle();
      if (command.op === "claim_task") this.#execute({ op: "requeue_stale" });
      this.#execute(command);
      if (this.#scale.clocks) this.#settle();
    });
  }

  /** As the engine does it: until nothing is due. */
  #settle(): void {
    for (let step = 0; this.#state.isSettleDue(this.#nowMs()); step += 1) {
      expect(step).toBeLessThan(50);
      this.#execute({ op: "settle_due" });
    }
    expect(this.#memory.dueTasks(this.#nowMs(), 1)).toEqual([]);
  }

  /** A fence that some leases are above and some below. */
  #heldUpTo(): number {
    return this.#state.head().run.last_event_seq - 10;
  }

  #execute(command: Command): void {
    this.#decisions += 1;
    const bySql = decide(command, this.#state, this.#context());
    const byMemory = decide(command, this.#memory, this.#context());
    expect(comparable(bySql)).toEqual(comparable(byMemory));
    if (!bySql.ok) return;
    this.#state.append(bySql.commits, null, null);
    if (command.op === "claim_task") this.#expectPlaces(bySql.commits);
    for (const commit of bySql.commits) this.#memory.apply(commit);
    const { outcome } = bySql;
    if (outcome.op === "settle_due") this.#state.postpone(outcome.early, this.#nowMs());
    if (outcome.op === "claim_task" && outcome.task !== null && outcome.lease !== null) {
      this.#tokens.set(outcome.task.id, outcome.lease.token);
    }
  }

  /** No claim takes more of a key than there are places. */
  #expectPlaces(commits: Commit[]): void {
    const keys = new Set(commits.map(({ event }) => taskOf(event).concurrency_key));
    for (const key of keys) {
      if (key === undefined) continue;
      const held = this.#state.tasks.docs().filter(({ doc }) => {
        const task = JSON.parse(doc) as Task;
        return (
          task.concurrency_key === key && (task.status === "in_progress" || task.lease_owner !== undefined)
        );
      });
      expect(held.length, key).toBeLessThanOrEqual(this.#state.limitOf(key));
    }
  }

  /** Does what a command does, or just the first commit of it, in a transaction that is then undone. */
  #undo(command: Command, isPartial: boolean): void {
    const savepoint = this.#state.savepoint();
    const body = (): never => {
      const commands: Command[] =
        command.op === "claim_task" ? [{ op: "requeue_stale" }, command] : [command];
      for (const each of commands) {
        this.#decisions += 1;
        const decision = decide(each, this.#state, this.#context());
        if (!decision.ok) continue;
        const isCut = isPartial && each === command;
        this.#state.append(isCut ? decision.commits.slice(0, 1) : decision.commits, null, null);
      }
      throw new Undone();
    };
    expect(() => this.#sql.transaction(body)).toThrow(Undone);
    this.#state.restore(savepoint);
  }

  #command(): Command {
    if (this.#scale.keys !== undefined && this.#dice.chance(0.04)) return this.#limits();
    if (this.#scale.clocks && this.#dice.chance(0.25)) return this.#control();
    const kind = this.#dice.next();
    if (kind < 0.25) return this.#creation();
    if (kind < 0.6) return this.#claim();
    if (kind < 0.92) return this.#transition();
    return kind < 0.95 ? { op: "requeue_stale" } : this.#replacement();
  }

  /** What tells holders to stop, and what changes a task that waits. */
  #control(): Command {
    const dice = this.#dice;
    const grace_ms = dice.pick([undefined, 0, 1_000, 5_000]);
    const kind = dice.next();
    if (kind < 0.3) return { op: "cancel_task", task_id: this.#id(), grace_ms };
    if (kind < 0.6) {
      const task_id = this.#id();
      const edges = this.#memory.task(task_id)?.depends_on_task_ids ?? [];
      return { op: "change_dependencies", task_id, add: [this.#id()], remove: edges.slice(0, dice.below(2)) };
    }
    if (kind < 0.7) {
      const status = dice.pick(["running", "completed", "paused"] as const);
      return { op: "append_event", type: "note", status, payload: null, strict: true };
    }
    return { op: "control_run", action: dice.pick(["pause", "resume", "resume", "cancel"]), grace_ms };
  }

  #creation(): Command {
    const most = this.#dice.chance(0.2) ? this.#scale.batch : 3;
    return {
      op: "create_tasks",
      replace_existing: this.#dice.chance(0.8),
      tasks: Array.from({ length: 1 + this.#dice.below(most) }, () => this.#row()),
    };
  }

  /** Settings that limit keys anew; a key that they do not name has one place. */
  #limits(): CommandOf<"put_settings"> {
    const limits = { two: this.#dice.below(4), many: 5 };
    return { op: "put_settings", settings: { concurrency_limits: limits } };
  }

  #row(): TaskRow {
    const dice = this.#dice;
    const { keys } = this.#scale;
    return {
      // Drawn where there are keys only: the seeds named below know none.
      ...(keys !== undefined && dice.chance(0.7) && { concurrency_key: dice.pick(keys) }),
      id: this.#idleId(),
      task_type: dice.pick(this.#scale.types),
      payload: { x: 1 },
      workflow_id: dice.pick(WORKFLOWS),
      status: dice.chance(0.3) ? dice.pick(STATUSES) : undefined,
      depends_on_task_ids: dice.chance(0.15) ? [this.#id(), this.#id()].slice(0, 1 + dice.below(2)) : [],
      decision_ids: [],
      artifact_ids: [],
      priority: dice.chance(0.5) ? dice.below(3) - 1 : undefined,
      ...(this.#scale.clocks && this.#clocked()),
    };
  }

  #clocked(): Partial<TaskRow> {
    const dice = this.#dice;
    const within = () => (dice.chance(0.4) ? dice.pick([1_000, 4_000, 70_000]) : undefined);
    return {
      ...(dice.chance(0.6) && { depends_on_task_ids: [this.#id(), this.#id()].slice(dice.below(2)) }),
      on_dependency_failure: dice.pick([undefined, "wait", "fail", "skip"]),
      clocks: withoutAbsent({
        start_within_ms: within(),
        run_within_ms: within(),
        silent_within_ms: within(),
        finish_within_ms: within(),
      }),
    };
  }

  #claim(): Command {
    return {
      op: "claim_task",
      agent_id: "agent",
      lease_ms: this.#dice.pick([5_000, 60_000]),
      task_type: this.#dice.chance(0.5) ? this.#dice.pick(this.#scale.types) : undefined,
      workflow_id: this.#dice.chance(0.3) ? "w1" : undefined,
    };
  }

  #transition(): Command {
    const isOfClaimed = this.#dice.chance(0.7) && this.#tokens.size > 0;
    const task_id = isOfClaimed ? this.#dice.pick([...this.#tokens.keys()]) : this.#id();
    return {
      op: "transition_task",
      task_id,
      action: this.#dice.pick(ACTIONS),
      status: this.#dice.pick(STATUSES),
      lease_token: this.#tokens.get(task_id),
      lease_ms: 5_000,
    };
  }

  /** A PUT of the run as it is, without some tasks, in either order, with some delayed. */
  #replacement(): CommandOf<"replace_run"> {
    const { tasks, ...header } = this.#memory.run();
    const kept = tasks.filter(() => this.#dice.chance(0.8));
    if (this.#dice.chance(0.5)) kept.reverse();
    const changed = kept.map((task) =>
      this.#dice.chance(0.3)
        ? { ...task, next_retry_at_ms: this.#clockMs + this.#dice.pick([1, 3_000, 50_000]) }
        : task,
    );
    return { op: "replace_run", run: { ...header, tasks: changed } };
  }

  #id(): string {
    return `i${this.#dice.below(this.#scale.ids)}`;
  }

  /** An id that a batch may use: of no task, or of one that can be replaced. */
  #idleId(): string {
    for (let attempt = 0; attempt < 20; attempt += 1) {
      const id = this.#id();
      const task = this.#memory.task(id);
      if (task === null) return id;
      if (task.status !== "in_progress" && task.status !== "done" && task.lease_token === undefined)
        return id;
    }
    return `x${this.#decisions}-${this.#dice.next()}`.slice(0, 20);
  }

  #nowMs(): number {
    return Math.max(this.#clockMs, this.#state.head().run.updated_at_ms);
  }

  /** The same ids for both sides of a decision, others for the next one. */
  #context(): Context {
    let ids = 0;
    return {
      nowMs: this.#nowMs(),
      newId: () => `${this.#decisions}-${++ids}`,
      random: () => 0,
      leaseToken: (eventId) => TOKENS.leaseToken(eventId),
      maskToken: (token) => TOKENS.maskToken(token),
    };
  }
}

/** Runs one history; a failure names the seed, the step and the last commands. */
async function play(seed: number, scale: Scale): Promise<void> {
  const { id, stub } = objectOf();
  // A lanes cache that broke its rule is noticed, reported and read again: the claims alone would not tell.
  const reports = vi.spyOn(console, "error").mockReturnValue(undefined);
  await runInDurableObject(stub, (_object, { storage }) => {
    const boards = new Boards(storage, id, seed, scale);
    for (let step = 1; step <= STEPS; step += 1) {
      try {
        boards.step(step === STEPS);
        expect(reports).not.toHaveBeenCalled();
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        throw new Error(`seed ${seed}, step ${step}: ${reason}\nlast commands:\n${boards.lastCommands()}`, {
          cause: error,
        });
      }
    }
  });
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

describe("N1, N2: the caches of the SQL view never tell it from the memory view", () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  // Each led to a task that the lanes cache held twice, and that was handed out twice.
  it.each([6, 12, 78])("N1: a task replaced while its lane was read again is known once (seed %i)", (seed) =>
    play(seed, SMALL),
  );

  it.each(range(101, 130))("N1, N2: few tasks, often replaced (seed %i)", (seed) => play(seed, SMALL));

  it.each(range(401, 425))("N1, N2: the engine ends and takes back tasks by itself (seed %i)", (seed) =>
    play(seed, CLOCKED),
  );

  it.each(range(201, 215))("N1, N2: a board of some tasks (seed %i)", (seed) => play(seed, MIDDLE));

  it.each(range(401, 430))("N1, N2: tasks of keys with few places (seed %i)", (seed) => play(seed, KEYED));

  it.each(range(301, 312))("N1, N2: lanes longer than what is kept of them (seed %i)", (seed) =>
    play(seed, LARGE),
  );
});
