import { issueForArtifactPath } from "../protocol/artifact-path.ts";
import type { FileChange } from "../protocol/file-version.ts";
import {
  MAX_OPEN_ROLLBACKS,
  MAX_PAYLOAD_BYTES,
  MAX_REQUESTED_ROLLBACK_BYTES,
  MAX_TASKS_PER_RUN,
} from "../protocol/limits.ts";
import type { Task } from "../protocol/task.ts";
import type { AppliedRollback, Audit } from "./audit.ts";
import type { CommandOf } from "./command.ts";
import { type Counts, counted } from "./counts.ts";
import type { Decision } from "./decision.ts";
import { type Context, Draft } from "./draft.ts";
import { jsonTooLarge } from "./json-size.ts";
import { createTask, NO_TERMS } from "./new-task.ts";
import { fieldInvalid, limitExceeded, type Refusal } from "./refusals.ts";
import { BLOCKED, isEligible, REQUIRED_POLICY_ACK } from "./rollback.ts";
import type { PlannedOperation, PlannedStep } from "./rollback-plan.ts";
import type { View } from "./view.ts";

/** The step that events about rollbacks name (contract 06 §9). */
const SESSION_STEP = "session-run";

/** The type of the tasks by which agents are asked to apply a rollback. */
const ROLLBACK_TASK = "context.rollback";

/**
 * Undoes recorded mutations in the run's artifact space, all of the selected steps or none, or asks an agent to do so
 * where the workspace lives. The checks are the contract's, in its order (06 §9); then those that make it safe: no step
 * twice, and nothing that has changed since (07 D74). A blocked attempt is recorded and changes nothing else (D73).
 */
export function decideRollback(
  command: CommandOf<"execute_rollback">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const head = view.head();
  const { run, audit } = head;
  const blocked = (reason: string, more: Partial<Record<string, unknown>> = {}): Decision => {
    const draft = new Draft(head, context, commandId);
    const event = draft.event({
      type: "rollback_execution_blocked",
      status: run.status,
      step_id: SESSION_STEP,
      payload: { reason, selected_event_ids: command.event_ids, missing_event_ids: null, ...more },
    });
    return { ok: true, commits: draft.commits, outcome: { op: "execute_rollback", event } };
  };
  if (command.policy_ack !== REQUIRED_POLICY_ACK) return blocked(BLOCKED.notAcknowledged);
  if (!isEligible(run.status)) return blocked(BLOCKED.notEligible);

  const ids = command.event_ids.map((id) => id.trim());
  const malformed = idProblem(ids);
  if (malformed !== null) return { ok: false, refusal: malformed };
  if (command.too_large !== undefined) return { ok: false, refusal: command.too_large };
  const missing = ids.filter((id) => !command.plan.some((step) => step.event_id === id));
  if (missing.length > 0) return blocked(BLOCKED.notFound, { missing_event_ids: missing.sort() });
  const steps = command.plan
    .filter((step) => ids.includes(step.event_id))
    .sort((newer, older) => older.seq - newer.seq);
  if (!steps.every((step) => step.executable)) return blocked(BLOCKED.advisory);

  const isForAgent = command.executor === "agent";
  if (!isForAgent && !command.has_store) return blocked(BLOCKED.noStore);
  if (steps.some((step) => view.appliedSeq(step.seq) !== null)) return blocked(BLOCKED.alreadyApplied);
  if (steps.some((step) => isRequested(audit, step))) return blocked(BLOCKED.alreadyRequested);
  const unfit = operationProblem(steps);
  if (unfit !== null) return { ok: false, refusal: unfit };
  const applied = appliedRollback(run.workspace.canonical_path, command.event_ids, steps);
  if (isForAgent) return request(steps, applied, view, context, commandId);

  const lost = pathsWhere(
    steps,
    ({ content }) => content !== undefined && command.lost.includes(content.sha256),
  );
  if (lost.length > 0) return blocked(BLOCKED.snapshotLost, { conflicting_paths: lost });
  const space = new VirtualSpace(view);
  const differing: string[] = [];
  const incomparable: string[] = [];
  for (const operation of steps.flatMap((step) => step.operations)) {
    const verdict = space.compare(operation);
    if (verdict === "differs") differing.push(operation.path);
    if (verdict === "incomparable") incomparable.push(operation.path);
    space.apply(operation);
  }
  if (differing.length > 0) return blocked(BLOCKED.differs, { conflicting_paths: unique(differing) });
  if (incomparable.length > 0) {
    return blocked(BLOCKED.notComparable, { conflicting_paths: unique(incomparable) });
  }
  const draft = new Draft(head, context, commandId);
  const event = draft.event({
    type: "rollback_execution_applied",
    status: run.status,
    step_id: SESSION_STEP,
    payload: { ...applied, files: space.changes() },
  });
  return { ok: true, commits: draft.commits, outcome: { op: "execute_rollback", event } };
}

