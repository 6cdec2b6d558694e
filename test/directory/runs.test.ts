import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import {
  type DirectoryEntry,
  LATE_AFTER_MS,
  listRuns,
  putRun,
  type RunCursor,
  type RunFilter,
  runsWithDueLeases,
} from "../../src/directory/runs.ts";
import { newRun } from "../../src/domain/run.ts";
import { LOCAL_TENANT } from "../../src/identity/tenant.ts";
import type { RunHeader, TaskCounts } from "../../src/protocol/run.ts";
import { draftOf } from "../run/support/test-run.ts";

const COUNTS: TaskCounts = {
  pending: 1,
  runnable: 0,
  in_progress: 2,
  blocked: 0,
  done: 3,
  failed: 0,
  total: 6,
};

/** A tenant of a test's own: the directory is shared by all tests. */
function newTenant(): string {
  return `test/${crypto.randomUUID()}`;
}

function entry(
  tenant: string,
  run_id: string,
  run: Partial<RunHeader> = {},
  fields: Partial<DirectoryEntry> = {},
): DirectoryEntry {
  return {
    tenant,
    run: { ...newRun(draftOf(run_id), LOCAL_TENANT, 1_000), ...run },
    taskCounts: COUNTS,
    leaseDueAtMs: null,
    ...fields,
  };
}

async function idsOf(
  tenant: string,
  filter: RunFilter = {},
  after: RunCursor | null = null,
  limit = 100,
): Promise<string[]> {
  return (await listRuns(env.DIRECTORY, tenant, filter, after, limit)).map((run) => run.run_id);
}

describe("design: the directory's rows", () => {
  it("design: a row tells what the run's object said", async () => {
    const tenant = newTenant();
    const workspace = { workspace_id: "ws", canonical_path: "/srv/a/", lease_epoch: 3 };
    const run = {
      workspace,
      source_client: "CLI",
      status: "paused",
      objective: 'say "hi"\n\u{1F600}',
      revision: 7,
      last_event_seq: 6,
      updated_at_ms: 2_000,
    } as const;
    await putRun(env.DIRECTORY, entry(tenant, "r", run));
    expect(await listRuns(env.DIRECTORY, tenant, {}, null, 10)).toEqual([
      {
        run_id: "r",
        run_type: "interactive",
        ...run,
        created_at_ms: 1_000,
        task_counts: COUNTS,
        archived_at_ms: null,
      },
    ]);
  });

  it("of a long objective a row has the beginning: one tenant must not fill the directory of all", async () => {
    const tenant = newTenant();
    const objective = "a".repeat(999) + "\u{1F600}".repeat(100_000);
    await putRun(env.DIRECTORY, entry(tenant, "r", { objective }));
    const [listed] = await listRuns(env.DIRECTORY, tenant, {}, null, 10);
    expect(listed?.objective).toBe("a".repeat(999));
  });

  it("design: an older row never replaces a newer one, the same one may be written again", async () => {
    const tenant = newTenant();
    const at = (last_event_seq: number, objective: string) =>
      putRun(env.DIRECTORY, entry(tenant, "r", { last_event_seq, objective }));
    const objective = async () => (await listRuns(env.DIRECTORY, tenant, {}, null, 10))[0]?.objective;
    await at(5, "five");
    await at(4, "four, late");
    expect(await objective()).toBe("five");
    await at(5, "five again");
    expect(await objective()).toBe("five again");
    await at(6, "six");
    await Promise.all([at(7, "seven"), at(9, "nine"), at(8, "eight"), at(0, "zero")]);
    expect(await objective()).toBe("nine");
    expect(await idsOf(tenant)).toEqual(["r"]);
  });

  it("design: a row that comes late has a time of its own until one comes in time, which costs no such entry", async () => {
    const tenant = newTenant();
    const put = async (last_event_seq: number, updated_at_ms: number) => {
      await putRun(env.DIRECTORY, entry(tenant, "r", { last_event_seq, updated_at_ms }));
      const row = env.DIRECTORY.prepare("SELECT late_at_ms FROM runs WHERE tenant = ?").bind(tenant);
      return (await row.first<{ late_at_ms: number | null }>())?.late_at_ms;
    };
    const before = Date.now();
    expect(await put(1, before)).toBeNull();
    expect(await put(2, before - LATE_AFTER_MS - 1)).toBeGreaterThanOrEqual(before);
    expect(await put(3, Date.now())).toBeNull();
  });

  it("design: rows of another tenant are not listed", async () => {
    const [mine, other] = [newTenant(), newTenant()];
    await putRun(env.DIRECTORY, entry(mine, "same"));
    await putRun(env.DIRECTORY, entry(other, "same", { status: "failed" }));
    await putRun(env.DIRECTORY, entry(other, "more"));
    expect(await idsOf(mine)).toEqual(["same"]);
    expect(await idsOf(mine, { status: "failed" })).toEqual([]);
  });
});

