import { runDurableObjectAlarm } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import type { Command, CommandOf } from "../../src/domain/command.ts";
import type { Task } from "../../src/protocol/task.ts";
import { submit } from "../../src/run/run-client.ts";
import { arrive, exported } from "./support/moving.ts";
import {
  accepted,
  claimed,
  creation,
  digestsOf,
  eventsOf,
  everything,
  evict,
  inStorage,
  newTestRun,
  note,
  objectOf,
  row,
  type TestRun,
  useTestClock,
  wholeRun,
} from "./support/test-run.ts";

const clock = useTestClock();

const GRACE_MS = 10_000;
const pause = { op: "control_run", action: "pause", grace_ms: GRACE_MS } as const;

/** A run with so many tasks, each held by an agent, and the tokens. */
async function heldRun(count: number): Promise<{ run: TestRun; tokens: Map<string, string> }> {
  const run = await newTestRun();
  await accepted(run, creation(...Array.from({ length: count }, (_, index) => row(`t${index}`))));
  const tokens = new Map<string, string>();
  for (let claim = 0; claim < count; claim += 1) {
    const { id, token } = await claimed(run, { lease_ms: 300_000 });
    tokens.set(id, token);
  }
  clock.advance(1_000);
  await runDurableObjectAlarm(run.stub);
  return { run, tokens };
}

const alarmOf = (run: TestRun) => inStorage(run, (_sql, storage) => storage.getAlarm());

async function tasksOf(run: TestRun): Promise<Map<string, Task>> {
  return new Map((await wholeRun(run)).tasks.map((task) => [task.id, task]));
}

/** Lets the directory's row be written, so that only the board can be due. */
async function flushed(run: TestRun): Promise<void> {
  clock.advance(1_000);
  await runDurableObjectAlarm(run.stub);
}

describe("claims: a halted run takes back what it gave out, whoever comes first", () => {
  const ways: Record<string, (run: TestRun) => Promise<unknown>> = {
    "the alarm": (run) => runDurableObjectAlarm(run.stub),
    "the cron net": (run) => run.client.sweep(),
    "any command": (run) => accepted(run, note(null, "paused")),
    "the alarm after an eviction": async (run) => {
      await evict(run);
      await runDurableObjectAlarm(run.stub);
    },
  };

  it.each(Object.entries(ways))("%s", async (_, come) => {
    const { run } = await heldRun(3);
    await accepted(run, pause);
    await flushed(run);
    expect(await alarmOf(run)).toBe(clock.nowMs() - 1_000 + GRACE_MS);
    clock.advance(GRACE_MS - 1_001);
    await come(run);
    expect([...(await tasksOf(run)).values()].map(({ status }) => status)).toEqual(
      Array(3).fill("in_progress"),
    );
    clock.advance(1);
    await come(run);
    for (const task of (await tasksOf(run)).values()) {
      expect(task).toMatchObject({ status: "runnable", attempts: [{ outcome: "revoked" }] });
    }
    const digests = await digestsOf(run);
    expect(digests.replay_state_sha256).toBe(digests.persisted_state_sha256);
  });

  it("and once that is done keeps no alarm set, nor after a wake", async () => {
    const { run } = await heldRun(1);
    await accepted(run, pause);
    clock.advance(GRACE_MS);
    await runDurableObjectAlarm(run.stub);
    await flushed(run);
    const leases = [...(await tasksOf(run)).values()].filter(
      (task) => task.lease_expires_at_ms !== undefined,
    );
    expect(leases).toEqual([]);
    const before = await everything(run);
    for (let fired = 0; (await alarmOf(run)) !== null; fired += 1) {
      expect(fired).toBeLessThan(3);
      clock.advance(300_000);
      await runDurableObjectAlarm(run.stub);
    }
    await evict(run);
    expect(await alarmOf(run)).toBeNull();
    expect(await everything(run)).toEqual(before);
  });

  it("hundreds of leases are all taken back by one alarm, in the order of the board", async () => {
    const { run } = await heldRun(250);
    await accepted(run, pause);
    clock.advance(GRACE_MS);
    await runDurableObjectAlarm(run.stub);
    const revoked = (await eventsOf(run)).filter(({ type }) => type === "context.task.requeued");
    expect(revoked.map(({ task_id }) => task_id)).toEqual(
      Array.from({ length: 250 }, (_, index) => `t${index}`),
    );
  });

  it("who completes within the grace has completed; who resumes loses nothing", async () => {
    const { run, tokens } = await heldRun(2);
    await accepted(run, pause);
    const lease_token = tokens.get("t0");
    await accepted(run, {
      op: "transition_task",
      task_id: "t0",
      action: "complete",
      lease_token,
      strict: true,
    });
    await accepted(run, { op: "control_run", action: "resume" });
    clock.advance(GRACE_MS);
    await runDurableObjectAlarm(run.stub);
    const tasks = await tasksOf(run);
    expect(tasks.get("t0")?.status).toBe("done");
    expect(tasks.get("t1")?.status).toBe("in_progress");
  });

  it("a late finisher is refused, though no alarm has fired", async () => {
    const { run, tokens } = await heldRun(1);
    await accepted(run, pause);
    clock.advance(GRACE_MS);
    const command: Command = {
      op: "transition_task",
      task_id: "t0",
      action: "complete",
      lease_token: tokens.get("t0"),
      strict: true,
    };
    expect(await submit(run.client, { command })).toMatchObject({
      ok: false,
      refusal: { code: "TASK_LEASE_INVALID", lease_owner: null, fence: null },
    });
  });

  const late: Record<string, (proof: { task_id: string; lease_token: string | undefined }) => Command> = {
    "who finishes": (proof) => ({ op: "transition_task", action: "complete", ...proof, strict: true }),
    "who writes": (proof) => ({ ...note(null, "paused"), ...proof, strict: true }),
    "who proves the lease to change another task": (proof) => ({
      op: "change_dependencies",
      task_id: "free",
      add: ["x"],
      remove: [],
      proof,
      strict: true,
    }),
  };

  it.each(Object.entries(late))("and among hundreds of holders, too: %s", async (_, commandOf) => {
    const run = await newTestRun();
    const rows = Array.from({ length: 200 }, (_, index) => row(`t${index}`));
    await accepted(run, creation(...rows, row("free", { priority: -1 })));
    const claim = { op: "claim_task", agent_id: "ann", max: 100, lease_ms: 300_000 } as const;
    await accepted(run, claim);
    const { claims = [] } = await accepted(run, claim);
    const { task, lease } = claims.at(-1) ?? {};
    expect(task?.id).toBe("t199");
    await accepted(run, pause);
    clock.advance(GRACE_MS);
    const command = commandOf({ task_id: "t199", lease_token: lease?.token });
    expect(await submit(run.client, { command })).toMatchObject({
      ok: false,
      refusal: { code: "TASK_LEASE_INVALID" },
    });
  });

  it("a PUT that brings the leases along does not keep it from that", async () => {
    const { run } = await heldRun(2);
    const before = await wholeRun(run);
    await accepted(run, pause);
    const whole = await wholeRun(run);
    await accepted(run, { op: "replace_run", run: { ...whole, tasks: whole.tasks.toReversed() } });
    clock.advance(GRACE_MS);
    await runDurableObjectAlarm(run.stub);
    for (const task of (await tasksOf(run)).values()) expect(task.status).toBe("runnable");
    // That lease is of no claim any more (docs/compatibility.md): it ends when it runs out.
    await accepted(run, { op: "replace_run", run: { ...(await wholeRun(run)), tasks: before.tasks } });
    expect((await tasksOf(run)).get("t0")).not.toHaveProperty("fence");
  });
});

