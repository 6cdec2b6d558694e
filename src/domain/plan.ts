import type { Step } from "../protocol/run.ts";

const MAX_PLANNED_STEPS = 6;
const MIN_TITLE_BYTES = 8;
const DEFAULT_TITLES = [
  "Plan implementation approach",
  "Execute implementation and produce artifacts",
  "Validate and finalize output",
];

/** The plan that `planning_started` makes of an objective when a run has no steps (contract 03 §4). */
export function planFromObjective(objective: string): Step[] {
  const utf8 = new TextEncoder();
  const titles = objective
    .split(/\r?\n/)
    .map((line) =>
      line
        .trim()
        .replace(/^[-*#0-9.)[\]]+/, "")
        .trim(),
    )
    .filter((title) => utf8.encode(title).length >= MIN_TITLE_BYTES)
    .slice(0, MAX_PLANNED_STEPS);
  return (titles.length > 0 ? titles : DEFAULT_TITLES).map((title, index) => ({
    step_id: `step-${index + 1}`,
    title,
    status: "pending",
  }));
}
