import { isDeepStrictEqual } from "node:util";
import { dueAtMs, hasFailurePolicy } from "../../../../src/domain/clocks.ts";
import type { PatchRecord } from "../../../../src/protocol/blackboard.ts";
import type { EventRecord } from "../../../../src/protocol/event.ts";
import type { Task } from "../../../../src/protocol/task.ts";
import { commitHash } from "../../../../src/run/chain.ts";
import type { Violation } from "../observer.ts";
import { type Folded, foldLog } from "./fold.ts";
import type { StoredRun, StoredTask } from "./stored.ts";

/*
 * Whether what one transaction wrote is there as a whole: the rows of a run must be those that its log comes to, each commit
 * with all its parts. For runs whose log lies in the table alone, and that began empty.
 */

type Flag = (rule: string, detail: string, seq?: number) => void;

export function checkRunRows(stored: StoredRun, run_id: string): Violation[] {
  const violations: Violation[] = [];
  const flag: Flag = (rule, detail, seq) =>
    violations.push({ rule, detail, run_id, ...(seq !== undefined && { seq }) });
  checkCommits(stored, flag);
  if (violations.length > 0) return violations;
  const lastSeq = stored.commits.at(-1)?.seq ?? 0;
  const folded = foldLog(stored.run.initial, stored.commits, new Set([stored.run.head_seq, lastSeq]));
  checkHead(stored, folded, flag);
  checkTasks(stored, folded, flag);
  checkLists(stored, folded, flag);
  return violations;
}

/** Commits follow each other without gaps, each vouches for the one before, has its patch, and the receipt of its command. */
function checkCommits({ commits }: StoredRun, flag: Flag): void {
  let before: string | null = null;
  for (const [index, row] of commits.entries()) {
    const { seq, prev_hash, command_id, receipt } = row;
    if (seq !== index + 1) {
      flag("gap", `commit ${index + 1} is missing, ${seq} is there`, seq);
      return;
    }
    const event = JSON.parse(row.event) as EventRecord;
    const patch = row.patch === null ? null : (JSON.parse(row.patch) as PatchRecord);
    if (event.seq !== seq) flag("event_seq", `the event says it is ${event.seq}`, seq);
    if (before !== null && prev_hash !== before)
      flag("chain", "it does not vouch for the commit before", seq);
    before = commitHash(row);
    if (patch !== null && patch.source_event_seq !== seq) {
      flag("patch", `its patch is of event ${patch.source_event_seq}`, seq);
    }
    const promised = (event.payload as { patch_seq?: unknown } | null)?.patch_seq;
    if (event.origin !== "client" && typeof promised === "number" && patch?.seq !== promised) {
      flag("patch", `its event speaks of patch ${promised}, its patch is ${patch?.seq ?? "missing"}`, seq);
    }
    if ((command_id === null) !== (receipt === null))
      flag("receipt", "a command id without its receipt, or the reverse", seq);
    const made = receipt === null ? 1 : ((JSON.parse(receipt) as { commits?: number }).commits ?? 1);
    if (seq + made - 1 > commits.length) {
      flag("half_command", `its command made ${made} commits, ${commits.length - seq + 1} are there`, seq);
    }
  }
}

function checkHead({ run, commits, tasks }: StoredRun, { heads }: Folded, flag: Flag): void {
  const { head, head_seq, log_hash } = run;
  const folded = heads.get(head_seq);
  if (folded === undefined) {
    flag("head", `it is of commit ${head_seq}, which is not there`);
    return;
  }
  const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
  if (!isDeepStrictEqual(plain(folded), JSON.parse(head))) {
    flag("head", `saved as ${head}, the log comes to ${JSON.stringify(folded)}`, head_seq);
  }
  const row = commits[head_seq - 1];
  if (log_hash !== null && row !== undefined && log_hash !== commitHash(row)) {
    flag("head", "the hash that was saved with it is not that of its commit", head_seq);
  }
  if (head_seq !== (commits.at(-1)?.seq ?? 0)) return;
  for (const [status, counted] of Object.entries(JSON.parse(run.task_counts) as Record<string, number>)) {
    const there = status === "total" ? tasks.length : tasks.filter((task) => task.status === status).length;
    if (counted !== there) flag("counts", `${status}: ${counted} are counted, ${there} are there`);
  }
}

