import type { DrillOptions, DrillResult, Progress } from "./drill.ts";
import type { Plan, PlanProblem } from "./plan.ts";
import { type Check, checks, type Violation } from "./violation.ts";

/** What the reports say about the drill besides its result. */
export interface DrillSetting {
  /** The file, as it was given. */
  readonly planFile: string;
  readonly options: DrillOptions;
}

/** How many problems, and violations of one rule, the summary spells out; `--json` has all of them. */
const shownExamples = 3;

/** What agents ask while they work; a rate of anything else would mean nothing. */
const agentRequests = new Set([
  "claim",
  "heartbeat",
  "fact",
  "complete",
  "batch",
  "fail",
  "release",
  "lock",
  "renew",
  "unlock",
]);

// --- progress ----------------------------------------------------------------------------------------------------------

/** One line that says how far the drill is, at most `columns` characters wide. */
export function progressLine({ done, total, elapsedMs, counts }: Progress, columns: number): string {
  const share = total === 0 ? 1 : done / total;
  const perSecond = elapsedMs > 0 ? (done * 1000) / elapsedMs : 0;
  const figures = ` ${done}/${total}  ${perSecond.toFixed(0)}/s  ${sum(counts.crashes)} crashed  ${sum(counts.retries)} sent again`;
  const width = Math.max(0, Math.min(40, columns - figures.length - 3));
  const filled = Math.round(share * width);
  return `[${"█".repeat(filled)}${"·".repeat(width - filled)}]${figures}`.slice(0, columns);
}

// --- summary -----------------------------------------------------------------------------------------------------------

/** The result for people, several lines without a line break at the end. */
export function summary(setting: DrillSetting, result: DrillResult): string {
  const { options, planFile } = setting;
  const { counts } = result;
  const workedSeconds = result.timesMs.worked / 1000;
  return [
    ...planLines(planFile, options.plan),
    line("run", `${result.runId} on ${options.baseUrl}, seed ${options.seed}`),
    line(
      "agents",
      `${options.agents}; ${percent(options.crash)} of claims crash, ${percent(options.fail ?? 0.05)} fail, ${percent(options.retry)} of commands are sent again`,
    ),
    line(
      "worked",
      `${result.tasksDone} tasks in ${workedSeconds.toFixed(1)} s (${rate(result.tasksDone, workedSeconds)} tasks/s), ${result.events} events`,
    ),
    line(
      "crashes",
      `${counts.crashes.silent} silent, ${counts.crashes.late} with the answer unread, ${counts.crashes.stalled} stalled past the lease; ${counts.leasesLost} came too late`,
    ),
    line(
      "repeats",
      `${counts.retries.twice} sent twice at once, ${counts.retries.repeated} after the answer was dropped, ${counts.retries.cut} after the connection was cut; ${counts.neverAnswered} never answered, and never sent again`,
    ),
    line(
      "claims",
      `${counts.waitedClaims} were given after a wait, ${counts.emptyClaims} found nothing; ${counts.batches} batches ended the work on their tasks`,
    ),
    line(
      "retries",
      `${counts.failures} attempts failed, ${counts.releases} were given back; ${counts.redriven} dead letters redriven`,
    ),
    line("locks", `${counts.locks} taken, ${counts.locksRefused} refused because others had them`),
    line("stops", `${counts.cancelled} tasks cancelled, ${counts.pauses} pauses of the run`),
    line("requeued", requeueFigures(result.requeueDelaysMs)),
    line("no answer", `${counts.unanswered} requests failed or were put off, and were sent again`),
    "",
    ...latencyLines(result, workedSeconds),
    "",
    ...checkLines(result),
  ].join("\n");
}

function requeueFigures(delaysMs: readonly number[]): string {
  if (delaysMs.length === 0) return "no lease ran out";
  const { p50, max } = percentiles(delaysMs);
  const leases = delaysMs.length === 1 ? "1 lease" : `${delaysMs.length} leases`;
  return `${leases} ran out; free for others after ${p50} ms (median), ${max} ms (longest)`;
}

function planLines(planFile: string, plan: Plan): string[] {
  const { tasks, problems } = plan;
  const open = tasks.filter((task) => task.status === "pending").length;
  const edges = tasks.reduce((count, task) => count + task.depends_on_task_ids.length, 0);
  const parents = new Set(tasks.map((task) => task.parent_task_id).filter((id) => id !== undefined)).size;
  const lines = [
    line(
      "plan",
      `${planFile}: ${tasks.length} tasks, ${open} to do; ${edges} dependencies, ${parents} parents`,
    ),
  ];
  for (const [kind, group] of grouped(problems, (problem) => problem.kind)) {
    lines.push(line("", `${group.length} × ${kind}`));
    for (const problem of group.slice(0, shownExamples))
      lines.push(line("", `  ${describeProblem(problem)}`));
    if (group.length > shownExamples) lines.push(line("", `  and ${group.length - shownExamples} more`));
  }
  return lines;
}

/** A problem of the plan as one line. */
function describeProblem({ line, id, detail }: PlanProblem): string {
  return `line ${line}${id === undefined ? "" : ` (${id})`}: ${detail}`;
}

