import type { Artifact, Note, PatchOp, PatchRecord } from "../protocol/blackboard.ts";
import type { EventRecord } from "../protocol/event.ts";
import { MAX_REPLACED_RUN_BYTES } from "../protocol/limits.ts";
import type { Run, RunHeader, Tenant } from "../protocol/run.ts";
import type { Task } from "../protocol/task.ts";
import { isTaskOp, readPatch } from "./blackboard.ts";
import { canonicalJson } from "./canonical-json.ts";
import type { CommandOp } from "./command.ts";
import type { Commit } from "./commit.ts";
import { newHead } from "./head.ts";
import { bytesOver } from "./json-size.ts";
import { withoutLease } from "./lease.ts";
import { MemoryRun } from "./memory.ts";
import {
  type LinesFound,
  MAX_UNPARSABLE,
  parsed,
  readBoard,
  readCheckpointHead,
  readEvent,
  readLines,
  readPatchRecord,
  readRun,
  readSteps,
  readTask,
  type StoredBoard,
  type StoredCheckpoint,
  type StoredEvent,
  type StoredPatch,
  type StoredRun,
} from "./reference-records.ts";
import { requeueStale } from "./task-actions.ts";

/** The files of one run's directory, as text; null where there is none (contract 01 §9). */
export interface ReferenceFiles {
  run_state: string | null;
  events: string | null;
  blackboard: string | null;
  blackboard_patches: string | null;
  checkpoints: { name: string; text: string }[];
}

/** What the conversion may not make up itself. */
export interface ReferenceContext {
  tenant: Tenant;
  /** That of run_state.json when null. */
  run_id: string | null;
  nowMs: number;
  /** A fresh lower-case UUID v4. */
  newId(): string;
  maskToken(token: string): string;
}

/** A commit with what is stored beside it. */
export interface ConvertedRow extends Commit {
  command_id: string | null;
  receipt: { op: CommandOp; fingerprint: null; commits: 1 } | null;
}

/** What was found in the files, and what became of it (docs/moving.md). */
export interface ReferenceReport {
  events: LinesFound & {
    /** Lines that stand behind a line of a later seq. */
    out_of_order: number;
    /** Records that came again, with the same id and content. */
    duplicates: number;
    /** Records that had to take a later seq, because theirs was another's. */
    renumbered: number;
    /** Seqs that no record has: each is filled with an event `context.run.gap`. */
    missing: number;
    /** Events with a snapshot that is none, or that the engine has not written: they change what any event does. */
    untrusted_snapshots: number;
  };
  patches: LinesFound & { duplicates: number; without_event: number; not_applicable: number };
  blackboard: {
    is_readable: boolean;
    /** Entries that stand there more often than patches say (contract 07 D26). */
    doubled: number;
    /** Entries and summaries that no patch has (07 D19): each has become a patch. */
    recovered: number;
  };
  run_state: {
    /** Events that are newer than the snapshot. */
    behind_by: number;
    /** Whether the log alone leads elsewhere (07 D16). */
    disagrees: boolean;
  };
  leases: { ended: number; tokens_masked: number };
  /** Found, and not taken over: the states they hold follow from the log, or from nothing. */
  checkpoints: { found: StoredCheckpoint[]; unreadable: string[] };
}

export interface Converted {
  initial: RunHeader;
  rows: ConvertedRow[];
  /** The run after the last row. */
  state: MemoryRun;
  report: ReferenceReport;
}

/** Seqs that may be missing in all; each costs a commit. */
export const MAX_MISSING_SEQS = 10_000;

/** Why files cannot be read as a run: which, and what is wrong. */
export class ReferenceUnreadable extends Error {
  readonly file: string;
  readonly rule: string;

  constructor(file: string, rule: string, message: string) {
    super(message);
    this.file = file;
    this.rule = rule;
  }
}

/**
 * Turns the files of the reference engine into a log of this one.
 *
 * C1 Every record that can be read becomes a commit, in order of seq, and keeps its seq where no other has it. What is
 *    missing between is filled, so that seqs stay contiguous (contract I1).
 * C2 Patches are the truth about the blackboard, each applied once (contract 07 D26); what only blackboard.json has
 *    becomes a patch.
 * C3 The last commits bring the run to where run_state.json says it was, with the events that are newer applied: so nothing that
 *    was changed without an event is lost (07 D16).
 * C4 A snapshot in an event counts only where the engine writes one (07 D09); the tenant and the run id are the importer's.
 * C5 Lease tokens are nowhere in what comes out, and no lease goes on.
 *
 * @throws ReferenceUnreadable
 */
