import { asObject, type JsonObject, listAt, stringAt } from "./fields.ts";
import { openCycles } from "./plan-cycles.ts";

/** The engine's limit for the payload of one task. */
const maxPayloadBytes = 256 * 1024;

const idPattern = /^[A-Za-z0-9._:-]{1,200}$/;

/** Statuses that mean there is nothing left to do: finished, or withdrawn. */
const finishedStatuses = new Set(["closed", "done", "completed", "cancelled", "tombstone"]);
/** Statuses that mean work is left. A plan's "in progress" carries no lease, so here it is pending like any other. */
const openStatuses = new Set([
  "open",
  "pending",
  "ready",
  "in_progress",
  "blocked",
  "deferred",
  "hooked",
  "pinned",
]);

/** A row as `POST /v1/runs/{id}/tasks` takes it. */
export interface PlanTask {
  readonly id: string;
  readonly task_type: string;
  readonly payload: JsonObject;
  readonly status: "pending" | "done";
  /** Larger is earlier: 100 for the plan's most urgent priority 0, ten less for each step down. */
  readonly priority: number;
  readonly parent_task_id?: string;
  readonly depends_on_task_ids: readonly string[];
}

export type PlanProblemKind =
  | "line_malformed"
  | "id_invalid"
  | "id_duplicate"
  | "field_invalid"
  | "status_unknown"
  | "dependency_malformed"
  | "dependency_dangling"
  | "dependency_self"
  | "dependency_repeated"
  | "dependency_cycle"
  | "parent_dangling"
  | "parent_extra"
  | "reference_dangling"
  | "closed_before_dependency"
  | "output_target_invented"
  | "payload_shortened";

/** Something in the plan that the drill could not take literally, and what it did instead. */
export interface PlanProblem {
  readonly kind: PlanProblemKind;
  /** 1-based line of the file. */
  readonly line: number;
  readonly id?: string;
  readonly detail: string;
}

export interface Plan {
  /** In file order. */
  readonly tasks: readonly PlanTask[];
  readonly problems: readonly PlanProblem[];
}

export interface Reference {
  readonly id: string;
  readonly type: string;
}

/** One usable line of the file, before its references are looked up. */
export interface PlanLine {
  readonly line: number;
  readonly id: string;
  readonly source: JsonObject;
  readonly references: readonly Reference[];
}

/** How the reader tells of a problem: kind, line, id, detail. */
export type Report = (kind: PlanProblemKind, line: number, id: string | undefined, detail: string) => void;

/**
 * Reads a plan: JSON lines with `id, title, description, issue_type, priority, status, labels, dependencies[{id,type}]`.
 * Dependencies of type `blocks` must be done first, the first of type `parent-child` names the parent, all others go into
 * the payload as `references`. Never throws: what cannot be used is left out and reported, so that the rest can run.
 *
 * @param text the whole file
 * @param options.fresh reopen finished tasks, so that all of the plan is worked
 */
export function parsePlan(text: string, options: { readonly fresh: boolean }): Plan {
  const problems: PlanProblem[] = [];
  const report: Report = (kind, line, id, detail) =>
    problems.push(id === undefined ? { kind, line, detail } : { kind, line, id, detail });

  const lines = readLines(text, report);
  const known = new Map(lines.map((line) => [line.id, line]));
  const dependencies = new Map(lines.map((line) => [line.id, readDependencies(line, known, report)]));
  openCycles(lines, dependencies, report);

  const tasks = lines.map((line) =>
    toTask(line, known, dependencies.get(line.id) ?? [], options.fresh, report),
  );
  reportClosedTooEarly(tasks, known, report);
  problems.sort((a, b) => a.line - b.line);
  return { tasks, problems };
}

