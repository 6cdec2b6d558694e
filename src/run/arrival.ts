import { createHash, type Hash } from "node:crypto";
import { runHolder } from "../artifacts/keys.ts";
import type { Commit } from "../domain/commit.ts";
import { newHead, type RunHead } from "../domain/head.ts";
import { changeOf } from "../domain/memory.ts";
import { commandIdConflict, type Refusal } from "../domain/refusals.ts";
import type { CheckpointHead, ContractCheckpointHead } from "../protocol/checkpoint.ts";
import {
  type ExportChecks,
  type ExportEnd,
  type ExportHeader,
  type ExportLine,
  exportShapes,
  MAX_EXPORT_LINE_BYTES,
} from "../protocol/export-format.ts";
import { MAX_RUN_HEADER_BYTES, MAX_STORED_CHECKPOINT_BYTES, MAX_TASKS_PER_RUN } from "../protocol/limits.ts";
import type { RunHeader, Tenant } from "../protocol/run.ts";
import {
  checkRecords,
  checkRow,
  checkSize,
  isSameTenant,
  MAX_ARRIVING_TASK_BYTES,
  parsed,
} from "./arrival-checks.ts";
import { ArrivalFault, refusalOf } from "./arrival-fault.ts";
import { headLine, renamed, rowOf } from "./arrival-records.ts";
import { ArrivingContents, type ContentKeeper } from "./arriving-contents.ts";
import { commitHash, initialHash } from "./chain.ts";
import { checkpointKey, measure, putLines } from "./checkpoint-objects.ts";
import { type Line, linesOf } from "./line-reader.ts";
import { overview, type RunOverview } from "./reads.ts";
import { RunState } from "./run-state.ts";
import { stateDigest } from "./state-digest.ts";
import { linesInParts } from "./storage/checkpoints.ts";
import { GenesisTable } from "./storage/genesis.ts";
import type { MoveCall } from "./storage/move-calls.ts";
import type { CreatedCommand, RunRow } from "./storage/run-row.ts";
import type { Sql } from "./storage/sql.ts";
import { NO_TASKS } from "./storage/tasks.ts";

/** A run that has arrived. */
export interface Arrived {
  run: RunOverview;
  /** Whether an earlier call with the same command brought it. */
  repeated: boolean;
  /** What was proved; null where a run was to be restored that was there. */
  checks: ExportChecks | null;
}

/** Who a run is where it arrives. */
export interface ArrivalRequest {
  tenant: Tenant;
  /** May differ from the export's: the log is then written and chained anew. */
  run_id: string;
  /** The caller's idempotency key. `ofContent`: what was sent belongs to the request too, and is not known before it was read. */
  command: (CreatedCommand & { ofContent?: boolean }) | null;
  /** Whether it comes back from its archive. */
  restores?: boolean;
  /** Whether it waits for others of its kind that came before, so that the second of two repeats is told of the first. */
  inTurn?: boolean;
}

/** Where a run arrives. */
export interface ArrivalPlace {
  sql: Sql;
  storage: DurableObjectStorage;
  /** Null when the deployment has no bucket. */
  contents: ContentKeeper | null;
  bucket: R2Bucket | null;
  /** Secret from which the run's lease tokens will be derived, hex. */
  leaseKey: string;
  /** False once another attempt has begun. */
  isCurrent(): boolean;
  /** Called in the turn in which the run's row is written: from then on there is a run, and nothing takes its place. Resolves when it is durable. */
  settled(): Promise<void>;
}

/** A run's header with what was proved beside it. In bytes. */
const MAX_MOVE_CALL_BYTES = MAX_RUN_HEADER_BYTES + 64 * 1024;

/** So much is written in one transaction. In bytes of lines. */
const BATCH_BYTES = 1024 * 1024;
const RANKS = {
  genesis: 1,
  commit: 2,
  checkpoint: 2,
  checkpoint_name: 3,
  checkpoint_command: 4,
  move_call: 5,
  blob: 6,
  blob_part: 6,
  end: 7,
} as const satisfies Record<keyof ExportLine, number>;

