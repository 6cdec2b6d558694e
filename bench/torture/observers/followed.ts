import type { Violation } from "./observer.ts";
import type { LogRecord, RunLog, Told } from "./records.ts";

/*
 * What docs/streams.md promises to a reader that resumes by its cursors, whatever happened meanwhile: every event and patch
 * exactly once, those of a run in the order of its log, those of many runs in one order that is the same for everybody.
 */

/**
 * Compares what a reader was told with the logs.
 *
 * @param logs of every run that it may be told of.
 * @param endsAt of runs whose stream was over before the log was: the seq that it must have told up to at least. What
 * comes after may have been told or not, but without gaps.
 */
export function checkTold(
  logs: readonly RunLog[],
  told: readonly Told[],
  endsAt: ReadonlyMap<string, number> = new Map(),
): Violation[] {
  const known = new Map(logs.map((log) => [log.run_id, log]));
  const violations: Violation[] = [];
  for (const { run_id, kind, record } of told) {
    if (known.has(run_id)) continue;
    violations.push({ rule: "foreign", detail: `${kind} ${record.seq} of a run that nobody made`, run_id });
  }
  for (const log of logs) {
    for (const kind of ["event", "patch"] as const) {
      const expected = kind === "event" ? log.events : log.patches;
      const own = told.filter((one) => one.run_id === log.run_id && one.kind === kind);
      violations.push(...checkKind(log.run_id, kind, expected, own, endsAt.get(log.run_id)));
    }
    violations.push(...checkPairs(log.run_id, told));
  }
  return violations;
}

function checkKind(
  run_id: string,
  kind: Told["kind"],
  expected: readonly LogRecord[],
  told: readonly Told[],
  endsAt: number | undefined,
): Violation[] {
  const violations: Violation[] = [];
  const texts = new Map(expected.map(({ seq, text }) => [seq, text]));
  const seen = new Set<number>();
  let highest = 0;
  for (const { record } of told) {
    const { seq, text } = record;
    const flag = (rule: string, detail: string) => violations.push({ rule, detail, run_id, seq });
    if (!texts.has(seq)) flag("foreign", `${kind} ${seq} is not in the log`);
    else if (seen.has(seq)) flag("repeated", `${kind} ${seq} was told again`);
    else if (seq < highest) flag("out_of_order", `${kind} ${seq} was told after ${highest}`);
    if (texts.has(seq) && texts.get(seq) !== text) {
      flag("changed", `${kind} ${seq} was told as ${text}, the log has ${texts.get(seq)}`);
    }
    seen.add(seq);
    highest = Math.max(highest, seq);
  }
  const upto = Math.max(endsAt ?? Number.POSITIVE_INFINITY, highest);
  const lost = expected.filter(({ seq }) => seq <= upto && !seen.has(seq)).map(({ seq }) => seq);
  if (lost.length > 0) {
    const which = `${kind} ${lost.slice(0, 5).join(", ")}${lost.length > 5 ? ", …" : ""}`;
    const detail = `${lost.length} of ${expected.length} were not told: ${which}`;
    violations.push({ rule: "lost", detail, run_id, seq: lost[0] ?? 0 });
  }
  return violations;
}

/** A patch comes after its event; only the backlog of a stream of many runs may show it first. */
function checkPairs(run_id: string, told: readonly Told[]): Violation[] {
  const events = new Set<number>();
  const early: Violation[] = [];
  for (const { run_id: of, kind, record } of told) {
    if (of !== run_id) continue;
    if (kind === "event") events.add(record.seq);
    else if (!events.has(record.source_event_seq ?? -1)) {
      const detail = `patch ${record.seq} was told before event ${record.source_event_seq}`;
      early.push({ rule: "patch_before_event", detail, run_id, seq: record.seq });
    }
  }
  return early;
}

/** Whether two readers of one stream of many runs were told the same, in the same order; what both have is compared. */
export function checkSameOrder(one: readonly Told[], other: readonly Told[]): Violation[] {
  const names = (told: readonly Told[]) =>
    told.map(({ run_id, kind, record }) => `${kind} ${record.seq} of ${run_id}`);
  const [left, right] = [names(one), names(other)];
  const isIn = (list: readonly string[]) => {
    const set = new Set(list);
    return (name: string) => set.has(name);
  };
  const a = left.filter(isIn(right));
  const b = right.filter(isIn(left));
  const at = a.findIndex((name, index) => name !== b[index]);
  if (at === -1) return [];
  const detail = `after ${at} records one was told ${a[at]}, the other ${b[at]}`;
  return [{ rule: "orders_differ", detail }];
}
