import { runInDurableObject } from "cloudflare:test";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Command, LetterFilter } from "../../src/domain/command.ts";
import type { Commit } from "../../src/domain/commit.ts";
import { decide } from "../../src/domain/decide.ts";
import type { Decision } from "../../src/domain/decision.ts";
import type { Context } from "../../src/domain/draft.ts";
import { newHead } from "../../src/domain/head.ts";
import { MemoryRun } from "../../src/domain/memory.ts";
import { claimsOf } from "../../src/domain/outcome.ts";
import { newRun } from "../../src/domain/run.ts";
import { LOCAL_TENANT } from "../../src/identity/tenant.ts";
import type { TaskCounts } from "../../src/protocol/run.ts";
import type { Answer } from "../../src/run/engine.ts";
import { LeaseTokens } from "../../src/run/lease-tokens.ts";
import { submit } from "../../src/run/run-client.ts";
import { RunState } from "../../src/run/run-state.ts";
import { migrate } from "../../src/run/storage/migrate.ts";
import { MIGRATIONS } from "../../src/run/storage/schema.ts";
import { Sql } from "../../src/run/storage/sql.ts";
import { NO_TASKS } from "../../src/run/storage/tasks.ts";
import {
  COMMAND_IDS,
  type CommandPlan,
  commandOf,
  FILTERS,
  histories,
  type Step,
  TASK_IDS,
  TASK_TYPES,
  WORKFLOWS,
} from "./support/commands.ts";
import {
  commitsOf,
  draftOf,
  eventsOf,
  evict,
  newTestRun,
  objectOf,
  overviewOf,
  PROPERTY_TIMEOUT_MS,
  type TestRun,
  useTestClock,
  wholeBlackboard,
  wholeRun,
} from "./support/test-run.ts";

const START_MS = Date.UTC(2100, 0, 1);
const TOKENS = new LeaseTokens("00".repeat(32));

const LETTER_FILTERS: LetterFilter[] = [
  {},
  { cause: "attempts_exhausted" },
  { error_code: "FINAL" },
  { task_type: TASK_TYPES[0], workflow_id: WORKFLOWS[0] },
  { task_types: TASK_TYPES.slice(1) },
];

