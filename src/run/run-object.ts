import { DurableObject } from "cloudflare:workers";
import { artifactStore } from "../artifacts/store.ts";
import { isListedAnew } from "../directory/runs.ts";
import { type AuditMembers, auditMembers } from "../domain/audit.ts";
import { heldLocks } from "../domain/locks.ts";
import { commandIdConflict, type Refusal } from "../domain/refusals.ts";
import type { PlannedStep } from "../domain/rollback-plan.ts";
import { newRun, type RunDraft } from "../domain/run.ts";
import { earliestWakeup } from "../domain/wakeups.ts";
import type { Env } from "../env.ts";
import { segmentPrefix, tenantKey } from "../identity/tenant.ts";
import type { CheckpointHead } from "../protocol/checkpoint.ts";
import type { FileVersion } from "../protocol/file-version.ts";
import type { Lock } from "../protocol/lock.ts";
import type { RunHeader, Tenant } from "../protocol/run.ts";
import { AlarmClock } from "./alarm-clock.ts";
import { type ArrivalRequest, type Arrived, arrive, arrivedBefore } from "./arrival.ts";
import { type AuditPage, type AuditQuery, readAuditView } from "./audit-views.ts";
import { CheckpointKeeper, type CheckpointRequest, type WholeCheckpoint } from "./checkpoint-keeper.ts";
import { CLAIM_PATH } from "./claim-line.ts";
import { Claimers } from "./claimers.ts";
import { Engine, type Submission } from "./engine.ts";
import { evidencePackage } from "./evidence.ts";
import {
  type ArchivedExport,
  EXTRAS_PAGE,
  type ExportStart,
  type ExtrasQuery,
  exportStart,
  refusalToArchive,
} from "./export-start.ts";
import {
  type FilesPage,
  type FilesQuery,
  readFiles,
  readVersions,
  type VersionsPage,
  type VersionsQuery,
} from "./file-reads.ts";
import { Followers } from "./followers.ts";
import {
  type BaseQuery,
  type CheckpointPage,
  readBase,
  readCheckpoints,
  type StateBase,
} from "./history-reads.ts";
import { newLeaseKey } from "./lease-tokens.ts";
import { LogDamaged, LogReader } from "./log-reader.ts";
import { nudgeAll, type Subscriptions } from "./nudges.ts";
import { Outbox } from "./outbox.ts";
import { type PackedAnswer, packAnswer } from "./packed-answer.ts";
import { type Feeds, Publisher } from "./publisher.ts";
import {
  type CommitsPage,
  type CommitsQuery,
  type LogPage,
  type LogQuery,
  overview,
  type RecordsPage,
  type RecordsQuery,
  type RunOverview,
  readLog,
  readRecords,
  readStretch,
  readTask,
  readTasks,
  type StretchQuery,
  stretchOf,
  type TaskPage,
  type TasksQuery,
  type TaskView,
} from "./reads.ts";
import { type ReplayQuery, replayReport } from "./replay-report.ts";
import { readRollbackPlan } from "./rollback-plan-read.ts";
import { RunState } from "./run-state.ts";
import { type SealBounds, Sealer } from "./sealer.ts";
import type { CheckpointCommand } from "./storage/checkpoints.ts";
import { migrate, storedVersion } from "./storage/migrate.ts";
import type { CreatedCommand } from "./storage/run-row.ts";
import { MIGRATIONS } from "./storage/schema.ts";
import type { Segment } from "./storage/segments.ts";
import { type RowCounts, Sql } from "./storage/sql.ts";
import { NO_TASKS } from "./storage/tasks.ts";
import { packStretches } from "./stretch.ts";
import { type Text, toText } from "./text.ts";
import {
  absence,
  bury,
  type ErasureRequest,
  finishWiping,
  occupation,
  type Presence,
  presenceOf,
  readTombstone,
  refusalToErase,
  type Tombstone,
  wipe,
} from "./tombstone.ts";
import type { Vouchers } from "./verify-log.ts";
import { vouchersOf } from "./vouchers.ts";
import { type ReadinessQuery, readByReadiness, readWhy, type Why } from "./why.ts";

