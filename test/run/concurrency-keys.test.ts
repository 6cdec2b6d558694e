import { describe, expect, it } from "vitest";
import type { Command, TaskRow } from "../../src/domain/command.ts";
import { submit } from "../../src/run/run-client.ts";
import {
  accepted,
  claimed,
  creation,
  evict,
  http,
  inObject,
  newTestRun,
  replayOf,
  row,
  type TestRun,
  useTestClock,
  wholeRun,
} from "./support/test-run.ts";

const CLAIM: Command = { op: "claim_task", agent_id: "agent" };

function keyed(id: string, concurrency_key: string, fields: Partial<TaskRow> = {}): TaskRow {
  return row(id, { concurrency_key, ...fields });
}

async function runWith(...tasks: TaskRow[]): Promise<TestRun> {
  const run = await newTestRun();
  await accepted(run, creation(...tasks));
  return run;
}

/** What a claim takes: a task's id, or null. */
async function taken(run: TestRun): Promise<string | null> {
  return (await accepted(run, { op: "claim_task", agent_id: "agent" })).task?.id ?? null;
}

function limited(concurrency_limits: Record<string, number>): Command {
  return { op: "put_settings", settings: { concurrency_limits } };
}

async function isClaimable({ id }: TestRun, task: string): Promise<boolean> {
  return (await http<{ claimable: boolean }>("GET", `/v1/runs/${id}/tasks/${task}`)).claimable;
}

describe("a concurrency key", () => {
  const clock = useTestClock();

  it("claims: lets one task at a time be worked on; others of the run go on", async () => {
    const run = await runWith(
      keyed("m1", "migration", { priority: 9 }),
      keyed("m2", "migration", { priority: 8 }),
      keyed("other", "deploy", { priority: 7 }),
      row("free"),
    );
    expect(await taken(run)).toBe("m1");
    expect(await isClaimable(run, "m2")).toBe(false);
    expect(await taken(run)).toBe("other");
    expect(await taken(run)).toBe("free");
    expect(await taken(run)).toBe(null);
  });

  const ends: [string, (run: TestRun, task_id: string, lease_token: string) => Promise<unknown>][] = [
    ...(["complete", "fail", "release"] as const).map((action): (typeof ends)[number] => [
      action,
      (run, task_id, lease_token) => accepted(run, { op: "transition_task", task_id, action, lease_token }),
    ]),
    ["the lease's expiry", async () => clock.advance(300_000)],
  ];
  it.each(ends)("claims: gives its place back by %s", async (_title, end) => {
    const run = await runWith(keyed("first", "k"), keyed("second", "k"));
    const { token } = await claimed(run);
    expect(await taken(run)).toBe(null);
    await end(run, "first", token);
    expect(await taken(run)).not.toBe(null);
    expect(await taken(run)).toBe(null);
  });

  it("claims: work that is blocked under its lease keeps its place", async () => {
    const run = await runWith(keyed("first", "k"), keyed("second", "k"));
    const { token: lease_token } = await claimed(run);
    const block = { op: "transition_task", task_id: "first", action: "status", status: "blocked" } as const;
    await accepted(run, { ...block, lease_token });
    expect(await taken(run)).toBe(null);
    await accepted(run, { op: "transition_task", task_id: "first", action: "release", lease_token });
    expect(await taken(run)).toBe("first");
  });

  it("claims: has as many places as the settings say, from the moment they say it; a lower limit takes nothing away", async () => {
    const run = await runWith(...["a", "b", "c", "d"].map((id) => keyed(id, "k")), keyed("e", "constructor"));
    expect([await taken(run), await taken(run), await taken(run)]).toEqual(["a", "e", null]);
    await accepted(run, limited({ k: 3 }));
    expect([await taken(run), await taken(run), await taken(run)]).toEqual(["b", "c", null]);
    await accepted(run, limited({ k: 0 }));
    expect((await wholeRun(run)).tasks.filter(({ status }) => status === "in_progress")).toHaveLength(4);
    await accepted(run, limited({ k: 3 }));
    expect(await taken(run)).toBe(null);
    await accepted(run, limited({ k: 4 }));
    expect(await taken(run)).toBe("d");
  });

  it("claims: no place at all keeps its tasks from being given out", async () => {
    const run = await runWith(keyed("a", "k"));
    await accepted(run, limited({ k: 0 }));
    expect(await taken(run)).toBe(null);
  });

  const ways: [string, (run: TestRun) => Promise<unknown>][] = [
    [
      "claims at once",
      (run) =>
        inObject(run, (object) =>
          Promise.all(Array.from({ length: 20 }, () => submit(object, { command: CLAIM }))),
        ),
    ],
    ["a claim of many", (run) => accepted(run, { op: "claim_task", agent_id: "agent", max: 100 })],
    [
      "a batch of claims",
      (run) =>
        accepted(run, { op: "batch", commands: Array.from({ length: 20 }, () => CLAIM), dry_run: false }),
    ],
    [
      "claims, a batch that is refused, and claims",
      async (run) => {
        await taken(run);
        const none: Command = { op: "transition_task", task_id: "none", action: "complete" };
        const refused = await submit(run.client, {
          command: { op: "batch", commands: [CLAIM, CLAIM, none], dry_run: false },
        });
        expect(refused.ok).toBe(false);
        for (let time = 0; time < 20; time += 1) await taken(run);
      },
    ],
    [
      "claims between wakes",
      async (run) => {
        for (let time = 0; time < 20; time += 1) {
          await taken(run);
          await evict(run);
        }
      },
    ],
  ];
  it.each(ways)("claims: is never exceeded by %s", async (_title, claimAll) => {
    const of = (key: string) => Array.from({ length: 6 }, (_, index) => keyed(`${key}${index}`, key));
    const run = await runWith(...of("one"), ...of("three"), row("free"));
    await accepted(run, limited({ three: 3 }));
    await claimAll(run);
    const { tasks } = await wholeRun(run);
    const held = tasks.filter(({ status }) => status === "in_progress").map(({ id }) => id);
    expect(held).toEqual(["one0", "three0", "three1", "three2", "free"]);
    expect((await replayOf(run)).drift.mismatch).toBe(false);
  });

  it("budget: a claim among a thousand keys that are full writes and reads what any claim may", async () => {
    const keys = Array.from({ length: 500 }, (_, index) => `k${index}`);
    const run = await runWith(...keys.map((key) => keyed(`first-${key}`, key, { priority: 9 })));
    await accepted(run, creation(...keys.map((key) => keyed(`second-${key}`, key))));
    for (let time = 0; time < 4; time += 1) {
      await accepted(run, { op: "claim_task", agent_id: "agent", max: 100 });
    }
    for (let time = 0; time < 99; time += 1) await taken(run);
    const { rows } = await submit(run.client, { command: CLAIM });
    expect(rows.written).toBeLessThanOrEqual(5);
    expect(rows.read).toBeLessThanOrEqual(20);
    expect(await taken(run)).toBe(null);
  });
});
