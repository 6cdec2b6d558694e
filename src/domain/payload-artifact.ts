import type { FileVersion } from "../protocol/file-version.ts";
import { artifactNotFound, fieldInvalid, type Refusal } from "./refusals.ts";
import type { View } from "./view.ts";

/** Where a large payload lies: an artifact of the run, as it is now or as a version of it was. */
export interface PayloadArtifact {
  path: string;
  version?: number | undefined;
}

/**
 * The payload to be stored: as sent, or, with a pointer to an artifact, an object whose `artifact_ref` names the very
 * version. `field` is where the payload stands in the request.
 */
export function payloadWithArtifact(
  payload: unknown,
  pointer: PayloadArtifact | undefined,
  view: View,
  field: string,
): { ok: true; payload: unknown } | { ok: false; refusal: Refusal } {
  if (pointer === undefined) return { ok: true, payload };
  const { path, version } = pointer;
  const file = version === undefined ? view.file(path) : view.fileVersion(path, version);
  if (file === null || file.sha256 === null) return { ok: false, refusal: artifactNotFound(path, version) };
  if (payload === null) return { ok: true, payload: { artifact_ref: refOf(file) } };
  if (typeof payload !== "object" || Array.isArray(payload)) {
    const message = "must be an object or null beside payload_artifact";
    return { ok: false, refusal: fieldInvalid(field, "object", message) };
  }
  if ("artifact_ref" in payload) {
    const message = "is set by payload_artifact";
    return { ok: false, refusal: fieldInvalid(`${field}.artifact_ref`, "one_spelling", message) };
  }
  return { ok: true, payload: { ...payload, artifact_ref: refOf(file) } };
}

/**
 * The payload as a fork has it, where what a path holds is its version 0 (fork.ts): a reference to that very version goes on
 * naming it. One to an older version stays as it is, and names a version that the fork does not have.
 */
export function payloadInFork(payload: unknown, origin: Pick<View, "file">): unknown {
  const { artifact_ref: ref } = (payload ?? {}) as { artifact_ref?: Partial<FileVersion> | null };
  if (typeof ref?.path !== "string") return payload;
  const file = origin.file(ref.path);
  if (file === null || file.version !== ref.version || file.sha256 !== ref.sha256) return payload;
  return { ...(payload as object), artifact_ref: { ...ref, version: 0 } };
}

function refOf({ path, version, sha256, bytes, content_type }: FileVersion): Omit<FileVersion, "ts_ms"> {
  return { path, version, sha256, bytes, content_type };
}