/** What an arrival that broke off has left is wiped after this, if nobody comes before. */
const MAX_ARRIVAL_MS = 3_600_000;

/** An alarm that is at work cannot fire: leases, the directory and feeds do not wait longer than this for R2. */
const MAX_HISTORY_WAIT_MS = 1_000;

/** While something is on its way to R2, an alarm stands by for no later than this: it is what goes on after a crash. */
const HISTORY_GUARD_MS = 30_000;

/** A run that is full looks so often whether what is due can be done. */
const FULL_PAUSE_MS = 30_000;

/** A result, or why there is none. Expected refusals are values: an exception would lose its type on the way. */
export type Result<T> = { ok: true; value: T } | { ok: false; refusal: Refusal };

export interface CreateRequest {
  tenant: Tenant;
  draft: RunDraft;
  /** The caller's idempotency key, if it sent one. */
  command: CreatedCommand | null;
}

export interface Created {
  run: RunOverview;
  /** Whether an earlier call with the same command made it. */
  repeated: boolean;
  rows: RowCounts;
}

/** Where a run's log ends, and since after which seq the run has been in its workspace. */
export interface Whereabouts {
  last_event_seq: number;
  workspace_since_seq: number;
}

/** A run with all its tasks, as JSON text. */
export interface WholeRun {
  updated_at_ms: number;
  text: Text;
}

/** A run that was created, with the parts that serve it. */
interface Loaded {
  state: RunState;
  log: LogReader;
  sealer: Sealer;
  engine: Engine;
  outbox: Outbox;
  publisher: Publisher;
  checkpoints: CheckpointKeeper;
}

/**
 * The object of one run: the only writer of that run. A thin shell: every method answers from the parts below it.
 * Methods are reachable over RPC, so everything that is not meant to be is `#private`.
 */