/**
 * Records what became of a rollback when the agent's task ends. No policy retries tasks by itself, so a failed one has
 * failed for good.
 */
export function endRequestedRollback(draft: Draft, view: View, task: Task): void {
  const { run, audit } = view.head();
  const request = audit.requested.find(({ task_id }) => task_id === task.id);
  if (request === undefined) return;
  const { applied } = request;
  if (task.status === "done") {
    const payload = { ...applied, task_id: task.id };
    draft.followUp({
      type: "rollback_execution_applied",
      status: run.status,
      step_id: SESSION_STEP,
      payload,
    });
  }
  if (task.status === "failed") {
    const payload = {
      reason: task.last_error?.trim() || "the rollback task failed",
      selected_event_ids: applied.selected_event_ids,
      missing_event_ids: null,
      task_id: task.id,
    };
    draft.followUp({
      type: "rollback_execution_blocked",
      status: run.status,
      step_id: SESSION_STEP,
      payload,
    });
  }
}

/** The task first: the request that follows it makes this very task the one whose end counts. */
function request(
  steps: PlannedStep[],
  applied: AppliedRollback,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const { run, audit } = view.head();
  const payload = { workspace_root: applied.workspace_root, steps: steps.map(taskStep) };
  const refusal =
    tooMany("open_rollback_tasks", MAX_OPEN_ROLLBACKS, audit.requested.length + 1) ??
    tooMany("tasks_per_run", MAX_TASKS_PER_RUN, view.taskCount() + 1) ??
    jsonTooLarge("rollback_bytes", applied, MAX_REQUESTED_ROLLBACK_BYTES) ??
    jsonTooLarge("task_payload_bytes", payload, MAX_PAYLOAD_BYTES);
  if (refusal !== null) return { ok: false, refusal };
  const draft = new Draft(view.head(), context, commandId);
  const row = {
    task_type: ROLLBACK_TASK,
    payload,
    max_attempts: 1,
    depends_on_task_ids: [],
    decision_ids: [],
    artifact_ids: [],
  };
  const id = `rollback-${context.newId()}`;
  draft.task(createTask(row, id, { task_type: ROLLBACK_TASK, payload }, NO_TERMS, context.nowMs));
  const event = draft.followUp({
    type: "rollback_execution_requested",
    status: run.status,
    step_id: SESSION_STEP,
    payload: { task_id: id, applied },
  });
  return { ok: true, commits: draft.commits, outcome: { op: "execute_rollback", event } };
}

/** A step as the agent's task tells it: what to do, and how each path should be before that. */
function taskStep({ seq, event_id, tool, operations }: PlannedStep) {
  return {
    seq,
    event_id,
    tool,
    operations: operations.map(({ path, action, kind, text, artifact, after }) => ({
      path,
      action,
      kind,
      ...(text !== undefined && { content: text }),
      ...(artifact !== undefined && { artifact }),
      expected: after,
    })),
  };
}

function idProblem(ids: string[]): Refusal | null {
  const blank = ids.indexOf("");
  if (blank !== -1) return fieldInvalid(`event_ids[${blank}]`, "non_blank", "must not be blank");
  const twice = ids.findIndex((id, index) => ids.indexOf(id) !== index);
  if (twice === -1) return null;
  return fieldInvalid(`event_ids[${twice}]`, "unique", "must not name a step twice");
}

