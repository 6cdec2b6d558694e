import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import type { Tenant } from "../../src/protocol/run.ts";
import { packStretches, unpackStretches } from "../../src/run/stretch.ts";
import { RawFollower } from "../streams/support/raw-follower.ts";
import { disturb, feedOf, newPath, newTenant, Subject } from "../streams/support/scenario.ts";

// Streams wait for each other more than they compute: a busy machine takes its time.
vi.setConfig({ testTimeout: 30_000 });

const COMMITS = 8;

/** A run with some commits, and a feed that it does not push to by itself: what a test pushes there is all it hears. */
async function runAndFeed(tenant: Tenant, options: { isOlder: boolean; length?: number }) {
  const path = newPath();
  const follow = () => RawFollower.open(feedOf(tenant, path));
  const early = options.isOlder ? null : await follow();
  const subject = await Subject.create(tenant);
  for (let count = 0; count < COMMITS; count += 1) {
    await subject.commit({ do: "note", length: options.length ?? count });
  }
  return { subject, feed: () => feedOf(tenant, path), follower: early ?? (await follow()) };
}

/** Part of the run's log, as the run would push it. */
async function stretchOf(subject: Subject, afterSeq: number, uptoSeq: number): Promise<string> {
  const answer = await subject.client.readStretch({ afterSeq, uptoSeq, withPatches: true });
  if (!answer.ok) throw new Error("the run is gone");
  const [stretch] = unpackStretches(answer.value);
  if (stretch === undefined) throw new Error("there is no stretch");
  return packStretches([
    stretch.upto_seq === uptoSeq ? stretch : { ...stretch, upto_seq: uptoSeq, commits: null },
  ]);
}

/** The seqs of the rows that a follower was told, each row as a list. */
function toldSeqs(follower: RawFollower, runId: string): number[][] {
  return follower
    .stretchesOf(runId)
    .map(({ after_seq, upto_seq }) =>
      Array.from({ length: upto_seq - after_seq }, (_, index) => after_seq + 1 + index),
    );
}

const anyPush = fc
  .tuple(fc.integer({ min: 0, max: COMMITS - 1 }), fc.integer({ min: 1, max: COMMITS }))
  .map(([after, count]) => ({ after, upto: Math.min(COMMITS, after + count) }));

describe("what is pushed to a feed", () => {
  it("J1: pushes that repeat, overlap or leave a gap become rows without gap and overlap", async () => {
    const tenant = newTenant();
    const history = fc.record({
      pushes: fc.array(anyPush, { minLength: 1, maxLength: 8 }),
      isOlder: fc.boolean(),
      isAtOnce: fc.boolean(),
      sleepsAfter: fc.nat({ max: 8 }),
    });
    await fc.assert(
      fc.asyncProperty(history, async ({ pushes, isOlder, isAtOnce, sleepsAfter }) => {
        const { subject, feed, follower } = await runAndFeed(tenant, { isOlder });
        const pending: Promise<boolean>[] = [];
        for (const [index, { after, upto }] of pushes.entries()) {
          const taken = feed().push(await stretchOf(subject, after, upto));
          pending.push(taken);
          if (!isAtOnce) expect(await taken).toBe(true);
          if (!isAtOnce && index === sleepsAfter) await disturb(feed(), "sleep");
        }
        // A push that met another one may be refused; the run repeats it.
        await Promise.allSettled(pending);
        for (const { after, upto } of pushes) await feed().push(await stretchOf(subject, after, upto));
        const end = Math.max(...pushes.map(({ upto }) => upto));
        await follower.until(() => follower.seqOf(subject.id) === end);
        const log = (await subject.log("event")).slice(0, end);
        expect(toldSeqs(follower, subject.id).flat()).toEqual(log.map(({ seq }) => seq));
        const texts = follower.stretchesOf(subject.id).flatMap(({ commits }) => commits ?? []);
        expect(texts.map(({ event }) => JSON.parse(event))).toEqual(log);
        const rows = await feed().readRows(0, 1_000);
        expect(follower.stretches.map(({ pos, upto_seq }) => [pos, upto_seq])).toEqual(
          rows.map(({ pos, upto_seq }) => [pos, upto_seq]),
        );
        follower.close();
      }),
      { numRuns: 40 },
    );
  }, 60_000);

  it("J1: what is too long to be told at once is told without its commits", async () => {
    const { subject, feed, follower } = await runAndFeed(newTenant(), { isOlder: false, length: 60_000 });
    await feed().push(await stretchOf(subject, 0, 1));
    await feed().push(await stretchOf(subject, COMMITS - 1, COMMITS));
    await follower.until(() => follower.seqOf(subject.id) === COMMITS);
    expect(follower.stretchesOf(subject.id)).toMatchObject([
      { pos: 1, after_seq: 0, upto_seq: 1, commits: [{ seq: 1 }] },
      { pos: 2, after_seq: 1, upto_seq: COMMITS, commits: null },
    ]);
    follower.close();
  });

  it("a feed that nobody follows keeps nothing, and says so", async () => {
    const tenant = newTenant();
    const subject = await Subject.create(tenant);
    await subject.commit({ do: "note", length: 1 });
    const feed = feedOf(tenant, newPath());
    expect(await feed.push(await stretchOf(subject, 0, 1))).toBe(false);
    expect(await feed.readRows(0, 10)).toEqual([]);
  });
});