function latencyLines(result: DrillResult, workedSeconds: number): string[] {
  const lines = [
    `${"ms".padEnd(12)}${["requests", "per s", "p50", "p95", "p99", "max"].map(column).join("")}`,
  ];
  for (const [name, values] of result.latencies) {
    const perSecond = agentRequests.has(name) ? rate(values.length, workedSeconds) : "";
    const figures = percentiles(values);
    const shown = [figures.p50, figures.p95, figures.p99, figures.max].map((value) => value.toFixed(1));
    lines.push(name.padEnd(12) + [String(values.length), perSecond, ...shown].map(column).join(""));
  }
  return lines;
}

function checkLines(result: DrillResult): string[] {
  const byCheck = grouped(result.violations, (violation) => violation.check);
  const lines: string[] = [];
  for (const [check, title] of Object.entries(checks) as [Check, string][]) {
    const violations = byCheck.get(check) ?? [];
    const examined = result.examined?.[check];
    const verdict =
      violations.length > 0
        ? "FAILED"
        : examined === undefined
          ? "not checked"
          : examined === 0
            ? "nothing"
            : "ok";
    lines.push(`${verdict.padEnd(12)}${title}${examined === undefined ? "" : ` (${examined} examined)`}`);
    for (const [rule, group] of grouped(violations, (violation) => violation.rule)) {
      lines.push(line("", `${group.length} × ${rule}`));
      for (const violation of group.slice(0, shownExamples)) lines.push(line("", `  ${violation.detail}`));
    }
  }
  const count = result.violations.length;
  lines.push("", count === 0 ? "No violation." : `${count} ${count === 1 ? "violation" : "violations"}.`);
  return lines;
}

// --- for machines ------------------------------------------------------------------------------------------------------

/** The result as one JSON object, with every problem of the plan and every violation. The token is not in it. */
export function toJson({ planFile, options }: DrillSetting, result: DrillResult): string {
  const { plan } = options;
  const workedSeconds = result.timesMs.worked / 1000;
  return JSON.stringify(
    {
      ok: result.violations.length === 0,
      run_id: result.runId,
      base_url: options.baseUrl,
      seed: options.seed,
      agents: options.agents,
      crash: options.crash,
      fail: options.fail ?? 0.05,
      retry: options.retry,
      plan: {
        file: planFile,
        tasks: plan.tasks.length,
        to_do: plan.tasks.filter((task) => task.status === "pending").length,
        dependencies: plan.tasks.reduce((count, task) => count + task.depends_on_task_ids.length, 0),
        problems: plan.problems,
      },
      tasks_done: result.tasksDone,
      events: result.events,
      created_ms: round(result.timesMs.created),
      worked_ms: round(result.timesMs.worked),
      audited_ms: round(result.timesMs.audited),
      tasks_per_second: workedSeconds > 0 ? round(result.tasksDone / workedSeconds) : 0,
      counts: {
        unanswered: result.counts.unanswered,
        empty_claims: result.counts.emptyClaims,
        waited_claims: result.counts.waitedClaims,
        batches: result.counts.batches,
        failures: result.counts.failures,
        releases: result.counts.releases,
        redriven: result.counts.redriven,
        cancelled: result.counts.cancelled,
        pauses: result.counts.pauses,
        facts: result.counts.facts,
        heartbeats: result.counts.heartbeats,
        leases_lost: result.counts.leasesLost,
        locks: result.counts.locks,
        locks_refused: result.counts.locksRefused,
        never_answered: result.counts.neverAnswered,
        crashes: result.counts.crashes,
        retries: result.counts.retries,
      },
      latencies_ms: Object.fromEntries(
        [...result.latencies].map(([name, values]) => {
          const { p50, p95, p99, max } = percentiles(values);
          return [
            name,
            { count: values.length, p50: round(p50), p95: round(p95), p99: round(p99), max: round(max) },
          ];
        }),
      ),
      requeue_delays_ms: { count: result.requeueDelaysMs.length, ...percentiles(result.requeueDelaysMs) },
      examined: result.examined ?? null,
      violations: result.violations satisfies readonly Violation[],
    },
    null,
    2,
  );
}

// --- figures -----------------------------------------------------------------------------------------------------------

/** Nearest-rank percentiles; all 0 for no values. */
export function percentiles(values: readonly number[]): {
  p50: number;
  p95: number;
  p99: number;
  max: number;
} {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1) };
}

function grouped<T, K>(values: readonly T[], key: (value: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const value of values) {
    const group = groups.get(key(value));
    if (group === undefined) groups.set(key(value), [value]);
    else group.push(value);
  }
  return groups;
}

function line(name: string, text: string): string {
  return name.padEnd(12) + text;
}

function column(text: string): string {
  return text.padStart(10);
}

function percent(share: number): string {
  return `${Number((share * 100).toFixed(2))} %`;
}

function rate(count: number, seconds: number): string {
  return seconds > 0 ? (count / seconds).toFixed(1) : "–";
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}