export function convertReference(files: ReferenceFiles, context: ReferenceContext): Converted {
  const snapshot = readRun(parsed(files.run_state ?? ""));
  if (files.run_state === null) throw new ReferenceUnreadable("run_state.json", "required", "is missing");
  if (snapshot === null) throw new ReferenceUnreadable("run_state.json", "shape", "is no run");
  return new Conversion(snapshot, context).convert(files);
}

function recordsIn<T>(file: string, text: string | null, read: (value: unknown) => T | null) {
  const found = readLines(text ?? "", read);
  if (found !== null) return found;
  const message = `has more than ${MAX_UNPARSABLE} lines that hold no record`;
  throw new ReferenceUnreadable(file, "unparsable", message);
}

const CARRIERS: ReadonlySet<string> = new Set(["context.blackboard.patched", "context.artifact.added"]);

class Conversion {
  readonly #snapshot: StoredRun;
  readonly #context: ReferenceContext;
  readonly #runId: string;
  readonly #initial: RunHeader;
  readonly #rows: ConvertedRow[] = [];
  readonly #state: MemoryRun;
  readonly #commandIds = new Set<string>();
  #masked = 0;
  #untrusted = 0;
  #notApplicable = 0;

  constructor(snapshot: StoredRun, context: ReferenceContext) {
    this.#snapshot = snapshot;
    this.#context = context;
    this.#runId = context.run_id ?? snapshot.run_id;
    this.#initial = this.#beginning();
    this.#state = new MemoryRun(newHead(this.#initial));
  }

  convert(files: ReferenceFiles): Converted {
    const events = recordsIn("events.jsonl", files.events, readEvent);
    const patches = recordsIn("blackboard_patches.jsonl", files.blackboard_patches, readPatchRecord);
    const sorted = inOrder(events.records);
    const ownPatches = withoutDuplicates(patches.records);
    const { matched, rest } = match(sorted.kept, ownPatches.kept);
    const merged = [
      ...sorted.kept.map((event) => ({ seq: event.seq, event, patch: matched.get(event) ?? null })),
      ...rest.map((patch) => ({ seq: seqOf(patch), event: null, patch })),
    ].sort((a, b) => a.seq - b.seq);

    // What the snapshot says already holds what came until then.
    const target = this.#target();
    let missing = 0;
    let renumbered = 0;
    let behindBy = 0;
    for (const found of merged) {
      const { seq } = found;
      const next = this.#rows.length + 1;
      missing += Math.max(0, seq - next);
      if (missing > MAX_MISSING_SEQS) {
        const message = `has more than ${MAX_MISSING_SEQS} seqs that no record has`;
        throw new ReferenceUnreadable("events.jsonl", "missing_seqs", message);
      }
      while (this.#rows.length + 1 < seq) this.#gap({ missing_seq: this.#rows.length + 1 });
      if (found.event === null) {
        this.#orphan(found.patch);
        continue;
      }
      if (seq < next) renumbered += 1;
      const commit = this.#event(found.event, found.patch);
      if (seq > this.#snapshot.last_event_seq) {
        behindBy += 1;
        target.apply(commit);
      }
    }
    const board = this.#board(files.blackboard, ownPatches.kept);
    const disagrees = this.#disagrees(target);
    const ended = this.#finish(target, disagrees);
    const checkpoints = this.#checkpoints(files.checkpoints);
    return {
      initial: this.#initial,
      rows: this.#rows,
      state: this.#state,
      report: {
        events: {
          ...events.found,
          out_of_order: sorted.outOfOrder,
          duplicates: sorted.duplicates,
          renumbered,
          missing,
          untrusted_snapshots: this.#untrusted,
        },
        patches: {
          ...patches.found,
          duplicates: ownPatches.duplicates,
          without_event: rest.length,
          not_applicable: this.#notApplicable,
        },
        blackboard: board,
        run_state: { behind_by: behindBy, disagrees },
        leases: { ended, tokens_masked: this.#masked },
        checkpoints,
      },
    };
  }

  /** The run as it may have been created: nothing stored says it. */
  #beginning(): RunHeader {
    const {
      tasks: _tasks,
      started_at_ms: _start,
      ended_at_ms: _end,
      last_error: _error,
      ...header
    } = this.#snapshot;
    return {
      ...header,
      run_id: this.#runId,
      tenant_context: this.#context.tenant,
      status: "queued",
      steps: [],
      why_next_step: null,
      revision: 1,
      last_event_seq: 0,
      updated_at_ms: header.created_at_ms,
    };
  }

  /** The run as run_state.json has it. */
  #target(): MemoryRun {
    const { tasks, ...header } = this.#snapshot;
    const run = { ...header, run_id: this.#runId, tenant_context: this.#context.tenant };
    return new MemoryRun(
      newHead(run),
      tasks.map((task) => this.#withoutToken(task)),
    );
  }

  #event(event: StoredEvent, patch: StoredPatch | null): Commit {
    const payload = this.#trusted(event);
    return this.#commit(
      {
        event_id: event.event_id,
        ts_ms: event.ts_ms,
        type: event.type,
        status: event.status,
        ...(event.step_id !== undefined && { step_id: event.step_id }),
        ...(event.task_id !== undefined && { task_id: event.task_id }),
        ...(event.command_id !== undefined && { command_id: event.command_id }),
        ...(payload.isTrusted ? {} : { origin: "client" as const }),
        payload: payload.value,
      },
      patch,
      event.revision,
    );
  }

