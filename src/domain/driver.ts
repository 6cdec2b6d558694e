import type { RunHeader, Step } from "../protocol/run.ts";
import type { RunStatus, WorkStatus } from "../protocol/status.ts";
import { isTerminal } from "./run.ts";

/** Names the chooser in the events it writes (contract 01 §2). */
export const DRIVER = "context_driver_v1";

/** The driver's choice: a step to start, or none, with the run status and reason that follow. */
export interface Selection {
  step: Step | null;
  status: RunStatus;
  why: string;
}

/** Chooses the next step of a run; first match wins (contract 03 §6). */
export function selectNextStep(run: RunHeader): Selection {
  const first = (status: WorkStatus) => run.steps.find((step) => step.status === status) ?? null;
  const none = (status: RunStatus, why: string): Selection => ({ step: null, status, why });

  if (isTerminal(run.status)) {
    return none(run.status, `run is terminal (\`"${run.status}"\`); no next step can be selected`);
  }
  const current = first("in_progress");
  if (current !== null) {
    return none(
      "running",
      `step \`${current.step_id}\` is already in_progress; keep current execution focus`,
    );
  }
  const runnable = first("runnable");
  if (runnable !== null) {
    const why = `selected runnable step \`${runnable.step_id}\` as next execution target`;
    return { step: runnable, status: "running", why };
  }
  const pending = first("pending");
  if (pending !== null) {
    const why = `no runnable step available; promoted pending step \`${pending.step_id}\` for execution`;
    return { step: pending, status: "running", why };
  }
  if (run.steps.length > 0 && run.steps.every((step) => step.status === "done")) {
    return none("completed", "all steps are done; marking run completed");
  }
  if (first("failed") !== null) {
    return none("blocked", "one or more steps failed and no runnable work remains; run is blocked");
  }
  return none("blocked", "no actionable steps found; run remains blocked");
}
