import type { DrillResult } from "../drill/drill.ts";
import { percentiles } from "../drill/report.ts";
import type { Finding, Violation } from "./observers/observer.ts";
import type { TortureProgress, TortureResult } from "./torture.ts";

/** What the report says about a torture besides its result. */
export interface TortureSetting {
  readonly lanes: number;
  readonly agents: number;
  /** The file, as it was given. */
  readonly planFile?: string;
}

/** How many violations of one rule the summary spells out; the JSON has all of them. */
const shownExamples = 3;

const unreadBecause = {
  no_sqlite: "this Node has no node:sqlite, which it has from 22.13 on",
  not_reached: "it broke off before",
};

/** One line that says how far the torture is. */
export function progressLine({ phase, kills, elapsedMs }: TortureProgress, allKills: number): string {
  return `${seconds(elapsedMs)}  ${kills}/${allKills} kills  ${phase}`;
}

/** The command that does the same again. */
export function commandOf({ lanes, agents, planFile }: TortureSetting, result: TortureResult): string {
  const plan = planFile === undefined ? "" : ` --plan ${planFile}`;
  const { seed, asked } = result;
  return `npm run torture -- --kills ${asked} --seed ${seed} --lanes ${lanes} --agents ${agents}${plan}`;
}

/** The result for people, several lines without a line break at the end. */
export function summary(setting: TortureSetting, result: TortureResult): string {
  const { kills, network, crons, jumps, drills } = result;
  const outages = percentiles(result.outagesMs);
  const commands = commandCounts(drills);
  return [
    line("seed", `${result.seed}; again: ${commandOf(setting, result)}`),
    line(
      "kills",
      `${kills.server} of the server, ${kills.runtime} of its runtime alone, ${kills.both} of both; ${result.killsWhileStarting} before it served`,
    ),
    line(
      "outages",
      `${result.outagesMs.length} times away, for ${(outages.p50 / 1000).toFixed(1)} s (median), ${(outages.max / 1000).toFixed(1)} s (longest)`,
    ),
    line(
      "network",
      `${network.connections} connections; ${network.cut} cut, ${network.swallowed} had answers swallowed, ${network.refused} found no server; ${network.delayed} chunks held up`,
    ),
    line("crons", `${crons.ran} ran, ${crons.broken} were broken off by kills`),
    line("clock", `${jumps.forward} jumps forward, ${jumps.back} back`),
    line(
      "drills",
      `${drills.length} in ${setting.lanes} lanes of ${setting.agents} agents; ${tasksDone(drills)} tasks done`,
    ),
    line(
      "commands",
      `${commands.sent} sent, ${commands.acknowledged} acknowledged, ${commands.lost} never answered; ${commands.unanswered} requests without an answer`,
    ),
    line("took", seconds(result.elapsedMs)),
    "",
    ...result.findings.flatMap(findingLines),
    ...(result.storage === "read"
      ? []
      : [line("not checked", `the storage: ${unreadBecause[result.storage]}`)]),
    "",
    verdict(result),
    ...(result.keptDir === undefined
      ? []
      : [
          `Kept: ${result.keptDir} (the server's storage and output, and what was sent and answered in drills that something is held against)`,
        ]),
  ].join("\n");
}

function verdict({ findings }: TortureResult): string {
  const count = findings.reduce((sum, { violations }) => sum + violations.length, 0);
  if (count === 0) return "No violation.";
  return `${count} ${count === 1 ? "violation" : "violations"}.`;
}

function findingLines({ name, examined, violations }: Finding): string[] {
  const lines = [line(violations.length > 0 ? "FAILED" : "ok", `${name} (${examined} examined)`)];
  const byRule = Map.groupBy(violations, ({ rule }) => rule);
  for (const [rule, group] of byRule) {
    lines.push(line("", `${group.length} × ${rule}`));
    for (const violation of group.slice(0, shownExamples)) lines.push(line("", `  ${describe(violation)}`));
  }
  return lines;
}

function describe({ run_id, seq, detail }: Violation): string {
  const place = [run_id, seq === undefined ? undefined : `seq ${seq}`].filter((part) => part !== undefined);
  return place.length === 0 ? detail : `${place.join(", ")}: ${detail}`;
}

/** The result as one JSON object, with every violation. */
export function toJson(setting: TortureSetting, result: TortureResult): string {
  const { findings, drills } = result;
  return JSON.stringify(
    {
      ok: findings.every(({ violations }) => violations.length === 0),
      seed: result.seed,
      command: commandOf(setting, result),
      kills: { ...result.kills, while_starting: result.killsWhileStarting },
      outages_ms: result.outagesMs,
      network: result.network,
      crons: result.crons,
      clock_jumps: result.jumps,
      drills: drills.map(({ runId, tasksDone, events, counts }) => ({
        run_id: runId,
        tasks_done: tasksDone,
        events,
        counts,
      })),
      commands: commandCounts(drills),
      storage_read: result.storage === "read",
      elapsed_ms: Math.round(result.elapsedMs),
      kept_dir: result.keptDir ?? null,
      checks: findings,
    },
    null,
    2,
  );
}

function commandCounts(drills: readonly DrillResult[]): {
  sent: number;
  acknowledged: number;
  lost: number;
  unanswered: number;
} {
  const sum = (of: (drill: DrillResult) => number): number =>
    drills.reduce((total, drill) => total + of(drill), 0);
  const sent = sum(({ commands }) => commands.sent);
  const acknowledged = sum(({ commands }) => commands.acknowledged);
  return {
    sent,
    acknowledged,
    lost: sent - acknowledged,
    unanswered: sum(({ counts }) => counts.unanswered),
  };
}

function tasksDone(drills: readonly DrillResult[]): number {
  return drills.reduce((total, drill) => total + drill.tasksDone, 0);
}

function line(name: string, text: string): string {
  return name.padEnd(12) + text;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(0)} s`;
}
