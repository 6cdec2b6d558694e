import { abortAllDurableObjects, evictDurableObject, runDurableObjectAlarm } from "cloudflare:test";
import { env } from "cloudflare:workers";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { followedSubscription } from "../../../src/directory/followed-runs.ts";
import { subscriptionsAbout } from "../../../src/directory/subscriptions.ts";
import { catchUp } from "../../../src/hooks/out/catch-up.ts";
import type { AttemptRecord, DeadLetter } from "../../../src/hooks/out/record.ts";
import { SCHEDULE_MS } from "../../../src/hooks/out/schedule.ts";
import { MAX_REPLAYS, SubscriptionObject } from "../../../src/hooks/out/subscription-object.ts";
import { LOCAL_TENANT } from "../../../src/identity/tenant.ts";
import { nudgeSubscriptions } from "../../../src/maintenance/nudge-subscriptions.ts";
import { archiveRun, restoreRun } from "../../../src/moving/archive.ts";
import { RunObject } from "../../../src/run/run-object.ts";
import {
  accepted,
  eventually,
  newTestRun,
  note,
  objectOf,
  PROPERTY_TIMEOUT_MS,
  TENANT,
  useTestClock,
} from "../../run/support/test-run.ts";
import { api, commitNotes, loseNudges, TestSubscription, useInternet } from "./support.ts";

const DAY = 24 * 3_600_000;

const status =
  (code: number, headers: Record<string, string> = {}) =>
  () =>
    new Response("no", { status: code, headers });

async function auditOf(id: string): Promise<string[]> {
  const { results } = await env.DIRECTORY.prepare(
    "SELECT type FROM audit_events WHERE subject = ? ORDER BY seq",
  )
    .bind(id)
    .all<{ type: string }>();
  return results.map(({ type }) => type);
}

describe("webhooks out: what is delivered", () => {
  const clock = useTestClock();
  useInternet();

  it("what a run commits arrives signed, in order, once", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    const run = await newTestRun();
    await commitNotes(run, clock, 3);
    await receiver.has(3);
    await commitNotes(run, clock, 2);
    await receiver.has(5);
    expect(receiver.seqs(run)).toEqual([1, 2, 3, 4, 5]);
    for (const received of receiver.received) {
      expect(subscription.verified(received)).toEqual(received.body);
      expect(received.headers).toMatchObject({ "content-type": "application/json" });
    }
    expect(new Set(receiver.received.map(({ headers }) => headers["webhook-id"])).size).toBe(5);
    expect(receiver.received[0]?.body).toMatchObject({
      type: "note",
      data: {
        run_id: run.id,
        seq: 1,
        run_status: "running",
        links: { run: expect.stringContaining(run.id) },
      },
    });
    expect(receiver.received[0]?.body.data).not.toHaveProperty("event");
    expect(await subscription.settled()).toMatchObject({
      health: { delivered: 5, attempts: 5, failing_since_ms: null },
      backlog: { lines: 0, events: 0 },
      dead_letters: 0,
    });
  });

  it("with data full, the whole record comes along", async () => {
    const { receiver } = await TestSubscription.make({ data: "full" });
    const run = await newTestRun();
    await commitNotes(run, clock, 1);
    await receiver.has(1);
    expect(receiver.received[0]?.body.data).toMatchObject({
      event: { run_id: run.id, seq: 1, type: "note", payload: { index: 0 } },
    });
  });

  it("a subscription begins when it is made, in the middle of a run too, and at the start where that was asked for", async () => {
    const run = await newTestRun();
    await commitNotes(run, clock, 5);
    clock.advance(10);
    const later = await TestSubscription.make();
    const whole = await TestSubscription.make({ run_id: run.id, from: "start" });
    await whole.receiver.has(5);
    await commitNotes(run, clock, 2);
    await later.receiver.has(2);
    await whole.receiver.has(7);
    expect(later.receiver.seqs(run)).toEqual([6, 7]);
    expect(whole.receiver.seqs(run)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });

  it.each([
    [{ filter: { run_type: "Deploy " } }],
    [{ filter: { workspace: "/srv/mine/" } }],
    [{ filter: { source: "CI" } }],
    [{ filter: { run_type: "deploy", workspace: "/srv/mine", source: "ci" } }],
  ])("%j chooses the run that is so, and no other", async (fields) => {
    const { receiver } = await TestSubscription.make(fields);
    const workspace = { workspace_id: "w", canonical_path: "/srv/mine", lease_epoch: 0 };
    const mine = await newTestRun({ run_type: "deploy", workspace, source_client: "ci" });
    const other = await newTestRun({ run_type: "test", source_client: "web" });
    await commitNotes(other, clock, 1);
    await commitNotes(mine, clock, 1);
    await receiver.has(1);
    await nudgeSubscriptions(env, clock.nowMs());
    await receiver.has(1);
    expect(receiver.seqs(mine)).toEqual([1]);
  });

  it("types and statuses choose events of a run; what is not wanted is passed over", async () => {
    const run = await newTestRun();
    const ended = await TestSubscription.make({
      run_id: run.id,
      filter: { status: ["completed", "failed"] },
    });
    const typed = await TestSubscription.make({ run_id: run.id, events: ["deploy.*", "x"] });
    await commitNotes(run, clock, 3);
    await accepted(run, { op: "append_event", type: "deploy.done", status: "running", payload: null });
    await commitNotes(run, clock, 1, "completed");
    await ended.receiver.has(1);
    await typed.receiver.has(1);
    expect(ended.receiver.seqs(run)).toEqual([5]);
    expect(typed.receiver.seqs(run)).toEqual([4]);
    await ended.settled();
    expect((await typed.settled()).backlog.events).toBe(0);
  });

  it("of a tenant's runs, its own subscriptions alone hear", async () => {
    const subscription = await TestSubscription.make();
    await env.DIRECTORY.prepare("UPDATE subscriptions SET tenant = 'other/other' WHERE subscription_id = ?")
      .bind(subscription.id)
      .run();
    const run = await newTestRun();
    await commitNotes(run, clock, 1);
    await nudgeSubscriptions(env, clock.nowMs());
    expect(subscription.receiver.received).toEqual([]);
    expect((await api("GET", `/${subscription.id}`)).status).toBe(404);
  });

  it("without subscriptions, asking for them reads no row; with some, those that may be about the run", async () => {
    const tenant = `none/${crypto.randomUUID()}`;
    const of = { tenant: "?1", run_id: "?2", run_type: "'t'", workspace: "'w'", source: "'s'" };
    const ask = async () => {
      const { meta, results } = await env.DIRECTORY.prepare(`${subscriptionsAbout(of)}`)
        .bind(tenant, "r")
        .run();
      return { read: meta.rows_read, ids: Object.values(results[0] ?? {})[0] };
    };
    expect(await ask()).toEqual({ read: 0, ids: "[]" });
    const { id } = await TestSubscription.make({ filter: { run_type: "T" } });
    const elsewhere = await TestSubscription.make({ run_id: "other" });
    await env.DIRECTORY.prepare("UPDATE subscriptions SET tenant = ? WHERE subscription_id IN (?, ?)")
      .bind(tenant, id, elsewhere.id)
      .run();
    const { read, ids } = await ask();
    expect(ids).toBe(JSON.stringify([id]));
    expect(read).toBeLessThanOrEqual(4);
  });
});

