import type { Disturbances, Finding } from "../observer.ts";
import { offsetsBetween } from "../timeline.ts";
import { checkAlarms, identityOf } from "./alarms.ts";
import { checkRunRows } from "./consistency.ts";
import { checkContents, checkDirectory, checkFiles } from "./contents.ts";
import type { Stored } from "./stored.ts";

/**
 * Judges what a closed server has left on the disk.
 *
 * @param closedMs when the server was closed at the latest, by this machine's clock.
 */
export function judge(stored: Stored, disturbances: Disturbances, closedMs: number): Finding[] {
  const ever = offsetsBetween(disturbances, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY);
  const now = offsetsBetween(disturbances, closedMs, closedMs);
  const alarms = checkAlarms(stored, {
    // By this machine's clock it was no sooner than this: what the clock was before, no alarm can have gone by.
    minOffsetSince: (madeMs) => offsetsBetween(disturbances, madeMs - ever.max, Number.POSITIVE_INFINITY).min,
    closedMs: closedMs + now.max,
  });
  const commits = stored.runs.reduce((sum, run) => sum + run.commits.length, 0);
  const rows = stored.runs.flatMap((run) => checkRunRows(run, identityOf(run).run_id));
  return [
    { name: "on the disk: an alarm for everything that is due or pending", ...alarms },
    { name: "on the disk: no commit is there by half", examined: commits, violations: rows },
    {
      name: "on the disk: runs and their rows in the directory belong together",
      examined: stored.directory.runs.length,
      violations: checkDirectory(stored),
    },
    { name: "on the disk: contents that runs hold are there, whole", ...checkContents(stored) },
    {
      name: "on the disk: files that SQLite finds sound",
      examined: stored.integrity.size,
      violations: checkFiles(stored),
    },
  ];
}