describe("design: the directory's list", () => {
  const runs: [string, Partial<RunHeader>][] = [
    ["plain", { updated_at_ms: 10 }],
    ["typed", { updated_at_ms: 20, run_type: " Cron " }],
    ["cli", { updated_at_ms: 30, source_client: "CLI" }],
    ["done", { updated_at_ms: 40, status: "completed", source_client: "cli" }],
    [
      "in-a",
      { updated_at_ms: 50, workspace: { workspace_id: "", canonical_path: "/srv/a/", lease_epoch: 0 } },
    ],
    [
      "in-b",
      {
        updated_at_ms: 60,
        run_type: "cron",
        workspace: { workspace_id: "", canonical_path: "/srv/b", lease_epoch: 0 },
      },
    ],
  ];

  it.each<[string, RunFilter, string[]]>([
    ["no filter", {}, ["in-b", "in-a", "done", "cli", "typed", "plain"]],
    ["run type, trimmed and in any case", { run_type: "CRON" }, ["in-b", "typed"]],
    ["source in any case; a run without one does not match", { source: " Cli" }, ["done", "cli"]],
    ["status", { status: "completed" }, ["done"]],
    ["workspace, with a slash at the end or not", { workspace: "/srv/a" }, ["in-a"]],
    ["workspace, asked for with a slash", { workspace: "/srv/b/" }, ["in-b"]],
    ["workspace is no prefix", { workspace: "/srv" }, []],
    ["all at once", { run_type: "cron", workspace: "/srv/b", status: "queued" }, ["in-b"]],
    ["all at once, one unlike", { run_type: "cron", workspace: "/srv/b", status: "paused" }, []],
    ["nothing matches", { source: "other" }, []],
  ])("D110: %s", async (_title, filter, expected) => {
    const tenant = newTenant();
    for (const [id, run] of runs) await putRun(env.DIRECTORY, entry(tenant, id, run));
    expect(await idsOf(tenant, filter)).toEqual(expected);
  });

  it("D110: latest update first, then run id descending; pages join without gap or repeat at any size", async () => {
    const tenant = newTenant();
    const times: [string, number][] = [
      ["a", 3],
      ["b", 3],
      ["c", 3],
      ["B", 3],
      ["d", 1],
      ["e", 9],
      ["f", 2],
    ];
    for (const [id, updated_at_ms] of times)
      await putRun(env.DIRECTORY, entry(tenant, id, { updated_at_ms }));
    const expected = ["e", "c", "b", "a", "B", "f", "d"];
    for (let size = 1; size <= expected.length + 1; size += 1) {
      const seen: string[] = [];
      for (let after: RunCursor | null = null; ; ) {
        const page = await listRuns(env.DIRECTORY, tenant, {}, after, size);
        seen.push(...page.map((run) => run.run_id));
        const last = page.at(-1);
        if (last === undefined) break;
        after = { updated_at_ms: last.updated_at_ms, run_id: last.run_id };
      }
      expect(seen).toEqual(expected);
    }
  });

  it("design: a list reads its page by index, whatever the filter of the index", async () => {
    const plan = async (condition: string) => {
      const { results } = await env.DIRECTORY.prepare(
        `EXPLAIN QUERY PLAN SELECT run_id FROM runs WHERE ${condition} ORDER BY updated_at_ms DESC, run_id DESC LIMIT 5`,
      ).all<{ detail: string }>();
      return results.map((step) => step.detail).join("; ");
    };
    expect(await plan("tenant = 't'")).toMatch(/USING (COVERING )?INDEX runs_by_update/);
    expect(await plan("tenant = 't' AND (updated_at_ms, run_id) < (1, 'r')")).toMatch(
      /USING (COVERING )?INDEX runs_by_update/,
    );
    const byWorkspace = await plan("tenant = 't' AND workspace_key = '/w'");
    expect(byWorkspace).toMatch(/USING (COVERING )?INDEX runs_by_workspace/);
    expect(byWorkspace).not.toMatch(/TEMP B-TREE/);
  });
});

describe("design: runs with a lease due", () => {
  it("design: those due by then, earliest first, after a place", async () => {
    const tenant = newTenant();
    const due: [string, number | null][] = [
      ["late", 3_000],
      ["never", null],
      ["early", 1_000],
      ["same-2", 2_000],
      ["same-1", 2_000],
    ];
    for (const [id, leaseDueAtMs] of due)
      await putRun(env.DIRECTORY, entry(tenant, id, {}, { leaseDueAtMs }));
    const mine = async (nowMs: number, limit = 1_000) =>
      (await runsWithDueLeases(env.DIRECTORY, nowMs, null, limit)).filter((row) => row.tenant === tenant);
    expect(await mine(999)).toEqual([]);
    expect((await mine(2_000)).map((row) => row.run_id)).toEqual(["early", "same-1", "same-2"]);
    const first = (await mine(3_000))[0];
    if (first === undefined) throw new Error("nothing is due");
    expect(first).toEqual({ tenant, run_id: "early", lease_due_at_ms: 1_000 });
    const rest = await runsWithDueLeases(env.DIRECTORY, 3_000, first, 1_000);
    expect(rest.filter((row) => row.tenant === tenant).map((row) => row.run_id)).toEqual([
      "same-1",
      "same-2",
      "late",
    ]);
    for (const [id] of due) await putRun(env.DIRECTORY, entry(tenant, id, {}, { leaseDueAtMs: null }));
    expect(await mine(3_000)).toEqual([]);
  });
});
