import { checkHistory } from "../history/check.ts";
import { clockOf } from "../history/clock.ts";
import type { AuditInput } from "./audit.ts";
import { toHistory } from "./operations.ts";
import type { Flag } from "./violation.ts";

/** By how much the clocks of drill and server may come apart over a lease: rounding, and one part in a thousand. */
const slackMs = 5;
const slackShare = 0.001;

/**
 * What agents were answered, against the rules of a lease, without a look at the log: a server that keeps a tidy log and tells
 * agents something else is found here. Returns how many operations there were.
 */
export function checkAnswers({ commands, plan, leaseMs, clockJumps }: AuditInput, flag: Flag): number {
  const clock = clockOf(clockJumps);
  const history = toHistory(commands, { plan, leaseMs, clock });
  const rules = { isStrict: true, slackMs: slackMs + leaseMs * slackShare, clock };
  for (const { rule, task, id, detail } of checkHistory(history, rules)) {
    flag("history", rule, `${task}: ${detail}`, { task_id: task, command_id: id });
  }
  return history.operations.length;
}