/** What JSON makes of a value: what both sides must agree in. */
function json(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

function countsOf(memory: MemoryRun): TaskCounts {
  const counts = { ...NO_TASKS };
  for (const task of memory.run().tasks) {
    counts[task.status] += 1;
    counts.total += 1;
  }
  return counts;
}

/** The earliest expiry of the leases that can go stale; null when there is none. */
function earliestExpiry(memory: MemoryRun): number | null {
  const expiries = memory
    .run()
    .tasks.flatMap((task) => (task.status === "in_progress" ? (task.lease_expires_at_ms ?? []) : []));
  return expiries.length === 0 ? null : Math.min(...expiries);
}

/** A decision without the cycle it names: of several cycles either view may find another one first. */
function comparable(decision: Decision): unknown {
  if (decision.ok || decision.refusal.code !== "TASK_DEPENDENCY_CYCLE") return json(decision);
  const { cycle, ...refusal } = decision.refusal;
  expect([cycle[0], cycle.at(-1)]).toEqual([refusal.task_id, refusal.task_id]);
  return json(refusal);
}

/** Thrown to undo a transaction. */
class Undone extends Error {}

/** One run in SQL and in memory, driven by the same decisions. */
class Twins {
  readonly #sql: Sql;
  readonly #memory: MemoryRun;
  readonly #tokens = new Map<string, string>();
  #state: RunState;
  #clockMs = START_MS;
  #decisions = 0;

  constructor(storage: DurableObjectStorage, runId: string) {
    this.#sql = new Sql(storage);
    const run = newRun(draftOf(runId), LOCAL_TENANT, START_MS);
    this.#state = this.#sql.transaction(() => {
      migrate(this.#sql, MIGRATIONS);
      return RunState.create(this.#sql, run, "00", null);
    });
    this.#memory = new MemoryRun(newHead(run));
  }

  take(step: Step): void {
    switch (step.do) {
      case "clock":
        this.#clockMs += step.ms;
        break;
      case "wake":
        this.#state = this.#awake();
        break;
      case "undo":
        this.#undo(step.plan);
        break;
      case "submit":
        this.#submit(step.plan, step.commandId);
        break;
    }
    this.compare();
  }

  /** Everything the view and the texts tell must be the same. */
  compare(): void {
    const [sql, memory, nowMs] = [this.#state, this.#memory, this.#nowMs()];
    expect(json(sql.head())).toEqual(json(memory.head()));
    expect(JSON.parse([...sql.texts.run()].join(""))).toEqual(json(memory.run()));
    expect(JSON.parse([...sql.texts.blackboard()].join(""))).toEqual(json(memory.blackboard()));
    expect(sql.taskCounts()).toEqual(countsOf(memory));
    expect(sql.taskCount()).toBe(memory.taskCount());
    for (const id of TASK_IDS) {
      expect(sql.task(id)).toEqual(json(memory.task(id)));
      expect(sql.dependentsOf(id).sort()).toEqual(memory.dependentsOf(id).sort());
    }
    for (const id of COMMAND_IDS) expect(sql.isCommandUsed(id)).toBe(memory.isCommandUsed(id));
    for (const filter of FILTERS) {
      expect(sql.nextClaimable(filter, nowMs), JSON.stringify(filter)).toEqual(
        json(memory.nextClaimable(filter, nowMs)),
      );
      expect([...sql.claimables(filter, nowMs)]).toEqual(json(memory.claimables(filter, nowMs)));
    }
    for (const filter of LETTER_FILTERS) {
      expect(sql.deadLetters(filter, 3), JSON.stringify(filter)).toEqual(json(memory.deadLetters(filter, 3)));
      expect(sql.countDeadLetters(filter)).toBe(memory.countDeadLetters(filter));
    }
    expect(this.#awake().staleLeases(nowMs)).toEqual(json(memory.staleLeases(nowMs)));
    const earliest = earliestExpiry(memory);
    if (earliest !== null)
      expect(sql.leaseDueAtMs() ?? Number.POSITIVE_INFINITY).toBeLessThanOrEqual(earliest);
  }

  /** The run as an object finds it that wakes now. */
  #awake(): RunState {
    const state = RunState.open(this.#sql);
    if (state === null) throw new Error("the run is gone");
    return state;
  }

  #submit(plan: CommandPlan, commandId: string | undefined): void {
    const command = this.#commandOf(plan);
    // The rows of a batch have ids of their own, and a requeue has none.
    const takesId = command.op !== "create_tasks" && command.op !== "requeue_stale";
    const id = takesId ? commandId : undefined;
    if (id !== undefined && this.#memory.isCommandUsed(id)) return;
    this.#sql.transaction(() => {
      // As the engine does it (contract 04 §4): a claim comes after the requeue of what is stale.
      if (command.op === "claim_task") this.#execute({ op: "requeue_stale" }, undefined);
      this.#execute(command, id);
    });
  }

  #execute(command: Command, commandId: string | undefined): void {
    const decision = this.#decide(command, commandId);
    if (!decision.ok) return;
    const { commits } = decision;
    const receipt =
      commandId === undefined ? null : { op: command.op, fingerprint: null, commits: commits.length };
    this.#state.append(decision.commits, commandId ?? null, receipt);
    for (const commit of decision.commits) this.#memory.apply(commit);
    const { outcome } = decision;
    for (const { task, lease } of claimsOf(outcome)) this.#tokens.set(task.id, lease?.token ?? "");
  }

  #undo(plan: CommandPlan): void {
    const command = this.#commandOf(plan);
    const savepoint = this.#state.savepoint();
    const body = (): never => {
      const decision = this.#decide(command, undefined);
      if (decision.ok) this.#state.append(decision.commits, null, null);
      throw new Undone();
    };
    expect(() => this.#sql.transaction(body)).toThrow(Undone);
    this.#state.restore(savepoint);
  }

  /** Both views must lead to the same decision: the same refusal, or the same commits and outcome. */
  #decide(command: Command, commandId: string | undefined): Decision {
    this.#decisions += 1;
    const bySql = decide(command, this.#state, this.#context(), commandId);
    const byMemory = decide(command, this.#memory, this.#context(), commandId);
    expect(comparable(bySql)).toEqual(comparable(byMemory));
    return bySql;
  }

  #commandOf(plan: CommandPlan): Command {
    return commandOf(plan, this.#memory, this.#tokens, this.#nowMs());
  }

  #nowMs(): number {
    return Math.max(this.#state.head().run.updated_at_ms, this.#clockMs);
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

/** A run's object and a memory run that follows its log, checking each commit against what memory expects. */
class Follower {
  readonly #run: TestRun;
  readonly #memory: MemoryRun;
  readonly #tokens = new Map<string, string>();
  #seq = 0;

  private constructor(run: TestRun, memory: MemoryRun) {
    this.#run = run;
    this.#memory = memory;
  }

  static async start(): Promise<Follower> {
    const run = await newTestRun();
    const { tasks: _tasks, ...header } = await wholeRun(run);
    return new Follower(run, new MemoryRun(newHead(header)));
  }

  async take(step: Step, advance: (ms: number) => void): Promise<void> {
    if (step.do === "clock") advance(step.ms);
    if (step.do === "wake") await evict(this.#run);
    if (step.do === "submit") await this.#submit(step.plan, step.commandId);
  }

  async compare(): Promise<void> {
    expect(await wholeRun(this.#run)).toEqual(json(this.#memory.run()));
    expect(await wholeBlackboard(this.#run)).toEqual(json(this.#memory.blackboard()));
    const { task_counts } = await overviewOf(this.#run);
    expect(task_counts).toEqual(countsOf(this.#memory));
  }

  /** The log tells the same events as the commits that memory followed. */
  async compareLog(): Promise<void> {
    expect((await eventsOf(this.#run)).map((event) => event.seq)).toEqual(
      Array.from({ length: this.#seq }, (_, index) => index + 1),
    );
  }

  async #submit(plan: CommandPlan, commandId: string | undefined): Promise<void> {
    const nowMs = Math.max(this.#memory.head().run.updated_at_ms, Date.now());
    // The generator makes objects without a prototype, which RPC does not take.
    const command = structuredClone(commandOf(plan, this.#memory, this.#tokens, nowMs));
    const answer = await submit(this.#run.client, {
      command,
      commandId,
      fingerprint: JSON.stringify(command),
    });
    const commits = await commitsOf(this.#run, this.#seq);
    this.#seq += commits.length;
    if (!answer.ok || answer.repeat !== null) {
      // A claim requeues what is stale whatever becomes of it.
      const others = commits.filter((commit) => commit.event.type !== "context.task.stale_requeued");
      expect(others).toEqual([]);
    }
    this.#follow(command, commits, nowMs, answer);
  }

  #follow(command: Command, commits: Commit[], nowMs: number, answer: Answer): void {
    if (command.op === "claim_task" && answer.ok && answer.repeat === null) {
      const stale = this.#memory.staleLeases(nowMs).map((task) => task.id);
      const requeued = commits.splice(0, stale.length);
      expect(requeued.map((commit) => commit.event.task_id)).toEqual(stale);
      for (const commit of requeued) this.#memory.apply(commit);
      const claimable = this.#memory.claimables(command, nowMs).slice(0, command.max ?? 1);
      const claims = claimsOf(answer.outcome);
      expect(claims.map(({ task }) => task.id)).toEqual(claimable.map(({ id }) => id));
      for (const { task, lease } of claims) this.#tokens.set(task.id, lease?.token ?? "");
    }
    for (const commit of commits) this.#memory.apply(commit);
  }
}

describe("design: the SQL view and the memory view are one contract", () => {
  const clock = useTestClock();

  it(
    "design: random histories lead both to the same decisions, claims, stale sets and texts",
    async () => {
      await fc.assert(
        fc.asyncProperty(histories({ maxSteps: 40, backwards: false }), async (steps) => {
          const { id, stub } = objectOf();
          await runInDurableObject(stub, (_object, state) => {
            const twins = new Twins(state.storage, id);
            for (const step of steps) twins.take(step);
          });
        }),
        { numRuns: 100, seed: 1 },
      );
    },
    PROPERTY_TIMEOUT_MS,
  );

  it(
    "design: memory follows an object's log through evictions and clock jumps",
    async () => {
      await fc.assert(
        fc.asyncProperty(histories({ maxSteps: 25, backwards: false }), async (steps) => {
          const follower = await Follower.start();
          for (const step of steps) {
            await follower.take(step, (ms) => clock.advance(ms));
            await follower.compare();
          }
          await follower.compareLog();
        }),
        { numRuns: 15, seed: 2 },
      );
    },
    PROPERTY_TIMEOUT_MS,
  );
});