/** Paths keep to the rule of uploads, and what is to be written must be known (contract 06 §9). */
function operationProblem(steps: PlannedStep[]): Refusal | null {
  for (const { event_id, operations } of steps) {
    for (const { path, kind, text, content, artifact } of operations) {
      const issue = issueForArtifactPath(`the path ${JSON.stringify(path)} of ${event_id}`, path);
      if (issue !== null) return fieldInvalid("event_ids", issue.rule, issue.message);
      const isKnown = text !== undefined || content !== undefined || artifact !== undefined;
      if (kind === "write_file" && !isKnown) {
        const message = `the prior content of ${JSON.stringify(path)} of ${event_id} is missing`;
        return fieldInvalid("event_ids", "content", message);
      }
    }
  }
  return null;
}

function isRequested({ requested }: Audit, { seq }: PlannedStep): boolean {
  return requested.some(({ applied }) => applied.steps.some((step) => step.seq === seq));
}

function appliedRollback(root: string, selected: string[], steps: PlannedStep[]): AppliedRollback {
  const operations = steps.flatMap((step) => step.operations);
  return {
    workspace_root: root,
    selected_event_ids: selected,
    applied_step_count: steps.length,
    applied_operation_count: operations.length,
    applied_by_action: operations.reduce<Counts>((counts, { action }) => counted(counts, action), {}),
    steps: steps.map(({ seq, event_id, tool, operations }) => ({
      seq,
      event_id,
      tool,
      operation_count: operations.length,
      operations: operations.map(({ path, action, kind }) => ({ path, action, kind })),
    })),
  };
}

function tooMany(name: string, limit: number, actual: number): Refusal | null {
  return actual > limit ? limitExceeded(name, limit, actual) : null;
}

function pathsWhere(steps: PlannedStep[], isSo: (operation: PlannedOperation) => boolean): string[] {
  return unique(steps.flatMap((step) => step.operations.filter(isSo).map(({ path }) => path)));
}

function unique(paths: string[]): string[] {
  return [...new Set(paths)];
}

type Content = Omit<FileChange, "path" | "sha256"> & { sha256: string };

/** The artifact space with the operations so far applied: later ones see what earlier ones did. */
class VirtualSpace {
  readonly #view: View;
  readonly #written = new Map<string, Content | null>();

  constructor(view: View) {
    this.#view = view;
  }

  /** Whether a path is as the record left it. */
  compare({ path, kind, after }: PlannedOperation): "same" | "differs" | "incomparable" {
    const current = this.#current(path);
    // Gone already is what a deletion wants (contract 06 §9).
    if (current === null) return !after.exists || kind === "delete_file" ? "same" : "differs";
    if (!after.exists) return "differs";
    const hash = sha256In(after.hash);
    if (hash === null) return "incomparable";
    return hash === current.sha256 ? "same" : "differs";
  }

  apply({ path, content }: PlannedOperation): void {
    this.#written.set(path, content ?? null);
  }

  /** What differs from the real space in the end. */
  changes(): FileChange[] {
    return [...this.#written].flatMap(([path, content]): FileChange[] => {
      const before = this.#view.file(path);
      if ((before?.sha256 ?? null) === (content?.sha256 ?? null)) return [];
      return [{ path, ...(content ?? { sha256: null, bytes: 0, content_type: "" }) }];
    });
  }

  #current(path: string): { sha256: string | null } | null {
    const written = this.#written.get(path);
    return written === undefined ? this.#view.file(path) : written;
  }
}

/** The SHA-256 that a record's hash is, with or without the prefix that says so; null when it is no such hash. */
function sha256In(hash: string | null): string | null {
  const match = /^(?:sha256:)?([0-9a-f]{64})$/i.exec(hash?.trim() ?? "");
  return match?.[1]?.toLowerCase() ?? null;
}