function readLines(text: string, report: Report): PlanLine[] {
  const lines: PlanLine[] = [];
  const lineOfId = new Map<string, number>();
  for (const [index, row] of text.split("\n").entries()) {
    if (row.trim() === "") continue;
    const line = index + 1;
    const source = asObject(parseJson(row));
    if (source === undefined) {
      report("line_malformed", line, undefined, "not a JSON object; the line is left out");
      continue;
    }
    const id = stringAt(source, "id") ?? "";
    if (!idPattern.test(id) || id === "." || id === "..") {
      report("id_invalid", line, id, "not an id Baton takes ([A-Za-z0-9._:-]{1,200}); the line is left out");
      continue;
    }
    const first = lineOfId.get(id);
    if (first !== undefined) {
      report("id_duplicate", line, id, `already on line ${first}; this line is left out`);
      continue;
    }
    lineOfId.set(id, line);
    lines.push({ line, id, source, references: readReferences(source, line, id, report) });
  }
  return lines;
}

function readReferences(source: JsonObject, line: number, id: string, report: Report): Reference[] {
  const value = source.dependencies;
  if (value !== undefined && value !== null && !Array.isArray(value)) {
    report("dependency_malformed", line, id, "dependencies is not a list; it is left out");
  }
  const references: Reference[] = [];
  for (const entry of listAt(source, "dependencies")) {
    const target = stringAt(entry, "id");
    const type = stringAt(entry, "type");
    if (target === undefined || type === undefined) {
      report("dependency_malformed", line, id, `${JSON.stringify(entry)} has no id and type; it is left out`);
      continue;
    }
    references.push({ id: target, type });
  }
  return references;
}

/** The ids a task must wait for, without those it could only wait for in vain. */
function readDependencies(line: PlanLine, known: ReadonlyMap<string, PlanLine>, report: Report): string[] {
  const ids: string[] = [];
  for (const { id, type } of line.references) {
    if (type !== "blocks") continue;
    if (id === line.id) {
      report("dependency_self", line.line, line.id, "depends on itself; the dependency is left out");
    } else if (!known.has(id)) {
      report(
        "dependency_dangling",
        line.line,
        line.id,
        `depends on ${id}, which is not in the plan; left out`,
      );
    } else if (ids.includes(id)) {
      report("dependency_repeated", line.line, line.id, `names ${id} twice; it counts once`);
    } else {
      ids.push(id);
    }
  }
  return ids;
}

function toTask(
  line: PlanLine,
  known: ReadonlyMap<string, PlanLine>,
  dependsOn: readonly string[],
  fresh: boolean,
  report: Report,
): PlanTask {
  const { parent, references } = readOtherReferences(line, known, dependsOn, report);
  const task_type = readType(line, report);
  return {
    id: line.id,
    task_type,
    payload: readPayload(line, task_type, references, report),
    status: readFinished(line, report) && !fresh ? "done" : "pending",
    priority: 100 - 10 * readUrgency(line, report),
    ...(parent === undefined ? {} : { parent_task_id: parent }),
    depends_on_task_ids: dependsOn,
  };
}

/** The parent, and everything else that is kept in the payload only. */
function readOtherReferences(
  line: PlanLine,
  known: ReadonlyMap<string, PlanLine>,
  dependsOn: readonly string[],
  report: Report,
): { parent: string | undefined; references: Reference[] } {
  let parent: string | undefined;
  const references: Reference[] = [];
  for (const reference of line.references) {
    const { id, type } = reference;
    if (type === "blocks" && dependsOn.includes(id)) continue;
    if (type === "parent-child" && id !== line.id && known.has(id)) {
      if (parent === undefined) {
        parent = id;
        continue;
      }
      report(
        "parent_extra",
        line.line,
        line.id,
        `has the parent ${parent} already; ${id} is kept in the payload`,
      );
    } else if (type === "parent-child") {
      report(
        "parent_dangling",
        line.line,
        line.id,
        `its parent ${id} is no other task of the plan; left out`,
      );
    } else if (type !== "blocks" && !known.has(id)) {
      report(
        "reference_dangling",
        line.line,
        line.id,
        `${type} ${id}, which is not in the plan; kept in the payload`,
      );
    }
    references.push(reference);
  }
  return { parent, references };
}

