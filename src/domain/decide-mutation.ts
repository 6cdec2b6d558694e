import { withoutAbsent } from "../protocol/absent.ts";
import { issueForArtifactPath } from "../protocol/artifact-path.ts";
import type { FileVersion } from "../protocol/file-version.ts";
import { MAX_PAYLOAD_BYTES } from "../protocol/limits.ts";
import type { CommandOf } from "./command.ts";
import type { Decision } from "./decision.ts";
import { type Context, Draft } from "./draft.ts";
import { jsonTooLarge } from "./json-size.ts";
import { underLease, unprovenLease } from "./lease-proof.ts";
import type { MutatedFile, MutationRecord } from "./mutations.ts";
import { fieldInvalid, type Refusal } from "./refusals.ts";
import type { View } from "./view.ts";

/**
 * Records a mutation of the run's artifact space, told as versions of its paths. The engine fills in what was there, so the
 * record is its own word, and its snapshots are of any size.
 */
export function decideMutation(
  command: CommandOf<"record_mutation">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const unproven = unprovenLease(command, view, context);
  if (unproven !== null) return { ok: false, refusal: unproven };
  const files: MutatedFile[] = [];
  const paths = new Set<string>();
  for (const [index, { path, before_version, after_version }] of command.files.entries()) {
    const field = `files[${index}]`;
    const issue = issueForArtifactPath(`${field}.path`, path);
    if (issue !== null) {
      return { ok: false, refusal: { code: "FIELD_INVALID", error: issue.message, issues: [issue] } };
    }
    if (paths.has(path)) {
      return { ok: false, refusal: fieldInvalid(`${field}.path`, "unique", "is given twice") };
    }
    paths.add(path);
    if (before_version !== null && after_version !== null && after_version < before_version) {
      const message = "must not be older than before_version";
      return { ok: false, refusal: fieldInvalid(`${field}.after_version`, "order", message) };
    }
    const before = versionOf(view, path, before_version, `${field}.before_version`);
    if (!before.ok) return before;
    const after = versionOf(view, path, after_version, `${field}.after_version`);
    if (!after.ok) return after;
    files.push(mutatedFile(path, before.file, after.file));
  }
  const record: MutationRecord = {
    ...withoutAbsent({
      session_id: command.session_id,
      message_id: command.message_id,
      tool_call_id: command.tool_call_id,
      tool: command.tool,
      outcome: command.outcome,
      file_count: files.length,
      changed_file_count: files.filter((file) => file.changed).length,
      workspace_root: command.workspace_root,
      effective_cwd: command.effective_cwd,
    }),
    files,
  };
  const payload = {
    sessionID: record.session_id,
    messageID: record.message_id,
    tool: record.tool,
    record,
  };
  const tooLarge = jsonTooLarge("event_payload_bytes", payload, MAX_PAYLOAD_BYTES);
  if (tooLarge !== null) return { ok: false, refusal: tooLarge };
  const draft = new Draft(view.head(), context, commandId, underLease(command, view));
  const event = draft.event({
    type: "mutation_checkpoint_recorded",
    status: view.head().run.status,
    step_id: "session-run",
    payload,
  });
  return { ok: true, commits: draft.commits, outcome: { op: "record_mutation", event } };
}

type ReadVersion = { ok: true; file: FileVersion | null } | { ok: false; refusal: Refusal };

/** What a path held; null when it held nothing. */
function versionOf(view: View, path: string, version: number | null, field: string): ReadVersion {
  if (version === null) return { ok: true, file: null };
  const file = view.fileVersion(path, version);
  if (file === null) {
    const message = `no commit ${version} changed this path of the artifact space`;
    return { ok: false, refusal: fieldInvalid(field, "known_version", message) };
  }
  return { ok: true, file: file.sha256 === null ? null : file };
}

function mutatedFile(path: string, before: FileVersion | null, after: FileVersion | null): MutatedFile {
  return {
    path,
    resolved_path: path,
    existed_before: before !== null,
    existed_after: after !== null,
    changed: (before?.sha256 ?? null) !== (after?.sha256 ?? null),
    ...(before !== null && { before_hash: `sha256:${before.sha256}` }),
    ...(after !== null && { after_hash: `sha256:${after.sha256}` }),
    rollback_snapshot:
      before === null || before.sha256 === null
        ? { status: "not_needed" }
        : {
            status: "stored",
            sha256: before.sha256,
            byte_count: before.bytes,
            content_type: before.content_type,
            version: before.version,
          },
  };
}
