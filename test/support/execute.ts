import type { Command, CommandOf } from "../../src/domain/command.ts";
import type { RunHeader } from "../../src/protocol/run.ts";
import { aRun, NOW } from "./builders.ts";
import type { Aim, PutPlan, Step, TokenChoice } from "./commands.ts";
import { type Answer, MemoryEngine, type Snapshot } from "./memory-engine.ts";

/** One command that was carried out, with everything around it. */
export interface Executed {
  command: Command;
  commandId: string | undefined;
  clockMs: number;
  before: Snapshot;
  answer: Answer;
  after: Snapshot;
  /** The accepted command that this one repeats on purpose, or null. */
  repeats: Executed | null;
}

/** What came of a list of steps. */
export interface Execution {
  engine: MemoryEngine;
  history: Executed[];
  /** Every token that was ever given out, in clear. */
  tokens: string[];
}

/** Carries steps out one after the other, filling in what depends on the run as it stands. */
export function execute(steps: Step[], run: RunHeader = aRun()): Execution {
  const engine = new MemoryEngine(run);
  const history: Executed[] = [];
  const tokensOf = new Map<string, string[]>();
  let clockMs = NOW;

  for (const { plan, commandId: wanted, clockStepMs } of steps) {
    clockMs += clockStepMs;
    const before = history.at(-1)?.after ?? engine.snapshot();
    let repeats: Executed | null = null;
    let command: Command;
    let commandId = wanted;
    if (plan.do === "repeat") {
      repeats = nthRemembered(history, plan.nth);
      if (repeats === null) continue;
      ({ command, commandId } = repeats);
    } else if (plan.do === "transition") {
      command = aimed(plan.command, plan.aim, before, tokensOf);
    } else if (plan.do === "under") {
      const { task_id, lease_token } = aimed(plan.command, plan.aim, before, tokensOf);
      command = { ...plan.command, task_id, lease_token };
    } else if (plan.do === "put") {
      command = putCommand(plan.put, before, tokensOf);
    } else {
      command = plan.command;
    }
    if (bringsItsOwnIds(command)) commandId = undefined;

    const answer = engine.submit(command, commandId, clockMs);
    history.push({ command, commandId, clockMs, before, answer, after: engine.snapshot(), repeats });
    if (
      answer.ok &&
      !answer.isRepeat &&
      answer.outcome?.op === "claim_task" &&
      answer.outcome.lease !== null
    ) {
      const { task, lease } = answer.outcome;
      if (task !== null) tokensOf.set(task.id, [...(tokensOf.get(task.id) ?? []), lease.token]);
    }
  }
  return { engine, history, tokens: [...tokensOf.values()].flat() };
}

/** Commits that a command made, those of the requeue before a claim included. */
export function commitsOf({ answer }: Executed) {
  return answer.ok ? [...answer.requeued, ...answer.commits] : answer.requeued;
}

/** Whether a submission cannot carry an id: the rows of a batch have their own, and the engine's own command has none. */
function bringsItsOwnIds(command: Command): boolean {
  if (command.op === "requeue_stale") return true;
  return command.op === "create_tasks" && command.tasks.some((row) => row.command_id !== undefined);
}

function nthRemembered(history: Executed[], nth: number): Executed | null {
  const remembered = history.filter(
    ({ answer, commandId }) =>
      commandId !== undefined && answer.ok && !answer.isRepeat && answer.commits.length > 0,
  );
  return remembered[nth % remembered.length] ?? null;
}

function aimed<C extends CommandOf<"transition_task" | "append_event">>(
  command: C,
  aim: Aim,
  before: Snapshot,
  tokensOf: Map<string, string[]>,
): C & { task_id: string; lease_token?: string } {
  const { tasks } = before.run;
  const active = tasks.filter(({ status }) => ["in_progress", "blocked", "failed"].includes(status));
  const pool = { active: active.length > 0 ? active : tasks, any: tasks, named: [] }[aim.at];
  const task = pool[aim.nth % pool.length] ?? tasks.find(({ id }) => id === command.task_id);
  const task_id = task?.id ?? command.task_id ?? "a";
  const token = tokenFor(aim.token, task_id, tokensOf, before);
  const revision = task?.task_rev ?? 1;
  return {
    ...command,
    task_id,
    ...(token !== undefined && { lease_token: token }),
    ...(aim.revision !== "none" && {
      expected_task_rev: aim.revision === "current" ? revision : revision + 1,
    }),
  };
}

function tokenFor(
  choice: TokenChoice,
  taskId: string,
  tokensOf: Map<string, string[]>,
  { run }: Snapshot,
): string | undefined {
  const tokens = tokensOf.get(taskId) ?? [];
  switch (choice) {
    case "current":
      return tokens.at(-1);
    case "previous":
      return tokens.at(-2);
    case "wrong":
      return "lease-never-given";
    case "fingerprint":
      return run.tasks.find((task) => task.id === taskId)?.lease_token;
    case "none":
      return undefined;
  }
}

function putCommand(put: PutPlan, { run }: Snapshot, tokensOf: Map<string, string[]>): Command {
  const tasks = put.tasks === "drop" ? run.tasks.slice(1) : run.tasks;
  const unmasked = tasks.map((task) => {
    const token = tokensOf.get(task.id)?.at(-1);
    return task.lease_token === undefined || token === undefined ? task : { ...task, lease_token: token };
  });
  const revisions = { none: undefined, current: run.revision, stale: run.revision - 1 };
  return {
    op: "replace_run",
    run: {
      ...run,
      status: put.status,
      steps: put.steps,
      tasks: put.tasks === "unmask" ? unmasked : tasks,
      tenant_context: { org_id: "other", workspace_id: "other", source: "explicit" },
      revision: 1,
      last_event_seq: 0,
      updated_at_ms: 0,
    },
    expected_revision: revisions[put.expected],
  };
}