/** Lines that are taken one by one, because they may have to wait for something. */
const AWAITED: ReadonlySet<keyof ExportLine> = new Set(["checkpoint", "blob", "blob_part", "end"]);

/**
 * Reads a run from an export (protocol/export-format.ts) into an object that holds none: the one way in which runs come from
 * elsewhere. What is held in memory is a few lines, and one inline content.
 *
 * V1 Rows are written in several transactions, the run's own row in the last: a run whose arrival broke off does not exist.
 *    The caller wipes what is left of it.
 * V2 Everything is checked before that row is written: shapes, seqs, the chain, limits, counts, the digest of all bytes, and
 *    that the commits lead to the state that the export tells.
 * V3 The commits are applied by the same code as live (RunState). Only engine-written events carry snapshots, and those
 *    cannot change whose run it is.
 */
export async function arrive(
  place: ArrivalPlace,
  lines: ReadableStream<Uint8Array>,
  request: ArrivalRequest,
): Promise<{ ok: true; checks: ExportChecks } | { ok: false; refusal: Refusal }> {
  const arrival = new Arrival(place, request);
  let checks: ExportChecks;
  try {
    checks = await arrival.read(lines);
  } catch (error) {
    // References that were made on the way stay until collection asks for them: another attempt may have made its own
    // meanwhile, and they are the same.
    if (arrival.objectKeys.length > 0) await place.bucket?.delete(arrival.objectKeys);
    const refusal = refusalOf(error);
    if (refusal === null) throw error;
    return { ok: false, refusal };
  }
  await arrival.durable;
  // Only saves collection a question: nothing is taken back for it.
  if (checks.blobs > 0) await place.contents?.confirm(runHolder(request.run_id), null).catch(() => undefined);
  return { ok: true, checks };
}

/** The answer where a run is already: to the request that brought the run, what it was answered; to any other a refusal. */
export async function arrivedBefore(
  state: RunState,
  lines: ReadableStream<Uint8Array>,
  { command, run_id, restores }: ArrivalRequest,
): Promise<{ ok: true; value: Arrived } | { ok: false; refusal: Refusal }> {
  const known = command === null ? null : state.moveCalls.find(command.command_id);
  if (command === null || known === null) {
    await lines.cancel();
    // Whoever wants it back finds it there.
    if (restores) return { ok: true, value: { run: overview(state), repeated: false, checks: null } };
    if (command !== null && state.row.createdCommand?.command_id === command.command_id) {
      return { ok: false, refusal: commandIdConflict };
    }
    return { ok: false, refusal: { code: "CONTEXT_RUN_EXISTS", error: "run already exists", run_id } };
  }
  const content = command.ofContent === true ? await digestOf(lines) : null;
  if (command.ofContent !== true) await lines.cancel();
  if (known.fingerprint !== fingerprintOf(command, content)) return { ok: false, refusal: commandIdConflict };
  return { ok: true, value: { ...known.answer, repeated: true } };
}

/** @param content digest of what was sent; null where that is none. */
function fingerprintOf(
  { fingerprint, ofContent }: NonNullable<ArrivalRequest["command"]>,
  content: string | null,
): string {
  return ofContent === true ? `${fingerprint} ${content}` : fingerprint;
}

/** The digest of an export that was sent again, as its end should tell it; null when it is none. */
async function digestOf(lines: ReadableStream<Uint8Array>): Promise<string | null> {
  const hash = createHash("sha256");
  let last: Line | null = null;
  for await (const line of linesOf(lines, MAX_EXPORT_LINE_BYTES)) {
    if (last !== null) hash.update(last.bytes);
    last = line;
  }
  return last?.text.startsWith('{"end":') ? hash.digest("hex") : null;
}

