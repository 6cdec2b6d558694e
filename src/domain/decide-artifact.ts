import type { Artifact } from "../protocol/blackboard.ts";
import type { FileChange, FileVersion } from "../protocol/file-version.ts";
import type { CommandOf, FileCondition } from "./command.ts";
import type { Decision } from "./decision.ts";
import { type Context, Draft } from "./draft.ts";
import { underLease, unprovenLease } from "./lease-proof.ts";
import { fileRecorded } from "./outcome.ts";
import { artifactNotFound, type Refusal } from "./refusals.ts";
import type { View } from "./view.ts";

/**
 * Puts a content at a path of the artifact space and names it on the blackboard, in one commit (contract 05 §2.2, §6). That
 * the content is stored, and held for this run, was seen to before.
 */
export function decidePutArtifact(
  command: CommandOf<"put_artifact">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const refusal = refusalOf(command, view, context);
  if (refusal !== null) return { ok: false, refusal };
  const { path, sha256, bytes, content_type } = command;
  const { id, artifact_type, step_id, source_event_id } = command.artifact;
  const artifact: Artifact = {
    id: id ?? `artifact-${context.newId()}`,
    ts_ms: context.nowMs,
    path,
    artifact_type,
    ...(step_id !== undefined && { step_id }),
    ...(source_event_id !== undefined && { source_event_id }),
  };
  const draft = new Draft(view.head(), context, commandId, underLease(command, view));
  const { event, patch } = draft.patch("add_artifact", artifact, {
    ...(command.task_id !== undefined && { task_id: command.task_id }),
    files: [{ path, sha256, bytes, content_type }] satisfies FileChange[],
  });
  if (patch === null) throw new Error("a patch commit has a patch");
  const file = fileRecorded(event);
  return { ok: true, commits: draft.commits, outcome: { op: "put_artifact", event, patch, file } };
}

/** Takes a path out of the artifact space; what it held stays readable as a version, and on the blackboard. */
export function decideRemoveArtifact(
  command: CommandOf<"remove_artifact">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const { path } = command;
  const current = view.file(path);
  if (current === null) return { ok: false, refusal: artifactNotFound(path) };
  const refusal = refusalOf(command, view, context);
  if (refusal !== null) return { ok: false, refusal };
  const draft = new Draft(view.head(), context, commandId, underLease(command, view));
  const event = draft.event({
    type: "context.artifact.removed",
    status: view.head().run.status,
    payload: {
      ...(command.task_id !== undefined && { task_id: command.task_id }),
      removed: current,
      files: [{ path, sha256: null, bytes: 0, content_type: current.content_type }] satisfies FileChange[],
    },
  });
  const file = fileRecorded(event);
  return { ok: true, commits: draft.commits, outcome: { op: "remove_artifact", event, file } };
}

function refusalOf(
  command: CommandOf<"put_artifact" | "remove_artifact">,
  view: View,
  context: Context,
): Refusal | null {
  return (
    unprovenLease(command, view, context) ??
    failedCondition(command.path, command.expected, view.file(command.path))
  );
}

function failedCondition(
  path: string,
  expected: FileCondition | undefined,
  current: FileVersion | null,
): Refusal | null {
  if (expected === undefined) return null;
  const { exists, sha256, version } = expected;
  const holds =
    (exists === undefined || exists === (current !== null)) &&
    (sha256 === undefined || (current?.sha256 != null && sha256.includes(current.sha256))) &&
    // 0 is nothing; a fork's first versions have that number too, and are no nothing.
    (version === undefined || (version === 0 ? current === null : version === current?.version));
  if (holds) return null;
  return {
    code: "ARTIFACT_PRECONDITION_FAILED",
    error: current === null ? "the path holds nothing" : "the path holds another version",
    path,
    version: current?.version ?? null,
    sha256: current?.sha256 ?? null,
  };
}
