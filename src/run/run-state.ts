import { NO_AUDIT, withEvent } from "../domain/audit.ts";
import type { LetterFilter, TaskFilter } from "../domain/command.ts";
import type { Commit } from "../domain/commit.ts";
import { type Change, evolve } from "../domain/evolve.ts";
import { newHead, type RunHead } from "../domain/head.ts";
import { isStale } from "../domain/lease.ts";
import { concurrencyLimit } from "../domain/run.ts";
import type { View } from "../domain/view.ts";
import type { EventRecord } from "../protocol/event.ts";
import type { FileVersion } from "../protocol/file-version.ts";
import { MAX_PAGE_LENGTH } from "../protocol/limits.ts";
import type { Lock } from "../protocol/lock.ts";
import type { RunHeader, TaskCounts } from "../protocol/run.ts";
import type { Task } from "../protocol/task.ts";
import { commitHash, initialHash, type LogRow } from "./chain.ts";
import { HEARTBEAT, Heartbeats } from "./heartbeats.ts";
import { RunTexts } from "./run-texts.ts";
import { BoardTables } from "./storage/board.ts";
import { CheckpointTable } from "./storage/checkpoints.ts";
import { CommitTable, type CommitTexts, type Receipt, textsOf } from "./storage/commits.ts";
import { EffectTable } from "./storage/effects.ts";
import { FileTables } from "./storage/files.ts";
import { GenesisTable } from "./storage/genesis.ts";
import type { LaneHead } from "./storage/lanes.ts";
import { MoveCallTable } from "./storage/move-calls.ts";
import { type CreatedCommand, NOT_KNOWN, type RunRow, RunRowTable } from "./storage/run-row.ts";
import { SegmentTable } from "./storage/segments.ts";
import type { Sql } from "./storage/sql.ts";
import { isTaskIndexSound } from "./storage/task-index.ts";
import { NO_TASKS, TaskTable } from "./storage/tasks.ts";

/** Commits whose head lives in memory only; past this many it is saved, to bound what a wake must read. */
const MAX_UNSAVED_COMMITS = 1_000;

const ROWS_READ_AT_ONCE = 500;

/** Commits that were applied, and whose rows are still to be stored. */
interface Gathered {
  commits: { commit: Commit; texts: CommitTexts }[];
  commandIds: Set<string>;
  /** Of their texts, in UTF-16 units. */
  length: number;
}

/** The values that a transaction changes in memory, to be put back if it is undone. */
interface Savepoint {
  head: RunHead;
  taskCounts: TaskCounts;
  leaseDueAtMs: number | null;
  savedSeq: number;
  logHash: string | null;
  revokedSeq: number | null;
  heartbeats: ReadonlyMap<string, unknown>;
  changes: number;
}

/**
 * A run in its object: the SQL interpreter of changes, and the view that decisions read.
 *
 * The head (everything but tasks and notes) lives in memory and is saved to its row now and then; a commit writes its
 * own row and the rows of what it changed, nothing else. On waking, the head catches up from the log by `evolve`, which
 * is also how the contract repairs a stale snapshot (contract 03 §8).
 *
 * R1 `append` and what goes with `gather` run inside a transaction; after an undone one the caller restores the savepoint.
 * R2 `leaseDueAtMs`, `clockDueAtMs` and `haltDueAtMs` may be early, never late.
 */
export class RunState implements View {
  readonly commits: CommitTable;
  readonly segments: SegmentTable;
  readonly tasks: TaskTable;
  readonly board: BoardTables;
  readonly checkpoints: CheckpointTable;
  readonly files: FileTables;
  readonly genesis: GenesisTable;
  readonly effects: EffectTable;
  readonly moveCalls: MoveCallTable;
  readonly texts: RunTexts;
  readonly row: RunRow;
  /** Heartbeats that are not recorded yet: decisions read tasks with what they tell, `tasks` has them as they are recorded. */
  readonly heartbeats = new Heartbeats();
  readonly #sql: Sql;
  readonly #rowTable: RunRowTable;
  #head: RunHead;
  #taskCounts: TaskCounts;
  #leaseDueAtMs: number | null;
  #savedSeq: number;
  /** Seq of the last commit that was not a heartbeat. */
  #newsSeq: number;
  /** Changes applied since waking, undone ones included. */
  #applied = 0;
  #directorySeq: number;
  /** Hash of the newest commit; null until it is asked for. */
  #logHash: string | null = null;
  /** Null but between `gather` and `storeGathered`. */
  #gathered: Gathered | null = null;
  /** When the first of these locks runs out, once it was looked for. */
  #lockDue: { locks: readonly Lock[]; atMs: number } | null = null;
  /** Seq of the halt whose leases are all back; null when that is not known of the present one. */
  #revokedSeq: number | null = null;