describe("claims: clocks, cancellations and halts move with their run", () => {
  it("through an export and an import, and take effect there", async () => {
    const { run } = await heldRun(2);
    await accepted(run, creation(row("late", { clocks: { start_within_ms: 20_000 } })));
    await accepted(run, { op: "cancel_task", task_id: "t0", grace_ms: GRACE_MS, reason: "no need" });
    await accepted(run, { ...pause, reason: "lunch" });
    const text = await exported(run);
    const other = objectOf();
    expect(await arrive(other, text)).toMatchObject({ ok: true });
    expect((await digestsOf(other)).persisted_state_sha256).toMatch(/./);
    clock.advance(20_000);
    await runDurableObjectAlarm(other.stub);
    const tasks = await tasksOf(other);
    expect(tasks.get("t0")).toMatchObject({ failure: { cause: "cancelled", reason: "no need" } });
    expect(tasks.get("t1")).toMatchObject({ status: "runnable", attempts: [{ outcome: "revoked" }] });
    expect(tasks.get("late")).toMatchObject({ failure: { cause: "start_deadline" } });
    const digests = await digestsOf(other);
    expect(digests.replay_state_sha256).toBe(digests.persisted_state_sha256);
  });
});

describe("claims: what stopping costs", () => {
  const costs: [string, Command, number][] = [
    ["pausing", pause, 2],
    ["cancelling a task that waits", { op: "cancel_task", task_id: "free" }, 3],
    ["asking a holder to stop", { op: "cancel_task", task_id: "t0" }, 3],
    ["adding an edge", { op: "change_dependencies", task_id: "free", add: ["x"], remove: [] }, 4],
  ];

  it.each(costs)(
    "%s: a commit, the rows it changes with their places in indexes, and one for a key",
    async (_, command, most) => {
      for (const commandId of [undefined, "key"]) {
        const { run } = await heldRun(1);
        await accepted(run, creation(row("free")));
        const { rows } = await submit(run.client, { command, commandId, fingerprint: "f" });
        expect(rows.written).toBeLessThanOrEqual(most + (commandId === undefined ? 0 : 1));
        expect(rows.read).toBeLessThanOrEqual(12);
      }
    },
  );

  it("revoking or cancelling costs as much per task as a requeue", async () => {
    const { run } = await heldRun(20);
    await accepted(run, pause);
    clock.advance(GRACE_MS);
    const command: CommandOf<"settle_due"> = { op: "settle_due" };
    const { rows } = await submit(run.client, { command });
    expect(rows.written).toBeLessThanOrEqual(20 * 4);
    expect(rows.read).toBeLessThanOrEqual(20 * 6);
  });
});
