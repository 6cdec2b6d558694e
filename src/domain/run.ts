import type { RunHeader, Step, Tenant, Workspace } from "../protocol/run.ts";
import type { RunStatus, WorkStatus } from "../protocol/status.ts";
import type { RunSettings } from "../protocol/task-life.ts";

const TERMINAL: ReadonlySet<RunStatus> = new Set(["failed", "completed", "cancelled"]);

/** Whether a run in this status is over (contract 01 §3). A later event may still revive it (03 §2.4). */
export function isTerminal(status: RunStatus): boolean {
  return TERMINAL.has(status);
}

/** Whether nobody is to work on a run in this status: it is paused or over. */
export function isHalted(status: RunStatus): boolean {
  return status === "paused" || isTerminal(status);
}

/** What a client may say about a new run, normalised (contract 02 §2.1). */
export interface RunDraft {
  run_id: string;
  objective: string;
  run_type: string;
  workspace: Workspace;
  source_client?: string;
  model_provider?: string;
  model_id?: string;
  mcp_servers: string[];
  /** Where it comes from, when a delivery of a hook made it (docs/mapping.md); no client's to say. */
  source_metadata?: unknown;
  /** Not empty. */
  settings?: RunSettings;
}

/** The header of a run as creation leaves it: queued, revision 1, no events (contract 01 §5, 02 §2.1). */
export function newRun(draft: RunDraft, tenant: Tenant, nowMs: number): RunHeader {
  return {
    ...draft,
    tenant_context: tenant,
    status: "queued",
    steps: [],
    why_next_step: null,
    revision: 1,
    last_event_seq: 0,
    created_at_ms: nowMs,
    updated_at_ms: nowMs,
  };
}

/**
 * Moves a run to a status and keeps `ended_at_ms` honest: set on entering a terminal status, cleared on leaving one
 * (contract 07 D65, D66). A run that stays terminal keeps its time.
 */
export function withStatus(run: RunHeader, status: RunStatus, atMs: number): RunHeader {
  if (isTerminal(status)) {
    return isTerminal(run.status) && run.ended_at_ms !== undefined
      ? { ...run, status }
      : { ...run, status, ended_at_ms: atMs };
  }
  if (!isTerminal(run.status)) return { ...run, status };
  const { ended_at_ms: _ended, ...rest } = run;
  return { ...rest, status };
}

/** The run with these settings in place of those it had; without any, it has no such member. */
export function withSettings<T extends RunHeader>(run: T, settings: RunSettings | undefined): T {
  const { settings: _before, ...rest } = run;
  const isEmpty = settings === undefined || Object.keys(settings).length === 0;
  return (isEmpty ? rest : { ...rest, settings }) as T;
}

/** How many tasks of a concurrency key may be in progress at once. */
export function concurrencyLimit(settings: RunSettings | undefined, key: string): number {
  const limits = settings?.concurrency_limits ?? {};
  // A key may be named like what every object has.
  return Object.hasOwn(limits, key) ? (limits[key] ?? 1) : 1;
}

/** Sets the status of the first step with this id; a step that is not there is not made. */
export function withStepStatus(steps: Step[], stepId: string, status: WorkStatus): Step[] {
  const index = steps.findIndex((step) => step.step_id === stepId);
  const step = steps[index];
  return step === undefined ? steps : steps.with(index, { ...step, status });
}
