import { cpus, totalmem } from "node:os";
import { LOCAL_VARS } from "../scripts/local-vars.ts";
import { type Figure, judge, type Measure, type Report, type Unit } from "./measure.ts";

/** What one measure of a bench run gave: a report, or why there is none. */
export interface Outcome {
  measure: Measure;
  report: Report | { failed: string };
}

/** A measure's table and notes, for people. */
export function table({ measure, report }: Outcome): string {
  if ("failed" in report) return `${measure.title}\n\n  FAILED: ${report.failed}\n`;
  const rows = report.figures.map((figure) => {
    const { spread, verdict } = judge(figure);
    const shown = [spread.min, spread.median, spread.max].map((value) => inUnit(value, figure.unit));
    return [figure.name, ...shown, barText(figure), verdict === "missed" ? "MISSED" : verdict];
  });
  const lines = columns([["", "min", "median", "max", "bar", ""], ...rows]);
  return [measure.title, "", ...lines, "", ...report.notes.map((note) => `  ${note}`), ""].join("\n");
}

/** How many bars were missed, a failed measure being one. */
export function missCount(outcomes: readonly Outcome[]): number {
  return outcomes
    .map(({ report }) =>
      "failed" in report ? 1 : report.figures.filter((figure) => judge(figure).verdict === "missed").length,
    )
    .reduce((sum, misses) => sum + misses, 0);
}

/** Everything that was measured, with the machine it was measured on. What could not be measured is null. */
export function toJson(outcomes: readonly Outcome[], setting: { rounds: number; roundMs: number }): string {
  const [cpu] = cpus();
  const machine = {
    cpus: cpus().length,
    cpu: cpu?.model ?? "",
    memory_bytes: totalmem(),
    platform: `${process.platform} ${process.arch}`,
    node: process.version,
  };
  const measures = outcomes.map(({ measure: { name, title }, report }) =>
    "failed" in report
      ? { name, title, failed: report.failed }
      : {
          name,
          title,
          figures: report.figures.map((figure) => ({ ...figure, ...judge(figure) })),
          notes: report.notes,
        },
  );
  const content = {
    measured_at: new Date().toISOString(),
    machine,
    request_log: LOCAL_VARS.REQUEST_LOG,
    rounds: setting.rounds,
    round_ms: setting.roundMs,
    misses: missCount(outcomes),
    measures,
  };
  return `${JSON.stringify(content, null, 2)}\n`;
}

function barText({ bar, unit }: Figure): string {
  if (bar === undefined) return "";
  if ("atLeast" in bar) return `≥ ${inUnit(bar.atLeast, unit)}`;
  return "atMost" in bar ? `≤ ${inUnit(bar.atMost, unit)}` : `max ≤ ${inUnit(bar.neverOver, unit)}`;
}

function inUnit(value: number, unit: Unit): string {
  if (Number.isNaN(value)) return "-";
  switch (unit) {
    case "/s":
      return `${Math.round(value).toLocaleString("en")}/s`;
    case "x":
      return `${value.toFixed(2)}×`;
    default:
      return `${Number(value.toPrecision(3))} ${unit}`;
  }
}

/** The rows as lines: the first column to the left, all others to the right, each as wide as its widest cell. */
function columns(rows: readonly string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    `  ${row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))).join("  ")}`.trimEnd(),
  );
}