export class RunObject extends DurableObject<Env> {
  readonly #sql: Sql;
  readonly #alarm: AlarmClock;
  readonly #followers: Followers;
  readonly #claimers: Claimers;
  /** Null until the run is created: an object that was only asked about stores nothing. */
  #loaded: Loaded | null = null;
  /** What is left where the run is gone from here. */
  #tombstone: Tombstone | null = null;
  /** The arrival that is going on; a later one, or a create, takes its place. */
  #arrival: symbol | null = null;
  /** How many alarms have begun to move history to R2 and are not done. */
  #keeping = 0;
  /** Settles with the last arrival of those that wait for each other. */
  #arrivedInTurn: Promise<unknown> = Promise.resolve();

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#sql = new Sql(ctx.storage);
    this.#alarm = new AlarmClock(ctx.storage);
    this.#followers = new Followers(ctx);
    this.#claimers = new Claimers(ctx);
    if (storedVersion(this.#sql) === 0) return;
    const awake = ctx.blockConcurrencyWhile(async () => {
      migrate(this.#sql, MIGRATIONS);
      this.#tombstone = readTombstone(this.#sql);
      if (this.#tombstone !== null) return finishWiping(this.#sql, this.#tombstone);
      const state = RunState.open(this.#sql);
      if (state === null) return;
      this.#claimers.restore(this.#load(state).engine);
      await this.#alarm.load();
      this.#arm();
    });
    // A failure breaks the object, and every call then rejects with it.
    awake.catch(() => undefined);
  }

  /**
   * Opens a WebSocket. Of `/claim`: for a claim that waits (claim-line.ts). Of any other path it follows the run: first an empty
   * stretch that tells where the run is, then each stretch of the log as it becomes durable (stretch.ts); nothing is read from
   * that one. 404 when there is no run.
   */
  override async fetch(request: Request): Promise<Response> {
    if (this.#loaded === null) return new Response(null, { status: 404 });
    if (new URL(request.url).pathname === CLAIM_PATH) return this.#claimers.accept();
    const { state } = this.#loaded;
    const { socket, response } = this.#followers.accept();
    const { last_event_seq: lastSeq } = state.head().run;
    socket.send(packStretches([stretchOf(state, lastSeq, [])]));
    return response;
  }

  /** A claimer says something; of others nothing is read. */
  override async webSocketMessage(socket: WebSocket, message: string | ArrayBuffer): Promise<void> {
    if (typeof message !== "string" || !this.#claimers.isClaimer(socket)) return;
    if (this.#loaded === null) return socket.close(1001, "gone");
    await this.#claimers.heard(socket, message, this.#loaded.engine);
    this.#arm();
  }

  /** Creates the run, once (contract 02 §2.1, 07 D46), and waits until the directory lists it. */
  async create(request: CreateRequest): Promise<Result<Created>> {
    if (this.#loaded !== null) return this.#createdBefore(this.#loaded, request);
    const occupied = occupation(this.#tombstone, request.draft.run_id);
    if (occupied !== null) return { ok: false, refusal: occupied };
    this.#clear(null);
    const before = this.#sql.counts();
    const run = newRun(request.draft, request.tenant, Date.now());
    const state = this.#sql.transaction(() => {
      migrate(this.#sql, MIGRATIONS);
      return RunState.create(this.#sql, run, newLeaseKey(), request.command);
    });
    const after = this.#sql.counts();
    const loaded = this.#load(state);
    const created = overview(state);
    this.#arm();
    await this.ctx.storage.sync().catch((error: unknown) => this.ctx.abort(String(error)));
    await loaded.outbox.flush(Date.now());
    return {
      ok: true,
      value: {
        run: created,
        repeated: false,
        rows: { read: after.read - before.read, written: after.written - before.written },
      },
    };
  }

  /** Brings a run here from elsewhere (arrival.ts), and waits until the directory lists it. */
  async arrive(lines: ReadableStream<Uint8Array>, request: ArrivalRequest): Promise<Result<Arrived>> {
    if (!request.inTurn) return this.#arrive(lines, request);
    const arrived = this.#arrivedInTurn.then(() => this.#arrive(lines, request));
    this.#arrivedInTurn = arrived.catch(() => undefined);
    return arrived;
  }

  async #arrive(lines: ReadableStream<Uint8Array>, request: ArrivalRequest): Promise<Result<Arrived>> {
    if (this.#loaded !== null) return arrivedBefore(this.#loaded.state, lines, request);
    const tombstone = this.#tombstone;
    const occupied = occupation(tombstone, request.run_id);
    const isRestored = request.restores && tombstone?.kind === "archived";
    if (occupied !== null && !isRestored) {
      await lines.cancel();
      return { ok: false, refusal: occupied };
    }
    const attempt = Symbol("arrival");
    this.#clear(attempt);
    migrate(this.#sql, MIGRATIONS);
    this.#alarm.armFor(Date.now() + MAX_ARRIVAL_MS);
    const brought = Promise.withResolvers<{ outbox: Outbox; run: RunOverview }>();
    const place = {
      sql: this.#sql,
      storage: this.ctx.storage,
      contents: artifactStore(this.env, tenantKey(request.tenant)),
      bucket: this.env.ARTIFACTS ?? null,
      leaseKey: (isRestored ? tombstone.lease_key : undefined) ?? newLeaseKey(),
      isCurrent: () => this.#arrival === attempt,
      settled: async () => {
        this.#arrival = null;
        this.#tombstone = null;
        const { state, outbox } = this.#load(RunState.existing(this.#sql));
        brought.resolve({ outbox, run: overview(state) });
        this.#arm();
        await this.ctx.storage.sync().catch((error: unknown) => this.ctx.abort(String(error)));
      },
    };
    try {
      const arrived = await arrive(place, lines, request);
      if (!arrived.ok) return arrived;
      const { outbox, run } = await brought.promise;
      await outbox.flush(Date.now());
      return { ok: true, value: { run, repeated: false, checks: arrived.checks } };
    } finally {
      if (this.#arrival === attempt) this.#clear(null);
    }
  }

  /** What is here, for those who delete and archive. */
  async presence(): Promise<Presence> {
    if (this.#loaded === null) return presenceOf(this.#tombstone);
    const { state } = this.#loaded;
    const { created_at_ms } = state.row.initial;
    return { kind: "run", created_at_ms, revision: state.head().run.revision };
  }

  /**
   * Deletes what is here for good and leaves a tombstone; twice is as good as once. Another run than the one that was
   * created then, and a run that has moved on from the expected revision, are left alone.
   */
  async erase(meant: ErasureRequest): Promise<Result<null>> {
    const refusal = this.#loaded === null ? null : refusalToErase(this.#loaded.state, meant);
    if (refusal !== null) {
      this.#loaded?.outbox.owe(Date.now());
      this.#arm();
      return { ok: false, refusal };
    }
    await this.#leave({ kind: "deleted", at_ms: Date.now() });
    return { ok: true, value: null };
  }

  /** Leaves a run to its archive, if it is still what was exported; else it stays as it is. */
  async leaveForArchive(
    exported: ArchivedExport,
  ): Promise<Result<{ archived_at_ms: number; revision: number }>> {
    // Lists go on to show the run: as it was last, and not as it was a moment before.
    await this.#loaded?.outbox.flush(Date.now());
    if (this.#loaded === null) return { ok: false, refusal: absence(this.#tombstone) };
    const { state, checkpoints } = this.#loaded;
    const refusal = refusalToArchive(exportStart(state), exported, checkpoints.isBusy());
    if (refusal !== null) return { ok: false, refusal };
    const { archive, revision } = exported;
    const at_ms = Date.now();
    const lease_key = state.row.leaseKey;
    await this.#leave({ kind: "archived", at_ms, revision, archive, lease_key });
    return { ok: true, value: { archived_at_ms: at_ms, revision } };
  }

  /** Runs one command through the engine; `submit` of run-client.ts gives its answer as a value. */
  async submit(submission: Submission): Promise<PackedAnswer> {
    if (this.#loaded === null) {
      return packAnswer({ ok: false, refusal: absence(this.#tombstone), rows: { read: 0, written: 0 } });
    }
    return packAnswer(await this.#loaded.engine.submit(submission));
  }

  /** Whether a command would be accepted now, or is a repeat; nothing is done. Holds for this moment only. */
  async admits(submission: Submission): Promise<Result<{ isRepeat: boolean }>> {
    const engine = this.#loaded?.engine;
    if (engine === undefined) return { ok: false, refusal: absence(this.#tombstone) };
    const refusal = engine.refusalOf(submission);
    if (refusal !== null) return { ok: false, refusal };
    return { ok: true, value: { isRepeat: engine.isRepeat(submission.commandId) } };
  }

  /** What a path of the artifact space holds, or held as that version; null when there is no such. */
  async readFile(path: string, version: number | null): Promise<Result<FileVersion | null>> {
    return this.#read(({ state }) =>
      version === null ? state.file(path) : state.fileVersion(path, version),
    );
  }

  /** What the artifact space holds, by path. */
  async readFiles(query: FilesQuery): Promise<Result<FilesPage>> {
    return this.#read(({ state }) => readFiles(state, query));
  }

  /** Every version of one path. */
  async readVersions(query: VersionsQuery): Promise<Result<VersionsPage>> {
    return this.#read(({ state }) => readVersions(state, query));
  }

  /** Those of these contents that the artifact space has, or had, for the collection of what nobody has. */
  async holdsFiles(sha256: string[]): Promise<Result<string[]>> {
    return this.#read(({ state }) => state.files.held(sha256));
  }

  /** The run in full, as `/context` shows it. */
  async readRun(): Promise<Result<WholeRun>> {
    return this.#read(({ state }) => ({
      updated_at_ms: state.head().run.updated_at_ms,
      text: toText(state.texts.run()),
    }));
  }

  /** The run in full, with what its log comes to for an audit (contract 02 §2.3). */
  async readAuditedRun(): Promise<Result<{ text: Text; audit: AuditMembers }>> {
    return this.#read(({ state }) => ({
      text: toText(state.texts.run()),
      audit: auditMembers(state.head()),
    }));
  }

  /** The run without its tasks, with the same. */
  async readAuditedOverview(): Promise<Result<{ run: RunOverview; audit: AuditMembers }>> {
    return this.#read(({ state }) => ({ run: overview(state), audit: auditMembers(state.head()) }));
  }

  /** One of the audit views (contract 06 §4, §5, §7, §8). */
  async readAuditView(query: AuditQuery): Promise<Result<AuditPage>> {
    return this.#readLog((loaded) => readAuditView(loaded, query));
  }

  /** The evidence package: JSON members without braces. */
  async readEvidence(): Promise<Result<Text>> {
    return this.#readLog((loaded) => evidencePackage(loaded));
  }

  /** Those of the selected steps that a rollback can be made of. */
  async readRollbackPlan(eventIds: string[]): Promise<Result<PlannedStep[]>> {
    const read = await this.#readLog((loaded) => readRollbackPlan(loaded, eventIds));
    return read.ok ? read.value : read;
  }

  /** The run without its tasks, as `/v1` shows it. */
  async readOverview(): Promise<Result<RunOverview>> {
    return this.#read(({ state }) => overview(state));
  }

  /** The blackboard; with or without the tasks. */
  async readBlackboard(withTasks: boolean): Promise<Result<Text>> {
    return this.#read(({ state }) => toText(withTasks ? state.texts.blackboard() : state.texts.notes()));
  }

  async readLog(query: LogQuery): Promise<Result<LogPage>> {
    return this.#readLog(({ state, log }) => readLog(state, log, query));
  }

  /** A piece of the log with its records as text (stretch.ts); the empty one at its end when there is no more. */
  async readStretch(query: StretchQuery): Promise<Result<string>> {
    return this.#readLog(async ({ state, log }) => packStretches([await readStretch(state, log, query)]));
  }

  /** Events or patches for the backlog of a stream. */
  async readRecords(query: RecordsQuery): Promise<Result<RecordsPage>> {
    return this.#readLog(({ state, log }) => readRecords(state, log, query));
  }

  /** Commits as they are stored, for whoever follows the log outside of the object. */
  async readCommits({ afterSeq, uptoSeq, maxLength, unchecked }: CommitsQuery): Promise<Result<CommitsPage>> {
    return this.#readLog(async ({ state, log }) => ({
      rows: await log.page(afterSeq, uptoSeq, { maxLength }, unchecked),
      lastSeq: state.head().run.last_event_seq,
    }));
  }

  /** What an export says of this very moment. */
  async startExport(): Promise<Result<ExportStart>> {
    return this.#read(({ state }) => exportStart(state));
  }

  /** What an export tells of checkpoints, as lines; page by page. */
  async readExtras({ list, after }: ExtrasQuery): Promise<Result<{ key: string | number; line: string }[]>> {
    return this.#read(({ state }) => state.checkpoints.extras(list, after, EXTRAS_PAGE));
  }

  /** A part of the state that the run began with, as text (domain/state-lines.ts); parts may end anywhere. */
  async readGenesis(part: number): Promise<Result<string>> {
    return this.#read(({ state }) => state.genesis.part(part));
  }

  /** For `verifyLog`. */
  async readVouchers(query: { afterSeq: number; uptoSeq: number }): Promise<Result<Vouchers>> {
    return this.#read(({ state }) => vouchersOf(state, query));
  }

  /** For a feed that is followed again: whatever is committed from now on is pushed. Returns where the run is. */
  async resumeFeeds(): Promise<Result<Whereabouts>> {
    return this.#read(({ state, publisher }) => {
      publisher.resume();
      const { run, workspace_since_seq } = state.head();
      return { last_event_seq: run.last_event_seq, workspace_since_seq };
    });
  }

  async readTasks(query: TasksQuery): Promise<Result<TaskPage>> {
    return this.#read(({ state }) => readTasks(state, query));
  }

  /** One task; null when the run has none of that id. */
  async readTask(id: string): Promise<Result<TaskView | null>> {
    return this.#read(({ state }) => readTask(state, id, Date.now()));
  }

  /** The locks that are out. */
  async readLocks(): Promise<Result<Lock[]>> {
    return this.#read(({ state }) => [...heldLocks(state.head().locks, Date.now())]);
  }

  /** What a task waits for; null when the run has none of that id. */
  async readWhy(id: string): Promise<Result<Why | null>> {
    return this.#read(({ state }) => readWhy(state, id, Date.now()));
  }

  /** Tasks that a claim can take now, or that none can, each with what it waits for. */
  async readByReadiness(query: ReadinessQuery): Promise<Result<TaskPage>> {
    return this.#read(({ state }) => readByReadiness(state, query, Date.now()));
  }

  /** Stores a checkpoint of this very moment. Not a commit: no event, no counters (contract 06 §1). */
  async createCheckpoint(
    asked: CheckpointRequest,
    command: CheckpointCommand | null,
  ): Promise<Result<{ head: CheckpointHead; repeated: boolean }>> {
    if (this.#loaded === null) return { ok: false, refusal: absence(this.#tombstone) };
    return this.#loaded.checkpoints.create(asked, command);
  }

  /** The head of a checkpoint by id, name or seq, or of the "latest"; null when there is none. */
  async readCheckpointHead(selector: string): Promise<Result<CheckpointHead | null>> {
    return this.#read(({ checkpoints }) => checkpoints.find(selector)?.head ?? null);
  }

  /** The same with its content. */
  async readCheckpoint(selector: string): Promise<Result<WholeCheckpoint | null>> {
    return this.#read(({ checkpoints }) => {
      const found = checkpoints.find(selector);
      return found === null ? null : checkpoints.whole(found);
    });
  }

  /** Heads of checkpoints before a seq, newest first, and where to go on. */
  async readCheckpoints(beforeSeq: number, limit: number): Promise<Result<CheckpointPage>> {
    return this.#read(({ state }) => readCheckpoints(state, beforeSeq, limit));
  }

  /** Where to start from for the state at a seq. */
  async readBase(query: BaseQuery): Promise<Result<StateBase>> {
    return this.#read(({ state, checkpoints }) => readBase(state, checkpoints, query));
  }

  /** Recomputes the run from its log (contract 06 §3); the report's members as JSON text without braces. */
  async replay(query: ReplayQuery): Promise<Result<Text>> {
    const bucket = this.env.ARTIFACTS ?? null;
    return this.#readLog(async (loaded) => toText(await replayReport({ ...loaded, bucket }, query)));
  }

  /**
   * Requeues stale leases, does what clocks have come to, and brings the directory up to date, for the cron net. Doing it twice changes nothing.
   * @returns how many tasks were requeued; null when there is no run.
   */
  async sweep(): Promise<number | null> {
    const loaded = this.#loaded;
    if (loaded === null) return null;
    await this.#settleDue(loaded);
    const requeued = await this.#requeueStale(loaded);
    loaded.outbox.owe(Date.now());
    await loaded.outbox.flush(Date.now());
    this.#arm();
    return requeued;
  }

  /** May fire early, late or twice: derives anew what is due, and does that. */
  override async alarm(): Promise<void> {
    this.#alarm.fired();
    const loaded = this.#loaded;
    // What an arrival that broke off has left.
    if (loaded === null && this.#arrival === null) this.#clear(null);
    if (loaded === null) return;
    const { state, engine, outbox, publisher } = loaded;
    publisher.pushDue(Date.now());
    await this.#settleDue(loaded);
    const dues = [state.leaseDueAtMs(), state.lockDueAtMs(), engine.parkedDueAtMs()];
    if (dues.some((atMs) => atMs !== null && atMs <= Date.now())) await this.#requeueStale(loaded);
    if (outbox.isDue(Date.now())) await outbox.flush(Date.now());
    await this.#keepHistory(loaded);
    this.#arm();
  }

  /** Moves the oldest commits to R2 if there are more than these bounds keep; null when there was nothing to move. */
  async seal(bounds: SealBounds): Promise<Segment | null> {
    return this.#loaded === null ? null : this.#loaded.sealer.seal(bounds);
  }

  /** For the alarm: what goes to R2 if that is due. Where R2 is slow it goes on behind the alarm, and arms that when it is done. */
  async #keepHistory({ checkpoints, sealer }: Loaded): Promise<void> {
    const keep = async (): Promise<void> => {
      this.#keeping += 1;
      try {
        await checkpoints.createDue(Date.now());
        await sealer.sealDue(Date.now());
      } finally {
        this.#keeping -= 1;
      }
      this.#arm();
    };
    const patience = new AbortController();
    const isOver = scheduler.wait(MAX_HISTORY_WAIT_MS, { signal: patience.signal }).catch(() => undefined);
    await Promise.race([keep(), isOver]);
    patience.abort();
  }

  /** Step by step, so that what waits has its turn between. */
  async #settleDue({ engine, state }: Loaded): Promise<void> {
    while (state.isSettleDue(Date.now())) {
      const answer = await engine.submit({ command: { op: "settle_due" } });
      const hasDoneNothing = answer.ok && answer.outcome?.op === "settle_due" && answer.outcome.settled === 0;
      if (!answer.ok || hasDoneNothing) return;
    }
  }

  async #requeueStale({ engine }: Loaded): Promise<number> {
    const answer = await engine.submit({ command: { op: "requeue_stale" } });
    return answer.ok && answer.outcome?.op === "requeue_stale" ? answer.outcome.requeued : 0;
  }

  #read<T>(read: (loaded: Loaded) => T): Result<T> {
    return this.#loaded === null
      ? { ok: false, refusal: absence(this.#tombstone) }
      : { ok: true, value: read(this.#loaded) };
  }

  /** Ends an arrival that is going on, and wipes what it, or one that broke off, has left. */
  #clear(next: symbol | null): void {
    this.#arrival = next;
    if (this.#loaded === null && storedVersion(this.#sql) > 0) wipe(this.#sql, this.#tombstone);
  }

  async #readLog<T>(read: (loaded: Loaded) => Promise<T>): Promise<Result<T>> {
    if (this.#loaded === null) return { ok: false, refusal: absence(this.#tombstone) };
    try {
      return { ok: true, value: await read(this.#loaded) };
    } catch (error) {
      if (error instanceof LogDamaged) return { ok: false, refusal: error.refusal };
      throw error;
    }
  }

  /** The run goes: nothing more is taken or told, what is on its way out is awaited, and storage is wiped. */
  async #leave(tombstone: Tombstone): Promise<void> {
    const loaded = this.#loaded;
    this.#loaded = null;
    this.#arrival = null;
    this.#tombstone = tombstone;
    migrate(this.#sql, MIGRATIONS);
    bury(this.#sql, tombstone);
    loaded?.engine.close();
    loaded?.publisher.close();
    this.#claimers.dismiss();
    await loaded?.outbox.close();
    await loaded?.checkpoints.settled();
    await loaded?.sealer.close();
    await this.ctx.blockConcurrencyWhile(async () => {
      // An archived run's tombstone must outlive any crash: it says where the run is.
      if (tombstone.kind === "deleted") await this.ctx.storage.deleteAll();
      wipe(this.#sql, tombstone);
      await this.ctx.storage.deleteAlarm();
      await this.ctx.storage.sync();
    });
    this.#alarm.fired();
  }

  #createdBefore({ state }: Loaded, { command, draft }: CreateRequest): Result<Created> {
    const made = state.row.createdCommand;
    const isSameId = command !== null && made?.command_id === command.command_id;
    if (isSameId && made.fingerprint === command.fingerprint) {
      const run = {
        ...state.row.initial,
        task_counts: { ...NO_TASKS },
        blackboard_revision: 0,
        log_hash: state.initialHash(),
      };
      return { ok: true, value: { run, repeated: true, rows: { read: 0, written: 0 } } };
    }
    if (isSameId) return { ok: false, refusal: commandIdConflict };
    const refusal: Refusal = {
      code: "CONTEXT_RUN_EXISTS",
      error: "run already exists",
      run_id: draft.run_id,
    };
    return { ok: false, refusal };
  }

  #load(state: RunState): Loaded {
    const publisher = new Publisher(
      this.#followers,
      this.env.FEEDS as unknown as Feeds,
      state,
      Date.now(),
      () => this.#arm(),
    );
    const tenant = tenantKey(state.row.initial.tenant_context);
    const outbox = new Outbox(
      this.env.DIRECTORY,
      tenant,
      state,
      Date.now(),
      () => publisher.settledSeq(),
      (subscriptionIds, seq) => {
        const subscriptions = this.env.SUBSCRIPTIONS as unknown as Subscriptions;
        nudgeAll(subscriptions, tenant, subscriptionIds, { run_id: state.row.initial.run_id, seq });
      },
    );
    const listener = {
      committed: (before: RunHeader, after: RunHeader) => {
        if (after.last_event_seq === before.last_event_seq) return;
        outbox.committed(state.newsSeq() > before.last_event_seq, Date.now());
        publisher.committed(Date.now());
        this.#arm();
        if (isListedAnew(before, after)) this.ctx.waitUntil(outbox.flush(Date.now()));
      },
      flushed: (before: RunHeader) => {
        if (state.head().run.last_event_seq === before.last_event_seq) return;
        publisher.published(before.last_event_seq, Date.now());
      },
      failed: (error: unknown) => this.ctx.abort(String(error)),
    };
    // Deployments need not have a bucket.
    const bucket: R2Bucket | null = this.env.ARTIFACTS ?? null;
    const log = new LogReader(state.commits, state.segments, bucket);
    const prefix = segmentPrefix(tenant, state.row.initial.run_id);
    const sealer = new Sealer(this.ctx.storage, state, bucket, prefix);
    const engine = new Engine(this.ctx.storage, this.#sql, state, log, listener, () => Date.now());
    const checkpoints = new CheckpointKeeper(this.#sql, this.ctx.storage, state, bucket);
    this.#loaded = { state, log, sealer, engine, outbox, publisher, checkpoints };
    return this.#loaded;
  }

  #arm(): void {
    if (this.#loaded === null) return;
    const { state, engine, outbox, publisher, checkpoints, sealer } = this.#loaded;
    // What is due in a run that is full cannot be done: the alarm would fire again and again.
    const notBeforeMs = engine.isFull() ? Date.now() + FULL_PAUSE_MS : 0;
    const onceThereIsRoom = (atMs: number | null) => atMs && Math.max(atMs, notBeforeMs);
    this.#alarm.armFor(
      earliestWakeup({
        leaseDueAtMs: onceThereIsRoom(state.leaseDueAtMs()),
        parkedDueAtMs: onceThereIsRoom(engine.parkedDueAtMs()),
        lockDueAtMs: onceThereIsRoom(state.lockDueAtMs()),
        clockDueAtMs: onceThereIsRoom(state.clockDueAtMs()),
        haltDueAtMs: onceThereIsRoom(state.haltDueAtMs()),
        directoryDueAtMs: outbox.dueAtMs(),
        feedsDueAtMs: publisher.dueAtMs(),
        sealDueAtMs: sealer.dueAtMs(Date.now()),
        checkpointDueAtMs: checkpoints.dueAtMs(Date.now()),
        historyDueAtMs: this.#keeping === 0 ? null : Date.now() + HISTORY_GUARD_MS,
      }),
    );
  }
}