function readType(line: PlanLine, report: Report): string {
  const type = (stringAt(line.source, "issue_type") ?? "").trim();
  if (type !== "") return type === "fix-proposal" ? "fix_proposal" : type;
  report("field_invalid", line.line, line.id, 'no issue_type; taken as "task"');
  return "task";
}

function readFinished(line: PlanLine, report: Report): boolean {
  const status = stringAt(line.source, "status") ?? "";
  if (finishedStatuses.has(status)) return true;
  if (!openStatuses.has(status)) {
    report(
      "status_unknown",
      line.line,
      line.id,
      `status ${JSON.stringify(line.source.status)} is taken as open`,
    );
  }
  return false;
}

function readUrgency(line: PlanLine, report: Report): number {
  const value = line.source.priority;
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 1000) return value;
  report("field_invalid", line.line, line.id, `priority ${JSON.stringify(value)} is taken as 2`);
  return 2;
}

function readPayload(
  line: PlanLine,
  taskType: string,
  references: readonly Reference[],
  report: Report,
): JsonObject {
  const { source } = line;
  const payload: Record<string, unknown> = {};
  for (const name of ["title", "description"]) {
    const text = source[name];
    if (typeof text === "string") payload[name] = text;
    else if (text !== undefined && text !== null) {
      report("field_invalid", line.line, line.id, `${name} is not a string; it is left out`);
    }
  }
  const labels = listAt(source, "labels").filter((label) => typeof label === "string");
  if (labels.length > 0) payload.labels = labels;
  payload.plan_status = source.status ?? null;
  payload.plan_priority = source.priority ?? null;
  if (references.length > 0) payload.references = references;
  if (taskType === "implementation") {
    payload.output_target = readOutputTarget(line, report);
  }
  return shortened(payload, line, report);
}

/** The payload, with as much of its description as the engine's limit leaves room for. */
function shortened(payload: Record<string, unknown>, line: PlanLine, report: Report): JsonObject {
  if (byteLength(JSON.stringify(payload)) <= maxPayloadBytes) return payload;
  const description = typeof payload.description === "string" ? payload.description : "";
  // One character may take 12 bytes in JSON (an escaped surrogate pair), so this much always fits.
  const kept = { ...payload, description: description.slice(0, maxPayloadBytes / 16) };
  if (byteLength(JSON.stringify(kept)) <= maxPayloadBytes) {
    report("payload_shortened", line.line, line.id, "over 256 KiB; the description is cut");
    return kept;
  }
  report("payload_shortened", line.line, line.id, "over 256 KiB; only the title's beginning is kept");
  const title = String(payload.title ?? "").slice(0, 200);
  return payload.output_target === undefined ? { title } : { title, output_target: { path: line.id } };
}

/** The engine wants to know where an implementation writes; plans made elsewhere seldom say so. */
function readOutputTarget(line: PlanLine, report: Report): JsonObject {
  const target = asObject(line.source.output_target);
  if (target !== undefined && (stringAt(target, "path") ?? "").trim() !== "") return target;
  report(
    "output_target_invented",
    line.line,
    line.id,
    "implementation without output_target.path; its id is the path",
  );
  return { path: line.id };
}

/** Finished tasks whose dependencies are not: created as done all the same, so the order check leaves them out. */
function reportClosedTooEarly(
  tasks: readonly PlanTask[],
  known: ReadonlyMap<string, PlanLine>,
  report: Report,
): void {
  const statusOf = new Map(tasks.map((task) => [task.id, task.status]));
  for (const task of tasks) {
    if (task.status !== "done") continue;
    const open = task.depends_on_task_ids.filter((id) => statusOf.get(id) === "pending");
    if (open.length > 0) {
      const detail = `finished in the plan, though ${open.join(", ")} is open; it counts as done`;
      report("closed_before_dependency", known.get(task.id)?.line ?? 0, task.id, detail);
    }
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The size of a text in UTF-8. */
export function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}