  /** The payload with whatever the engine would read of it made whole; untrusted where it is not what the engine writes. */
  #trusted({ type, payload }: StoredEvent): { value: unknown; isTrusted: boolean } {
    const value = this.#maskedJson(payload);
    const members = isObject(value) ? value : {};
    const trust = (whole: Record<string, unknown>) => ({ value: { ...members, ...whole }, isTrusted: true });
    if (type.startsWith("context.task.")) {
      const task = readTask(members.task);
      // Another engine has no locks: what looks like one is not its word.
      const { lock: _lock, ...rest } = members;
      if (task !== null) return { value: { ...rest, task }, isTrusted: true };
    } else if (type === "context.run.replaced" || type === "context.run.imported") {
      const run = readRun(members.run);
      if (run !== null)
        return trust({ run: { ...run, run_id: this.#runId, tenant_context: this.#context.tenant } });
    } else if (type === "todo_synced" || type === "meta_next_step_selected") {
      // Older ones have their steps in the snapshot alone.
      const steps = readSteps(members.steps) ?? readRun(members.run)?.steps;
      const why = members.why_next_step;
      if (steps !== undefined && (typeof why === "string" || why == null)) return trust({ steps });
    } else if (type === "workspace_validated" || type === "workspace_mismatch") {
      const names = ["actual_path", "expected_path", "phase"];
      if (names.every((name) => typeof members[name] === "string")) return trust({});
    } else if (CARRIERS.has(type) || type === "rollback_execution_applied") {
      // The reference engine keeps no artifact space: what looks like a change of one is not its word.
      const { files: _files, ...rest } = members;
      return { value: isObject(value) ? rest : value, isTrusted: true };
    } else {
      return { value, isTrusted: !type.startsWith("context.") };
    }
    this.#untrusted += 1;
    return { value, isTrusted: false };
  }

  /** A patch whose event is lost, or whose seq is another's. */
  #orphan(patch: StoredPatch): void {
    if (isTaskOp(patch.op)) {
      this.#gap({ recovered: "patch" }, patch);
      return;
    }
    const seq = this.#rows.length + 1;
    const payload = {
      op: patch.op,
      payload: this.#maskedJson(patch.payload),
      patch_seq: seq,
      recovered: true,
    };
    this.#commit({ ...this.#own(typeOf(patch.op)), ts_ms: patch.ts_ms, payload }, patch, 0);
  }

  #gap(payload: Record<string, unknown>, patch: StoredPatch | null = null): void {
    this.#commit({ ...this.#own("context.run.gap"), payload }, patch, 0);
  }

