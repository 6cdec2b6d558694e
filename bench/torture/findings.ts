import type { DrillResult } from "../drill/drill.ts";
import { type Check, checks } from "../drill/violation.ts";
import type { Finding } from "./observers/observer.ts";

/** What the audits of many drills found, check by check. */
export function drillFindings(results: readonly DrillResult[]): Finding[] {
  return (Object.entries(checks) as [Check, string][]).map(([check, name]) => ({
    name,
    examined: results.reduce((sum, { examined }) => sum + (examined?.[check] ?? 0), 0),
    violations: results.flatMap(({ runId, violations }) =>
      violations
        .filter((violation) => violation.check === check)
        .map(({ rule, detail, seq }) => ({ rule, detail, run_id: runId, ...(seq !== undefined && { seq }) })),
    ),
  }));
}

/** A check that looked at nothing proves nothing: that is a violation, too. */
export function failEmpty(findings: readonly Finding[]): Finding[] {
  return findings.map((finding) =>
    finding.examined > 0 || finding.violations.length > 0
      ? finding
      : { ...finding, violations: [{ rule: "nothing_examined", detail: "there was nothing to look at" }] },
  );
}
