import { runHolder } from "../../artifacts/keys.ts";
import { artifactStore } from "../../artifacts/store.ts";
import { type Allowance, exceeded, type QuotaExceeded, readAllowance } from "../../directory/quotas.ts";
import type { Command } from "../../domain/command.ts";
import { commandIdConflict, type Refusal } from "../../domain/refusals.ts";
import { runDraft } from "../../domain/run-draft.ts";
import type { Env } from "../../env.ts";
import { runObjectName, tenantKey } from "../../identity/tenant.ts";
import { CODES } from "../../protocol/codes.ts";
import type { Issue } from "../../protocol/issue.ts";
import type { Tenant } from "../../protocol/run.ts";
import { exists, type RunClient, runClient, submit } from "../../run/run-client.ts";
import { commandIds, deliveryRunId, keyedRunId, payloadPath } from "./ids.ts";
import { type MappingError, type Plan, planOf } from "./plan.ts";
import { readMapping } from "./read.ts";
import type { MappingInput } from "./sample.ts";

/** What a hook's deliveries are mapped with. */
export interface MappingRequest {
  /** The hook's. */
  tenant: Tenant;
  /** `mapping`: as it is stored, or a preset's name. */
  hook: { hook_id: string; mapping: unknown };
  delivery: Omit<MappingInput, "hook_id"> & {
    /** As it came. */
    raw: Uint8Array;
    content_type: string;
    /** The run that it made when it was mapped before, where it did. */
    made_run_id?: string | undefined;
  };
}

/** Why a run did not take what came of a delivery, or was not made. */
type Refused = Refusal | QuotaExceeded;

/** What became of a delivery. */
export type Mapped =
  /** `created`: whether this delivery made the run. `woken`: whether it made a task runnable; absent where it was not asked to. */
  | { status: "mapped"; run_id: string; created: boolean; woken?: boolean }
  /** `run_id`: the run that was there already, where that is the reason. */
  | { status: "skipped"; reason: string; run_id?: string }
  /** `error`: of the mapping, or why what came of it was refused. */
  | { status: "mapping_failed"; error: MappingError | Refused; issues: Issue[]; run_id?: string };

/**
 * Maps a stored delivery and carries out what came of it. Any number of calls for one delivery, one after another or at once,
 * broken off anywhere, come to the same as one: run id and command ids are derived from hook, key and delivery, so that what
 * was done is answered and not done again.
 *
 * @throws where trying again may help: an object, D1 or R2 that cannot be reached, a run that is busy.
 */
export async function applyMapping(
  env: Pick<Env, "RUNS" | "DIRECTORY" | "ARTIFACTS">,
  { tenant, hook, delivery }: MappingRequest,
): Promise<Mapped> {
  const { hook_id } = hook;
  const read = readMapping(hook.mapping);
  if (!read.ok) {
    const error = { code: "MAPPING_INVALID" as const, error: "the hook's mapping is none" };
    return { status: "mapping_failed", error, issues: read.issues };
  }
  const { raw, content_type, made_run_id, ...input } = delivery;
  const planned = planOf(read.mapping, { hook_id, ...input });
  if (planned.verdict === "skip") return { status: "skipped", reason: planned.reason };
  if (planned.verdict === "error") {
    return { status: "mapping_failed", error: planned.error, issues: planned.issues };
  }
  const { plan } = planned;
  // Whoever sends to a hook is held to the quotas of its tenant, whoever made the hook.
  const allowance = await readAllowance(env.DIRECTORY, tenantKey(tenant));
  return carryOut({
    env,
    tenant,
    hook_id,
    delivery_id: input.delivery_id,
    raw,
    content_type,
    made_run_id,
    plan,
    allowance,
  });
}

/** A plan with all that carrying it out needs. */
interface Work {
  env: Pick<Env, "RUNS" | "DIRECTORY" | "ARTIFACTS">;
  tenant: Tenant;
  hook_id: string;
  delivery_id: string;
  raw: Uint8Array;
  content_type: string;
  made_run_id: string | undefined;
  plan: Plan;
  allowance: Allowance;
}

/**
 * Carries out a plan: the run, the raw payload as an artifact of it, the event, the tasks, the wake, in this order, so that
 * whoever sees a later one finds the earlier ones.
 *
 * M1 Every step has a command id of its own, derived from the delivery: a step that was done is not done again.
 * M2 Whether this delivery made the run is what the run says, by the command that created it, and so the same each time.
 */
async function carryOut(work: Work): Promise<Mapped> {
  const place = await placeOf(work);
  if (!place.ok) return place.mapped;
  const { run, run_id, created } = place;
  const { plan } = work;
  const ids = commandIds(work.hook_id, work.delivery_id);

  const kept = await keepPayload(work, run, run_id, ids.payload);
  if ("code" in kept) return refused(kept, run_id);
  const payload_artifact = kept.path === null ? undefined : { path: kept.path };

  const notTold = await perform(run, { op: "append_event", ...plan.event, payload_artifact }, ids.event);
  if (notTold !== null) return refused(notTold, run_id);

  if (plan.tasks.length > 0 && (created || plan.on_existing === "add_tasks")) {
    const tasks = plan.tasks.map((task, index) => ({
      ...task,
      payload_artifact,
      command_id: task.id === undefined ? ids.task(index) : ids.namedTask(task.id),
    }));
    // The rows bring ids of their own.
    const notAdded = await perform(run, { op: "create_tasks", tasks, replace_existing: false }, undefined);
    if (notAdded !== null) return refused(notAdded, run_id);
  }

  if (created || plan.on_existing !== "wake_task" || plan.wake_task_id === null) {
    return { status: "mapped", run_id, created };
  }
  const notWoken = await perform(run, wake(plan.wake_task_id), ids.wake);
  // A task that is at work, or done: what came in is in the log all the same.
  const isAwake = notWoken?.code === "TASK_TRANSITION_INVALID" || notWoken?.code === "TASK_LEASE_REQUIRED";
  if (notWoken !== null && !isAwake) return refused(notWoken, run_id);
  return { status: "mapped", run_id, created, woken: notWoken === null };
}

