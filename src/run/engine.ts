import { batchRefusal } from "../domain/batch.ts";
import type { AnyCommand, Batch, Command } from "../domain/command.ts";
import { decide } from "../domain/decide.ts";
import type { Decision } from "../domain/decision.ts";
import type { Context } from "../domain/draft.ts";
import { lockComparisons } from "../domain/locks.ts";
import { claimsOf, factsOf, type Outcome, recall } from "../domain/outcome.ts";
import { commitTooLarge, limitExceeded, overloaded, type Refusal, runNotFound } from "../domain/refusals.ts";
import { MAX_ECHO_LENGTH, MAX_RUN_BYTES, MAX_SETTLED_AT_ONCE } from "../protocol/limits.ts";
import type { RunHeader } from "../protocol/run.ts";
import type { Task } from "../protocol/task.ts";
import { type Attempt, ClaimService, type Serving } from "./claim-service.ts";
import { CommandQueue } from "./command-queue.ts";
import { Crowd } from "./crowd.ts";
import { doBatch } from "./do-batch.ts";
import { HeartbeatRecorder } from "./heartbeat-recorder.ts";
import { LeaseTokens } from "./lease-tokens.ts";
import { LogDamaged, type LogReader } from "./log-reader.ts";
import { packAnswer } from "./packed-answer.ts";
import type { ParkedClaim } from "./parked-claims.ts";
import type { RunState } from "./run-state.ts";
import { type CommitTable, CommitTooLarge } from "./storage/commits.ts";
import type { RowCounts, Sql } from "./storage/sql.ts";

/** A command on its way into a run. */
export interface Submission {
  command: AnyCommand;
  /** Idempotency key; remembered for the life of the run. */
  commandId?: string | undefined;
  /** Digest of the request, to tell a repeat from another request under the same key. */
  fingerprint?: string | undefined;
  /** What the answer shall echo, as it is right after this command. */
  echo?: "run" | "blackboard" | undefined;
}

/** What became of a submission. */
export type Answer =
  | { ok: false; refusal: Refusal; rows: RowCounts }
  | {
      ok: true;
      /** Null only for a repeat under another kind of command. */
      outcome: Outcome | null;
      /** Set when the command id was used before: nothing was done now. */
      repeat: RepeatFacts | null;
      /** JSON text; null when it is over the echo limit; absent when none was asked for. */
      echo?: string | null;
      rows: RowCounts;
    };

/** What is to be said of a repeat. */
export interface RepeatFacts {
  /** Whether the request is the one that used the command id. */
  same: boolean;
  /** How long ago that was, ms; null when the log does not tell. */
  afterMs: number | null;
  currentTask: Task | null;
}

interface Waiting {
  submission: Submission;
  resolve(answer: Answer): void;
  reject(error: unknown): void;
}

/** What one transaction holds until it is flushed, and what it may yet do. */
interface Round extends Serving {
  /** Commands that were carried out; one that gives out several tasks counts as often. */
  done: number;
}

/** With this many of the longest commits, storage does not grow from MAX_RUN_BYTES to its end. */
const COMMITS_UNMEASURED = 500;

/** One transaction stays short enough not to delay reads. A batch alone may be longer. */
const MAX_GROUP = 128;

/** However long the group, parked claims are given this many tasks in its transaction: they must not starve. */
const MIN_SERVED = 32;

/** Told before anything is done: a repeat, too, may come again. */
const FULL: Answer = {
  ok: false,
  refusal: overloaded("too many commands wait for this run"),
  rows: { read: 0, written: 0 },
};

/** So often before a claim, what is due is settled: more than these tasks at once are overdue only after a long sleep. */
const MAX_SETTLE_STEPS = 10;

const GONE: Answer = { ok: false, refusal: runNotFound, rows: { read: 0, written: 0 } };

/** What the engine tells the object after a group of commands was made durable. */
export interface CommitListener {
  /** In the same turn as the commits, before they are flushed: the place to arm the alarm. */
  committed(before: RunHeader, after: RunHeader): void;
  /** The commits that came after `before` are flushed. Must not throw. */
  flushed(before: RunHeader): void;
  /** Memory may be ahead of what is durable, and the object must start afresh. */
  failed(error: unknown): void;
}

