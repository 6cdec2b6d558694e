import type { Artifact, Blackboard, Note, NoteList, Summaries } from "../protocol/blackboard.ts";
import { NOTE_LISTS } from "../protocol/blackboard.ts";
import type { FileVersion } from "../protocol/file-version.ts";
import type { Run, RunHeader, Step } from "../protocol/run.ts";
import type { Task } from "../protocol/task.ts";
import { isSameJson } from "./json-same.ts";
import type { MemoryRun } from "./memory.ts";

/** Everything about a run that clients can see, at one moment: one side of a diff. */
export interface Moment {
  run: Run;
  /** Without its tasks: those of the run are the same. */
  blackboard: Omit<Blackboard, "tasks">;
  /** What the artifact space holds, by path. */
  files: FileVersion[];
}

/** A value before and after; a side that has none lacks the member. */
export interface Changed<T = unknown> {
  before?: T;
  after?: T;
}

/** Members that differ, by name. */
export type ChangedMembers = Record<string, Changed>;

/** What differs in a list that only grows: going back, entries at its end are removed. */
export interface ListDiff<T> {
  removed: T[];
  added: T[];
}

/** What leads from one moment of a run to another. */
export interface Diff {
  /** Members of the run other than its steps and tasks. */
  run: ChangedMembers;
  /** Null when they are the same. */
  steps: { before: Step[]; after: Step[] } | null;
  tasks: {
    added: Task[];
    /** Ids. */
    removed: string[];
    changed: { id: string; members: ChangedMembers }[];
    /** All ids in their new order, where added tasks do not just follow those that stayed; else null. */
    order: string[] | null;
  };
  facts: ListDiff<Note>;
  decisions: ListDiff<Note>;
  open_questions: ListDiff<Note>;
  artifacts: ListDiff<Artifact>;
  files: {
    added: FileVersion[];
    /** Paths. */
    removed: string[];
    changed: { path: string; before: FileVersion; after: FileVersion }[];
  };
  summaries: { [Name in keyof Summaries]?: Changed<string> };
  /** Null when it is the same. */
  blackboard_revision: Changed<number> | null;
}

/** A run in memory as it is now; commits that it takes in later do not change what was taken here. */
export function momentOf(state: MemoryRun): Moment {
  const { tasks: _tasks, ...board } = state.blackboard();
  return {
    run: state.run(),
    blackboard: {
      ...board,
      facts: [...board.facts],
      decisions: [...board.decisions],
      open_questions: [...board.open_questions],
      artifacts: [...board.artifacts],
    },
    files: state.files(),
  };
}

/** What changed from `before` to `after`. Either may be the later one. */
export function diff(before: Moment, after: Moment): Diff {
  const { steps: stepsBefore, tasks: tasksBefore, ...headerBefore } = before.run;
  const { steps: stepsAfter, tasks: tasksAfter, ...headerAfter } = after.run;
  const [boardBefore, boardAfter] = [before.blackboard, after.blackboard];
  return {
    run: changedMembers(headerBefore, headerAfter),
    steps: isSameJson(stepsBefore, stepsAfter) ? null : { before: stepsBefore, after: stepsAfter },
    tasks: taskDiff(tasksBefore, tasksAfter),
    facts: listDiff(boardBefore.facts, boardAfter.facts),
    decisions: listDiff(boardBefore.decisions, boardAfter.decisions),
    open_questions: listDiff(boardBefore.open_questions, boardAfter.open_questions),
    artifacts: listDiff(boardBefore.artifacts, boardAfter.artifacts),
    files: fileDiff(before.files, after.files),
    summaries: changedMembers(boardBefore.summaries, boardAfter.summaries) as Diff["summaries"],
    blackboard_revision:
      boardBefore.revision === boardAfter.revision
        ? null
        : { before: boardBefore.revision, after: boardAfter.revision },
  };
}

/** Whether a diff says that nothing changed. */
export function isEmptyDiff(changes: Diff): boolean {
  const { tasks, files } = changes;
  const lists = [
    tasks.added,
    tasks.removed,
    tasks.changed,
    files.added,
    files.removed,
    files.changed,
    ...[...NOTE_LISTS, "artifacts" as const].flatMap((name) => [changes[name].added, changes[name].removed]),
  ];
  return (
    lists.every((list) => list.length === 0) &&
    Object.keys(changes.run).length === 0 &&
    Object.keys(changes.summaries).length === 0 &&
    changes.steps === null &&
    tasks.order === null &&
    changes.blackboard_revision === null
  );
}

