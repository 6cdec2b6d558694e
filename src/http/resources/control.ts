import { refuseBound } from "../bounds.ts";
import type { Call } from "../call.ts";
import { type Done, type Mutation, mutate } from "../command.ts";

/** Stopping or starting a run is about everybody's work. */
function refuseNarrow(call: Call): void {
  refuseBound(call.principal, "task_types", "agent_id");
}

const answers = {
  bodyMayBeEmpty: true,
  context: ({ outcome }: Done<"control_run">) => ({ ok: true, event: outcome.event }),
  native: ({ outcome: { event } }: Done<"control_run">) => ({
    members: { event, run_status: event.run_status, revoke_at_ms: event.halt?.revoke_at_ms ?? null },
  }),
  represents: ["run" as const],
};

const halt = (action: "pause" | "cancel"): Mutation<"control_run", "haltRun"> => ({
  body: "haltRun",
  command: ({ reason, grace_ms }, call) => {
    refuseNarrow(call);
    return { op: "control_run", action, reason, grace_ms };
  },
  ...answers,
});

export const resume: Mutation<"control_run", "resumeRun"> = {
  body: "resumeRun",
  command: ({ reason }, call) => {
    refuseNarrow(call);
    return { op: "control_run", action: "resume", reason };
  },
  ...answers,
};

export const pause = halt("pause");
export const cancel = halt("cancel");

/** `POST /v1/…/pause`. */
export const pauseRun = (call: Call) => mutate(pause, call);

/** `POST /v1/…/resume`. */
export const resumeRun = (call: Call) => mutate(resume, call);

/** `POST /v1/…/cancel`. */
export const cancelRun = (call: Call) => mutate(cancel, call);
