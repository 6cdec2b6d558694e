import { describe, expect, it } from "vitest";
import {
  arrange,
  call,
  eventually,
  freshId,
  must,
  newRun,
  type Run,
  type RunRoutes,
  runOf,
} from "../support.ts";

/** A workspace path no other test uses. */
const freshPath = () => `/srv/${freshId("ws")}`;

/** The list of runs for a query. */
async function list(query: Record<string, string>): Promise<Run[]> {
  return must(await call("GET", `/context/runs?${new URLSearchParams(query)}`)).runs;
}

/** Ids of the listed runs, once as many are listed as expected. The directory may follow a run with a delay. */
async function listed(query: Record<string, string>, expected: RunRoutes[]): Promise<string[]> {
  const ids = async () => (await list(query)).map((run) => run.run_id);
  const wanted = expected.map((run) => run.id).join();
  return eventually(async () => {
    const found = await ids();
    return found.join() === wanted ? found : undefined;
  }, 5_000).catch(ids);
}

/** A new run bound to a workspace path. */
function runAt(canonical_path: string, fields: Record<string, unknown> = {}): Promise<RunRoutes> {
  return newRun({ workspace: { workspace_id: "w", canonical_path, lease_epoch: 0 }, ...fields });
}

describe("GET /context/runs", () => {
  it("02§2.2 answers {runs} of whole runs, without ok", async () => {
    const path = freshPath();
    const run = await runAt(path, { source_client: "cli" });
    const answer = await call("GET", `/context/runs?workspace=${path}`);
    expect(must(answer)).toEqual({ runs: [await runOf(run)] });
  });

  it("02§2.2 a run is listed as soon as its creation is answered", async () => {
    const path = freshPath();
    const run = await runAt(path);
    expect((await list({ workspace: path })).map((row) => row.run_id)).toEqual([run.id]);
  });

  it.concurrent("D30 sorts by updated_at_ms descending, following later commits", async () => {
    const path = freshPath();
    const [a, b, c] = [await runAt(path), await runAt(path), await runAt(path)];
    await a.post("/events", { type: "note", status: "running" });
    expect(await listed({ workspace: path }, [a, c, b])).toEqual([a.id, c.id, b.id]);
    const runs = await list({ workspace: path });
    expect(runs.map((run) => run.updated_at_ms)).toEqual(
      runs.map((run) => run.updated_at_ms).sort((x, y) => y - x),
    );
    expect(runs.find((run) => run.run_id === a.id)?.status).toBe("running");
    expect(await listed({ workspace: path, limit: "2" }, [a, c])).toEqual([a.id, c.id]);
  });

  it.concurrent("02§2.2 a run moved by PUT is found under its new workspace only", async () => {
    const [from, to] = [freshPath(), freshPath()];
    const run = await runAt(from);
    await arrange(run, { workspace: { workspace_id: "w", canonical_path: to, lease_epoch: 0 } });
    expect(await listed({ workspace: to }, [run])).toEqual([run.id]);
    expect(await listed({ workspace: from }, [])).toEqual([]);
  });

  const workspaceRows: [string, string, string, boolean][] = [
    ["equal", "", "", true],
    ["query padded with blanks", "", "  ", true],
    ["stored with a trailing slash", "/", "", true],
    ["query with a trailing slash", "", "/", true],
    ["query longer", "", "/sub", false],
    ["stored longer", "/sub", "", false],
  ];
  it.each(workspaceRows)("02§8 workspace filter: %s", async (_name, stored, asked, found) => {
    const path = freshPath();
    const run = await runAt(path + stored);
    const padding = asked.trim() === "" ? asked : "";
    const query = padding + path + asked.trim() + padding;
    expect(await listed({ workspace: query }, found ? [run] : [])).toEqual(found ? [run.id] : []);
  });

  it("02§8 the stored path is trimmed for comparing", async () => {
    const path = freshPath();
    const run = await runAt(` ${path} `);
    expect(await listed({ workspace: path }, [run])).toEqual([run.id]);
  });

  const typeRows: [string, string, boolean][] = [
    [" Batch ", "batch", true],
    ["batch", " BATCH ", true],
    ["batch", "  ", true],
    ["batch", "batches", false],
    ["batch", "interactive", false],
  ];
  it.each(typeRows)("02§2.2 run_type %j is matched by %j: %s", async (stored, asked, found) => {
    const path = freshPath();
    const run = await runAt(path, { run_type: stored });
    const expected = found ? [run] : [];
    expect(await listed({ workspace: path, run_type: asked }, expected)).toEqual(expected.map((r) => r.id));
  });

  const sourceRows: [string | undefined, string, boolean][] = [
    ["CLI", " cli ", true],
    ["cli", "CLI", true],
    ["cli", " ", true],
    ["cli", "cl", false],
    [undefined, "cli", false],
    [undefined, "", true],
  ];
  it.each(sourceRows)("02§9.1 source %j is matched by %j: %s", async (stored, asked, found) => {
    const path = freshPath();
    const run = await runAt(path, stored === undefined ? {} : { source_client: stored });
    const expected = found ? [run] : [];
    expect(await listed({ workspace: path, source: asked }, expected)).toEqual(expected.map((r) => r.id));
  });

  it("02§2.2 filters combine", async () => {
    const path = freshPath();
    const run = await runAt(path, { run_type: "a", source_client: "x" });
    await runAt(path, { run_type: "a", source_client: "y" });
    await runAt(path, { run_type: "b", source_client: "x" });
    const query = { workspace: path, run_type: "a", source: "x" };
    expect(await listed(query, [run])).toEqual([run.id]);
  });

  it("02§2.2 blank workspace is no filter", async () => {
    await runAt(freshPath());
    expect((await list({ workspace: " ", limit: "1" })).length).toBe(1);
  });

  it.each([
    ["0", 1],
    ["1", 1],
    ["2", 2],
    ["4000000", 2],
  ])("02§2.2 limit %s is clamped to 1..1000", async (limit, count) => {
    const path = freshPath();
    for (let n = 0; n < 2; n++) await runAt(path);
    expect(await list({ workspace: path, limit })).toHaveLength(count);
  });

  const bad = [
    "limit=",
    "limit=x",
    "limit=-1",
    "limit=1.5",
    "limit=1&limit=2",
    "workspace=/a&workspace=/a",
    "run_type=a&run_type=b",
    "workspace=relative/path",
    "workspace=.",
  ];
  it.each(bad)("02§1.3 400 for the query %s", async (query) => {
    const answer = await call("GET", `/context/runs?${query}`);
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ code: "QUERY_INVALID", error: expect.any(String) });
  });

  it("02§1.3 unknown query parameters are ignored", async () => {
    const path = freshPath();
    const run = await runAt(path);
    expect(await listed({ workspace: path, colour: "red" }, [run])).toEqual([run.id]);
  });
});