/**
 * The one write path of a run.
 *
 * For each command: answer a repeat from its receipt; do what clocks have come to, and requeue stale leases before a claim; decide;
 * append the commits and apply what they mean. Then, for the group: do what follows of itself, tell the object, wait for the flush,
 * answer, tell the object.
 *
 * G1 A flush is the price of a commit, so commands that arrive in one turn, or while a flush is pending, share the next
 *    transaction. A command that met no other never waits; where commands met, the first waits a moment for the others.
 * G2 Each command has a nested transaction of its own: its refusal or fault undoes it alone.
 * G3 Nothing awaits between a command's first read and its append, and nothing is answered before the flush.
 * G4 A batch is one command: all of what it holds is done in one nested transaction, or nothing.
 * G5 Past a bound, commands are refused before anything is done (command-queue.ts).
 *
 * Claims that are parked have their turns in the same transactions (G6, claim-service.ts).
 */
export class Engine {
  readonly #sql: Sql;
  readonly #storage: DurableObjectStorage;
  readonly #state: RunState;
  readonly #log: LogReader;
  readonly #tokens: LeaseTokens;
  readonly #listener: CommitListener;
  readonly #clock: () => number;
  readonly #queue = new CommandQueue<Waiting>();
  #isLeading = false;
  #isClosed = false;
  readonly #crowd = new Crowd();
  readonly #claims: ClaimService;
  readonly #heartbeats: HeartbeatRecorder;
  #nowMs = 0;
  /** Size of the object's storage in bytes, of late: to ask for it is too dear for each commit. */
  #storedBytes: number;
  /** When it was asked for, as a seq. */
  #measuredSeq: number;

