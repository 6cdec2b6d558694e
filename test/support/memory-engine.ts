import type { Command, TaskFilter } from "../../src/domain/command.ts";
import type { Commit } from "../../src/domain/commit.ts";
import { decide } from "../../src/domain/decide.ts";
import type { Context } from "../../src/domain/draft.ts";
import { newHead } from "../../src/domain/head.ts";
import { MemoryRun } from "../../src/domain/memory.ts";
import { type Outcome, type ReceiptFacts, recall } from "../../src/domain/outcome.ts";
import type { Refusal } from "../../src/domain/refusals.ts";
import type { View } from "../../src/domain/view.ts";
import type { Blackboard } from "../../src/protocol/blackboard.ts";
import type { Run, RunHeader } from "../../src/protocol/run.ts";
import { idSource } from "./builders.ts";

/** What became of a submission. */
export type Answer =
  | { ok: false; refusal: Refusal; requeued: Commit[] }
  | {
      ok: true;
      /** Null only for a repeat under another kind of command. */
      outcome: Outcome | null;
      /** Whether the command id was used before, so that nothing was done now. */
      isRepeat: boolean;
      /** Commits of stale leases, made before those of the command. */
      requeued: Commit[];
      commits: Commit[];
    };

/** Everything about a run that a client can see, as JSON would carry it: a copy that nothing changes any more. */
export interface Snapshot {
  run: Run;
  blackboard: Blackboard;
}

interface Receipt extends ReceiptFacts {
  op: Command["op"];
  /** Seq of the command's first commit. */
  seq: number;
  commits: number;
}

/**
 * The engine's rules over a run in memory: a used command id is answered from the log, stale leases are requeued before
 * a claim, a refusal appends nothing, and time never goes back. The log is kept as text, as storage keeps it, so what
 * is answered from it has been written and read.
 */
export class MemoryEngine {
  readonly #initial: RunHeader;
  readonly #state: MemoryRun;
  readonly #log: string[] = [];
  readonly #receipts = new Map<string, Receipt>();
  readonly #ids = idSource();
  readonly #view: View;

  constructor(run: RunHeader) {
    this.#initial = run;
    this.#state = new MemoryRun(newHead(run));
    const state = this.#state;
    this.#view = {
      head: () => state.head(),
      taskCount: () => state.taskCount(),
      task: (id) => state.task(id),
      nextClaimable: (filter: TaskFilter, nowMs) => state.nextClaimable(filter, nowMs),
      claimables: (filter: TaskFilter, nowMs) => state.claimables(filter, nowMs),
      staleLeases: (nowMs) => state.staleLeases(nowMs),
      dueTasks: (nowMs, limit) => state.dueTasks(nowMs, limit),
      heldUpTo: (fence, limit) => state.heldUpTo(fence, limit),
      deadLetters: (filter, limit) => state.deadLetters(filter, limit),
      countDeadLetters: (filter) => state.countDeadLetters(filter),
      dependentsOf: (id) => state.dependentsOf(id),
      isCommandUsed: (id) => this.#receipts.has(id),
      file: (path) => state.file(path),
      fileVersion: (path, version) => state.fileVersion(path, version),
      appliedSeq: (seq) => state.appliedSeq(seq),
    };
  }

  /** Executes one command at what the clock shows, in epoch ms; the clock may have stepped back. */
  submit(command: Command, commandId: string | undefined, clockMs: number): Answer {
    const receipt = commandId === undefined ? undefined : this.#receipts.get(commandId);
    if (receipt !== undefined) {
      const commits = this.commits().slice(receipt.seq - 1, receipt.seq - 1 + receipt.commits);
      const outcome = receipt.op === command.op ? recall(command, commits, receipt, this.#ids) : null;
      return { ok: true, outcome, isRepeat: true, requeued: [], commits: [] };
    }
    const context: Context = {
      nowMs: Math.max(this.#state.head().run.updated_at_ms, clockMs),
      ...this.#ids,
    };
    const requeued = command.op === "claim_task" ? this.#requeue(context) : [];
    const decision = decide(command, this.#view, context, commandId);
    if (!decision.ok) return { ok: false, refusal: decision.refusal, requeued };
    const { commits, outcome } = decision;
    const deduped = outcome.op === "create_tasks" ? outcome.deduped : [];
    this.#append(commits, command, commandId, deduped.length > 0 ? { deduped } : {});
    return { ok: true, outcome, isRepeat: false, requeued, commits };
  }

  /** The log, read back from its text. */
  commits(): Commit[] {
    return this.#log.map((text) => JSON.parse(text) as Commit);
  }

  snapshot(): Snapshot {
    const run = this.#state.run();
    return JSON.parse(JSON.stringify({ run, blackboard: this.#state.blackboard() })) as Snapshot;
  }

  /** The run as it was before its first commit. */
  initial(): MemoryRun {
    return new MemoryRun(newHead(this.#initial));
  }

  #requeue(context: Context): Commit[] {
    const decision = decide({ op: "requeue_stale" }, this.#view, context);
    if (!decision.ok) throw new Error("a requeue is never refused");
    this.#append(decision.commits, { op: "requeue_stale" }, undefined, {});
    return decision.commits;
  }

  #append(commits: Commit[], command: Command, commandId: string | undefined, facts: ReceiptFacts): void {
    for (const [index, commit] of commits.entries()) {
      this.#log.push(JSON.stringify(commit));
      this.#state.apply(commit);
      const { seq, command_id: own } = commit.event;
      if (index === 0 && commandId !== undefined) {
        this.#receipts.set(commandId, { op: command.op, seq, commits: commits.length, ...facts });
      } else if (own !== undefined && own !== commandId) {
        this.#receipts.set(own, { op: "create_tasks", seq, commits: 1 });
      }
    }
  }
}