describe("webhooks out: receivers that fail", () => {
  const clock = useTestClock();
  useInternet();

  it("what fails is sent again by the schedule, under the same id, then given up; the line goes on, in order", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    const run = await newTestRun();
    receiver.answer = ({ body }) => new Response(null, { status: body.data.seq === 1 ? 500 : 200 });
    await commitNotes(run, clock, 2);
    await receiver.has(1);
    for (const [index, ms] of SCHEDULE_MS.entries()) {
      if (index === 0) continue;
      await subscription.settled();
      clock.advance(ms - 1);
      await subscription.alarm();
      await receiver.has(index);
      clock.advance(ms * 0.2 + 1);
      await subscription.alarm();
      await receiver.has(index === SCHEDULE_MS.length - 1 ? index + 2 : index + 1);
    }
    expect(receiver.seqs(run)).toEqual([...SCHEDULE_MS.map(() => 1), 2]);
    const first = receiver.received.slice(0, SCHEDULE_MS.length);
    expect(new Set(first.map(({ headers }) => headers["webhook-id"])).size).toBe(1);
    expect(new Set(first.map(({ headers }) => headers["webhook-signature"])).size).toBe(first.length);

    const [letter, ...others] = await subscription.list<DeadLetter>("dead-letters");
    expect(others).toEqual([]);
    expect(letter).toMatchObject({ run_id: run.id, seq: 1, type: "note", status: 500, error: "status_500" });
    const attempts = await subscription.list<AttemptRecord>("attempts");
    expect(attempts.map(({ attempt, delivered }) => [attempt, delivered])).toEqual([
      [1, true],
      ...SCHEDULE_MS.map((_, index) => [SCHEDULE_MS.length - index, false]),
    ]);

    // Once more by hand: it arrives, and is a dead letter no longer.
    receiver.answer = status(200);
    await subscription.post(`dead-letters/${letter?.letter_id}/redeliver`, undefined, 202);
    await receiver.has(SCHEDULE_MS.length + 2);
    expect(receiver.received.at(-1)?.headers["webhook-id"]).toBe(letter?.letter_id);
    await subscription.settled();
    expect(await subscription.list("dead-letters")).toEqual([]);
    await subscription.post(`dead-letters/${letter?.letter_id}/redeliver`, undefined, 404);
  });

  it("a run that waits holds up no other", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    const [stuck, free] = [await newTestRun(), await newTestRun()];
    receiver.answer = ({ body }) => new Response(null, { status: body.data.run_id === stuck.id ? 500 : 200 });
    await commitNotes(stuck, clock, 2);
    await receiver.has(1);
    await commitNotes(free, clock, 3);
    await receiver.has(4);
    expect(receiver.seqs(free)).toEqual([1, 2, 3]);
    expect(receiver.seqs(stuck)).toEqual([1]);
  });

  it.each([
    ["redirects", status(302, { location: "https://elsewhere.example.com/" }), "status_302", 302],
    ["answers 500", status(500), "status_500", 500],
    ["answers 404", status(404), "status_404", 404],
    [
      "closes the connection",
      () => Promise.reject(new Error("Network connection lost.")),
      "connection",
      null,
    ],
  ])("one that %s has failed, and gets it again", async (_what, answer, error, code) => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    receiver.answer = answer;
    const run = await newTestRun();
    await commitNotes(run, clock, 1);
    await receiver.has(1);
    await subscription.settled();
    expect((await subscription.list<AttemptRecord>("attempts"))[0]).toMatchObject({
      delivered: false,
      status: code,
      error,
      attempt: 1,
    });
    receiver.answer = status(200);
    clock.advance(6_000);
    await subscription.alarm();
    await receiver.has(2);
    expect((await subscription.settled()).health).toMatchObject({ failures_in_row: 0, last_failure: error });
  });

  it("one that asks for a pause gets it, for all its runs, and then everything", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    receiver.answer = status(429, { "retry-after": "600" });
    const [one, two] = [await newTestRun(), await newTestRun()];
    await commitNotes(one, clock, 2);
    await receiver.has(1);
    await commitNotes(two, clock, 1);
    receiver.answer = status(200);
    clock.advance(500_000);
    await subscription.alarm();
    await receiver.has(1);
    clock.advance(100_000);
    await subscription.alarm();
    await receiver.has(4);
    expect(receiver.seqs(one)).toEqual([1, 1, 2]);
    expect(receiver.seqs(two)).toEqual([1]);
  });

  it("one that answers 410 is disabled; enabled again, it goes on with that very event", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    receiver.answer = status(410);
    const run = await newTestRun();
    await commitNotes(run, clock, 2);
    await receiver.has(1);
    await eventually(
      () => subscription.get(),
      ({ subscription: { status: now } }) => now === "disabled",
      5_000,
    );
    expect((await subscription.get()).subscription).toMatchObject({ disabled_reason: "gone" });
    await commitNotes(run, clock, 1);
    clock.advance(DAY);
    await subscription.alarm();
    await receiver.has(1);
    receiver.answer = status(200);
    const { subscription: enabled } = await subscription.post("enable");
    expect(enabled).toMatchObject({ status: "active", disabled_reason: null });
    await receiver.has(4);
    expect(receiver.seqs(run)).toEqual([1, 1, 2, 3]);
    expect(await auditOf(subscription.id)).toEqual([
      "subscription.created",
      "subscription.disabled",
      "subscription.enabled",
    ]);
  });

  it("one where nothing has succeeded for five days is disabled", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    receiver.answer = status(500);
    const run = await newTestRun();
    await commitNotes(run, clock, 3);
    for (let hour = 0; hour < 6 * 24; hour += 1) {
      await subscription.settled();
      clock.advance(3_600_000);
      await subscription.alarm();
    }
    await eventually(
      () => subscription.get(),
      ({ subscription: { status: now } }) => now === "disabled",
      5_000,
    );
    const { subscription: shown } = await subscription.get();
    expect(shown).toMatchObject({ status: "disabled", disabled_reason: "failing" });
    expect(Number(shown.disabled_at_ms) - Number(shown.created_at_ms)).toBeGreaterThan(5 * DAY);
    expect(await auditOf(subscription.id)).toEqual(["subscription.created", "subscription.disabled"]);
    // What was not given up by then is not lost.
    receiver.answer = status(200);
    const before = receiver.received.length;
    await subscription.post("enable");
    await receiver.has(before + 2);
    expect(receiver.seqs(run).slice(-2)).toEqual([2, 3]);
  });

  it("one that hangs is no commit's affair, and no other run's", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    let hangs = true;
    receiver.answer = async () => {
      // Not woken from here: the platform keeps what different objects wait for apart.
      while (hangs) await scheduler.wait(5);
      return new Response(null, { status: 200 });
    };
    const runs = await Promise.all(Array.from({ length: 6 }, () => newTestRun()));
    for (const run of runs) await commitNotes(run, clock, 2);
    // Four at once, and no more; meanwhile runs commit, and the object hears of it.
    await receiver.has(4);
    const started = performance.now();
    for (const run of runs) await commitNotes(run, clock, 1);
    expect(performance.now() - started).toBeLessThan(5_000);
    expect((await subscription.get()).state.backlog).toMatchObject({ lines: 6, events: 18 });
    expect(receiver.received).toHaveLength(4);
    hangs = false;
    await receiver.has(18);
    for (const run of runs) expect(receiver.seqs(run)).toEqual([1, 2, 3]);
  });
});

