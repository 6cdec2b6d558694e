import { type ArtifactStore, artifactStore } from "../../artifacts/store.ts";
import type { AppliedRollback } from "../../domain/audit.ts";
import type { CommandOf } from "../../domain/command.ts";
import { fieldInvalid, limitExceeded } from "../../domain/refusals.ts";
import { BLOCKED, REQUIRED_CONFIRM, REQUIRED_POLICY_ACK } from "../../domain/rollback.ts";
import type { PlannedOperation, PlannedStep } from "../../domain/rollback-plan.ts";
import { tenantKey } from "../../identity/tenant.ts";
import type { BodyOf } from "../../protocol/bodies.ts";
import type { EventRecord } from "../../protocol/event.ts";
import { MAX_ROLLBACK_CONTENTS } from "../../protocol/limits.ts";
import { refuseBound } from "../bounds.ts";
import { type Call, unwrap } from "../call.ts";
import { type Mutation, mutate } from "../command.ts";
import { RequestRefused } from "../problem.ts";

/** What producers inline is text (contract 06 §5). */
const INLINE_TEXT = "text/plain; charset=utf-8";

/** Contents stored side by side. */
const CONTENTS_AT_ONCE = 10;

/** What an event says of a rollback that was not applied. */
interface BlockedRollback {
  reason: string;
  selected_event_ids: string[];
  missing_event_ids: string[] | null;
  conflicting_paths?: string[];
}

const rollback: Mutation<"execute_rollback", "executeRollback"> = {
  body: "executeRollback",
  command: rollbackCommand,
  context: ({ outcome: { event } }) =>
    event.type === "rollback_execution_applied"
      ? appliedMembers(event)
      : { applied: false, ...blockedMembers(event) },
  native: ({ outcome: { event } }) => {
    switch (event.type) {
      case "rollback_execution_applied":
        return { members: { ...appliedMembers(event), event } };
      case "rollback_execution_requested": {
        const { task_id } = event.payload as { task_id: string };
        return { members: { applied: false, task_id, event }, status: 202 };
      }
      default: {
        const { reason: error, ...members } = blockedMembers(event);
        const { run_status } = event;
        return { refusal: { code: "ROLLBACK_BLOCKED", error, ...members, run_status, event } };
      }
    }
  },
  represents: ["run"],
};

/** `POST …/checkpoints/mutations/rollback-execute` (contract 06 §9). */
export const executeRollback = (call: Call) => mutate(rollback, call);

/** The first two checks come before the run is looked up; the others are made when the rollback is decided. */
async function rollbackCommand(
  body: BodyOf<"executeRollback">,
  call: Call,
): Promise<CommandOf<"execute_rollback">> {
  const { confirm, event_ids, policy_ack } = body;
  if (confirm.trim() !== REQUIRED_CONFIRM) {
    throw new RequestRefused(fieldInvalid("confirm", "confirmed", `must be "${REQUIRED_CONFIRM}"`));
  }
  if (event_ids.length === 0) {
    throw new RequestRefused(fieldInvalid("event_ids", "non_empty", "must name at least one step"));
  }
  const executor = (call.door === "native" ? body.executor : undefined) ?? "artifacts";
  // It makes a task of a type of its own.
  if (executor === "agent") refuseBound(call.principal, "task_types");
  const store = artifactStore(call.env, tenantKey(call.tenant));
  const command = { op: "execute_rollback", event_ids, policy_ack, executor } as const;
  const has_store = store !== null;
  const read = await call.run().readRollbackPlan(event_ids);
  // Whoever asks for too much without being allowed to roll back is told the latter first.
  if (!read.ok && read.refusal.code === "LIMIT_EXCEEDED") {
    return { ...command, plan: [], too_large: read.refusal, has_store, lost: [] };
  }
  const steps = unwrap(read);
  // Where it is clear already that nothing will be written, nothing is stored for it.
  const mayWrite =
    executor === "artifacts" &&
    policy_ack === REQUIRED_POLICY_ACK &&
    steps.length === event_ids.length &&
    steps.every((step) => step.executable);
  const stored =
    store === null || !mayWrite
      ? { plan: steps, lost: [] }
      : await withContents(steps, store, `run:${call.id("run_id")}`);
  return { ...command, ...stored, has_store };
}

/** Stores what the rollback would write, so that its commit refers to contents that are held. */
async function withContents(
  steps: PlannedStep[],
  store: ArtifactStore,
  holder: string,
): Promise<Pick<CommandOf<"execute_rollback">, "plan" | "lost" | "too_large">> {
  const operations = steps.flatMap((step) => step.operations);
  const texts = [...new Set(operations.flatMap(({ text }) => text ?? []))];
  if (texts.length > MAX_ROLLBACK_CONTENTS) {
    const too_large = limitExceeded("rollback_contents", MAX_ROLLBACK_CONTENTS, texts.length);
    return { plan: [], lost: [], too_large };
  }
  const contents = new Map<string, PlannedContent>();
  for (let start = 0; start < texts.length; start += CONTENTS_AT_ONCE) {
    const group = texts.slice(start, start + CONTENTS_AT_ONCE);
    const kept = await Promise.all(group.map((text) => store.keep(holder, text)));
    for (const [index, text] of group.entries()) {
      const content = kept[index];
      if (content !== undefined) contents.set(text, { ...content, content_type: INLINE_TEXT });
    }
  }
  const stored = new Set(operations.flatMap(({ artifact }) => artifact?.sha256 ?? []));
  const lost = stored.size === 0 ? [] : await store.hold(holder, [...stored]);
  const plan = steps.map((step) => ({
    ...step,
    operations: step.operations.map(({ text, ...operation }) => {
      const content = text === undefined ? storedContent(operation.artifact) : contents.get(text);
      return { ...operation, ...(content !== undefined && { content }) };
    }),
  }));
  return { plan, lost };
}

type PlannedContent = NonNullable<PlannedOperation["content"]>;

function storedContent(artifact: PlannedOperation["artifact"]): PlannedContent | undefined {
  if (artifact === undefined) return undefined;
  const { sha256, bytes, content_type } = artifact;
  return { sha256, bytes, content_type };
}

function appliedMembers(event: EventRecord): Record<string, unknown> {
  const payload = event.payload as AppliedRollback;
  const { selected_event_ids, applied_step_count, applied_operation_count, applied_by_action, steps } =
    payload;
  return {
    applied: true,
    ...{ selected_event_ids, applied_step_count, applied_operation_count, applied_by_action, steps },
  };
}

function blockedMembers(event: EventRecord) {
  const { reason, selected_event_ids, missing_event_ids, conflicting_paths } =
    event.payload as BlockedRollback;
  return {
    reason,
    selected_event_ids,
    ...(missing_event_ids !== null && { missing_event_ids }),
    ...(reason === BLOCKED.notEligible && { run_status: event.run_status }),
    ...(conflicting_paths !== undefined && { conflicting_paths }),
  };
}

export const mutation: Mutation<"record_mutation", "recordMutation"> = {
  body: "recordMutation",
  command: ({ command_id: _commandId, ...body }) => ({ op: "record_mutation", ...body }),
  context: ({ outcome }) => ({ event: outcome.event }),
  native: ({ outcome }) => ({ members: { event: outcome.event }, status: 201 }),
  represents: ["run"],
};

/** `POST /v1/…/checkpoints/mutations`: the engine records what became of paths of the artifact space. */
export const recordMutation = (call: Call) => mutate(mutation, call);
