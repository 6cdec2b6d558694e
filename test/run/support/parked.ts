import type { Command, CommandOf } from "../../../src/domain/command.ts";
import type { OutcomeOf } from "../../../src/domain/outcome.ts";
import { type Answer, Engine } from "../../../src/run/engine.ts";
import { LogReader } from "../../../src/run/log-reader.ts";
import { unpackAnswer } from "../../../src/run/packed-answer.ts";
import type { ParkedClaim } from "../../../src/run/parked-claims.ts";
import { RunState } from "../../../src/run/run-state.ts";
import { Sql } from "../../../src/run/storage/sql.ts";
import { inStorage, newTestRun, type TestRun } from "./test-run.ts";

/** A claim that a test has parked, and what it was told. */
export interface Waiter {
  claim: ParkedClaim;
  /** Undefined while it waits. */
  told: Answer | "failed" | undefined;
  /** Set by the test: it has left without a word. */
  isGone: boolean;
}

/** An engine of the test's own over the storage of a run, whose claims are parked without sockets. */
export class ParkingEngine {
  readonly engine: Engine;
  readonly state: RunState;
  readonly sql: Sql;
  readonly waiters: Waiter[] = [];
  /** Commits of each flush. */
  readonly flushes: number[] = [];
  #places = 0;

  constructor(storage: DurableObjectStorage) {
    this.sql = new Sql(storage);
    this.state = RunState.existing(this.sql);
    const log = new LogReader(this.state.commits, this.state.segments, null);
    const listener = {
      committed: () => undefined,
      flushed: (before: { last_event_seq: number }) =>
        void this.flushes.push(this.state.head().run.last_event_seq - before.last_event_seq),
      failed: (error: unknown) => {
        throw error;
      },
    };
    this.engine = new Engine(storage, this.sql, this.state, log, listener, () => Date.now());
  }

  /** Parks a claim; its agent is named after its place. */
  park(
    members: Partial<CommandOf<"claim_task">> = {},
    options: { commandId?: string; place?: number } = {},
  ): Waiter {
    const place = options.place ?? ++this.#places;
    this.#places = Math.max(this.#places, place);
    const command = { op: "claim_task", agent_id: `agent-${place}`, strict: true, ...members } as const;
    const waiter: Waiter = {
      told: undefined,
      isGone: false,
      claim: {
        submission: { command, commandId: options.commandId, fingerprint: "f" },
        place,
        isAwaited: () => !waiter.isGone,
        answer: (answer) => {
          if (waiter.told !== undefined) throw new Error("a parked claim is answered once");
          waiter.told = unpackAnswer(answer);
        },
        fail: () => {
          waiter.told = "failed";
        },
      },
    };
    const refusal = this.engine.park(waiter.claim);
    if (refusal !== null) waiter.told = { ok: false, refusal, rows: { read: 0, written: 0 } };
    else this.waiters.push(waiter);
    return waiter;
  }

  submit(command: Command, commandId?: string): Promise<Answer> {
    return this.engine.submit({ command, commandId, fingerprint: "f" });
  }

  /** Resolves when the engine has nothing to do: what it was asked before is answered. */
  async settled(): Promise<void> {
    for (let seq = -1; seq !== this.state.head().run.last_event_seq; ) {
      seq = this.state.head().run.last_event_seq;
      await this.submit({ op: "requeue_stale" });
    }
  }
}

/** Runs a body with an engine of its own over a fresh run. */
export async function withParking<R>(body: (parking: ParkingEngine, run: TestRun) => Promise<R>): Promise<R> {
  const run = await newTestRun();
  return inStorage(run, (_sql, storage) => body(new ParkingEngine(storage), run));
}

/** The ids of the tasks that a waiter was given; null while it waits. */
export function givenTo({ told }: Waiter): string[] | null {
  if (told === undefined) return null;
  if (told === "failed" || !told.ok) return [];
  const { task, claims } = told.outcome as OutcomeOf<"claim_task">;
  return claims?.map((claimed) => claimed.task.id) ?? (task === null ? [] : [task.id]);
}