describe("webhooks out: nothing is lost", () => {
  const clock = useTestClock();
  useInternet();

  it("what nudges did not tell, the next one does", async () => {
    const { receiver } = await TestSubscription.make();
    const run = await newTestRun();
    await loseNudges([run], () => commitNotes(run, clock, 3));
    await commitNotes(run, clock, 1);
    await receiver.has(4);
    expect(receiver.seqs(run)).toEqual([1, 2, 3, 4]);
  });

  it("what no nudge tells, cron does; twice is as good as once", async () => {
    const { receiver } = await TestSubscription.make();
    const runs = [await newTestRun(), await newTestRun()];
    await loseNudges(runs, async () => {
      for (const run of runs) await commitNotes(run, clock, 3);
    });
    expect(receiver.received).toEqual([]);
    await nudgeSubscriptions(env, clock.nowMs());
    await receiver.has(6);
    clock.advance(60_000);
    await nudgeSubscriptions(env, clock.nowMs());
    clock.advance(DAY);
    await nudgeSubscriptions(env, clock.nowMs());
    await receiver.has(6);
    for (const run of runs) expect(receiver.seqs(run)).toEqual([1, 2, 3]);
  });

  it("what no nudge tells, cron does, though its clock ran ahead before", async () => {
    const { receiver } = await TestSubscription.make();
    await nudgeSubscriptions(env, clock.nowMs() + DAY);
    await nudgeSubscriptions(env, clock.nowMs());
    const run = await newTestRun();
    await loseNudges([run], () => commitNotes(run, clock, 2));
    // Nor does it matter when cron comes next.
    clock.advance(60 * 60_000);
    await nudgeSubscriptions(env, clock.nowMs());
    await receiver.has(2);
    expect(receiver.seqs(run)).toEqual([1, 2]);
  });

  it("what comes to the directory late, and no nudge tells, cron does", async () => {
    const { receiver } = await TestSubscription.make();
    const run = await newTestRun();
    await commitNotes(run, clock, 1);
    await receiver.has(1);
    // The directory cannot be written to for a while.
    await accepted(run, note());
    clock.advance(40 * 60_000);
    await nudgeSubscriptions(env, clock.nowMs());
    await loseNudges([run], () => runDurableObjectAlarm(run.stub));
    await receiver.has(1);
    clock.advance(60_000);
    await nudgeSubscriptions(env, clock.nowMs());
    await receiver.has(2);
    clock.advance(DAY);
    await nudgeSubscriptions(env, clock.nowMs());
    await receiver.has(2);
    expect(receiver.seqs(run)).toEqual([1, 2]);
  });

  it("a tick that could not tell of everything does not pass over what comes to the directory a little later", async () => {
    const source = crypto.randomUUID();
    const subscription = await TestSubscription.make({ filter: { source } });
    const slow = await newTestRun({ source_client: source });
    await commitNotes(slow, clock, 1);
    await subscription.receiver.has(1);
    await accepted(slow, note());
    const others = [1, 2, 3].map(() => newTestRun({ source_client: source }));
    for (const other of await Promise.all(others)) {
      clock.advance(1_000);
      await loseNudges([other], () => commitNotes(other, clock, 1));
    }
    const followed = await followedSubscription(env.DIRECTORY, {
      tenant: TENANT,
      subscription_id: subscription.id,
    });
    if (followed === null) throw new Error("there is no subscription");
    expect(await catchUp(env, followed, clock.nowMs(), 2)).toBe(2);
    await loseNudges([slow], () => runDurableObjectAlarm(slow.stub));
    await nudgeSubscriptions(env, clock.nowMs());
    await subscription.receiver.has(5);
    expect(subscription.receiver.seqs(slow)).toEqual([1, 2]);
  });

  it("what waits when its run is archived is sent when the run is restored", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    receiver.answer = status(500);
    const run = await newTestRun();
    await commitNotes(run, clock, 2, "completed");
    await receiver.has(1);
    await subscription.settled();
    expect(await archiveRun(env, TENANT, run.id)).toMatchObject({ ok: true });
    clock.advance(6_000);
    await subscription.alarm();
    expect((await subscription.settled()).backlog.lines).toBe(0);
    await nudgeSubscriptions(env, clock.nowMs());
    expect((await subscription.settled()).backlog.lines).toBe(0);
    receiver.answer = status(200);
    clock.advance(DAY);
    await nudgeSubscriptions(env, clock.nowMs());
    // That it has come back, no nudge tells either.
    await loseNudges([run], async () => {
      expect(await restoreRun(env, LOCAL_TENANT, TENANT, run.id)).toMatchObject({ ok: true });
    });
    await receiver.has(1);
    await nudgeSubscriptions(env, clock.nowMs());
    await receiver.has(3);
    expect(receiver.seqs(run)).toEqual([1, 1, 2]);
  });

  it("a log that cannot be read to find where to begin is passed over by nobody", async () => {
    const run = await newTestRun();
    await commitNotes(run, clock, 2);
    clock.advance(10);
    const subscription = await TestSubscription.make();
    const damaged = vi.spyOn(RunObject.prototype, "readRecords").mockResolvedValue({
      ok: false,
      refusal: { code: "LOG_DAMAGED", error: "damaged", from_seq: 1, upto_seq: 4 },
    });
    await commitNotes(run, clock, 2);
    await subscription.settled();
    damaged.mockRestore();
    clock.advance(3_600_000);
    await subscription.alarm();
    await subscription.receiver.has(2);
    expect(subscription.receiver.seqs(run)).toEqual([3, 4]);
  });

  it("a log that is shorter than was heard is not looked at over and over", async () => {
    const subscription = await TestSubscription.make();
    const run = await newTestRun();
    await commitNotes(run, clock, 1);
    await subscription.receiver.has(1);
    await subscription.stub.nudge([{ run_id: run.id, seq: 99 }]);
    expect((await subscription.settled()).backlog.lines).toBe(0);
    await commitNotes(run, clock, 1);
    await subscription.receiver.has(2);
  });

  it("an object that is evicted while it waits goes on after its alarm", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    receiver.answer = status(500);
    const run = await newTestRun();
    await commitNotes(run, clock, 2);
    await receiver.has(1);
    await subscription.settled();
    await evictDurableObject(subscription.stub);
    receiver.answer = status(200);
    clock.advance(6_000);
    await subscription.alarm();
    await receiver.has(3);
    expect(receiver.seqs(run)).toEqual([1, 1, 2]);
  });

  it("what was sent and not noted before a crash is sent again, under the same id", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    receiver.answer = () => new Promise(() => undefined);
    const run = await newTestRun();
    await commitNotes(run, clock, 2);
    await receiver.has(1);
    await abortAllDurableObjects();
    receiver.answer = status(200);
    clock.advance(60_000);
    await subscription.alarm();
    await receiver.has(3);
    expect(receiver.seqs(run)).toEqual([1, 1, 2]);
    const ids = receiver.received.map(({ headers }) => headers["webhook-id"]);
    expect(ids[0]).toBe(ids[1]);
  });

  it("a replay sends a stretch once more, in order, under the same ids, and follows the filter", async () => {
    const subscription = await TestSubscription.make({ events: ["note"] });
    const { receiver } = subscription;
    const run = await newTestRun();
    await commitNotes(run, clock, 2);
    await accepted(run, { op: "append_event", type: "other", status: "running", payload: null });
    await commitNotes(run, clock, 2);
    await receiver.has(4);
    const body = { run_id: run.id, from_seq: 2, upto_seq: 4 };
    expect(await subscription.post("replay", body, 202)).toMatchObject(body);
    await receiver.has(6);
    expect(receiver.seqs(run)).toEqual([1, 2, 4, 5, 2, 4]);
    const ids = receiver.received.map(({ headers }) => headers["webhook-id"]);
    expect(ids.slice(4)).toEqual(ids.slice(1, 3));
    await subscription.settled();
    expect(await subscription.rows("SELECT * FROM lines WHERE kind = 'replay'")).toEqual([]);
    expect(await subscription.post("replay", { run_id: run.id, from_seq: 9 }, 404)).toMatchObject({
      code: "SEQ_UNKNOWN",
    });
    await subscription.post("replay", { run_id: crypto.randomUUID(), from_seq: 1 }, 404);
    // No more at once than there may be; those that are done make room.
    receiver.answer = status(500);
    for (let index = 0; index < MAX_REPLAYS; index += 1) {
      expect(await subscription.stub.replay(run.id, 0, 1)).not.toBeNull();
    }
    expect(await subscription.post("replay", body, 413)).toMatchObject({ limit_name: "replays" });
    receiver.answer = status(200);
    for (let waited = 0; (await subscription.get()).state.backlog.lines > 0; waited += 1) {
      expect(waited).toBeLessThan(10);
      clock.advance(DAY);
      await subscription.alarm();
    }
    await subscription.post("replay", body, 202);
  });

  it("a run that is deleted has nothing more to tell, and holds up nobody", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    receiver.answer = status(500);
    const run = await newTestRun();
    await commitNotes(run, clock, 1);
    await receiver.has(1);
    await subscription.settled();
    await run.client.erase({ created_at_ms: null, expected_revision: null });
    clock.advance(6_000);
    await subscription.alarm();
    expect((await subscription.settled()).backlog.lines).toBe(0);
    await receiver.has(1);
  });

  it("enabled from now on, it leaves out what has happened meanwhile", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    const [known, unknown] = [await newTestRun(), await newTestRun()];
    await commitNotes(known, clock, 1);
    await receiver.has(1);
    await subscription.post("disable");
    await commitNotes(known, clock, 2);
    await commitNotes(unknown, clock, 2);
    clock.advance(1_000);
    await subscription.post("enable", { from: "now" });
    await commitNotes(known, clock, 1);
    await commitNotes(unknown, clock, 1);
    await receiver.has(3);
    expect(receiver.seqs(known)).toEqual([1, 4]);
    expect(receiver.seqs(unknown)).toEqual([3]);
  });

  it("from now on, also while it is active, is from now on and not from the beginning", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    const [run, hung] = [await newTestRun(), await newTestRun()];
    await commitNotes(run, clock, 2);
    await receiver.has(2);
    let hangs = true;
    receiver.answer = async ({ body }) => {
      while (hangs && body.data.run_id === hung.id) await scheduler.wait(5);
      return new Response(null, { status: body.data.seq === 1 ? 500 : 200 });
    };
    await commitNotes(hung, clock, 3);
    await receiver.has(3);
    clock.advance(1_000);
    await subscription.post("enable", { from: "now" });
    await commitNotes(run, clock, 1);
    await receiver.has(4);
    await commitNotes(hung, clock, 1);
    // What comes of a message that was on its way then does not bring back what was left out.
    hangs = false;
    await receiver.has(5);
    await subscription.settled();
    clock.advance(DAY);
    await subscription.alarm();
    await receiver.has(5);
    expect(receiver.seqs(run)).toEqual([1, 2, 3]);
    expect(receiver.seqs(hung)).toEqual([1, 4]);
  });

  it("an object that is not told that it was enabled finds out when it hears of something", async () => {
    const subscription = await TestSubscription.make();
    const run = await newTestRun();
    await subscription.post("disable");
    await commitNotes(run, clock, 1);
    await subscription.stub.nudge([{ run_id: run.id, seq: 1 }]);
    await subscription.stub.readState();
    await env.DIRECTORY.prepare("UPDATE subscriptions SET status = 'active' WHERE subscription_id = ?")
      .bind(subscription.id)
      .run();
    await commitNotes(run, clock, 1);
    await subscription.receiver.has(2);
  });
});