class Arrival {
  /** What was written to R2 on the way. */
  readonly objectKeys: string[] = [];
  /** Of the run that was read. */
  durable: Promise<void> = Promise.resolve();
  readonly #place: ArrivalPlace;
  readonly #request: ArrivalRequest;
  readonly #hash: Hash = createHash("sha256");
  readonly #genesis: GenesisTable;
  readonly #contents: ArrivingContents;
  /** What of the genesis is not stored yet. */
  #genesisText = "";
  #hasGenesis = false;
  /** The first line of the genesis, as it was exported and as it is stored. */
  #genesisHead = { exported: "", stored: "" };
  #header: ExportHeader | null = null;
  #initial: RunHeader | null = null;
  #state: RunState | null = null;
  /** Whether the run gets another id or tenant than it had. */
  #isRenamed = false;
  #rank = 0;
  #commits = 0;
  #checkpoints = 0;
  /** Of the last commit, as it was exported and as it is stored; of the run's beginning when there is none. */
  #exportedHash = "";
  #storedHash = "";
  #isChained = false;
  #lastOfCommands = 0;
  #end: ExportEnd | null = null;

  constructor(place: ArrivalPlace, request: ArrivalRequest) {
    this.#place = place;
    this.#request = request;
    this.#genesis = new GenesisTable(place.sql);
    this.#contents = new ArrivingContents(place.contents, runHolder(request.run_id));
  }

