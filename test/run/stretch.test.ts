import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RUN_STATUSES } from "../../src/protocol/status.ts";
import {
  type CommitText,
  joined,
  newerThan,
  packStretches,
  type Stretch,
  unpackStretches,
} from "../../src/run/stretch.ts";

/** Every kind of character, among them those that other readers of lines take for their end. */
const odd = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({
    unit: fc.constantFrom("\n", "\r", "\u2028", "\u2029", "\u0085", "\v", "\f", "\0", "\ufeff", "\\", '"'),
  }),
  fc.constantFrom("\ud800", "a\udfff"),
);

/** A record: JSON on one line. */
const record = fc.oneof(
  odd.map((text) => JSON.stringify({ text })),
  fc.jsonValue({ stringUnit: "binary" }).map((value) => JSON.stringify({ value })),
);

const commit = fc.record({ ts_ms: fc.maxSafeNat(), type: odd, event: record, patch: fc.option(record) });

const stretch: fc.Arbitrary<Stretch> = fc
  .record({
    head: fc.record({
      run_id: fc.stringMatching(/^[A-Za-z0-9._:-]{1,20}$/),
      workspace: odd,
      tenant_context: fc.constant({
        org_id: "local",
        workspace_id: "local",
        source: "local_implicit" as const,
      }),
      workspace_since_seq: fc.maxSafeNat(),
      status: fc.constantFrom(...RUN_STATUSES),
    }),
    after: fc.nat(1_000),
    commits: fc.array(commit, { maxLength: 8 }),
    later: fc.nat(3),
    cameAlong: fc.boolean(),
    pos: fc.option(fc.nat(), { nil: undefined }),
  })
  .map(({ head, after, commits, later, cameAlong, pos }) => ({
    ...head,
    after_seq: after,
    upto_seq: after + commits.length,
    last_seq: after + commits.length + later,
    commits: cameAlong
      ? commits.map((commit, index): CommitText => ({ seq: after + 1 + index, ...commit }))
      : null,
    ...(pos !== undefined && { pos }),
  }));

/** Only those that have their commits with them. */
const whole = stretch.filter(({ commits }) => commits !== null);

const seqsOf = ({ commits }: Stretch) => commits?.map(({ seq }) => seq);

describe("packStretches", () => {
  it("is read back as it was, whatever the texts hold", () => {
    fc.assert(
      fc.property(fc.array(stretch, { maxLength: 4 }), (stretches) => {
        expect(unpackStretches(packStretches(stretches))).toEqual(stretches);
      }),
      { numRuns: 500 },
    );
  });

  it("keeps records to the letter", () => {
    const event = '{"n":1e2,"a":1.50,"__proto__":{},"b":"\\u0041","a":2}';
    const commits = [{ seq: 1, ts_ms: 1, type: "t", event, patch: event }];
    const [head] = fc.sample(whole, { numRuns: 1, seed: 1 });
    if (head === undefined) throw new Error("no sample");
    const [read] = unpackStretches(packStretches([{ ...head, after_seq: 0, upto_seq: 1, commits }]));
    expect(read?.commits).toEqual(commits);
  });
});

describe("newerThan", () => {
  it("has the commits after a seq, and says so", () => {
    fc.assert(
      fc.property(stretch, fc.nat(1_020), (given, seq) => {
        const news = newerThan(given, seq);
        expect(seqsOf(news)).toEqual(seqsOf(given)?.filter((other) => other > seq));
        const after_seq = Math.min(given.upto_seq, Math.max(given.after_seq, seq));
        expect({ ...news, commits: null }).toEqual({ ...given, after_seq, commits: null });
      }),
    );
  });

  it("is the stretch itself when all of it is newer", () => {
    fc.assert(
      fc.property(stretch, fc.nat(5), (given, less) => {
        expect(newerThan(given, given.after_seq - less)).toBe(given);
      }),
    );
  });

  it("twice is as once with the greater seq", () => {
    fc.assert(
      fc.property(stretch, fc.nat(1_020), fc.nat(1_020), (given, a, b) => {
        expect(newerThan(newerThan(given, a), b)).toEqual(newerThan(given, Math.max(a, b)));
      }),
    );
  });

  it("changes nothing of what it is given", () => {
    fc.assert(
      fc.property(stretch, fc.nat(1_020), (given, seq) => {
        const before = structuredClone(given);
        newerThan(given, seq);
        expect(given).toEqual(before);
      }),
    );
  });
});

describe("joined", () => {
  /** The part of a stretch up to a seq. */
  const upto = (given: Stretch, seq: number): Stretch => ({
    ...given,
    upto_seq: Math.max(seq, given.after_seq),
    commits: given.commits?.filter((commit) => commit.seq <= seq) ?? null,
  });

  it("a stretch that was cut anywhere is whole again", () => {
    fc.assert(
      fc.property(whole, fc.nat(8), (given, length) => {
        const seq = Math.min(given.after_seq + length, given.upto_seq);
        expect(joined(upto(given, seq), newerThan(given, seq))).toEqual(given);
      }),
    );
  });

  it("is the same in whichever order three are joined", () => {
    fc.assert(
      fc.property(stretch, fc.nat(8), fc.nat(8), (given, a, b) => {
        const [first, second] = [a, b]
          .sort((a, b) => a - b)
          .map((n) => Math.min(given.after_seq + n, given.upto_seq));
        if (first === undefined || second === undefined) throw new Error("two cuts");
        const parts = [
          upto(given, first),
          upto(newerThan(given, first), second),
          newerThan(given, second),
        ] as const;
        expect(joined(joined(parts[0], parts[1]), parts[2])).toEqual(
          joined(parts[0], joined(parts[1], parts[2])),
        );
      }),
    );
  });

  it("has no commits when one of the two has none with it", () => {
    fc.assert(
      fc.property(stretch, stretch, (a, b) => {
        const both = joined({ ...a, commits: null }, b);
        expect(both).toEqual({ ...b, after_seq: a.after_seq, commits: null });
        expect(joined(a, { ...b, commits: null }).commits).toBeNull();
      }),
    );
  });
});
