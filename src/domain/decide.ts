import type { Command } from "./command.ts";
import { decidePutArtifact, decideRemoveArtifact } from "./decide-artifact.ts";
import { decideBoard } from "./decide-board.ts";
import { decideCancel } from "./decide-cancel.ts";
import { decideControl } from "./decide-control.ts";
import { decideDependencies } from "./decide-dependencies.ts";
import { decideAcquire, decideLockHeartbeat, decideLockRelease } from "./decide-lock.ts";
import { decideMutation } from "./decide-mutation.ts";
import { decideRedrive, decideRedrives } from "./decide-redrive.ts";
import { decideReplace } from "./decide-replace.ts";
import { decideRollback } from "./decide-rollback.ts";
import { decideAppend, decideSelect, decideTodos, decideWorkspace } from "./decide-run.ts";
import { decideSettings } from "./decide-settings.ts";
import { decideSettle } from "./decide-settle.ts";
import {
  decideClaim,
  decideCreate,
  decideHeartbeats,
  decideRequeue,
  decideTransition,
} from "./decide-task.ts";
import type { Decision } from "./decision.ts";
import type { Context } from "./draft.ts";
import type { View } from "./view.ts";

/**
 * Decides one command against the run as it stands. Pure: reads the view, writes nothing, knows no clock.
 * @param commandId stamped on the commits; that it is unused was checked before.
 */
export function decide(command: Command, view: View, moment: Context, commandId?: string): Decision {
  const context: Context = command.strict === true ? { ...moment, strict: true } : moment;
  switch (command.op) {
    case "append_event":
      return decideAppend(command, view, context, commandId);
    case "patch_blackboard":
      return decideBoard(command, view, context, commandId);
    case "replace_run":
      return decideReplace(command, view, context, commandId);
    case "sync_todos":
      return decideTodos(command, view, context, commandId);
    case "put_settings":
      return decideSettings(command, view, context, commandId);
    case "select_next_step":
      return decideSelect(command, view, context, commandId);
    case "validate_workspace":
      return decideWorkspace(command, view, context, commandId);
    case "create_tasks":
      return decideCreate(command, view, context);
    case "claim_task":
      return decideClaim(command, view, context, commandId);
    case "transition_task":
      return decideTransition(command, view, context, commandId);
    case "redrive_task":
      return decideRedrive(command, view, context, commandId);
    case "redrive_tasks":
      return decideRedrives(command, view, context, commandId);
    case "change_dependencies":
      return decideDependencies(command, view, context, commandId);
    case "cancel_task":
      return decideCancel(command, view, context, commandId);
    case "control_run":
      return decideControl(command, view, context, commandId);
    case "execute_rollback":
      return decideRollback(command, view, context, commandId);
    case "record_mutation":
      return decideMutation(command, view, context, commandId);
    case "requeue_stale":
      return decideRequeue(view, context);
    case "settle_due":
      return decideSettle(command, view, context);
    case "record_heartbeats":
      return decideHeartbeats(command, view, context);
    case "acquire_lock":
      return decideAcquire(command, view, context, commandId);
    case "heartbeat_lock":
      return decideLockHeartbeat(command, view, context, commandId);
    case "release_lock":
      return decideLockRelease(command, view, context, commandId);
    case "put_artifact":
      return decidePutArtifact(command, view, context, commandId);
    case "remove_artifact":
      return decideRemoveArtifact(command, view, context, commandId);
  }
}
