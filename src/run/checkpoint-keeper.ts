import { commandIdConflict, overloaded, type Refusal } from "../domain/refusals.ts";
import type { CheckpointHead } from "../protocol/checkpoint.ts";
import {
  CHECKPOINT_INTERVAL,
  MAX_STORED_CHECKPOINT_BYTES,
  MAX_WAITING_CHECKPOINTS,
} from "../protocol/limits.ts";
import type { CheckpointContent } from "./checkpoint-content.ts";
import { checkpointKey, measure, putLines } from "./checkpoint-objects.ts";
import type { RunState } from "./run-state.ts";
import { type CheckpointCommand, linesInParts, type StoredCheckpoint } from "./storage/checkpoints.ts";
import type { Sql } from "./storage/sql.ts";
import { toText } from "./text.ts";

/** An automatic checkpoint waits so long, to share the alarm that brings the directory up to date. */
const DELAY_MS = 1_000;
/** After failures the wait doubles up to this. */
const MAX_RETRY_DELAY_MS = 600_000;
/** Parts of a long content that are written in one turn. */
const PARTS_PER_TURN = 8;

/** What a checkpoint is asked to be. */
export interface CheckpointRequest {
  reason: string;
  name?: string | undefined;
}

/** A checkpoint with its content. */
export interface WholeCheckpoint {
  head: CheckpointHead;
  content: CheckpointContent;
}

type Creation =
  | { ok: true; value: { head: CheckpointHead; repeated: boolean } }
  | { ok: false; refusal: Refusal };

/** Where contents go, and how often checkpoints are made; tests make both small. */
export interface CheckpointBounds {
  /** Longer contents go to R2, in bytes. */
  storedBytes: number;
  /** Commits between automatic checkpoints, at least. */
  interval: number;
}

const BOUNDS: CheckpointBounds = { storedBytes: MAX_STORED_CHECKPOINT_BYTES, interval: CHECKPOINT_INTERVAL };

/**
 * Makes the run's checkpoints: those that are asked for, and by itself one every so many commits.
 *
 * P1 A checkpoint is of one moment: its lines are taken in one turn. Long ones are written in many, while the run goes on.
 * P2 A content is stored before the row that names it, and what the row named before is dropped after. A crash between leaves
 *    an object that no row names, below the run's prefix, and nothing else.
 * P3 Checkpoints of one seq hold the same: a second one keeps the content of the first.
 * P4 The run's state is written at most once per as many commits as it has lines, by itself.
 */
export class CheckpointKeeper {
  readonly #sql: Sql;
  readonly #storage: DurableObjectStorage;
  readonly #state: RunState;
  readonly #bucket: R2Bucket | null;
  readonly #bounds: CheckpointBounds;
  /** One at a time: each holds the whole state. */
  #busy: Promise<void> | null = null;
  #waiting = 0;
  /** Of the newest checkpoint; 0 when there is none. */
  #newestSeq: number;
  #newestLines: number;
  /** When the next automatic one is due, epoch ms. */
  #dueAtMs: number | null = null;
  #failures = 0;

  constructor(
    sql: Sql,
    storage: DurableObjectStorage,
    state: RunState,
    bucket: R2Bucket | null,
    bounds: CheckpointBounds = BOUNDS,
  ) {
    this.#sql = sql;
    this.#storage = storage;
    this.#state = state;
    this.#bucket = bucket;
    this.#bounds = bounds;
    const newest = state.checkpoints.latest(Number.MAX_SAFE_INTEGER);
    this.#newestSeq = newest?.head.seq ?? 0;
    this.#newestLines = newest?.lines ?? 0;
  }

