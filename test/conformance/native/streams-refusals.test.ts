import { describe, expect, it } from "vitest";
import { newRunAt, note, upgradeAnswer, workspaceAt } from "../stream-reader.ts";
import { arrange, call, eventually, freshId, type HeaderChanges, type RunRoutes } from "../support.ts";
import { newNativeRun, problem } from "./support.ts";

const runPath = (run: RunRoutes, query: string) => `/v1/runs/${run.id}/events/stream?${query}`;

/** The same request as GET, HEAD and WebSocket: refused alike. */
async function refusedAlike(path: string, headers: HeaderChanges, status: number): Promise<void> {
  expect((await call("HEAD", path, undefined, headers)).status).toBe(status);
  expect((await upgradeAnswer(path, headers)).status).toBe(status);
}

/** Queries with what each is refused for: field, rule, limit. */
type Bad = [query: string, field: string, rule: string, limit?: number];

/** For both streams. */
const bad: Bad[] = [
  ["tail=", "tail", "unsigned_integer"],
  ["tail=x", "tail", "unsigned_integer"],
  ["tail=-1", "tail", "unsigned_integer"],
  ["tail=1.5", "tail", "unsigned_integer"],
  ["tail=1&tail=1", "tail", "repeated"],
  ["tail=2001", "tail", "max", 2000],
  ["tail=9007199254740991", "tail", "max", 2000],
  ["tail=9007199254740992", "tail", "max", 9007199254740991],
  ["patches=", "patches", "boolean"],
  ["patches=yes", "patches", "boolean"],
  ["patches=true&patches=true", "patches", "repeated"],
  ["types=a&types=b", "types", "repeated"],
  ["cursor=1&cursor=1", "cursor", "repeated"],
];

const badOfRun: Bad[] = [
  ...bad,
  ["since_seq=", "since_seq", "unsigned_integer"],
  ["since_seq=x", "since_seq", "unsigned_integer"],
  ["since_seq=-1", "since_seq", "unsigned_integer"],
  ["since_seq=4", "since_seq", "max", 3],
  ["since_seq=4&tail=1", "since_seq", "max", 3],
  ["since_seq=9007199254740991", "since_seq", "max", 3],
  ["until=", "until", "one_of"],
  ["until=done", "until", "one_of"],
  ["until=Terminal", "until", "one_of"],
  ["until=terminal&until=terminal", "until", "repeated"],
];

const badOfFeed: Bad[] = [
  ...bad,
  ["workspace=", "workspace", "required"],
  ["workspace=%20", "workspace", "required"],
  ["workspace=srv", "workspace", "absolute_path"],
  ["workspace=../srv", "workspace", "absolute_path"],
  ["workspace=/a&workspace=/a", "workspace", "repeated"],
  ["run_ids=a&run_ids=b", "run_ids", "repeated"],
  [`run_ids=${Array.from({ length: 1001 }, (_, n) => `r${n}`).join()}`, "run_ids", "max", 1000],
];

/** A run with three events. */
async function runWithThree(): Promise<RunRoutes> {
  const run = await newNativeRun();
  for (const _ of [1, 2, 3]) await note(run);
  return run;
}

describe("refused streams of a run", () => {
  it.each(badOfRun)("v1 ?%s: %s, %s", async (query, field, rule, limit) => {
    const path = runPath(await runWithThree(), query);
    const { issues } = problem(await call("GET", path), 400, "QUERY_INVALID");
    const message = expect.stringContaining(field);
    expect(issues).toEqual([{ field, rule, message, ...(limit !== undefined && { limit }) }]);
    await refusedAlike(path, {}, 400);
  });

  it("v1 all that is wrong is told at once", async () => {
    const path = runPath(await runWithThree(), "tail=2001&until=x");
    const { issues } = problem(await call("GET", path), 400, "QUERY_INVALID");
    expect(issues.map(({ field }) => field).sort()).toEqual(["tail", "until"]);
  });

  const cursors = [
    "",
    "x",
    "-1",
    "+1",
    "1.0",
    "1e1",
    "0e",
    "3E",
    "3ee",
    "e3",
    " 3",
    "3 ",
    "0x3",
    "١",
    "3b",
    "1-1",
  ];
  it.each([...cursors, "4", "4e", "999999999999999", "9999999999999999", "1".repeat(4000)])(
    "v1 cursor %j was not made here or is ahead of the log",
    async (cursor) => {
      const run = await runWithThree();
      const path = runPath(run, new URLSearchParams({ cursor }).toString());
      problem(await call("GET", path), 400, "CURSOR_INVALID");
      await refusedAlike(path, {}, 400);
      if (cursor.trim() !== cursor || cursor === "" || cursor > "~") return;
      const headers = { "last-event-id": cursor };
      problem(await call("GET", runPath(run, "cursor=1"), undefined, headers), 400, "CURSOR_INVALID");
    },
  );

  it("v1 Last-Event-ID counts, whatever the parameters say of themselves", async () => {
    const run = await runWithThree();
    const path = runPath(run, "cursor=x&tail=1");
    expect((await call("HEAD", path, undefined, { "last-event-id": "2" })).status).toBe(200);
  });

  it("v1 404 for an unknown run, 400 for what is no id", async () => {
    for (const query of ["", "since_seq=9", "cursor=9", "until=terminal&tail=0"]) {
      const path = `/v1/runs/${freshId()}/events/stream?${query}`;
      problem(await call("GET", path), 404, "RUN_NOT_FOUND");
      await refusedAlike(path, {}, 404);
    }
    problem(await call("GET", "/v1/runs/no%20id/events/stream"), 400, "ID_INVALID");
  });

  it("v1 401 without a credential, 405 for another method", async () => {
    const path = runPath(await runWithThree(), "");
    problem(await call("GET", path, undefined, { "x-agent-token": null }), 401, "AUTH_REQUIRED");
    await refusedAlike(path, { "x-agent-token": null }, 401);
    const answer = await call("POST", path, {});
    problem(answer, 405, "METHOD_NOT_ALLOWED");
    expect(answer.headers.get("allow")?.split(", ").sort()).toEqual(["GET", "HEAD"]);
  });
});