type Place = { ok: true; run: RunClient; run_id: string; created: boolean } | { ok: false; mapped: Mapped };

/** Why a run cannot be made where there is, or was, one. */
const TAKEN: ReadonlySet<Refused["code"]> = new Set(["CONTEXT_RUN_EXISTS", "RUN_DELETED", "RUN_ARCHIVED"]);

/** The run that the plan is about, made if it is not there. */
async function placeOf(work: Work): Promise<Place> {
  const { hook_id, delivery_id, plan } = work;
  const own = deliveryRunId(hook_id, delivery_id);
  let run_id = plan.run_key === null ? own : keyedRunId(hook_id, plan.run_key);
  let refusal = await create(work, run_id);
  // What it has made is not made again elsewhere, when that was archived or deleted since and cannot say whose it was.
  const isMade = run_id === work.made_run_id;
  if (refusal !== null && plan.on_existing === "new_run" && !isMade && TAKEN.has(refusal.code)) {
    run_id = own;
    refusal = await create(work, run_id);
  }
  const run = clientOf(work, run_id);
  if (refusal === null) return { ok: true, run, run_id, created: true };
  if (refusal.code !== "CONTEXT_RUN_EXISTS") return { ok: false, mapped: refused(refusal, run_id) };
  if (plan.on_existing === "ignore") {
    return { ok: false, mapped: { status: "skipped", reason: "the run is there already", run_id } };
  }
  return { ok: true, run, run_id, created: false };
}

function refused(refusal: Refused, run_id: string): Mapped {
  if (CODES[refusal.code].retryable) throw new Error(`${refusal.code}: ${refusal.error}`);
  return { status: "mapping_failed", error: refusal, issues: [], run_id };
}

function clientOf({ env, tenant }: Pick<Work, "env" | "tenant">, runId: string): RunClient {
  return runClient(env.RUNS, runObjectName(tenantKey(tenant), runId));
}

/** Creates the run, once. Null when this delivery has made it, now or before. */
async function create(work: Work, run_id: string): Promise<Refused | null> {
  const { tenant, hook_id, delivery_id, plan, allowance } = work;
  const made = runDraft(plan.run, run_id, plan.source_metadata);
  if (!made.ok) return made.refusal;
  const run = clientOf(work, run_id);
  const tooMuch = exceeded(allowance, "runs", 1) ?? tooManyBytes(work);
  // A run that is there takes nothing of the quota. To ask costs a call, and only where the quota is used up.
  if (tooMuch !== null && !(await exists(run))) return tooMuch;
  // Not the mapping's digest: that may have been mended since a first attempt, and the delivery is the same.
  const command = { command_id: commandIds(hook_id, delivery_id).create, fingerprint: delivery_id };
  const created = await run.create({ tenant, draft: made.draft, command });
  return created.ok ? null : created.refusal;
}

/** Why the payload would not fit into the tenant's quota; null when it does, or is not kept. */
function tooManyBytes({ env, raw, allowance }: Work): QuotaExceeded | null {
  return env.ARTIFACTS === undefined ? null : exceeded(allowance, "artifact_bytes", raw.length);
}

/** Runs a command of the delivery; null when it is done, now or before. */
async function perform(
  run: RunClient,
  command: Command,
  commandId: string | undefined,
): Promise<Refusal | null> {
  const answer = await submit(run, { command, commandId });
  if (!answer.ok) return answer.refusal;
  return answer.outcome === null ? commandIdConflict : null;
}

/**
 * Keeps the payload as an artifact of the run: held for it first, then named by it (A2 of artifacts/store.ts). Its path, null
 * where the deployment stores no artifacts; or why the run refused it.
 */
async function keepPayload(
  work: Work,
  run: RunClient,
  runId: string,
  commandId: string,
): Promise<{ path: string | null } | Refused> {
  const { env, tenant, delivery_id, raw, content_type } = work;
  const store = artifactStore(env, tenantKey(tenant));
  if (store === null) return { path: null };
  const path = payloadPath(delivery_id, content_type);
  const tooMuch = tooManyBytes(work);
  if (tooMuch !== null) {
    const read = await run.readFile(path, null);
    return read.ok && read.value !== null ? { path } : tooMuch;
  }
  const content = await store.keep(runHolder(runId), raw);
  const artifact = { id: delivery_id, artifact_type: "webhook_payload" };
  const refusal = await perform(
    run,
    { op: "put_artifact", path, ...content, content_type, artifact },
    commandId,
  );
  if (refusal !== null) return refusal;
  await store.confirm(runHolder(runId), [content.sha256]);
  return { path };
}

function wake(taskId: string): Command {
  return { op: "transition_task", task_id: taskId, action: "status", status: "runnable" };
}