/** The other side: what `diff(before, after)` applied to `before` gives is `after`. */
export function applyDiff(before: Moment, changes: Diff): Moment {
  const { steps, tasks, ...header } = before.run;
  const board = before.blackboard;
  const list = (name: NoteList): Note[] => applyList(board[name], changes[name]);
  const after: Run = {
    ...(applyMembers(header, changes.run) as Omit<RunHeader, "steps">),
    steps: changes.steps === null ? steps : changes.steps.after,
    tasks: applyTasks(tasks, changes.tasks),
  };
  return {
    run: after,
    blackboard: {
      facts: list("facts"),
      decisions: list("decisions"),
      open_questions: list("open_questions"),
      artifacts: applyList(board.artifacts, changes.artifacts),
      summaries: applyMembers(board.summaries, changes.summaries) as Summaries,
      revision: changes.blackboard_revision?.after ?? board.revision,
    },
    files: applyFiles(before.files, changes.files),
  };
}

function changedMembers(before: object, after: object): ChangedMembers {
  const left = before as Record<string, unknown>;
  const right = after as Record<string, unknown>;
  const names = new Set([...Object.keys(left), ...Object.keys(right)]);
  const changed: [string, Changed][] = [];
  for (const name of names) {
    const isIn = { before: Object.hasOwn(left, name), after: Object.hasOwn(right, name) };
    if (isSameJson(left[name], right[name])) continue;
    changed.push([
      name,
      { ...(isIn.before && { before: left[name] }), ...(isIn.after && { after: right[name] }) },
    ]);
  }
  return Object.fromEntries(changed);
}

function applyMembers(before: object, changes: ChangedMembers): object {
  const kept = Object.entries(before).filter(([name]) => !Object.hasOwn(changes, name));
  const set = Object.entries(changes).flatMap(([name, change]): [string, unknown][] =>
    Object.hasOwn(change, "after") ? [[name, change.after]] : [],
  );
  return Object.fromEntries([...kept, ...set]);
}

function listDiff<T>(before: T[], after: T[]): ListDiff<T> {
  let same = 0;
  while (same < before.length && isSameJson(before[same], after[same])) same += 1;
  return { removed: before.slice(same), added: after.slice(same) };
}

function applyList<T>(before: T[], { removed, added }: ListDiff<T>): T[] {
  return [...before.slice(0, before.length - removed.length), ...added];
}

function taskDiff(before: Task[], after: Task[]): Diff["tasks"] {
  const left = new Map(before.map((task) => [task.id, task]));
  const right = new Map(after.map((task) => [task.id, task]));
  const added = after.filter((task) => !left.has(task.id));
  const removed = before.filter((task) => !right.has(task.id)).map((task) => task.id);
  const changed = after.flatMap((task) => {
    const old = left.get(task.id);
    // Tasks are never changed in place: what no commit touched is the same object.
    if (old === undefined || old === task) return [];
    const members = changedMembers(old, task);
    return Object.keys(members).length === 0 ? [] : [{ id: task.id, members }];
  });
  const expected = [...before.filter((task) => right.has(task.id)), ...added];
  const isInOrder = expected.every((task, index) => task.id === after[index]?.id);
  return { added, removed, changed, order: isInOrder ? null : after.map((task) => task.id) };
}

function applyTasks(before: Task[], { added, removed, changed, order }: Diff["tasks"]): Task[] {
  const gone = new Set(removed);
  const changes = new Map(changed.map(({ id, members }) => [id, members]));
  const tasks = [...before.filter((task) => !gone.has(task.id)), ...added].map((task) => {
    const members = changes.get(task.id);
    return members === undefined ? task : (applyMembers(task, members) as Task);
  });
  if (order === null) return tasks;
  const byId = new Map(tasks.map((task) => [task.id, task]));
  return order.flatMap((id) => byId.get(id) ?? []);
}

function fileDiff(before: FileVersion[], after: FileVersion[]): Diff["files"] {
  const left = new Map(before.map((file) => [file.path, file]));
  const right = new Map(after.map((file) => [file.path, file]));
  return {
    added: after.filter((file) => !left.has(file.path)),
    removed: before.filter((file) => !right.has(file.path)).map((file) => file.path),
    changed: after.flatMap((file) => {
      const old = left.get(file.path);
      if (old === undefined || isSameJson(old, file)) return [];
      return [{ path: file.path, before: old, after: file }];
    }),
  };
}

function applyFiles(before: FileVersion[], { added, removed, changed }: Diff["files"]): FileVersion[] {
  const files = new Map(before.map((file) => [file.path, file]));
  for (const path of removed) files.delete(path);
  for (const { path, after } of changed) files.set(path, after);
  for (const file of added) files.set(file.path, file);
  return [...files.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}
