import { runInDurableObject } from "cloudflare:test";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { type FeedRow, Journal, MAX_ROWS } from "../../src/feed/journal.ts";
import { Sql } from "../../src/run/storage/sql.ts";
import { feedOf, newTenant } from "../streams/support/scenario.ts";

// Streams wait for each other more than they compute: a busy machine takes its time.
vi.setConfig({ testTimeout: 30_000 });

const ALL = Number.MAX_SAFE_INTEGER;

/** Runs code with the empty storage of a feed's object. */
function withStorage<T>(body: (sql: Sql) => T | Promise<T>): Promise<T> {
  return runInDurableObject(feedOf(newTenant(), null), (_object, { storage }) => body(new Sql(storage)));
}

/** What a journal learns: a run's commits, or where a run is that was there before. */
type Step =
  | { do: "append"; run: string; elsewhere: number; commits: number }
  | { do: "know"; run: string; seq: number };

const run = fc.constantFrom("a", "b", "c", "d");
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("append" as const),
      run,
      /** What it committed in other workspaces meanwhile. */
      elsewhere: fc.constantFrom(0, 0, 0, 2),
      commits: fc.integer({ min: 1, max: 5 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("know" as const), run, seq: fc.integer({ min: 1, max: 9 }) }),
  },
);

describe("the journal of a feed", () => {
  it("J1, J2: rows of a run follow each other, no row changes, and heads are found at every place", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyStep, { maxLength: 40 }), (steps) =>
        withStorage((sql) => {
          const journal = new Journal(sql, () => "first");
          const heads = new Map<string, number>();
          const rows: FeedRow[] = [];
          /** Where the runs of the feed were at each place. */
          const headsAt = [new Map<string, number>()];
          for (const step of steps) {
            const before = heads.get(step.run);
            if (step.do === "know") {
              journal.know(step.run, step.seq);
              if (before === undefined) {
                heads.set(step.run, step.seq);
                headsAt.at(-1)?.set(step.run, step.seq);
              }
              continue;
            }
            expect(journal.headOf(step.run)).toBe(before ?? null);
            const after_seq = (before ?? 0) + step.elsewhere;
            const upto_seq = after_seq + step.commits;
            const pos = journal.append(step.run, after_seq, upto_seq);
            rows.push({ pos, run_id: step.run, after_seq, upto_seq });
            // A run that joins was at its beginning until then.
            if (before === undefined) headsAt.at(-1)?.set(step.run, 0);
            heads.set(step.run, upto_seq);
            headsAt.push(new Map(heads));
          }
          const again = new Journal(sql, () => "second");
          expect(rows.map(({ pos }) => pos)).toEqual(rows.map((_row, index) => index + 1));
          expect(again.rows(0, ALL)).toEqual(rows);
          expect(again.place()).toEqual({ feed_id: "first", pos: rows.length, before_pos: 0 });
          for (const [pos, expected] of headsAt.entries()) {
            expect(again.headsAt(pos), `at ${pos}`).toEqual(expected);
            expect(again.rows(pos, 2)).toEqual(rows.slice(pos, pos + 2));
          }
        }),
      ),
      { numRuns: 60 },
    );
  });

  it("old rows are deleted when there are too many, and the journal says from where it can be read", () =>
    withStorage((sql) => {
      const journal = new Journal(sql, () => "first");
      for (let seq = 1; seq <= 1_002; seq += 1) journal.append("a", seq - 1, seq);
      sql.run("UPDATE rows SET pos = pos + ? WHERE pos > 1001", MAX_ROWS - 3);
      expect(journal.append("a", 1_002, 1_003)).toBe(MAX_ROWS + 1_000);
      expect(journal.place()).toEqual({ feed_id: "first", pos: MAX_ROWS + 1_000, before_pos: 1_000 });
      expect(journal.rows(0, 1)).toEqual([{ pos: 1_001, run_id: "a", after_seq: 1_000, upto_seq: 1_001 }]);
      expect(journal.headsAt(1_000)).toEqual(new Map([["a", 1_000]]));
    }));
});