  constructor(
    storage: DurableObjectStorage,
    sql: Sql,
    state: RunState,
    log: LogReader,
    listener: CommitListener,
    clock: () => number,
  ) {
    this.#storage = storage;
    this.#sql = sql;
    this.#state = state;
    this.#log = log;
    this.#tokens = new LeaseTokens(state.row.leaseKey);
    this.#listener = listener;
    this.#clock = clock;
    this.#claims = new ClaimService(state, {
      context: () => this.#context(),
      makeReady: (context) => this.#inTransaction(() => this.#makeReady(context)),
      attempt: (submission) => this.#attempt(submission),
      isRepeat: (commandId) => this.isRepeat(commandId),
      isFull: () => this.isFull(),
    });
    this.#heartbeats = new HeartbeatRecorder(state, clock, (reports) =>
      this.submit({ command: { op: "record_heartbeats", reports } }),
    );
    this.#storedBytes = storage.sql.databaseSize;
    this.#measuredSeq = state.head().run.last_event_seq;
  }

  /** Takes a command in; resolves once it is durable, or refused. Rejects only for a fault, which undid it. */
  submit(submission: Submission): Promise<Answer> {
    if (this.#isClosed) return Promise.resolve(GONE);
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    if (!this.#queue.push({ submission, resolve, reject }, submission.command)) {
      return Promise.resolve(FULL);
    }
    this.#crowd.arrived(this.#queue.length);
    if (!this.#isLeading) void this.#lead();
    return promise;
  }

  /** What a command would be refused for now; null when it would be accepted, or repeats an accepted one. Writes nothing. */
  refusalOf({ command, commandId }: Submission): Refusal | null {
    if (this.isRepeat(commandId)) return null;
    if (command.op === "batch") throw new Error("a batch is decided while it is done");
    const decision = decide(command, this.#state, this.#context(), commandId);
    return decision.ok ? null : decision.refusal;
  }

  /** Whether a command of that id was taken in before. */
  isRepeat(commandId: string | undefined): boolean {
    return commandId !== undefined && this.#state.isCommandUsed(commandId);
  }

  /**
   * Lets a claim wait until there is something for it: its answer comes by its own way. One that was done before is answered.
   * @returns why it cannot wait, or null.
   */
  park(claim: ParkedClaim): Refusal | null {
    if (this.#isClosed) return runNotFound;
    if (this.isRepeat(claim.submission.commandId)) {
      this.submit(claim.submission).then(
        (answer) => claim.answer(packAnswer(answer)),
        () => claim.fail(),
      );
      return null;
    }
    const refusal = this.#claims.park(claim);
    if (refusal === null && !this.#isLeading) void this.#lead();
    return refusal;
  }

  /** Takes back a claim that was parked before the object slept: nothing has become ready meanwhile. */
  parkAgain(claim: ParkedClaim): void {
    this.#claims.parkAgain(claim);
  }

  /** Ends a claim's wait; false when it has ended, and the answer is on its way. */
  unpark(claim: ParkedClaim): boolean {
    return this.#claims.unpark(claim);
  }

  /** Whether the run takes nothing more until there is room. */
  isFull(): boolean {
    return this.#storedBytes > MAX_RUN_BYTES;
  }

  /** When something becomes ready by itself that a parked claim may wait for, epoch ms, or earlier; null when nothing does. */
  parkedDueAtMs(): number | null {
    return this.#claims.dueAtMs();
  }

  /** The run is about to go: what is flushed is answered, nothing more is taken. */
  close(): void {
    this.#isClosed = true;
    this.#claims.clear();
    this.#heartbeats.close();
    for (const { resolve } of this.#queue.take(this.#queue.length)) resolve(GONE);
  }

  async #lead(): Promise<void> {
    this.#isLeading = true;
    while (this.#queue.length > 0 || this.#claims.isDue) {
      if (this.#queue.length > 0) await this.#crowd.gather(() => this.#queue.length);
      if (this.#isClosed) break;
      this.#claims.begin();
      const group = this.#queue.take(MAX_GROUP);
      this.#measure();
      const room = Math.max(MIN_SERVED, MAX_GROUP - group.length);
      const round: Round = { settle: [], held: 0, room, served: [], done: 0 };
      const before = this.#state.head().run;
      try {
        this.#commitGroup(group, round);
      } catch (error) {
        for (const waiting of group) waiting.reject(error);
        this.#claims.undo(round, error);
        continue;
      }
      const isIdle = round.settle.length === 0 && this.#state.head().run === before;
      if (isIdle) continue;
      try {
        this.#listener.committed(before, this.#state.head().run);
        await this.#storage.sync();
        if (group.length > 0) this.#crowd.met(group.length + this.#queue.length);
        for (const answer of round.settle) answer();
        if (!this.#isClosed) this.#listener.flushed(before);
      } catch (error) {
        for (const waiting of group) waiting.reject(error);
        this.#listener.failed(error);
      }
    }
    this.#isLeading = false;
  }

  /** Looks at the size of storage now and then; each time while it is too large, because sealing makes room. */
  #measure(): void {
    const seq = this.#state.head().run.last_event_seq;
    if (this.#storedBytes <= MAX_RUN_BYTES && seq - this.#measuredSeq < COMMITS_UNMEASURED) return;
    this.#measuredSeq = seq;
    this.#storedBytes = this.#storage.sql.databaseSize;
  }

  #commitGroup(group: Waiting[], round: Round): void {
    const savepoint = this.#state.savepoint();
    try {
      this.#sql.transaction(() => {
        for (const [index, { submission, resolve, reject }] of group.entries()) {
          const isServed = this.#claims.serveBefore(submission.command, round);
          if (!isServed || round.done >= MAX_GROUP || round.held > MAX_ECHO_LENGTH) {
            // The rest form the next group: long answers, with a board or many tasks, are held until the flush.
            this.#queue.putBack(group.splice(index));
            break;
          }
          if (this.#isSealed(submission)) {
            void this.#recallSealed(submission).then(resolve, reject);
            continue;
          }
          const { answer, fault } = this.#attempt(submission);
          round.done += costOf(submission.command, answer);
          round.held += answer === undefined ? 0 : lengthOf(answer);
          round.settle.push(() => (answer === undefined ? reject(fault) : resolve(answer)));
          this.#claims.serveTwins(submission, round);
        }
        this.#settleWhatFollows();
        this.#claims.serve(round);
        if (this.#state.isSaveDue()) this.#state.save();
      });
    } catch (error) {
      this.#state.restore(savepoint);
      throw error;
    }
  }

  /** What comes of a submission in a nested transaction of its own: an answer, or the fault that undid it. */
  #attempt(submission: Submission): Attempt {
    try {
      return { answer: this.#inTransaction(() => this.#execute(submission)) };
    } catch (error) {
      if (!(error instanceof CommitTooLarge)) return { fault: error };
      const refusal = commitTooLarge(error.bytes);
      return { answer: { ok: false, refusal, rows: { read: 0, written: 0 } } };
    }
  }

  #inTransaction<T>(body: () => T): T {
    const savepoint = this.#state.savepoint();
    try {
      return this.#sql.transaction(body);
    } catch (error) {
      this.#state.restore(savepoint);
      throw error;
    }
  }

  #execute(submission: Submission): Answer {
    const before = this.#sql.counts();
    const rows = (): RowCounts => {
      const after = this.#sql.counts();
      return { read: after.read - before.read, written: after.written - before.written };
    };
    const answer = this.#repeated(submission) ?? this.#decideAndAppend(submission);
    if (!answer.ok) return { ...answer, rows: rows() };
    const { echo } = submission;
    return {
      ...answer,
      ...(echo !== undefined && { echo: this.#state.texts.echo(echo) }),
      rows: rows(),
    };
  }

  #isSealed({ commandId }: Submission): boolean {
    return commandId !== undefined && this.#state.segments.seqOfCommand(commandId) !== null;
  }

  /** Answers the repeat of a command whose commits lie in R2. It changes nothing, so that it needs no place in the queue. */
  async #recallSealed(submission: Submission): Promise<Answer> {
    const { commandId = "", echo } = submission;
    const rows = { read: 0, written: 0 };
    try {
      const known = await this.#log.sealedCommand(commandId);
      const answer = this.#repeatOf(submission, known);
      return { ...answer, ...(echo !== undefined && { echo: this.#state.texts.echo(echo) }), rows };
    } catch (error) {
      if (error instanceof LogDamaged) return { ok: false, refusal: error.refusal, rows };
      throw error;
    }
  }

  /** The answer to a command whose id was used before, from the log; null when it is new. */
  #repeated(submission: Submission): Repeat | null {
    const { commandId } = submission;
    if (commandId === undefined) return null;
    const known = this.#state.commits.byCommand(commandId);
    // Checkpoints are no commits, but share the run's one namespace of command ids (contract 04 §5).
    if (known === null && this.#state.checkpoints.byCommand(commandId) === null) return null;
    return this.#repeatOf(submission, known);
  }

  /** @param known what the log has of the command; null when its id is that of something else. */
  #repeatOf({ command, fingerprint }: Submission, known: ReturnType<CommitTable["byCommand"]>): Repeat {
    const currentTask = () => (command.op === "transition_task" ? this.#state.task(command.task_id) : null);
    if (known === null)
      return { ok: true, outcome: null, repeat: { same: false, afterMs: null, currentTask: currentTask() } };
    const { receipt, commits } = known;
    const [first] = commits;
    const sameKind = receipt.op === command.op;
    return {
      ok: true,
      outcome: sameKind ? recall(command, commits, receipt, this.#tokens) : null,
      repeat: {
        same: sameKind && receipt.fingerprint === (fingerprint ?? null),
        afterMs: first === undefined ? null : Math.max(0, this.#clock() - first.event.ts_ms),
        currentTask: currentTask(),
      },
    };
  }

  #decideAndAppend(submission: Submission): Unpriced {
    if (this.#storedBytes > MAX_RUN_BYTES) {
      return { ok: false, refusal: limitExceeded("run_bytes", MAX_RUN_BYTES, this.#storedBytes) };
    }
    const { command, commandId } = submission;
    const context = this.#context();
    if (command.op === "batch") return this.#decideBatch(command, submission, context);
    this.#settleBefore(command, context);
    const decision = decide(command, this.#state, context, commandId);
    if (!decision.ok) return decision;
    const held = commandId === undefined ? this.#heartbeats.hold(command, decision, context.nowMs) : null;
    if (held !== null) return { ok: true, outcome: held, repeat: null };
    this.#append(decision, submission);
    return { ok: true, outcome: decision.outcome, repeat: null };
  }

  /**
   * What the engine does by itself before a command, so that nothing depends on when the alarm fires: no command finds a task whose
   * time is up, and no claim a lease that has run out. A claim that will be refused must change nothing (I13).
   */
  #settleBefore(command: Command, context: Context): void {
    if (command.op === "settle_due") {
      this.#recordReported(context);
    } else if (command.op !== "claim_task") {
      this.#settle(context, 1, namedBy(command));
    } else if (command.agent_id.trim() !== "") {
      this.#makeReady(context);
    }
  }

  /** Takes in all that time has brought for claims. */
  #makeReady(context: Context): void {
    this.#settle(context, MAX_SETTLE_STEPS);
    this.#append(decide({ op: "requeue_stale" }, this.#state, context));
    this.#settle(context, MAX_SETTLE_STEPS);
  }

  #settle(context: Context, steps: number, task_ids: string[] = []): void {
    for (let step = 0; step < steps && this.#state.isSettleDue(context.nowMs); step += 1) {
      this.#recordReported(context);
      this.#append(decide({ op: "settle_due", task_ids }, this.#state, context));
    }
  }

  /** Clocks are noted by what is recorded: who has reported since then must not be found due again and again. */
  #recordReported(context: Context): void {
    const due = () => this.#state.tasks.due(context.nowMs, MAX_SETTLED_AT_ONCE);
    const reports = this.#state.heartbeats.of(due);
    if (reports.length === 0) return;
    this.#append(decide({ op: "record_heartbeats", reports }, this.#state, context));
  }

  /** What the group's commands led to is made durable with them: a task that failed, and what was waiting for it. */
  #settleWhatFollows(): void {
    const context = this.#context();
    if (!this.#state.isSettleDue(context.nowMs) || this.#storedBytes > MAX_RUN_BYTES) return;
    try {
      this.#inTransaction(() => this.#settle(context, 1));
    } catch (error) {
      // The commands are as good without it, and the alarm comes to it again.
      console.error(JSON.stringify({ event: "settle_failed", error: String(error) }));
    }
  }

  /** Does a batch in a transaction of its own, which a refusal, or the end of a dry run, undoes. */
  #decideBatch(batch: Batch, submission: Submission, context: Context): Unpriced {
    const refusal = batchRefusal(batch, this.#state.head().run.revision);
    if (refusal !== null) return { ok: false, refusal };
    try {
      return this.#inTransaction(() => {
        // What nobody holds in the end has no token to show.
        const shared = { ...context, lockComparisons: lockComparisons() };
        const its = batch.dry_run ? { ...shared, leaseToken: () => "" } : shared;
        for (const command of batch.commands) this.#settleBefore(command, its);
        // The batch's id lies with its first commit alone: the receipt tells of the others.
        const done = doBatch(this.#state, batch, submission, (command) =>
          this.#decideInBatch(command, submission, its),
        );
        if (!done.ok || batch.dry_run) throw new Undone(done);
        return done;
      });
    } catch (error) {
      if (error instanceof Undone) return error.answer;
      throw error;
    }
  }

  /** One command of a batch. Its heartbeats come no less often than others, but for those that a repeat asks for. */
  #decideInBatch(command: Command, { commandId }: Submission, context: Context): Decision {
    const decision = decide(command, this.#state, context);
    const held = commandId === undefined ? this.#heartbeats.hold(command, decision, context.nowMs) : null;
    return held === null ? decision : { ok: true, commits: [], outcome: held };
  }

  #append(decision: Decision, origin?: Submission): void {
    if (!decision.ok) return;
    const { commits, outcome } = decision;
    if (outcome.op === "settle_due") this.#state.postpone(outcome.early, this.#nowMs);
    if (origin?.commandId === undefined) {
      this.#state.append(commits, null, null);
      return;
    }
    this.#state.append(commits, origin.commandId, {
      op: origin.command.op,
      fingerprint: origin.fingerprint ?? null,
      commits: commits.length,
      ...factsOf(outcome),
    });
  }

  #context(): Context {
    const tokens = this.#tokens;
    // Time in a run never goes back (contract 07 D107), not even between commands that commit nothing.
    this.#nowMs = Math.max(this.#nowMs, this.#state.head().run.updated_at_ms, this.#clock());
    return {
      nowMs: this.#nowMs,
      newId: () => crypto.randomUUID(),
      random: () => Math.random(),
      leaseToken: (eventId) => tokens.leaseToken(eventId),
      maskToken: (token) => tokens.maskToken(token),
    };
  }
}

