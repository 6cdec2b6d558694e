import type { Violation } from "../observer.ts";
import { identityOf } from "./alarms.ts";
import type { Stored } from "./stored.ts";

/** Runs and rows of the directory belong together, and no row promises a later lease than the run has. */
export function checkDirectory({ runs, directory }: Stored): Violation[] {
  const violations: Violation[] = [];
  const rows = new Map(directory.runs.map((row) => [`${row.tenant}/${row.run_id}`, row]));
  for (const stored of runs) {
    const { tenant, run_id } = identityOf(stored);
    const row = rows.get(`${tenant}/${run_id}`);
    rows.delete(`${tenant}/${run_id}`);
    const flag = (rule: string, detail: string) => violations.push({ rule, detail, run_id });
    if (row === undefined) {
      flag("unlisted", "the run has no row");
      continue;
    }
    const lastSeq = stored.commits.at(-1)?.seq ?? 0;
    if (row.last_event_seq > lastSeq)
      flag("ahead", `listed at ${row.last_event_seq}, the log ends at ${lastSeq}`);
    // Of a row that is behind, the alarm will bring the rest.
    if (row.last_event_seq !== lastSeq) continue;
    const dues = stored.tasks.flatMap(({ queue, lease_expires_at_ms, due_at_ms }) => [
      ...(queue === "leased" && lease_expires_at_ms !== null ? [lease_expires_at_ms] : []),
      ...(due_at_ms === null ? [] : [due_at_ms]),
    ]);
    const firstMs = Math.min(...dues);
    if (dues.length > 0 && (row.lease_due_at_ms === null || row.lease_due_at_ms > firstMs)) {
      flag("swept_late", `cron is told ${row.lease_due_at_ms ?? "nothing"}, something is due at ${firstMs}`);
    }
  }
  for (const { run_id } of rows.values())
    violations.push({ rule: "no_run", detail: "a row without a run", run_id });
  return violations;
}

/** Whatever a run's artifact space has, or had, is in the bucket whole, and somebody is known to hold it. */
export function checkContents({ runs, directory, bucket }: Stored): {
  examined: number;
  violations: Violation[];
} {
  const violations: Violation[] = [];
  const objects = new Map(bucket.map((object) => [object.key, object]));
  const blobs = new Map(directory.blobs.map((blob) => [`${blob.tenant} ${blob.sha256}`, blob]));
  const holders = new Set(
    directory.blob_holders.map(({ tenant, holder, sha256 }) => `${tenant} ${holder} ${sha256}`),
  );
  let examined = 0;
  for (const stored of runs) {
    const { tenant, run_id } = identityOf(stored);
    for (const { path, version, doc } of stored.file_versions) {
      const { sha256, bytes } = JSON.parse(doc) as { sha256: string | null; bytes?: number };
      if (sha256 === null) continue;
      examined += 1;
      const flag = (rule: string, detail: string) =>
        violations.push({ rule, detail: `${path}: ${detail}`, run_id, seq: version });
      const blob = blobs.get(`${tenant} ${sha256}`);
      const object = blob && objects.get(blob.key);
      if (blob === undefined) flag("no_blob", "the directory does not know its content");
      else if (object === undefined) flag("no_object", "its content is not in the bucket");
      else if (object.sha256 !== sha256 || object.fileBytes !== bytes || blob.bytes !== bytes) {
        flag("content", `the bucket has ${object.fileBytes} bytes of ${object.sha256}`);
      }
      if (!holders.has(`${tenant} run:${run_id} ${sha256}`))
        flag("unheld", "nobody is known to hold its content");
    }
    for (const { seq, object_key } of stored.checkpoints) {
      if (object_key === null) continue;
      examined += 1;
      if (!objects.has(object_key)) {
        violations.push({
          rule: "no_object",
          detail: "a checkpoint's content is not in the bucket",
          run_id,
          seq,
        });
      }
    }
  }
  return { examined, violations };
}

/** What SQLite found in the files. */
export function checkFiles({ integrity }: Stored): Violation[] {
  return [...integrity].flatMap(([file, result]) =>
    result === "ok" ? [] : [{ rule: "damaged", detail: `${file}: ${result}` }],
  );
}
