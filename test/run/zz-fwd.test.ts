import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Command } from "../../src/domain/command.ts";
import type { Commit } from "../../src/domain/commit.ts";
import { type Decision, decide } from "../../src/domain/decide.ts";
import type { Context } from "../../src/domain/draft.ts";
import { newHead } from "../../src/domain/head.ts";
import { MemoryRun } from "../../src/domain/memory.ts";
import { newRun } from "../../src/domain/run.ts";
import { LOCAL_TENANT } from "../../src/identity/tenant.ts";
import type { PatchRecord } from "../../src/protocol/blackboard.ts";
import type { TaskCounts } from "../../src/protocol/run.ts";
import type { Answer } from "../../src/run/engine.ts";
import { LeaseTokens } from "../../src/run/lease-tokens.ts";
import { RunState } from "../../src/run/run-state.ts";
import { migrate } from "../../src/run/storage/schema.ts";
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
} from "./support/commands.ts";
import {
  draftOf,
  eventsOf,
  newTestRun,
  objectOf,
  parsed,
  type TestRun,
  useTestClock,
  valueOf,
  wholeBlackboard,
  wholeRun,
} from "./support/test-run.ts";

const START_MS = Date.UTC(2100, 0, 1);
const TOKENS = new LeaseTokens("00".repeat(32));

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
      migrate(this.#sql);
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
    }
    expect(this.#awake().staleLeases(nowMs)).toEqual(json(memory.staleLeases(nowMs)));
    const earliest = earliestExpiry(memory);
    if (earliest !== null) expect(sql.leaseDueAtMs() ?? Number.POSITIVE_INFINITY).toBeLessThanOrEqual(earliest);
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
    const receipt = commandId === undefined ? null : { op: command.op, fingerprint: null, commits: 1 };
    this.#state.append(decision.commits, commandId ?? null, receipt);
    for (const commit of decision.commits) this.#memory.apply(commit);
    const { outcome } = decision;
    if (outcome.op === "claim_task" && outcome.lease !== null && outcome.task !== null) {
      this.#tokens.set(outcome.task.id, outcome.lease.token);
    }
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
    expect(json(bySql)).toEqual(json(byMemory));
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
      leaseToken: (eventId) => TOKENS.leaseToken(eventId),
      maskToken: (token) => TOKENS.maskToken(token),
    };
  }
}

describe("design: the SQL view and the memory view are one contract", () => {
  it("design: random histories lead both to the same decisions, claims, stale sets and texts", async () => {
    await fc.assert(
      fc.asyncProperty(histories({ maxSteps: 40, backwards: false }), async (steps) => {
        const { id, stub } = objectOf();
        await runInDurableObject(stub, (_object, state) => {
          const twins = new Twins(state.storage, id);
          for (const step of steps) twins.take(step);
        });
      }),
      { numRuns: 2000, seed: 8 },
    );
  });
});