  async read(stream: ReadableStream<Uint8Array>): Promise<ExportChecks> {
    let batch: { line: Line; value: ExportLine }[] = [];
    let batchBytes = 0;
    let number = 0;
    const write = async (): Promise<void> => {
      const taken = batch;
      batch = [];
      batchBytes = 0;
      if (taken.length === 0) return;
      this.#place.sql.transaction(() => {
        for (const { line, value } of taken) this.#take(line.number, value);
        this.#storeGenesis();
      });
      // Not more is on its way to the disk than this.
      await this.#place.storage.sync();
    };
    for await (const line of linesOf(stream, MAX_EXPORT_LINE_BYTES)) {
      this.#mustBeCurrent(line.number);
      number = line.number;
      if (this.#end !== null) throw new ArrivalFault(number, "", "order", "nothing follows the end");
      if (number === 1) {
        this.#begin(line);
        continue;
      }
      const value = parsed(line, exportShapes().line) as ExportLine;
      const [kind] = Object.keys(value) as [keyof ExportLine];
      if (RANKS[kind] < this.#rank) throw new ArrivalFault(number, kind, "order", `${kind} comes too late`);
      this.#rank = RANKS[kind];
      if (kind !== "end") this.#hash.update(line.bytes);
      if (!AWAITED.has(kind)) {
        batch.push({ line, value });
        batchBytes += line.bytes.length;
        if (batchBytes >= BATCH_BYTES) await write();
        continue;
      }
      await write();
      if (value.checkpoint !== undefined) await this.#takeCheckpoint(number, value.checkpoint);
      if (value.blob_part === undefined) await this.#contents.close();
      this.#mustBeCurrent(number);
      if (value.blob !== undefined) this.#contents.begin(number, value.blob);
      if (value.blob_part !== undefined) this.#contents.addPart(number, value.blob_part);
      if (value.end !== undefined) this.#checkEnd(line, value.end);
    }
    if (this.#end === null) {
      throw new ArrivalFault(number + 1, "", "complete", "the export has no end: it was cut off");
    }
    return this.#finish(number, this.#end);
  }

  /** A later attempt has wiped what this one wrote. */
  #mustBeCurrent(line: number): void {
    if (this.#place.isCurrent()) return;
    throw new ArrivalFault(line, "", "superseded", "another attempt to bring this run here has begun");
  }

  #begin(line: Line): void {
    const header = parsed(line, exportShapes().header) as ExportHeader;
    const { tenant, run_id } = this.#request;
    this.#hash.update(line.bytes);
    const { initial } = header;
    if (initial.run_id !== header.run_id)
      throw new ArrivalFault(1, "initial.run_id", "same_run", "is not the id of the run");
    if (initial.last_event_seq !== 0)
      throw new ArrivalFault(1, "initial.last_event_seq", "beginning", "a run begins at seq 0");
    checkSize(1, "initial", initial, MAX_RUN_HEADER_BYTES);
    this.#header = header;
    this.#isRenamed = run_id !== header.run_id || !isSameTenant(tenant, initial.tenant_context);
    this.#initial = this.#isRenamed ? { ...initial, run_id, tenant_context: tenant } : initial;
    this.#open(newHead(this.#initial));
  }

  /** The state that the entries and commits to come are applied to. */
  #open(head: RunHead): void {
    this.#state = RunState.arriving(this.#place.sql, this.#row(head, null));
  }

  #row(head: RunHead, createdCommand: CreatedCommand | null): RunRow {
    if (this.#initial === null) throw new Error("the export has not begun");
    return {
      head,
      isAudited: true,
      headSeq: 0,
      logHash: null,
      taskCounts: NO_TASKS,
      initial: this.#initial,
      leaseKey: this.#place.leaseKey,
      createdCommand,
      directorySeq: -1,
    };
  }

  #run(): { state: RunState; header: ExportHeader; initial: RunHeader } {
    if (this.#state === null || this.#header === null || this.#initial === null) {
      throw new Error("the export has not begun");
    }
    return { state: this.#state, header: this.#header, initial: this.#initial };
  }

  #take(number: number, value: ExportLine): void {
    if (value.genesis !== undefined) this.#takeGenesis(number, value.genesis);
    else if (value.commit !== undefined) this.#takeCommit(number, value.commit);
    else if (value.checkpoint_name !== undefined) this.#takeName(number, value.checkpoint_name);
    else if (value.checkpoint_command !== undefined) this.#takeCall(number, value.checkpoint_command);
    else if (value.move_call !== undefined) this.#takeMoveCall(number, value.move_call);
  }

  /** A checkpoint of the state that the commits so far have led to: so its digest proves something, and nothing else has to come. */
  async #takeCheckpoint(number: number, head: NonNullable<ExportLine["checkpoint"]>): Promise<void> {
    const { state, header, initial } = this.#run();
    if (head.seq !== this.#commits)
      throw new ArrivalFault(
        number,
        "checkpoint.seq",
        "order",
        "does not stand behind the commit of its seq",
      );
    if (head.run_id !== header.run_id)
      throw new ArrivalFault(number, "checkpoint.run_id", "same_run", "is of another run");
    if (this.#commits === 0) this.#startChain();
    const exported = stateDigest(this.#stateLinesAsExported(state, header.initial));
    if (head.state_sha256 != null && head.state_sha256 !== exported)
      throw new ArrivalFault(
        number,
        "checkpoint.state_sha256",
        "verified",
        "is not the run's state at this place",
      );
    if (head.log_hash != null && head.log_hash !== this.#exportedHash)
      throw new ArrivalFault(
        number,
        "checkpoint.log_hash",
        "verified",
        "is not the hash of the commit before",
      );
    const own: CheckpointHead = {
      ...(head as ContractCheckpointHead & { name?: string }),
      run_id: initial.run_id,
      automatic: head.automatic ?? false,
      state_sha256: null,
      log_hash: this.#storedHash,
    };
    const lines = [...state.texts.stateLines()];
    const size = await measure(lines);
    own.state_sha256 = size.state_sha256;
    const { bucket, sql } = this.#place;
    let objectKey: string | null = null;
    if (bucket !== null && size.bytes > MAX_STORED_CHECKPOINT_BYTES) {
      objectKey = checkpointKey(initial, own.seq);
      this.objectKeys.push(objectKey);
      await putLines(bucket, objectKey, lines, size);
    }
    this.#mustBeCurrent(number);
    this.#guard(number, () =>
      sql.transaction(() => {
        let part = 0;
        for (const text of objectKey === null ? linesInParts(lines) : []) {
          state.checkpoints.putPart(own.seq, part, text);
          part += 1;
        }
        state.checkpoints.put({ head: own, objectKey, lines: lines.length }, null);
      }),
    );
    this.#checkpoints += 1;
  }

  #takeName(number: number, { name, seq }: NonNullable<ExportLine["checkpoint_name"]>): void {
    this.#guard(number, () => this.#run().state.checkpoints.putName(name, seq));
  }

  /** The call that made a checkpoint: its repeat is answered as it was, as far as that is still so. */
  #takeCall(number: number, call: NonNullable<ExportLine["checkpoint_command"]>): void {
    const { state, initial } = this.#run();
    const { command_id: commandId, fingerprint, head } = call;
    const kept = state.checkpoints.at(head.seq)?.head;
    const sums = this.#isRenamed
      ? { state_sha256: kept?.state_sha256 ?? null, log_hash: kept?.log_hash ?? null }
      : {};
    const own = { ...head, run_id: initial.run_id, ...sums } as CheckpointHead;
    this.#guard(number, () => state.checkpoints.putCall({ commandId, fingerprint }, own));
  }

  /** The call that brought the run to where it comes from. A run of another name or tenant is another, which it did not bring. */
  #takeMoveCall(number: number, call: NonNullable<ExportLine["move_call"]>): void {
    if (this.#isRenamed) return;
    checkSize(number, "move_call", call, MAX_MOVE_CALL_BYTES);
    this.#guard(number, () => this.#run().state.moveCalls.put(call as unknown as MoveCall));
  }

  #takeGenesis(number: number, entry: NonNullable<ExportLine["genesis"]>): void {
    const { state, header, initial } = this.#run();
    if (this.#hasGenesis === (entry.head !== undefined))
      throw new ArrivalFault(number, "genesis", "order", "a state begins with its head, and has one");
    checkSize(number, "genesis", entry, MAX_ARRIVING_TASK_BYTES * 2);
    if (entry.task !== undefined) checkSize(number, "genesis.task", entry.task, MAX_ARRIVING_TASK_BYTES);
    if (entry.head === undefined) {
      const [[kind, member]] = Object.entries(entry) as [[string, unknown]];
      this.#guard(number, () => state.begin(changeOf(kind, member), initial.created_at_ms));
      this.#genesisText += `${JSON.stringify(entry)}\n`;
      return;
    }
    this.#hasGenesis = true;
    const head = entry.head as unknown as RunHead;
    if (headLine(newHead(head.run)) !== headLine(newHead(header.initial)))
      throw new ArrivalFault(number, "genesis.head.run", "same_run", "is not the run that line 1 tells");
    // What an audit says has to be in the log, and here none has come yet.
    if (headLine({ ...newHead(head.run), audit: head.audit }) !== headLine(newHead(head.run)))
      throw new ArrivalFault(
        number,
        "genesis.head.audit",
        "no_audit",
        "tells of a history that is not there",
      );
    const own: RunHead = { ...head, run: initial };
    const stored = JSON.stringify({ head: this.#isRenamed ? own : head });
    this.#genesisHead = { exported: JSON.stringify(entry), stored };
    this.#genesisText = `${stored}\n`;
    this.#open(this.#isRenamed ? own : head);
  }

  #takeCommit(number: number, row: NonNullable<ExportLine["commit"]>): void {
    const { state, header, initial } = this.#run();
    if (this.#commits === 0) this.#startChain();
    const seq = this.#commits + 1;
    if (row.seq !== seq) {
      const message = `is ${row.seq} where ${seq} comes next`;
      throw new ArrivalFault(number, "commit.seq", "contiguous", message);
    }
    const commit = { event: row.event, patch: row.patch } as unknown as Commit;
    checkRecords(number, commit, seq, header);
    const exported = rowOf(row, commit);
    const isLinked = exported.prev_hash === this.#exportedHash;
    if (!isLinked && (exported.prev_hash !== null || this.#isChained)) {
      throw new ArrivalFault(number, "commit.prev_hash", "chain", "is not the hash of the commit before");
    }
    this.#isChained ||= isLinked;
    this.#exportedHash = commitHash(exported);

    const own = this.#isRenamed ? renamed(commit, initial) : commit;
    const stored = this.#isRenamed ? { ...rowOf(row, own), prev_hash: this.#storedHash } : exported;
    checkRow(number, stored);
    this.#storedHash = this.#isRenamed ? commitHash(stored) : this.#exportedHash;
    this.#guard(number, () => state.appendStored(stored, own, this.#storedHash));
    const { run } = state.head();
    if (run.run_id !== initial.run_id || !isSameTenant(run.tenant_context, initial.tenant_context)) {
      throw new ArrivalFault(number, "commit.event.payload.run", "same_run", "is another run, or another's");
    }
    this.#lastOfCommands = Math.max(this.#lastOfCommands, seq - 1 + (row.receipt?.commits ?? 1));
    this.#commits = seq;
  }

  #storeGenesis(): void {
    if (this.#genesisText !== "") this.#genesis.append(this.#genesisText);
    this.#genesisText = "";
  }

  /** Before the first commit: the state that the run begins with is known. */
  #startChain(): void {
    const { header, initial } = this.#run();
    this.#storeGenesis();
    const stored = this.#genesis;
    const pieces = function* (head: string): Generator<string> {
      let isHead = true;
      for (const line of stored.lines()) {
        yield `${isHead ? head : line}\n`;
        isHead = false;
      }
    };
    this.#storedHash = initialHash(initial, pieces(this.#genesisHead.stored));
    this.#exportedHash = this.#isRenamed
      ? initialHash(header.initial, pieces(this.#genesisHead.exported))
      : this.#storedHash;
  }

  /** Applies what has the right shape; what cannot be stored all the same is the line's fault, not the engine's. */
  #guard(number: number, apply: () => void): void {
    try {
      apply();
    } catch (error) {
      console.error(JSON.stringify({ event: "arrival_refused", line: number, error: String(error) }));
      throw new ArrivalFault(number, "", "applicable", "cannot be applied to the run");
    }
  }

  #checkEnd({ number, text }: Line, end: ExportEnd): void {
    if (JSON.stringify({ end }) !== text)
      throw new ArrivalFault(number, "end", "canonical", "is not written as this format writes it");
    this.#end = end;
  }

  async #finish(number: number, end: ExportEnd): Promise<ExportChecks> {
    const { state, header, initial } = this.#run();
    if (this.#commits === 0) this.#startChain();
    const must = (member: keyof ExportEnd, found: unknown): void => {
      if (end[member] === found) return;
      const message = `says ${end[member]}, found ${found}`;
      throw new ArrivalFault(number, `end.${member}`, "verified", message);
    };
    must("lines", number - 1);
    must("sha256", this.#hash.digest("hex"));
    must("commits", this.#commits);
    if (header.last_event_seq !== this.#commits)
      throw new ArrivalFault(1, "last_event_seq", "verified", `the log ends at ${this.#commits}`);
    must("log_hash", this.#exportedHash);
    if (this.#lastOfCommands > this.#commits)
      throw new ArrivalFault(number, "", "receipts", "a command has commits that the log does not have");
    const tasks = state.taskCount();
    if (tasks > MAX_TASKS_PER_RUN) {
      const bounds = { limit: MAX_TASKS_PER_RUN, actual: tasks };
      throw new ArrivalFault(number, "", "max_tasks", "the run has too many tasks", bounds);
    }
    must("state_sha256", stateDigest(this.#stateLinesAsExported(state, header.initial)));
    const blobs = await this.#contents.hold(number, state.files.hashes());
    this.#mustBeCurrent(number);
    const checks = {
      ...end,
      last_event_seq: this.#commits,
      checkpoints: this.#checkpoints,
      blobs,
      inline_blobs: this.#contents.inline(),
    };
    const { command, restores } = this.#request;
    const call = command && {
      command_id: command.command_id,
      fingerprint: fingerprintOf(command, end.sha256),
    };
    this.#place.sql.transaction(() => {
      this.#place.sql.run("DELETE FROM tombstone");
      const created = restores === true ? header.created_command : (call ?? header.created_command);
      state.settle(this.#row(newHead(initial), created));
      if (call !== null) state.moveCalls.put({ ...call, answer: { run: overview(state), checks } });
    });
    this.durable = this.#place.settled();
    return checks;
  }

  /** Whose run it is stands in the head alone. */
  *#stateLinesAsExported(state: RunState, { run_id, tenant_context }: RunHeader): Generator<string> {
    const head = state.head();
    let isHead = true;
    for (const line of state.texts.stateLines()) {
      yield isHead && this.#isRenamed
        ? headLine({ ...head, run: { ...head.run, run_id, tenant_context } })
        : line;
      isHead = false;
    }
  }
}
