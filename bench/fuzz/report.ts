import { RULES, type Rule } from "./checks.ts";
import type { Finding, FuzzResult } from "./fuzz.ts";

/** How many findings of one rule the summary spells out; `--json` has all of them. */
const SHOWN = 5;

/** Rules that broke the promise by not being looked at: a check that has examined nothing says nothing. */
export function unexamined({ examined }: FuzzResult): Rule[] {
  return (Object.keys(RULES) as Rule[]).filter((rule) => examined[rule] === 0);
}

/** Whether nothing was found, and everything was looked at. */
export function isGood(result: FuzzResult): boolean {
  return result.findings.length === 0 && unexamined(result).length === 0;
}

/** The result for people, several lines without a line break at the end. */
export function summary(result: FuzzResult): string {
  const { seed, requests, tookMs, statuses, sorts, routes, memory, slowest } = result;
  const perSecond = tookMs > 0 ? (requests * 1_000) / tookMs : 0;
  const classes = new Map<string, number>();
  for (const [status, count] of Object.entries(statuses)) {
    const name = `${status[0]}xx`;
    classes.set(name, (classes.get(name) ?? 0) + count);
  }
  const sortLine = ([sort, { sent, accepted }]: [string, { sent: number; accepted: number }]) =>
    `${sort} ${sent} (${accepted} accepted)`;
  return [
    line(
      "requests",
      `${requests} in ${(tookMs / 1000).toFixed(1)} s (${perSecond.toFixed(0)}/s), seed ${seed}`,
    ),
    line("made", Object.entries(sorts).map(sortLine).join(", ")),
    line(
      "routes",
      `${routes.asked} of ${routes.known} were asked, ${routes.accepted} have accepted something`,
    ),
    ...(routes.never.length > 0 && routes.accepted > 0
      ? [line("", `never: ${routes.never.join(", ")}`)]
      : []),
    line(
      "answers",
      [...classes]
        .sort()
        .map(([name, count]) => `${name} ${count}`)
        .join(", "),
    ),
    line(
      "",
      Object.entries(statuses)
        .map(([status, count]) => `${status}: ${count}`)
        .join("  "),
    ),
    line("slowest", `${slowest.ms.toFixed(0)} ms, ${slowest.request}`),
    line("memory", memoryFigures(memory)),
    "",
    ...(Object.keys(RULES) as Rule[]).flatMap((rule) => ruleLines(rule, result)),
    "",
    isGood(result)
      ? "No finding."
      : `Not good. The same requests again: npm run fuzz -- --requests ${requests} --seed ${seed}`,
  ].join("\n");
}

function memoryFigures({ peakHeapMib, heapGrowthMib, peakRssMib }: FuzzResult["memory"]): string {
  const growth =
    heapGrowthMib === null ? "" : `, ${heapGrowthMib.toFixed(1)} MiB more at the end than early on`;
  const rss = peakRssMib === null ? "" : `; the process ${peakRssMib.toFixed(0)} MiB`;
  return `${peakHeapMib.toFixed(0)} MiB live in the Worker's heap at most${growth}${rss}`;
}

function ruleLines(rule: Rule, result: FuzzResult): string[] {
  const found = result.findings.filter((finding) => finding.rule === rule);
  const examined = result.examined[rule];
  const isLookedAt = !unexamined(result).includes(rule);
  const mark = found.length === 0 && isLookedAt ? "ok  " : "FAIL";
  const count = isLookedAt ? `${examined} examined` : "nothing was examined";
  const more = found.length > SHOWN ? [`       … and ${found.length - SHOWN} more`] : [];
  return [`${mark} ${RULES[rule]} (${count})`, ...found.slice(0, SHOWN).flatMap(findingLines), ...more];
}

function findingLines({ index, detail, request }: Finding): string[] {
  const place = index === null ? "" : `request ${index}: `;
  return [`       ${place}${detail}`, ...(request === null ? [] : [`         ${request}`])];
}

function line(name: string, text: string): string {
  return `${name.padEnd(10)}${text}`;
}

/** The result as JSON, one document. */
export function toJson(result: FuzzResult): string {
  return JSON.stringify({ ok: isGood(result), ...result }, null, 2);
}
