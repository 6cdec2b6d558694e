import { runHolder } from "../artifacts/keys.ts";
import { artifactStore } from "../artifacts/store.ts";
import {
  askDeletion,
  type Deletion,
  dropDeletion,
  findDeletion,
  finishDeletion,
  postponeDeletion,
} from "../directory/departures.ts";
import { runNotFound } from "../domain/refusals.ts";
import type { Env } from "../env.ts";
import { runObjectName } from "../identity/tenant.ts";
import { runClient } from "../run/run-client.ts";
import type { Result } from "../run/run-object.ts";
import { archiveHolder, deletePrefix, prefixesOf } from "./run-keys.ts";

/**
 * Deletes a run for good, everywhere, and leaves a tombstone: its id is never used again.
 *
 * D1 The intent is written first. Every step after it can be repeated, and cron goes on where a crash stopped
 *    (maintenance/resume-moves.ts).
 * D2 From the moment the object has its tombstone nobody reads or changes the run. What was on its way to the directory
 *    finds the intent there and writes nothing.
 *
 * A deleted run is deleted again without complaint; one that never was is not found.
 * @param expectedRevision the run is deleted at this revision or not at all; null for any.
 */
export async function deleteRun(
  env: Env,
  tenant: string,
  runId: string,
  expectedRevision: number | null,
): Promise<Result<null>> {
  const presence = await runClient(env.RUNS, runObjectName(tenant, runId)).presence();
  const known = await findDeletion(env.DIRECTORY, tenant, runId);
  if (known === null && presence.kind === "deleted") return { ok: true, value: null };
  if (known === null && presence.kind === "nothing") return { ok: false, refusal: runNotFound };
  if (known?.done_at_ms != null) return { ok: true, value: null };
  const revision = "revision" in presence ? presence.revision : null;
  if (expectedRevision !== null && revision !== null && expectedRevision !== revision) {
    const error = `run is at revision ${revision}, not ${expectedRevision}`;
    return { ok: false, refusal: { code: "RUN_REVISION_MISMATCH", error, revision } };
  }
  const deletion = known ?? {
    tenant,
    run_id: runId,
    created_at_ms: presence.kind === "run" ? presence.created_at_ms : null,
    expected_revision: expectedRevision,
    asked_at_ms: Date.now(),
    done_at_ms: null,
  };
  if (known === null) await askDeletion(env.DIRECTORY, deletion);
  return carryOut(env, deletion);
}

/** Carries a deletion out, from wherever it stopped. */
export async function carryOut(env: Env, deletion: Deletion): Promise<Result<null>> {
  const { tenant, run_id, created_at_ms, expected_revision } = deletion;
  const erased = await runClient(env.RUNS, runObjectName(tenant, run_id)).erase({
    created_at_ms,
    expected_revision,
  });
  if (!erased.ok) {
    await dropDeletion(env.DIRECTORY, deletion);
    return erased;
  }
  await deleteLeftovers(env, tenant, run_id);
  await finishDeletion(env.DIRECTORY, tenant, run_id, Date.now());
  return { ok: true, value: null };
}

/** The same for cron: one that cannot be finished does not hold up the others. */
export async function tryCarryOut(env: Env, deletion: Deletion, nowMs: number): Promise<boolean> {
  try {
    return (await carryOut(env, deletion)).ok;
  } catch (error) {
    const { run_id } = deletion;
    console.error(JSON.stringify({ event: "deletion_failed", run_id, error: String(error) }));
    await postponeDeletion(env.DIRECTORY, deletion, nowMs);
    return false;
  }
}

/** What the run has in R2, and its references to contents. */
export async function deleteLeftovers(env: Env, tenant: string, runId: string): Promise<void> {
  const bucket = env.ARTIFACTS;
  if (bucket === undefined) return;
  for (const prefix of prefixesOf(tenant, runId)) await deletePrefix(bucket, prefix);
  const store = artifactStore(env, tenant);
  await store?.release(runHolder(runId));
  await store?.release(archiveHolder(runId));
}