describe("webhooks out: secrets", () => {
  const clock = useTestClock();
  useInternet();

  it("both sign while one takes the other's place; then the new one alone", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    const run = await newTestRun();
    const { secret } = (await subscription.post("secrets", { overlap_ms: 60_000 }, 201)) as {
      secret: string;
    };
    await commitNotes(run, clock, 1);
    await receiver.has(1);
    expect(subscription.verified(receiver.received[0])).toBeDefined();
    expect(subscription.verified(receiver.received[0], secret)).toBeDefined();
    clock.advance(60_000);
    await commitNotes(run, clock, 1);
    await receiver.has(2);
    expect(() => subscription.verified(receiver.received[1])).toThrow("No matching signature");
    expect(subscription.verified(receiver.received[1], secret)).toBeDefined();
  });

  it("are stored sealed, shown once, and retired by id, but for the newest", async () => {
    const subscription = await TestSubscription.make({ secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" });
    expect(subscription.secret).toBe("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    const { secret_id } = (await subscription.post("secrets", undefined, 201)) as { secret_id: string };
    const stored = await env.DIRECTORY.prepare("SELECT * FROM subscription_secrets WHERE subscription_id = ?")
      .bind(subscription.id)
      .all();
    expect(JSON.stringify([stored.results, await subscription.get()])).not.toMatch(/whsec_|MfKQ9r8G/);
    expect((await subscription.get()).subscription.secrets).toMatchObject([
      { secret_id, retires_at_ms: null },
      { secret_id: subscription.secretId, retires_at_ms: expect.any(Number) },
    ]);
    const retire = async (id: string) => (await api("DELETE", `/${subscription.id}/secrets/${id}`)).status;
    expect(await retire(secret_id)).toBe(404);
    expect(await retire(subscription.secretId)).toBe(204);
    expect(await retire(subscription.secretId)).toBe(404);
    expect(await auditOf(subscription.id)).toEqual([
      "subscription.created",
      "subscription.secret_added",
      "subscription.secret_retired",
    ]);
  });

  it("a deployment whose keys no longer open them sends nothing unsigned, and goes on when they do", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    await env.DIRECTORY.prepare(
      "UPDATE subscription_secrets SET sealed = 'x' || sealed WHERE subscription_id = ?",
    )
      .bind(subscription.id)
      .run();
    const run = await newTestRun();
    await commitNotes(run, clock, 1);
    await eventually(
      () => subscription.get(),
      ({ state }) => state.health.paused_until_ms > clock.nowMs(),
      5_000,
    );
    expect(await subscription.post("test", undefined, 503)).toMatchObject({ code: "KEYS_REQUIRED" });
    expect(receiver.received).toEqual([]);
    await env.DIRECTORY.prepare(
      "UPDATE subscription_secrets SET sealed = substr(sealed, 2) WHERE subscription_id = ?",
    )
      .bind(subscription.id)
      .run();
    clock.advance(10_000);
    await subscription.alarm();
    await receiver.has(1);
  });

  it("with none left that signs, nothing is sent: the newest does not open, and those before it have retired", async () => {
    const subscription = await TestSubscription.make();
    const { secret_id } = (await subscription.post("secrets", { overlap_ms: 60_000 }, 201)) as {
      secret_id: string;
    };
    await env.DIRECTORY.prepare("UPDATE subscription_secrets SET sealed = 'x' || sealed WHERE secret_id = ?")
      .bind(secret_id)
      .run();
    const run = await newTestRun();
    await commitNotes(run, clock, 1);
    await subscription.receiver.has(1);
    clock.advance(60_000);
    await commitNotes(run, clock, 1);
    await eventually(
      () => subscription.get(),
      ({ state }) => state.health.paused_until_ms > clock.nowMs(),
      5_000,
    );
    await subscription.post("test", undefined, 503);
    await subscription.receiver.has(1);
  });

  it("whose keys do not open asks once in a while, however many runs wait", async () => {
    const subscription = await TestSubscription.make();
    await env.DIRECTORY.prepare(
      "UPDATE subscription_secrets SET sealed = 'x' || sealed WHERE subscription_id = ?",
    )
      .bind(subscription.id)
      .run();
    const troubles = vi.spyOn(console, "error").mockImplementation(() => undefined);
    for (let index = 0; index < 12; index += 1) await commitNotes(await newTestRun(), clock, 1);
    // Twelve seconds have gone by, and at most four ask side by side.
    await subscription.get();
    expect(troubles.mock.calls.length).toBeLessThanOrEqual(8);
    expect((await subscription.get()).state.backlog.lines).toBe(12);
  });
});

describe("webhooks out: what becomes of a subscription", () => {
  const clock = useTestClock();
  useInternet();

  it("changed, it sends to the new address at once, and begins with runs that are new to it from then on", async () => {
    const subscription = await TestSubscription.make({ filter: { source: "a" } });
    const other = await TestSubscription.make({ filter: { source: "nobody" } });
    const [a, b] = [await newTestRun({ source_client: "a" }), await newTestRun({ source_client: "b" })];
    await commitNotes(a, clock, 1);
    await commitNotes(b, clock, 1);
    await subscription.receiver.has(1);
    clock.advance(10_000);
    const body = { url: other.receiver.url, filter: { source: "b" }, name: "b's" };
    const changed = await api("PUT", `/${subscription.id}`, body);
    expect(changed.body).toMatchObject({ subscription: body });
    await commitNotes(a, clock, 1);
    await commitNotes(b, clock, 1);
    await other.receiver.has(1);
    expect(other.receiver.seqs(b)).toEqual([2]);
    expect(subscription.receiver.received).toHaveLength(1);
  });

  it("deleted, it sends no more and leaves nothing", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    receiver.answer = status(500);
    const run = await newTestRun();
    await commitNotes(run, clock, 1);
    await receiver.has(1);
    await subscription.settled();
    expect((await api("DELETE", `/${subscription.id}`)).status).toBe(204);
    expect((await api("DELETE", `/${subscription.id}`)).status).toBe(404);
    expect(await subscription.rows("SELECT name FROM sqlite_master WHERE name = 'lines'")).toEqual([]);
    // A nudge that was on its way finds nobody, and wakes nobody for long.
    await subscription.stub.nudge([{ run_id: run.id, seq: 1 }]);
    await eventually(
      () => subscription.rows("SELECT name FROM sqlite_master WHERE name = 'lines'"),
      (rows) => rows.length === 0,
      5_000,
    );
    await receiver.has(1);
    expect(await auditOf(subscription.id)).toEqual(["subscription.created", "subscription.deleted"]);
  });

  it("changed to be about more, it still tells all that it was about before", async () => {
    const source = crypto.randomUUID();
    const subscription = await TestSubscription.make({ filter: { source } });
    const { receiver } = subscription;
    const [known, heard, unheard] = [
      await newTestRun({ source_client: source }),
      await newTestRun({ source_client: source }),
      await newTestRun({ source_client: source }),
    ];
    receiver.answer = status(429, { "retry-after": "600" });
    await commitNotes(known, clock, 1);
    await receiver.has(1);
    await commitNotes(heard, clock, 2);
    await loseNudges([unheard, known], async () => {
      await commitNotes(unheard, clock, 2);
      await commitNotes(known, clock, 1);
    });
    clock.advance(60_000);
    const put = await api("PUT", `/${subscription.id}`, {
      url: receiver.url,
      filter: { run_type: "interactive" },
    });
    expect(put.status).toBe(200);
    await nudgeSubscriptions(env, clock.nowMs());
    receiver.answer = status(200);
    clock.advance(600_000);
    await subscription.alarm();
    await receiver.has(7);
    expect(receiver.seqs(known)).toEqual([1, 1, 2]);
    expect(receiver.seqs(heard)).toEqual([1, 2]);
    expect(receiver.seqs(unheard)).toEqual([1, 2]);
  });

  it("changed to another address, it is tried there at once: what the old one asked for or did is not held against it", async () => {
    const subscription = await TestSubscription.make();
    const other = await TestSubscription.make({ run_id: "nobody" });
    subscription.receiver.answer = status(429, { "retry-after": "86400" });
    const run = await newTestRun();
    await commitNotes(run, clock, 2);
    await subscription.receiver.has(1);
    await subscription.settled();
    await api("PUT", `/${subscription.id}`, { url: subscription.receiver.url, name: "same" });
    await subscription.receiver.has(1);
    await api("PUT", `/${subscription.id}`, { url: other.receiver.url });
    await other.receiver.has(2);
    await subscription.receiver.has(1);
    expect((await subscription.settled()).health).toMatchObject({ failures_in_row: 0, paused_until_ms: 0 });
  });

  it("deleted while its object cannot be reached, it leaves nothing when that is repeated", async () => {
    const subscription = await TestSubscription.make();
    const run = await newTestRun();
    await commitNotes(run, clock, 1);
    await subscription.receiver.has(1);
    const fails = vi.spyOn(SubscriptionObject.prototype, "erase").mockRejectedValue(new Error("down"));
    vi.spyOn(console, "error").mockImplementation(() => undefined);
    expect((await api("DELETE", `/${subscription.id}`)).status).toBe(500);
    fails.mockRestore();
    expect((await api("DELETE", `/${subscription.id}`)).status).toBe(404);
    expect(await subscription.rows("SELECT name FROM sqlite_master WHERE name = 'lines'")).toEqual([]);
  });

  it("a test's message is sent once, also where it is disabled, and tells what came of it", async () => {
    const subscription = await TestSubscription.make();
    const { receiver } = subscription;
    await subscription.post("disable");
    expect(await subscription.post("test")).toMatchObject({
      attempt: { type: "baton.ping", delivered: true, status: 204, attempt: 1 },
    });
    expect(subscription.verified(receiver.received[0])).toMatchObject({
      type: "baton.ping",
      data: { subscription_id: subscription.id },
    });
    receiver.answer = status(500);
    expect(await subscription.post("test")).toMatchObject({
      attempt: { delivered: false, error: "status_500" },
    });
    expect((await subscription.get()).state.health).toMatchObject({ failing_since_ms: null, attempts: 2 });
  });
});