function checkTasks({ tasks: rows, edges }: StoredRun, { tasks }: Folded, flag: Flag): void {
  const ids = rows.toSorted((a, b) => a.pos - b.pos).map(({ id }) => id);
  if (!isDeepStrictEqual(ids, [...tasks.keys()])) {
    flag("tasks", `the rows are of ${ids.join(", ")}; the log has ${[...tasks.keys()].join(", ")}`);
  }
  for (const row of rows) {
    const task = tasks.get(row.id);
    if (task === undefined) continue;
    if (JSON.stringify(JSON.parse(row.doc)) !== JSON.stringify(task)) {
      flag("tasks", `${row.id} is stored as ${row.doc}, the log has ${JSON.stringify(task)}`);
    }
    const wrong = wrongColumns(row, task, tasks);
    if (wrong.length > 0) flag("task_columns", `of ${row.id} these do not fit it: ${wrong.join(", ")}`);
  }
  const wanted = [...tasks.values()].flatMap(({ id, depends_on_task_ids }) =>
    [...new Set(depends_on_task_ids)].map((dependency) => `${dependency} → ${id}`),
  );
  const there = edges.map(({ dependency, dependent }) => `${dependency} → ${dependent}`);
  const isSame = wanted.length === there.length && wanted.toSorted().join() === there.toSorted().join();
  if (!isSame) flag("edges", `${there.length} are stored, the tasks have ${wanted.length}`);
}

/** The columns by which claims and alarms find a task, where they are not the task's. */
function wrongColumns(row: StoredTask, task: Task, tasks: ReadonlyMap<string, Task>): string[] {
  const dependencies = [...new Set(task.depends_on_task_ids)];
  const open = dependencies.filter((id) => tasks.get(id)?.status !== "done").length;
  const isOpen = task.status === "pending" || task.status === "runnable";
  const queues = (() => {
    if (task.status === "in_progress") return [task.lease_expires_at_ms === undefined ? null : "leased"];
    if (!isOpen || open > 0) return [null];
    // One that is delayed becomes ready when somebody looks.
    return task.next_retry_at_ms === undefined ? ["ready"] : ["ready", "delayed"];
  })();
  const hasFailed = hasFailurePolicy(task) && dependencies.some((id) => tasks.get(id)?.status === "failed");
  const dueMs = dueAtMs(task, hasFailed, Number.MAX_SAFE_INTEGER);
  // A clock may be noted early, never late.
  const isDueRight =
    dueMs === null ? row.due_at_ms === null : row.due_at_ms !== null && row.due_at_ms <= dueMs;
  const checks: Record<string, boolean> = {
    task_type: row.task_type === task.task_type,
    workflow_id: row.workflow_id === (task.workflow_id ?? ""),
    concurrency_key: row.concurrency_key === (task.concurrency_key ?? ""),
    priority: row.priority === task.priority,
    created_ts: row.created_ts === task.created_ts,
    status: row.status === task.status,
    lease_expires_at_ms: row.lease_expires_at_ms === (task.lease_expires_at_ms ?? null),
    open_dependencies: row.open_dependencies === open,
    dead_letter: row.dead_letter === (task.dead_letter === true ? 1 : 0),
    queue: queues.includes(row.queue),
    due_at_ms: isDueRight,
  };
  return Object.entries(checks).flatMap(([column, isRight]) => (isRight ? [] : [column]));
}

/** The blackboard, the artifact space and the index of effects. */
function checkLists(stored: StoredRun, folded: Folded, flag: Flag): void {
  const same = (rule: string, there: readonly string[], wanted: readonly string[]): void => {
    const at = wanted.findIndex((one, index) => one !== there[index]);
    if (at === -1 && there.length === wanted.length) return;
    const index = at === -1 ? wanted.length : at;
    flag(
      rule,
      `${there.length} rows, the log comes to ${wanted.length}; row ${index + 1} is ${there[index]}, not ${wanted[index]}`,
    );
  };
  const plain = (doc: string): string => JSON.stringify(JSON.parse(doc));
  same(
    "notes",
    stored.notes.map(({ list, doc }) => `${list} ${plain(doc)}`),
    folded.notes,
  );
  same(
    "artifacts",
    stored.artifacts.map(({ doc }) => plain(doc)),
    folded.artifacts,
  );
  const versions = folded.versions.map((file) => JSON.stringify(file)).toSorted();
  same("file_versions", stored.file_versions.map(({ doc }) => plain(doc)).toSorted(), versions);
  const files = [...folded.files.values()].map((file) => JSON.stringify(file)).toSorted();
  same("files", stored.files.map(({ doc }) => plain(doc)).toSorted(), files);
  same(
    "effects",
    stored.effects.map(({ kind, seq }) => `${kind} ${seq}`).toSorted(),
    [...folded.effects].toSorted(),
  );
}
