import type { CommandOp } from "../domain/command.ts";
import type { Scope } from "../identity/scopes.ts";
import type { BodyName } from "../protocol/bodies.ts";
import type { TaskAction } from "../protocol/task.ts";
import type { PathId } from "./call.ts";
import type { Mutation } from "./command.ts";
import { patch } from "./resources/blackboard.ts";
import { cancel, pause, resume } from "./resources/control.ts";
import { acquisition, lockHeartbeat, lockRelease } from "./resources/locks.ts";
import { append } from "./resources/log.ts";
import { redrive, redrives } from "./resources/redrive.ts";
import { mutation as recordedMutation } from "./resources/rollback.ts";
import { setting } from "./resources/settings.ts";
import { driver, todos } from "./resources/steps.ts";
import { cancellation, claim, creation, dependencyChange, transition } from "./resources/tasks.ts";

/** A mutation as a command of `POST /v1/…/commands`: it takes the fields of its route's body, and those that follow. */
export interface BatchedOp {
  mutation: Mutation<CommandOp, BodyName>;
  /** Ids that its route has in the path. */
  path?: readonly PathId[];
  /** Fields of the body that the op's name says already. */
  says?: Readonly<Record<string, string>>;
  /** A field of the body that is called otherwise here, because `op` names the command. */
  renamed?: { here: string; inBody: string };
  /** What its route needs, where that is more than the route of batches does. */
  needs?: Scope;
}

/**
 * What a batch can hold. Not here: what commits though it is refused (a mismatch of the workspace, a rollback that is blocked), what
 * replaces the run, and what brings contents to R2 before it commits.
 */
const BATCHED_OPS: Readonly<Record<string, BatchedOp>> = {
  create_tasks: batched(creation),
  claim: batched(claim),
  heartbeat: transitionTo("heartbeat"),
  status: transitionTo("status"),
  complete: transitionTo("complete"),
  fail: transitionTo("fail"),
  release: transitionTo("release"),
  retry: transitionTo("retry"),
  change_dependencies: batched(dependencyChange, { path: ["task_id"] }),
  cancel_task: batched(cancellation, { path: ["task_id"], needs: "planner" }),
  redrive_task: batched(redrive, { path: ["task_id"], needs: "planner" }),
  redrive_tasks: batched(redrives, { needs: "planner" }),
  pause_run: batched(pause, { needs: "planner" }),
  resume_run: batched(resume, { needs: "planner" }),
  cancel_run: batched(cancel, { needs: "planner" }),
  append_event: batched(append),
  patch_blackboard: batched(patch, { renamed: { here: "patch_op", inBody: "op" } }),
  sync_todos: batched(todos),
  select_next_step: batched(driver),
  record_mutation: batched(recordedMutation),
  acquire_lock: batched(acquisition),
  heartbeat_lock: batched(lockHeartbeat, { path: ["lock_id"] }),
  release_lock: batched(lockRelease, { path: ["lock_id"] }),
  put_settings: batched(setting, { needs: "planner" }),
};

export const BATCHED_OP_NAMES: readonly string[] = Object.keys(BATCHED_OPS);

/** The op of that name; null when there is none. */
export function batchedOp(name: string): BatchedOp | null {
  return Object.hasOwn(BATCHED_OPS, name) ? (BATCHED_OPS[name] ?? null) : null;
}

/** A mutation among others: what it takes and writes is its own, as the outcome is that of its command. */
function batched<Op extends CommandOp, Name extends BodyName>(
  mutation: Mutation<Op, Name>,
  rest: Omit<BatchedOp, "mutation"> = {},
): BatchedOp {
  return { mutation: mutation as unknown as BatchedOp["mutation"], ...rest };
}

function transitionTo(action: TaskAction): BatchedOp {
  return batched(transition, { path: ["task_id"], says: { action } });
}