describe("webhooks out: whatever happens", () => {
  const clock = useTestClock();
  useInternet();

  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant("commit" as const),
        run: fc.nat(2),
        count: fc.integer({ min: 1, max: 3 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("lose nudges" as const), run: fc.nat(2) }) },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constant("answer" as const),
        code: fc.constantFrom(200, 204, 302, 429, 500, 0),
      }),
    },
    { weight: 1, arbitrary: fc.constant({ do: "evict" as const }) },
    { weight: 1, arbitrary: fc.constant({ do: "crash" as const }) },
    { weight: 1, arbitrary: fc.constant({ do: "cron" as const }) },
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant("wait" as const),
        ms: fc.constantFrom(1_000, 6_000, 60_000, 400_000),
      }),
    },
  );

  it(
    "each run's events arrive all, and first in order",
    async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 15 }), async (steps) => {
          clock.advance(DAY);
          const source = crypto.randomUUID();
          const subscription = await TestSubscription.make({ filter: { source } });
          const { receiver } = subscription;
          const runs = [0, 1, 2].map(() => newTestRun({ source_client: source }));
          const all = await Promise.all(runs);
          const committed = [0, 0, 0];
          const commit = async (index: number, count: number) => {
            const run = all[index];
            if (run === undefined) return;
            committed[index] = (committed[index] ?? 0) + count;
            // A new way to it: after a crash the old one leads nowhere.
            await commitNotes(objectOf(run.id), clock, count);
          };
          for (const now of steps) {
            if (now.do === "commit") await commit(now.run, now.count);
            if (now.do === "lose nudges") {
              const ids = all.slice(now.run, now.run + 1).map(({ id }) => objectOf(id));
              await loseNudges(ids, () => commit(now.run, 1));
            }
            if (now.do === "answer") {
              const { code } = now;
              receiver.answer =
                code === 0
                  ? () => Promise.reject(new Error("lost"))
                  : () => new Response(null, { status: code });
            }
            if (now.do === "evict") {
              await subscription.stub.readState();
              await evictDurableObject(subscription.stub);
            }
            if (now.do === "crash") await abortAllDurableObjects();
            if (now.do === "cron") await nudgeSubscriptions(env, clock.nowMs());
            if (now.do === "wait") {
              clock.advance(now.ms);
              await subscription.alarm();
            }
          }
          receiver.answer = status(200);
          await nudgeSubscriptions(env, clock.nowMs());
          const left = async () => (await subscription.get()).state.backlog.lines;
          for (let waited = 0; (await left()) > 0; waited += 1) {
            expect(waited).toBeLessThan(50);
            clock.advance(3_600_000);
            await subscription.alarm();
          }
          for (const [index, run] of all.entries()) {
            const firsts = [...new Set(receiver.seqs(run))];
            expect(firsts).toEqual(Array.from({ length: committed[index] ?? 0 }, (_, seq) => seq + 1));
          }
          expect(await subscription.list("dead-letters")).toEqual([]);
          await api("DELETE", `/${subscription.id}`);
        }),
        { numRuns: 8, endOnFailure: true },
      );
    },
    PROPERTY_TIMEOUT_MS,
  );

  it("of many runs to tell of, a tick tells some, and the next goes on there", async () => {
    const source = crypto.randomUUID();
    const subscription = await TestSubscription.make({ filter: { source } });
    for (let index = 0; index < 5; index += 1) {
      const run = await newTestRun({ source_client: source });
      await loseNudges([run], () => commitNotes(run, clock, 1));
    }
    // What has changed lately is told again until its place is settled.
    clock.advance(10 * 60_000);
    const told: number[] = [];
    for (let tick = 0; tick < 3; tick += 1) {
      const followed = await followedSubscription(env.DIRECTORY, {
        tenant: TENANT,
        subscription_id: subscription.id,
      });
      if (followed === null) throw new Error("the subscription is not active");
      told.push(await catchUp(env, followed, clock.nowMs(), 2));
    }
    expect(told).toEqual([2, 2, 1]);
    await subscription.receiver.has(5);
  });
});