  /** The moment the alarm must not miss, epoch ms, or null. */
  dueAtMs(nowMs: number): number | null {
    if (this.#busy !== null) return null;
    const since = this.#state.head().run.last_event_seq - this.#newestSeq;
    // Both are asked for: a board that has grown since, and one that is more than tasks.
    const interval = Math.max(this.#bounds.interval, this.#state.taskCount(), this.#newestLines);
    if (since < interval) this.#dueAtMs = null;
    else this.#dueAtMs ??= nowMs + DELAY_MS;
    return this.#dueAtMs;
  }

  /** Makes an automatic checkpoint if one is due. A failure leaves it due, for later. */
  async createDue(nowMs: number): Promise<void> {
    const dueAtMs = this.dueAtMs(nowMs);
    if (dueAtMs === null || dueAtMs > nowMs) return;
    try {
      await this.#create({ reason: "automatic" }, null, true);
      this.#failures = 0;
    } catch (error) {
      this.#dueAtMs = Date.now() + Math.min(MAX_RETRY_DELAY_MS, DELAY_MS * 2 ** this.#failures);
      this.#failures += 1;
      const { run_id } = this.#state.head().run;
      console.error(JSON.stringify({ event: "checkpoint_failed", run_id, error: String(error) }));
    }
  }

  /** Stores a checkpoint of this very moment. Not a commit: no event, no counters (contract 06 §1). */
  create(asked: CheckpointRequest, command: CheckpointCommand | null): Promise<Creation> {
    return this.#create(asked, command, false);
  }

  /** Whether one is being made: it is not stored yet, and its caller will be told that it is. */
  isBusy(): boolean {
    return this.#busy !== null;
  }

  /** Resolves when none is being made. */
  async settled(): Promise<void> {
    while (this.#busy !== null) await this.#busy;
  }

  /** A checkpoint by id, name or seq, or the newest one. */
  find(selector: string | "latest"): StoredCheckpoint | null {
    const { checkpoints } = this.#state;
    if (selector === "latest") return checkpoints.latest(Number.MAX_SAFE_INTEGER);
    if (/^[0-9]{1,15}$/.test(selector)) return checkpoints.at(Number(selector));
    return selector.startsWith("cp-") ? checkpoints.byId(selector) : checkpoints.byName(selector);
  }

  whole({ head, objectKey }: StoredCheckpoint): WholeCheckpoint {
    if (objectKey !== null) return { head, content: { object_key: objectKey, sha256: head.state_sha256 } };
    return { head, content: { text: toText(this.#state.checkpoints.content(head)) } };
  }

  async #create(
    asked: CheckpointRequest,
    command: CheckpointCommand | null,
    automatic: boolean,
  ): Promise<Creation> {
    if (this.#waiting >= MAX_WAITING_CHECKPOINTS) {
      return { ok: false, refusal: overloaded("too many checkpoints of this run wait to be made") };
    }
    this.#waiting += 1;
    while (this.#busy !== null) await this.#busy;
    this.#waiting -= 1;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#busy = promise;
    try {
      return await this.#make(asked, command, automatic);
    } finally {
      this.#busy = null;
      resolve();
    }
  }

  async #make(
    asked: CheckpointRequest,
    command: CheckpointCommand | null,
    automatic: boolean,
  ): Promise<Creation> {
    const { run } = this.#state.head();
    const seq = run.last_event_seq;
    const refused = this.#answered(asked, command, seq);
    if (refused !== null) return refused;
    const head: CheckpointHead = {
      checkpoint_id: `cp-${crypto.randomUUID()}`,
      run_id: run.run_id,
      seq,
      ts_ms: Math.max(run.updated_at_ms, Date.now()),
      reason: asked.reason,
      ...(asked.name !== undefined && { name: asked.name }),
      automatic,
      state_sha256: null,
      log_hash: this.#state.logHash(),
    };
    const lines = [...this.#state.texts.stateLines()];
    const size = await measure(lines);
    head.state_sha256 = size.state_sha256;

    const { checkpoints } = this.#state;
    const known = checkpoints.at(seq);
    const isKept =
      known?.head.state_sha256 === size.state_sha256 && (known.objectKey === null || this.#bucket !== null);
    const isRemote = !isKept && this.#bucket !== null && size.bytes > this.#bounds.storedBytes;
    const freshKey = isRemote ? checkpointKey(run, seq) : null;
    const objectKey = isKept ? known.objectKey : freshKey;
    let answer: Creation;
    try {
      if (freshKey !== null && this.#bucket !== null) await putLines(this.#bucket, freshKey, lines, size);
      else if (!isKept) await this.#putParts(seq, lines);
      answer = this.#sql.transaction(() => {
        // What came up while the content was on its way.
        const answered = this.#answered(asked, command, seq);
        if (answered !== null) return answered;
        const before = checkpoints.at(seq);
        if (head.name === undefined && before?.head.name !== undefined) head.name = before.head.name;
        checkpoints.put({ head, objectKey, lines: lines.length }, command);
        checkpoints.dropParts(seq, "old");
        if (objectKey !== null) checkpoints.dropParts(seq, "lines");
        return { ok: true, value: { head, repeated: false } };
      });
    } catch (error) {
      // Nothing names it, and nothing will: the run may even have been deleted meanwhile.
      if (freshKey !== null) await this.#delete(freshKey);
      throw error;
    }
    const isStored = answer.ok && !answer.value.repeated;
    if (isStored && seq >= this.#newestSeq) {
      this.#newestSeq = seq;
      this.#newestLines = lines.length;
    }
    await this.#drop(isStored ? known?.objectKey : objectKey, isStored ? objectKey : known?.objectKey);
    return answer;
  }

  /** Why no checkpoint is to be made: the call was answered before, or cannot be. */
  #answered({ name }: CheckpointRequest, command: CheckpointCommand | null, seq: number): Creation | null {
    const { checkpoints } = this.#state;
    if (command !== null) {
      if (this.#state.isCommandCommitted(command.commandId)) return { ok: false, refusal: commandIdConflict };
      const known = checkpoints.byCommand(command.commandId);
      if (known !== null && known.fingerprint !== command.fingerprint) {
        return { ok: false, refusal: commandIdConflict };
      }
      if (known !== null) return { ok: true, value: { head: known.head, repeated: true } };
    }
    const taken = name === undefined ? null : checkpoints.seqOfName(name);
    if (name === undefined || taken === null || taken === seq) return null;
    const error = `the checkpoint at seq ${taken} has this name`;
    return { ok: false, refusal: { code: "CHECKPOINT_NAME_TAKEN", error, name, seq: taken } };
  }

  async #putParts(seq: number, lines: readonly string[]): Promise<void> {
    const { checkpoints } = this.#state;
    checkpoints.dropParts(seq, "lines");
    let part = 0;
    for (const text of linesInParts(lines)) {
      if (part > 0 && part % PARTS_PER_TURN === 0) await scheduler.wait(0);
      checkpoints.putPart(seq, part, text);
      part += 1;
    }
  }

  /** Deletes an object that no row names any more, unless it is the one that a row does name. */
  async #drop(key: string | null | undefined, named: string | null | undefined): Promise<void> {
    if (key === null || key === undefined || key === named) return;
    await this.#storage.sync();
    await this.#delete(key);
  }

  /** What cannot be deleted stays, below the run's prefix. */
  async #delete(key: string): Promise<void> {
    await this.#bucket?.delete(key).catch((error: unknown) => {
      console.error(JSON.stringify({ event: "checkpoint_object_left", key, error: String(error) }));
    });
  }
}
