import type { RunStatus } from "../protocol/status.ts";
import type { CommandOf } from "./command.ts";
import type { Decision } from "./decision.ts";
import { type Context, Draft } from "./draft.ts";
import type { Refusal } from "./refusals.ts";
import { isHalted, isTerminal } from "./run.ts";
import type { View } from "./view.ts";

/** The contract's own events for it (contract 03 §2), and the status that each brings. */
const EVENTS = {
  pause: { type: "run_paused", status: "paused" },
  resume: { type: "run_resumed", status: "running" },
  cancel: { type: "run_cancelled", status: "cancelled" },
} as const satisfies Record<string, { type: string; status: RunStatus }>;

/**
 * Pauses a run, lets it go on, or cancels it. Holders are told with their next heartbeat and lose their leases at the end of the grace;
 * to ask again may make that shorter. A run that is over can be resumed, and not be brought to another end.
 */
export function decideControl(
  command: CommandOf<"control_run">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const { action, reason, grace_ms } = command;
  const head = view.head();
  const refusal = refusalOf(action, head.run.status);
  if (refusal !== null) return { ok: false, refusal };
  const { type, status } = EVENTS[action];
  const draft = new Draft(head, context, commandId);
  const event = draft.event({
    type,
    status,
    payload: {
      reason: reason ?? null,
      ...(grace_ms !== undefined && action !== "resume" && { grace_ms }),
    },
    ...(action !== "resume" && { stop: { reason, grace_ms } }),
  });
  return { ok: true, commits: draft.commits, outcome: { op: "control_run", event } };
}

function refusalOf(action: CommandOf<"control_run">["action"], run_status: RunStatus): Refusal | null {
  const isAllowed = {
    pause: !isTerminal(run_status),
    resume: isHalted(run_status) || run_status === "blocked",
    cancel: !isTerminal(run_status) || run_status === "cancelled",
  }[action];
  if (isAllowed) return null;
  const error = `a run that is ${run_status} cannot be ${PARTICIPLES[action]}`;
  return { code: "RUN_TRANSITION_INVALID", error, run_status };
}

const PARTICIPLES = { pause: "paused", resume: "resumed", cancel: "cancelled" } as const;