/** Thrown to undo a transaction whose answer stands. */
class Undone extends Error {
  readonly answer: Unpriced;

  constructor(answer: Unpriced) {
    super("undone");
    this.answer = answer;
  }
}

/** The tasks that a command is about, or that it proves a lease of: it must find them as they are by now. */
function namedBy(command: Command): string[] {
  const named = [
    "task_id" in command ? command.task_id : undefined,
    "proof" in command ? command.proof?.task_id : undefined,
  ];
  return [...new Set(named.filter((id) => id !== undefined))];
}

/** How much of a transaction's room a command takes. */
function costOf(command: AnyCommand, answer: Answer | undefined): number {
  const asked = command.op === "batch" ? command.commands.length : 1;
  if (!answer?.ok) return asked;
  const { outcome } = answer;
  const given = outcome?.op === "batch" ? outcome.outcomes.flatMap(claimsOf) : claimsOf(outcome);
  return Math.max(asked, given.length);
}

/** What an answer that may be long holds in memory until the flush, in UTF-16 units. */
function lengthOf(answer: Answer): number {
  if (!answer.ok) return 0;
  const { echo, outcome } = answer;
  const isLong = outcome?.op === "batch" || (outcome?.op === "claim_task" && outcome.claims !== undefined);
  return (echo?.length ?? 0) + (isLong ? JSON.stringify(outcome).length : 0);
}

type Repeat = Omit<Extract<Answer, { ok: true }>, "echo" | "rows">;
type Unpriced = { ok: false; refusal: Refusal } | Repeat;