describe("refused streams of many runs", () => {
  it.each(badOfFeed)("v1 ?%.40s: %s, %s", async (query, field, rule, limit) => {
    const path = `/v1/events/stream?${query}`;
    const { issues } = problem(await call("GET", path), 400, "QUERY_INVALID");
    const message = expect.stringContaining(field);
    expect(issues).toEqual([{ field, rule, message, ...(limit !== undefined && { limit }) }]);
    await refusedAlike(path, {}, 400);
  });

  const cursors = [
    "",
    "x",
    "-1",
    "1.0",
    "1e",
    "1-",
    "1-x",
    "0-1",
    "1-0e",
    "b",
    "1bb",
    "1b2",
    "1b2-e3",
    "1b2-x3-r",
  ];
  const unknown = ["1b2-e3-", "1b2-e3-no id", "1b2-e3-ü", " 1", "1 ", "999999999999999", "9999999999999999"];
  it.each([...cursors, ...unknown])(
    "v1 cursor %j was not made here or is ahead of the feed",
    async (cursor) => {
      const path = `/v1/events/stream?${new URLSearchParams({ workspace: `/srv/${freshId()}`, cursor })}`;
      problem(await call("GET", path), 400, "CURSOR_INVALID");
      await refusedAlike(path, {}, 400);
    },
  );

  it("v1 404 for a run that is unknown, and says which; 400 for one of another workspace", async () => {
    const path = `/srv/${freshId()}`;
    const [run, other] = [await newRunAt(path), await newRunAt(`${path}/sub`)];
    const unknown = freshId();
    for (const workspace of [{}, { workspace: path }]) {
      const query = new URLSearchParams({ ...workspace, run_ids: `${run.id},${unknown}` });
      const { detail } = problem(await call("GET", `/v1/events/stream?${query}`), 404, "RUN_NOT_FOUND");
      expect(detail).toContain(unknown);
    }
    const query = new URLSearchParams({ workspace: path, run_ids: `${run.id},${other.id}` });
    const { issues } = problem(await call("GET", `/v1/events/stream?${query}`), 400, "QUERY_INVALID");
    expect(issues).toEqual([
      { field: "run_ids", rule: "run_of_workspace", message: expect.stringContaining(other.id) },
    ]);
    await refusedAlike(`/v1/events/stream?${query}`, {}, 400);
  });

  it("v1 a run counts to the workspace it has moved to", async () => {
    const [from, to] = [`/srv/${freshId()}`, `/srv/${freshId()}`];
    const run = await newRunAt(from);
    await arrange(run, { workspace: workspaceAt(to) });
    const path = (workspace: string) =>
      `/v1/events/stream?${new URLSearchParams({ workspace, run_ids: run.id })}`;
    const isThere = async () => (await call("HEAD", path(to))).status === 200 || undefined;
    await eventually(isThere, 10_000);
    problem(await call("GET", path(from)), 400, "QUERY_INVALID");
  });

  it("v1 401 without a credential, 405 for another method", async () => {
    const path = "/v1/events/stream";
    problem(await call("GET", path, undefined, { "x-agent-token": null }), 401, "AUTH_REQUIRED");
    await refusedAlike(path, { "x-agent-token": null }, 401);
    problem(await call("POST", path, {}), 405, "METHOD_NOT_ALLOWED");
  });
});