  /** What an event that is written here has of itself. */
  #own(type: string): Pick<EventRecord, "event_id" | "type" | "status" | "ts_ms"> {
    const { run } = this.#state.head();
    return { event_id: `evt-${this.#context.newId()}`, type, status: run.status, ts_ms: run.updated_at_ms };
  }

  #commit(
    draft: Pick<EventRecord, "event_id" | "ts_ms" | "type" | "status" | "payload"> & Partial<EventRecord>,
    stored: StoredPatch | null,
    revision: number,
  ): Commit {
    const { run } = this.#state.head();
    const seq = this.#rows.length + 1;
    const { payload, ...members } = draft;
    const event: EventRecord = {
      ...members,
      run_id: this.#runId,
      seq,
      run_status: run.status,
      revision: Math.max(run.revision + 1, revision),
      payload,
    };
    const patch: PatchRecord | null = stored && {
      patch_id: stored.patch_id,
      run_id: this.#runId,
      seq,
      ts_ms: stored.ts_ms,
      source_event_seq: seq,
      op: stored.op,
      payload: this.#maskedJson(stored.payload),
    };
    if (patch !== null && !isTaskOp(patch.op) && !readPatch(patch.op, patch.payload).ok)
      this.#notApplicable += 1;
    const commit = { event, patch };
    this.#state.apply(commit);
    event.run_status = this.#state.head().run.status;
    this.#rows.push({ ...commit, ...this.#command(event) });
    return commit;
  }

  /** A command id that was used stays used (contract I15). */
  #command({ command_id, type }: EventRecord): Pick<ConvertedRow, "command_id" | "receipt"> {
    if (command_id === undefined || command_id.trim() === "" || this.#commandIds.has(command_id)) {
      return { command_id: null, receipt: null };
    }
    this.#commandIds.add(command_id);
    const op = OPS[type] ?? "transition_task";
    return { command_id, receipt: { op, fingerprint: null, commits: 1 } };
  }

  /** Compares blackboard.json with the patches, and writes down as patches what they lack. */
  #board(text: string | null, patches: StoredPatch[]): ReferenceReport["blackboard"] {
    const board = readBoard(parsed(text ?? ""));
    if (board === null) return { is_readable: text === null, doubled: 0, recovered: 0 };
    const counts = new Map<string, number>();
    for (const { op, payload } of patches) {
      const read = readPatch(op, payload);
      if (read.ok && read.effect.kind !== "set_summary") count(counts, op, entryOf(read.effect));
    }
    let doubled = 0;
    let recovered = 0;
    for (const [op, list] of LISTS) {
      const seen = new Map<string, number>();
      for (const entry of board[list]) {
        const times = count(seen, op, entry);
        const known = counts.get(keyOf(op, entry)) ?? 0;
        if (times > Math.max(1, known)) doubled += 1;
        else if (known === 0) {
          recovered += 1;
          this.#recover(op, entry);
        }
      }
    }
    const newest = patches.reduce((seq, patch) => Math.max(seq, patch.seq), 0);
    const { summaries } = this.#state.head();
    for (const [op, name] of SUMMARIES) {
      // A board that is behind its patches says nothing newer than they do.
      if (board.revision < newest || board.summaries[name] === summaries[name]) continue;
      recovered += 1;
      this.#recover(op, board.summaries[name]);
    }
    return { is_readable: true, doubled, recovered };
  }

  #recover(op: PatchOp, payload: unknown): void {
    const { updated_at_ms: ts_ms } = this.#state.head().run;
    this.#orphan({ patch_id: `bbp-${this.#context.newId()}`, seq: 0, ts_ms, op, payload });
  }

  /** Whether the log alone leads to another run than the snapshot tells. */
  #disagrees(target: MemoryRun): boolean {
    const shown = ({ revision: _r, last_event_seq: _s, updated_at_ms: _u, ...run }: Run) => run;
    return keyOf("", shown(this.#state.run())) !== keyOf("", shown(target.run()));
  }

  /** Brings the run to where the files say it was, and ends its leases. Returns how many. */
  #finish(target: MemoryRun, disagrees: boolean): number {
    const atMs = Math.max(this.#context.nowMs, this.#state.head().run.updated_at_ms);
    const { tasks, ...header } = target.run();
    const leased = tasks.filter((task) => task.lease_token !== undefined);
    if (!disagrees && leased.length === 0) return 0;
    const free = tasks.map((task) => withoutHolder(task, atMs));
    const run: Run = { ...header, tasks: free };
    let first = free.length;
    // A run that does not fit into one commit comes in several: tasks are added one by one, in their order.
    if (bytesOver(JSON.stringify(run), MAX_REPLACED_RUN_BYTES) !== null) first = 0;
    const replacement = { ...run, tasks: free.slice(0, first) };
    const draft = { ...this.#own("context.run.imported"), status: run.status, ts_ms: atMs };
    this.#commit({ ...draft, payload: { run: replacement } }, null, run.revision + 1);
    for (const task of free.slice(first)) {
      const seq = this.#rows.length + 1;
      const payload = { task_id: task.id, task, patch_seq: seq };
      const patch = {
        patch_id: `bbp-${this.#context.newId()}`,
        seq,
        ts_ms: atMs,
        op: "add_task",
        payload: task,
      } as const;
      const own = { ...this.#own("context.task.imported"), ts_ms: atMs, step_id: task.id, task_id: task.id };
      this.#commit({ ...own, payload }, patch, 0);
    }
    return leased.length;
  }

  #checkpoints(files: ReferenceFiles["checkpoints"]): ReferenceReport["checkpoints"] {
    const found: StoredCheckpoint[] = [];
    const unreadable: string[] = [];
    for (const { name, text } of files) {
      const head = readCheckpointHead(parsed(text));
      if (head === null) unreadable.push(name);
      else found.push(head);
    }
    return { found, unreadable };
  }

  #withoutToken(task: Task): Task {
    return this.#maskedJson(task) as Task;
  }

  /** JSON with fingerprints in place of lease tokens, wherever they stand. */
  #maskedJson(value: unknown): unknown {
    if (Array.isArray(value)) return value.map((member) => this.#maskedJson(member));
    if (!isObject(value)) return value;
    const entries = Object.entries(value).map(([name, member]): [string, unknown] => {
      if (name !== "lease_token" || typeof member !== "string" || member.startsWith("sha256:")) {
        return [name, this.#maskedJson(member)];
      }
      this.#masked += 1;
      return [name, this.#context.maskToken(member)];
    });
    return Object.fromEntries(entries);
  }
}

const LISTS = [
  ["add_fact", "facts"],
  ["add_decision", "decisions"],
  ["add_open_question", "open_questions"],
  ["add_artifact", "artifacts"],
] as const satisfies [PatchOp, keyof StoredBoard][];

const SUMMARIES = [
  ["set_rolling_summary", "rolling"],
  ["set_latest_context_pack", "latest_context_pack"],
] as const satisfies [PatchOp, keyof StoredBoard["summaries"]][];

/** The kind of command that writes an event of this type under a command id. */
const OPS: Readonly<Record<string, CommandOp>> = {
  "context.task.created": "create_tasks",
  "context.task.claimed": "claim_task",
};

function typeOf(op: PatchOp): string {
  return op === "add_artifact" ? "context.artifact.added" : "context.blackboard.patched";
}

function entryOf(effect: { note?: Note; artifact?: Artifact }): unknown {
  return effect.note ?? effect.artifact;
}

/** Counts an entry in; returns how often it has come. */
function count(counts: Map<string, number>, op: PatchOp, entry: unknown): number {
  const key = keyOf(op, entry);
  const times = (counts.get(key) ?? 0) + 1;
  counts.set(key, times);
  return times;
}

/** Equal values have equal keys, whatever order their members are in. */
function keyOf(op: string, value: unknown): string {
  return `${op} ${canonicalJson(value)}`;
}

/** Events in the order of their lines, with how many of those stand behind a later one. What came twice is taken once. */
function inOrder(records: { line: number; record: StoredEvent }[]): {
  kept: StoredEvent[];
  duplicates: number;
  outOfOrder: number;
} {
  let outOfOrder = 0;
  let highest = 0;
  for (const { record } of records) {
    if (record.seq < highest) outOfOrder += 1;
    highest = Math.max(highest, record.seq);
  }
  return { ...withoutDuplicates(records), outOfOrder };
}

/** Records without those that say the same as one before. */
function withoutDuplicates<T>(records: { record: T }[]): { kept: T[]; duplicates: number } {
  const seen = new Set<string>();
  const kept = records
    .map(({ record }) => record)
    .filter((record) => {
      const key = canonicalJson(record);
      if (seen.has(key)) return false;
      seen.add(key);
      return true;
    });
  return { kept, duplicates: records.length - kept.length };
}

/** Each patch with the event of its seq, if that is one that has a patch and has none yet. */
function match(
  events: StoredEvent[],
  patches: StoredPatch[],
): { matched: Map<StoredEvent, StoredPatch>; rest: StoredPatch[] } {
  // Those without a patch, the first of a seq last.
  const waiting = { board: new Map<number, StoredEvent[]>(), task: new Map<number, StoredEvent[]>() };
  for (const event of events.toReversed()) {
    const isTask = event.type.startsWith("context.task.");
    if (!isTask && !CARRIERS.has(event.type)) continue;
    const bySeq = isTask ? waiting.task : waiting.board;
    const others = bySeq.get(event.seq);
    if (others === undefined) bySeq.set(event.seq, [event]);
    else others.push(event);
  }
  const matched = new Map<StoredEvent, StoredPatch>();
  const rest: StoredPatch[] = [];
  for (const patch of patches) {
    const bySeq = isTaskOp(patch.op) ? waiting.task : waiting.board;
    const event = bySeq.get(seqOf(patch))?.pop();
    if (event === undefined) rest.push(patch);
    else matched.set(event, patch);
  }
  return { matched, rest };
}

/** The seq of the event that a patch belongs to. */
function seqOf({ source_event_seq, seq }: StoredPatch): number {
  return source_event_seq ?? seq;
}

function withoutHolder(task: Task, nowMs: number): Task {
  if (task.lease_token === undefined) return task;
  if (task.status !== "in_progress") return withoutLease(task);
  return { ...requeueStale(task, { nowMs, random: () => 0 }).task, updated_ts: nowMs };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
