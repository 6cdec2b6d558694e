import { type Change, evolve } from "../../../../src/domain/evolve.ts";
import { newHead, type RunHead } from "../../../../src/domain/head.ts";
import type { PatchRecord } from "../../../../src/protocol/blackboard.ts";
import type { EventRecord } from "../../../../src/protocol/event.ts";
import type { FileVersion } from "../../../../src/protocol/file-version.ts";
import type { RunHeader } from "../../../../src/protocol/run.ts";
import type { Task } from "../../../../src/protocol/task.ts";
import type { LogRow } from "../../../../src/run/chain.ts";

/** A run as its log alone has it. */
export interface Folded {
  /** After each commit; the first is that of the run as it was made. */
  readonly heads: ReadonlyMap<number, RunHead>;
  readonly tasks: ReadonlyMap<string, Task>;
  /** JSON, in order, with the list they are in. */
  readonly notes: readonly string[];
  readonly artifacts: readonly string[];
  /** What each path holds. */
  readonly files: ReadonlyMap<string, FileVersion>;
  readonly versions: readonly FileVersion[];
  /** `kind seq`. */
  readonly effects: ReadonlySet<string>;
}

/**
 * Works out a run from the header that it was made with, and its commits: the rules are the engine's (src/domain), the rows
 * are the disk's. @param keep seqs whose heads are wanted. @throws Error when a row is not JSON.
 */
export function foldLog(initial: string, commits: readonly LogRow[], keep: ReadonlySet<number>): Folded {
  let head = newHead(JSON.parse(initial) as RunHeader);
  const heads = new Map<number, RunHead>([[0, head]]);
  const tasks = new Map<string, Task>();
  const notes: string[] = [];
  const artifacts: string[] = [];
  const files = new Map<string, FileVersion>();
  const versions: FileVersion[] = [];
  const effects = new Set<string>();
  const take = (change: Change): void => {
    if (change.kind === "put_task") tasks.set(change.task.id, change.task);
    else if (change.kind === "add_note") notes.push(`${change.list} ${JSON.stringify(change.note)}`);
    else if (change.kind === "add_artifact") artifacts.push(JSON.stringify(change.artifact));
    else if (change.kind === "index_effect") effects.add(`${change.effect.kind} ${change.effect.seq}`);
    else if (change.kind === "put_file") {
      versions.push(change.file);
      if (change.file.sha256 === null) files.delete(change.file.path);
      else files.set(change.file.path, change.file);
    } else if (change.kind === "replace_tasks") {
      tasks.clear();
      for (const task of change.tasks) tasks.set(task.id, task);
    }
  };
  for (const row of commits) {
    const event = JSON.parse(row.event) as EventRecord;
    const patch = row.patch === null ? null : (JSON.parse(row.patch) as PatchRecord);
    const next = evolve(head, { event, patch });
    head = next.head;
    if (keep.has(row.seq)) heads.set(row.seq, head);
    for (const change of next.changes) take(change);
  }
  return { heads, tasks, notes, artifacts, files, versions, effects };
}