  private constructor(sql: Sql, row: RunRow) {
    this.#sql = sql;
    this.commits = new CommitTable(sql);
    this.segments = new SegmentTable(sql);
    this.tasks = new TaskTable(sql);
    this.board = new BoardTables(sql);
    this.checkpoints = new CheckpointTable(sql);
    this.files = new FileTables(sql);
    this.genesis = new GenesisTable(sql);
    this.effects = new EffectTable(sql);
    this.moveCalls = new MoveCallTable(sql);
    this.texts = new RunTexts(this);
    this.row = row;
    this.#rowTable = new RunRowTable(sql);
    this.#head = row.head;
    if (row.head.workspace_since_seq === NOT_KNOWN) this.#head = this.#completed(row);
    this.#taskCounts = row.taskCounts;
    this.#savedSeq = row.headSeq;
    this.#newsSeq = row.headSeq;
    this.#directorySeq = row.directorySeq;
    this.#leaseDueAtMs = earliestExpiry(this.tasks.leased());
    if (row.isAudited) this.#catchUp();
    else sql.transaction(() => this.#auditAnew());
    // Asked for once, so that no command has to.
    this.tasks.dueAtMs();
    if (this.#head.halt !== undefined) this.heldUpTo(this.#head.halt.seq, 1);
  }

  /** The run stored here, or null when none was created. */
  static open(sql: Sql): RunState | null {
    const row = new RunRowTable(sql).read();
    return row === null ? null : new RunState(sql, row);
  }

  /** The run stored here. @throws Error when there is none. */
  static existing(sql: Sql): RunState {
    const state = RunState.open(sql);
    if (state === null) throw new Error("there is no run");
    return state;
  }

  /** Stores a new run; the caller has checked that there is none. */
  static create(sql: Sql, run: RunHeader, leaseKey: string, createdCommand: CreatedCommand | null): RunState {
    const row: RunRow = {
      head: newHead(run),
      isAudited: true,
      headSeq: 0,
      logHash: null,
      taskCounts: NO_TASKS,
      initial: run,
      leaseKey,
      createdCommand,
      directorySeq: -1,
    };
    new RunRowTable(sql).insert(row);
    return new RunState(sql, row);
  }

  /** A run that is about to arrive (arrival.ts): nothing of its row is stored until it settles. */
  static arriving(sql: Sql, row: RunRow): RunState {
    return new RunState(sql, row);
  }

  /** Stores commits, the first with the command's receipt, and applies what they mean. */
  append(commits: Commit[], commandId: string | null, receipt: Receipt | null): void {
    for (const [index, commit] of commits.entries()) {
      this.#store(commit, index === 0, commandId, receipt);
      this.#evolve(commit);
    }
  }

  /**
   * From now on commits are taken in one by one with `take`, which applies them, and stored together by `storeGathered`: a receipt
   * lies with the first commit of its command, and tells of all that come after it.
   */
  gather(): void {
    // What is the newest commit's is asked for while that is stored.
    this.logHash();
    this.#gathered = { commits: [], commandIds: new Set(), length: 0 };
  }

  /** @throws CommitTooLarge */
  take(commit: Commit): void {
    const gathered = this.#gathered;
    if (gathered === null) throw new Error("nothing is being gathered");
    const texts = textsOf(commit);
    gathered.commits.push({ commit, texts });
    gathered.length += texts.event.length + (texts.patch?.length ?? 0);
    if (commit.event.command_id !== undefined) gathered.commandIds.add(commit.event.command_id);
    this.#evolve(commit);
  }

  /** Of all that was taken in and is not stored yet, in UTF-16 units. */
  gatheredLength(): number {
    return this.#gathered?.length ?? 0;
  }

  /** Stores what was gathered, the first commit with the command's receipt. */
  storeGathered(commandId: string | null, receipt: Receipt | null): void {
    const { commits } = this.#gathered ?? { commits: [] };
    this.#gathered = null;
    for (const [index, { commit, texts }] of commits.entries()) {
      this.#store(commit, index === 0, commandId, receipt, texts);
    }
  }

  #store(
    commit: Commit,
    isFirst: boolean,
    commandId: string | null,
    receipt: Receipt | null,
    texts?: CommitTexts,
  ): void {
    const own = commit.event.command_id ?? null;
    // A row of a batch may repeat the id of the batch, which its first commit has.
    const id = isFirst ? (commandId ?? own) : own === commandId ? null : own;
    const kept = id === null ? null : (receipt ?? rowReceipt());
    this.#logHash = this.commits.append(commit, id, kept, this.logHash(), texts);
  }

  /** Stores a commit as it was stored elsewhere, and applies what it means. @param hash of the row. */
  appendStored(row: LogRow, commit: Commit, hash: string): void {
    this.commits.appendRow(row);
    this.#logHash = hash;
    this.#evolve(commit);
  }

  /** Takes in one entry of the state that the run begins with. */
  begin(entry: Change, nowMs: number): void {
    this.#apply(entry, nowMs);
  }

  /** Stores the row of a run that has arrived: from then on it exists. */
  settle(row: RunRow): void {
    this.#rowTable.insert(row);
    this.save(row.directorySeq);
  }

  #evolve(commit: Commit): void {
    if (commit.event.type !== HEARTBEAT) this.#newsSeq = commit.event.seq;
    else this.heartbeats.committed(commit.event);
    const { head, changes } = evolve(this.#head, commit);
    this.#head = head;
    for (const change of changes) this.#apply(change, commit.event.ts_ms);
  }

  /** Hash of the newest commit (chain.ts); what stands before the first one when there is none. */
  logHash(): string {
    this.#logHash ??= this.#storedHash();
    return this.#logHash;
  }

  /** What stands before the first commit (chain.ts). */
  initialHash(): string {
    return initialHash(this.row.initial, this.genesis.texts());
  }

  /** The hash that storage has of the last commit that the saved head knows; null when it has none. */
  savedHash(): { seq: number; hash: string } | null {
    return this.#rowTable.savedHash();
  }

  /** Whether everything that claims are decided by follows from the stored tasks. Reads the whole board. */
  isIndexSound(): boolean {
    const counts = this.tasks.count();
    const isCounted = Object.entries(this.#taskCounts).every(
      ([name, count]) => counts[name as keyof TaskCounts] === count,
    );
    return isCounted && isTaskIndexSound(this.#sql);
  }

  savepoint(): Savepoint {
    return {
      head: this.#head,
      taskCounts: this.#taskCounts,
      leaseDueAtMs: this.#leaseDueAtMs,
      savedSeq: this.#savedSeq,
      logHash: this.#logHash,
      revokedSeq: this.#revokedSeq,
      heartbeats: this.heartbeats.savepoint(),
      changes: this.#changes(),
    };
  }

  restore(savepoint: Savepoint): void {
    this.#head = savepoint.head;
    this.#taskCounts = savepoint.taskCounts;
    this.#leaseDueAtMs = savepoint.leaseDueAtMs;
    this.#savedSeq = savepoint.savedSeq;
    this.#logHash = savepoint.logHash;
    this.#gathered = null;
    this.#revokedSeq = savepoint.revokedSeq;
    const hasChanged = this.#changes() !== savepoint.changes;
    this.heartbeats.restore(savepoint.heartbeats, savepoint.head.run.last_event_seq);
    // The caches are dear to fill again: only what may have reached them makes them wrong.
    if (!hasChanged) return;
    this.tasks.forgetCache();
    this.texts.forget();
  }

  /** Changes to tables since waking, undone ones included. */
  #changes(): number {
    return this.#applied + this.tasks.promoted();
  }

  /** Whether so many commits are only in memory that the head should be saved. */
  isSaveDue(): boolean {
    return this.#head.run.last_event_seq - this.#savedSeq >= MAX_UNSAVED_COMMITS;
  }

  /** Writes the head to its row; `directorySeq` when the directory and the feeds have followed up to there. */
  save(directorySeq: number = this.#directorySeq): void {
    this.#rowTable.saveHead(this.#head, this.logHash(), this.#taskCounts, directorySeq);
    this.#savedSeq = this.#head.run.last_event_seq;
    this.#directorySeq = directorySeq;
  }

  /** Seq up to which the directory, and the feeds that are followed, have this run; -1 when the directory never had. */
  directorySeq(): number {
    return this.#directorySeq;
  }

  /** Seq of the last commit since waking that was not a heartbeat; may be too high after an undone one. */
  newsSeq(): number {
    return this.#newsSeq;
  }

  taskCounts(): TaskCounts {
    return this.#taskCounts;
  }

  leaseDueAtMs(): number | null {
    return this.#leaseDueAtMs;
  }

  /** When a lock runs out next. */
  lockDueAtMs(): number | null {
    const { locks } = this.#head;
    if (locks === undefined) return null;
    // They are many at most, and asked about with every commit.
    if (this.#lockDue?.locks !== locks) {
      this.#lockDue = { locks, atMs: Math.min(...locks.map((lock) => lock.expires_at_ms)) };
    }
    return this.#lockDue.atMs;
  }

  /** When a clock of a task runs out next. */
  clockDueAtMs(): number | null {
    return this.tasks.dueAtMs();
  }

  /** When what was given out before the run was halted is to be taken back. */
  haltDueAtMs(): number | null {
    const { halt } = this.#head;
    return halt === undefined || halt.seq === this.#revokedSeq ? null : halt.revoke_at_ms;
  }

  /** Whether a `settle_due` may have something to do. */
  isSettleDue(nowMs: number): boolean {
    return isReached(this.clockDueAtMs(), nowMs) || isReached(this.haltDueAtMs(), nowMs);
  }

  /** The first moment at which the run has something to do with its tasks by itself. */
  boardDueAtMs(): number | null {
    return earliest(this.#leaseDueAtMs, earliest(this.clockDueAtMs(), this.haltDueAtMs()));
  }

  head(): RunHead {
    return this.#head;
  }

  taskCount(): number {
    return this.#taskCounts.total;
  }

  task(id: string): Task | null {
    const task = this.tasks.task(id);
    return task && this.heartbeats.onto(task);
  }

  /** How many tasks of a concurrency key may be in progress at once. */
  readonly limitOf = (key: string): number => concurrencyLimit(this.#head.run.settings, key);

  nextClaimable(filter: TaskFilter, nowMs: number): Task | null {
    return this.tasks.nextClaimable(filter, nowMs, this.limitOf);
  }

  claimables(filter: TaskFilter, nowMs: number): Iterable<Task> {
    return this.tasks.claimables(filter, nowMs, this.limitOf);
  }

  /** Where there is something to claim (storage/lanes.ts). To be read before anything changes. */
  readyLanes(nowMs: number): Iterable<LaneHead> {
    return this.tasks.readyLanes(nowMs, this.limitOf);
  }

  /** When the next delayed task becomes ready, or earlier, epoch ms; null when there is none. */
  delayedDueAtMs(): number | null {
    return this.tasks.delayedDueAtMs();
  }

  /** Reads the leased tasks only when one may be due, and then learns when the next one is. */
  staleLeases(nowMs: number): Task[] {
    if (this.#leaseDueAtMs === null || this.#leaseDueAtMs > nowMs) return [];
    const leased = this.tasks.leased();
    const stale = leased.filter((task) => isStale(task, nowMs));
    this.#leaseDueAtMs = earliestExpiry(leased.filter((task) => !isStale(task, nowMs)));
    return stale.map((task) => this.heartbeats.onto(task));
  }

  dueTasks(nowMs: number, limit: number): Task[] {
    return this.tasks.due(nowMs, limit).map((task) => this.heartbeats.onto(task));
  }

  deadLetters(filter: LetterFilter, limit: number): Task[] {
    return this.tasks.deadLetters(filter, limit);
  }

  countDeadLetters(filter: LetterFilter): number {
    return this.tasks.countDeadLetters(filter);
  }

  /** Of a halt: when these are all there are, it has none left once they are back. */
  heldUpTo(fence: number, limit: number): Task[] {
    const held = this.tasks.heldUpTo(fence, limit);
    if (held.length < limit && fence === this.#head.halt?.seq) this.#revokedSeq = fence;
    return held.map((task) => this.heartbeats.onto(task));
  }

  /** Notes anew when the clocks of these tasks run out. A change that no commit tells of. */
  postpone(ids: readonly string[], nowMs: number): void {
    for (const id of ids) this.tasks.postpone(id, nowMs);
  }

  dependentsOf(id: string): string[] {
    return this.tasks.dependentsOf(id);
  }

  /** Commits and checkpoints share one namespace of command ids (contract 04 §5). */
  isCommandUsed(commandId: string): boolean {
    return this.isCommandCommitted(commandId) || this.checkpoints.byCommand(commandId) !== null;
  }

  /** Whether a commit bears this command id, wherever it lies. */
  isCommandCommitted(commandId: string): boolean {
    return (
      this.commits.hasCommand(commandId) ||
      this.segments.seqOfCommand(commandId) !== null ||
      this.#gathered?.commandIds.has(commandId) === true
    );
  }

  /** Seq of the log's last commit, as storage tells it. */
  lastSeq(): number {
    return Math.max(this.commits.lastSeq(), this.segments.uptoSeq());
  }

  /** Up to this seq the saved head knows the log. */
  savedSeq(): number {
    return this.#savedSeq;
  }

  file(path: string): FileVersion | null {
    return this.files.file(path);
  }

  fileVersion(path: string, version: number): FileVersion | null {
    return this.files.fileVersion(path, version);
  }

  appliedSeq(mutationSeq: number): number | null {
    return this.effects.appliedSeq(mutationSeq);
  }

  #apply(change: Change, nowMs: number): void {
    if (change.kind === "index_effect" || change.kind === "mark_applied") {
      // No text shows these.
      this.#indexEffect(change);
      return;
    }
    this.#applied += 1;
    switch (change.kind) {
      case "put_task": {
        const { task } = change;
        const put = this.tasks.put(task, nowMs);
        this.texts.putTask(put.pos, put.doc);
        this.#taskCounts = recounted(this.#taskCounts, put.before, task.status);
        this.#noteLease(task);
        return;
      }
      case "replace_tasks":
        // It saves the head, and with it the hash of a commit that is not stored yet.
        if (this.#gathered !== null) throw new Error("a run is not replaced by one command of many");
        this.tasks.replaceAll(change.tasks, nowMs);
        this.texts.forget();
        this.#taskCounts = this.tasks.count();
        this.#leaseDueAtMs = earliestExpiry(this.tasks.leased());
        this.#revokedSeq = null;
        this.save();
        return;
      case "add_note":
        this.texts.addEntry(change.list, this.board.addNote(change.list, change.note));
        return;
      case "add_artifact":
        this.texts.addEntry("artifacts", this.board.addArtifact(change.artifact));
        return;
      case "put_file":
        this.files.put(change.file);
        return;
    }
  }

  #indexEffect(change: Extract<Change, { kind: "index_effect" | "mark_applied" }>): void {
    if (change.kind === "index_effect") this.effects.add(change.effect);
    else this.effects.markApplied(change.seqs, change.applied_seq);
  }

  /**
   * The hash of the newest commit as storage tells it. What was saved with the head goes before what the last row hashes
   * to: so the next commit does not vouch for a row that was changed meanwhile.
   */
  #storedHash(): string {
    const lastSeq = this.#head.run.last_event_seq;
    if (lastSeq === this.row.headSeq && this.row.logHash !== null) return this.row.logHash;
    const [last] = this.commits.rows(lastSeq - 1, lastSeq, 1, 0);
    if (last !== undefined) return commitHash(last);
    return this.segments.holding(lastSeq)?.log_hash ?? this.initialHash();
  }

  /** A head of an older release, with what only the log tells: digests are of whole states. */
  #completed({ initial, head, headSeq }: RunRow): RunHead {
    let told = newHead(initial);
    for (const commit of this.commits.range(0, headSeq)) told = evolve(told, commit).head;
    return { ...head, workspace_since_seq: told.workspace_since_seq };
  }

  #noteLease(task: Task): void {
    if (task.status !== "in_progress" || task.lease_expires_at_ms === undefined) return;
    this.#leaseDueAtMs = Math.min(this.#leaseDueAtMs ?? Number.POSITIVE_INFINITY, task.lease_expires_at_ms);
  }

  /** Takes in commits that are newer than the saved head. Tables need nothing: they were written with the commits. */
  #catchUp(): void {
    const last = this.lastSeq();
    if (last === this.#savedSeq) return;
    let isCountKnown = true;
    for (const commit of this.commits.range(this.#savedSeq, last)) {
      this.#head = evolve(this.#head, commit).head;
      isCountKnown &&= !changesCounts(commit.event.type);
    }
    if (!isCountKnown) this.#taskCounts = this.tasks.count();
  }

  /**
   * For a run whose head was stored by a release that kept no audit: reads the whole log, once. A damaged row must not keep
   * the run from waking; it counts as nothing, and replay tells of it.
   */
  #auditAnew(): void {
    let audit = NO_AUDIT;
    for (const event of this.#readableEvents()) {
      const audited = withEvent(audit, event);
      // What came after the head was saved, the catching up takes in.
      if (event.seq <= this.#savedSeq) audit = audited.audit;
      if (audited.effect !== null) this.effects.add(audited.effect);
      if (audited.applied.length > 0) this.effects.markApplied(audited.applied, event.seq);
    }
    this.#head = { ...this.#head, audit };
    this.#catchUp();
    this.save();
  }

  *#readableEvents(): Generator<EventRecord> {
    for (let cursor = 0; ; ) {
      const rows = this.commits.rows(cursor, Number.MAX_SAFE_INTEGER, ROWS_READ_AT_ONCE, MAX_PAGE_LENGTH);
      for (const row of rows) {
        const event = parsedEvent(row.event);
        if (event !== null) yield event;
      }
      const last = rows.at(-1);
      if (last === undefined) return;
      cursor = last.seq;
    }
  }
}

/** Types of events that hold a whole run. */
const REPLACEMENTS: ReadonlySet<string> = new Set(["context.run.replaced", "context.run.imported"]);

/** Whether an event of this type may move a task from one status to another. */
function changesCounts(type: string): boolean {
  return REPLACEMENTS.has(type) || (type.startsWith("context.task.") && type !== HEARTBEAT);
}

function parsedEvent(text: string): EventRecord | null {
  try {
    return JSON.parse(text) as EventRecord;
  } catch {
    return null;
  }
}

/** A row of a batch that brought its own command id. */
function rowReceipt(): Receipt {
  return { op: "create_tasks", fingerprint: null, commits: 1 };
}

function recounted(counts: TaskCounts, before: keyof TaskCounts | null, after: keyof TaskCounts): TaskCounts {
  const next = { ...counts };
  if (before === null) next.total += 1;
  else next[before] -= 1;
  next[after] += 1;
  return next;
}

function earliest(one: number | null, other: number | null): number | null {
  if (one === null || other === null) return one ?? other;
  return Math.min(one, other);
}

function isReached(momentMs: number | null, nowMs: number): boolean {
  return momentMs !== null && momentMs <= nowMs;
}

function earliestExpiry(tasks: Task[]): number | null {
  const expiries = tasks.flatMap((task) => task.lease_expires_at_ms ?? []);
  return expiries.length === 0 ? null : Math.min(...expiries);
}
