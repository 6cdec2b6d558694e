import type { ClockJump } from "../history/clock.ts";
import { checkClocks } from "./audit-clocks.ts";
import { checkCommands } from "./audit-commands.ts";
import { checkAnswers } from "./audit-history.ts";
import { checkKeys } from "./audit-keys.ts";
import { checkLocks } from "./audit-locks.ts";
import { checkDoneOnce, checkSequence, readHistory } from "./audit-log.ts";
import { checkDirectory, checkReplay, checkViews } from "./audit-views.ts";
import type { AuditEvent, AuditPatch, AuditTask, CommandRecord, ReplayView, RunView } from "./records.ts";
import type { DrillTask } from "./rows.ts";
import type { Check, Flag, Violation } from "./violation.ts";

/*
 * The drill's verdict. Everything here is a pure function of what was read back from the server and of what the agents
 * wrote down while they worked; nothing is taken from the server's word that could be worked out from its log.
 */

export interface AuditInput {
  readonly plan: readonly DrillTask[];
  /** Ids of those tasks of it that the drill added, to cancel them. */
  readonly extras: readonly string[];
  readonly events: readonly AuditEvent[];
  readonly patches: readonly AuditPatch[];
  readonly tasks: readonly AuditTask[];
  /** The ids of the facts on the blackboard, in its order. */
  readonly facts: readonly string[];
  readonly blackboardRevision: number;
  readonly run: RunView;
  readonly directoryRow: RunView | undefined;
  readonly replays: readonly ReplayView[];
  readonly commands: readonly CommandRecord[];
  /** The shortest term of a lease that was asked for, in milliseconds. */
  readonly leaseMs: number;
  /** Tasks of a concurrency key that may be held at once; 1 of a key that is not named. */
  readonly concurrencyLimits: Readonly<Record<string, number>>;
  /** How the server's clock jumped, in order of time. */
  readonly clockJumps: readonly ClockJump[];
}

export interface AuditReport {
  /** How many things each check looked at; a check that looked at nothing proves nothing. */
  readonly examined: Readonly<Record<Check, number>>;
  readonly violations: readonly Violation[];
  /** How long after the end of its lease each abandoned task was given free, in milliseconds. */
  readonly requeueDelaysMs: readonly number[];
}

/** Runs every check. Never throws, whatever the log holds. */
export function audit(input: AuditInput): AuditReport {
  const violations: Violation[] = [];
  const flag: Flag = (check, rule, detail, place) => violations.push({ check, rule, detail, ...place });

  checkSequence(input, flag);
  const history = readHistory(input, flag);
  checkDoneOnce(input, history, flag);
  checkCommands(input, history, flag);
  const operations = checkAnswers(input, flag);
  const clocked = checkClocks(input, flag);
  const keyed = checkKeys(input, flag);
  const locks = checkLocks(input, flag);
  checkReplay(input, flag);
  checkViews(input, history, flag);
  checkDirectory(input, flag);

  return {
    violations,
    requeueDelaysMs: history.requeueDelaysMs,
    examined: {
      done_once: input.plan.length,
      dependencies: input.plan.reduce((sum, task) => sum + task.depends_on_task_ids.length, 0),
      leases: history.leaseEnds.size,
      fences: history.writes,
      retries: history.deadLetters,
      clocks: clocked,
      keys: keyed,
      locks,
      stops: input.extras.length,
      history: operations,
      sequence: input.events.length,
      commands: input.commands.length,
      replay: input.replays.length,
      views: input.tasks.length,
      directory: input.directoryRow === undefined ? 0 : 1,
      answers: input.commands.reduce((sum, command) => sum + command.answers.length, 0),
    },
  };
}
