import { expect, it } from "vitest";
import type { DrillResult } from "../../bench/drill/drill.ts";
import { createJournal } from "../../bench/drill/journal.ts";
import { type Check, checks } from "../../bench/drill/violation.ts";
import { drillFindings, failEmpty } from "../../bench/torture/findings.ts";
import { summary, toJson } from "../../bench/torture/report.ts";
import type { TortureResult } from "../../bench/torture/torture.ts";

const setting = { lanes: 2, agents: 8, planFile: "garden.jsonl" };

function drill(more: Partial<DrillResult> = {}): DrillResult {
  return {
    runId: "drill-1",
    timesMs: { created: 1, worked: 2, audited: 3 },
    tasksDone: 4,
    events: 5,
    counts: createJournal().counts,
    commands: { sent: 7, acknowledged: 6 },
    latencies: new Map(),
    examined: undefined,
    requeueDelaysMs: [],
    violations: [],
    ...more,
  };
}

function result(more: Partial<TortureResult> = {}): TortureResult {
  return {
    seed: 9,
    asked: 3,
    kills: { server: 1, runtime: 1, both: 1 },
    killsWhileStarting: 1,
    outagesMs: [1_000, 3_000],
    network: { connections: 10, refused: 4, cut: 3, swallowed: 2, delayed: 1 },
    crons: { ran: 5, broken: 1 },
    jumps: { forward: 2, back: 1 },
    drills: [drill(), drill()],
    findings: [{ name: "nothing is lost", examined: 12, violations: [] }],
    storage: "read",
    elapsedMs: 60_000,
    ...more,
  };
}

it("gives the command that does the same again, and a line for each check with what it examined", () => {
  const text = summary(setting, result());
  expect(text).toContain("npm run torture -- --kills 3 --seed 9 --lanes 2 --agents 8 --plan garden.jsonl");
  expect(text).toContain("ok          nothing is lost (12 examined)");
  expect(text).toContain("14 sent, 12 acknowledged, 2 never answered");
  expect(text.endsWith("No violation.")).toBe(true);
  expect(JSON.parse(toJson(setting, result()))).toMatchObject({ ok: true, seed: 9, commands: { lost: 2 } });
});

it("tells violations by rule, a few of each, and where the storage was kept", () => {
  const violations = Array.from({ length: 5 }, (_, seq) => ({
    rule: "gone",
    detail: "it was",
    run_id: "r",
    seq,
  }));
  const bad = result({ findings: [{ name: "all there", examined: 5, violations }], keptDir: "/var/kept" });
  const text = summary(setting, bad);
  expect(text).toContain("FAILED      all there (5 examined)\n            5 × gone\n");
  expect(text.match(/r, seq \d: it was/g)).toHaveLength(3);
  expect(text).toContain("5 violations.\nKept: /var/kept");
  const json = JSON.parse(toJson(setting, bad));
  expect(json).toMatchObject({ ok: false, kept_dir: "/var/kept" });
  expect(json.checks[0].violations).toHaveLength(5);
});

it("says when the storage could not be read", () => {
  expect(summary(setting, result({ storage: "no_sqlite" }))).toMatch(/^not checked +the storage: this Node/m);
  expect(summary(setting, result({ storage: "not_reached" }))).toMatch(
    /^not checked +the storage: it broke off/m,
  );
  expect(JSON.parse(toJson(setting, result({ storage: "not_reached" })))).toMatchObject({
    storage_read: false,
  });
});

it("adds up the audits of all drills, and says of which run a violation is", () => {
  const violation = { check: "leases", rule: "two", detail: "two of them", seq: 4 } as const;
  const three = Object.fromEntries(Object.keys(checks).map((check) => [check, 3]));
  const counted = { examined: three as Record<Check, number> };
  const findings = drillFindings([
    drill(counted),
    drill({ ...counted, runId: "drill-2", violations: [violation] }),
  ]);
  expect(findings).toHaveLength(Object.keys(checks).length);
  expect(findings.every(({ examined }) => examined === 6)).toBe(true);
  expect(findings.flatMap(({ name, violations }) => violations.map((one) => [name, one]))).toEqual([
    [checks.leases, { rule: "two", detail: "two of them", seq: 4, run_id: "drill-2" }],
  ]);
});

it("lets no check pass that had nothing to look at", () => {
  const [empty, full] = failEmpty([
    { name: "a", examined: 0, violations: [] },
    { name: "b", examined: 1, violations: [] },
  ]);
  expect(empty?.violations).toMatchObject([{ rule: "nothing_examined" }]);
  expect(full?.violations).toEqual([]);
});
