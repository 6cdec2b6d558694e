import { asciiLowerCase } from "../protocol/ascii.ts";
import type { RunHeader } from "../protocol/run.ts";
import type { RunStatus, WorkStatus } from "../protocol/status.ts";
import { planFromObjective } from "./plan.ts";
import { isTerminal, withStepStatus } from "./run.ts";
import { stepStatusOfEventWord } from "./step-words.ts";

/** The part of an event that the transition rules read. */
export interface TransitionInput {
  type: string;
  status: RunStatus;
  step_id?: string;
  payload: unknown;
}

/** The step that session events mean when they name none (contract 03 §2). */
const SESSION_STEP = "session-run";

/** What one event does to a run; absent members stay as they are. */
interface Effect {
  status: RunStatus;
  steps?: RunHeader["steps"];
  why?: string;
  startsNow?: boolean;
  clearsEnd?: boolean;
  /** A text sets it, null clears it. */
  lastError?: string | null;
}

/**
 * Applies one run event by the transition table (contract 03 §2). Pure and total: every type is accepted from every
 * status. `atMs` is the event's own time, so that live, repair and replay agree (07 D27).
 */
export function applyRunEvent(run: RunHeader, input: TransitionInput, atMs: number): RunHeader {
  const effect = effectOf(run, input);
  const next: RunHeader = { ...run, status: effect.status };
  if (effect.steps !== undefined) next.steps = effect.steps;
  if (effect.why !== undefined) next.why_next_step = effect.why;
  if (effect.startsNow) next.started_at_ms ??= atMs;
  if (effect.lastError === null) delete next.last_error;
  else if (effect.lastError !== undefined) next.last_error = effect.lastError;

  if (isTerminal(next.status)) next.ended_at_ms = atMs;
  else if (effect.clearsEnd || isTerminal(run.status)) delete next.ended_at_ms;
  return next;
}

function effectOf(run: RunHeader, input: TransitionInput): Effect {
  const stepId = input.step_id?.trim() ?? "";
  const why = payloadText(input.payload, "why_next_step");
  const started = { startsNow: true, clearsEnd: true, lastError: null };

  switch (asciiLowerCase(input.type.trim())) {
    case "session_run_started":
      return {
        ...started,
        status: "running",
        steps: withStepStatus(run.steps, stepId || SESSION_STEP, "in_progress"),
        why: why ?? "session run in progress",
      };
    case "session_run_finished":
      return {
        status: input.status,
        steps: withStepStatus(run.steps, stepId || SESSION_STEP, stepStatusAfterSession(input.status)),
        why: why ?? "session run finished",
        ...errorOf(input.payload),
      };
    case "planning_started":
      return {
        ...started,
        status: "awaiting_approval",
        steps: run.steps.length === 0 ? planFromObjective(run.objective) : run.steps,
        why: "plan generated and awaiting approval",
      };
    case "plan_approved": {
      const first = run.steps.find((step) => step.status === "pending" || step.status === "runnable");
      if (first === undefined) return { ...started, status: "running" };
      return {
        ...started,
        status: "running",
        steps: run.steps.with(run.steps.indexOf(first), { ...first, status: "in_progress" }),
        why: `executing step \`${first.step_id}\` after approval`,
      };
    }
    case "run_paused":
      return { status: "paused", why: "run paused by operator" };
    case "run_resumed":
      return { status: "running", why: "run resumed by operator", clearsEnd: true };
    case "run_cancelled":
      return { status: "cancelled", why: "run cancelled by operator" };
    case "task_retry_requested":
      return {
        status: "running",
        clearsEnd: true,
        lastError: null,
        ...(stepId !== "" && {
          steps: withStepStatus(run.steps, stepId, "runnable"),
          why: `retry requested for step \`${stepId}\``,
        }),
      };
    case "revision_requested": {
      const feedback = payloadText(input.payload, "feedback");
      return {
        status: "blocked",
        why: feedback === null ? "revision requested by operator" : `revision requested: ${feedback}`,
      };
    }
    case "step_started":
    case "task_started":
      return stepEvent(run, input, stepId, why, "in_progress");
    case "step_completed":
    case "task_completed":
    case "step_done":
      return stepEvent(run, input, stepId, why, "done");
    case "step_failed":
    case "task_failed":
      return { ...stepEvent(run, input, stepId, why, "failed"), ...errorOf(input.payload) };
    default:
      return { ...stepEvent(run, input, stepId, why, null), ...errorOf(input.payload) };
  }
}

function stepEvent(
  run: RunHeader,
  input: TransitionInput,
  stepId: string,
  why: string | null,
  otherwise: WorkStatus | null,
): Effect {
  const status = payloadStepStatus(input.payload) ?? otherwise;
  return {
    status: input.status,
    ...(stepId !== "" && status !== null && { steps: withStepStatus(run.steps, stepId, status) }),
    ...(why !== null && { why }),
  };
}

/** Contract 03 §2.1. */
function stepStatusAfterSession(declared: RunStatus): WorkStatus {
  if (declared === "failed") return "failed";
  return declared === "cancelled" || declared === "blocked" || declared === "paused" ? "blocked" : "done";
}

function errorOf(payload: unknown): { lastError?: string } {
  const error = payloadText(payload, "error");
  return error === null ? {} : { lastError: error };
}

/** A payload's text member, trimmed; null when absent, blank or not a string (contract 03 §1.1). */
function payloadText(payload: unknown, key: string): string | null {
  if (typeof payload !== "object" || payload === null) return null;
  const value = (payload as Record<string, unknown>)[key];
  const text = typeof value === "string" ? value.trim() : "";
  return text === "" ? null : text;
}

/** The first non-blank of the three spellings decides, even when its word is unknown (contract 03 §1.1). */
function payloadStepStatus(payload: unknown): WorkStatus | null {
  const word =
    payloadText(payload, "step_status") ??
    payloadText(payload, "stepStatus") ??
    payloadText(payload, "step-state");
  return word === null ? null : stepStatusOfEventWord(word);
}
