import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type FeedCursor,
  type LogCursor,
  readFeedCursor,
  readLogCursor,
  readSeenCursor,
  writeFeedCursor,
  writeLogCursor,
} from "../../src/protocol/stream-cursor.ts";

const MAX = 999_999_999_999_999;
const number = fc.oneof(fc.nat(20), fc.integer({ min: 0, max: MAX }));
const seq = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: MAX }));
const runId = fc.stringMatching(/^[A-Za-z0-9._:-]{1,200}$/);

const logCursor: fc.Arbitrary<LogCursor> = fc.oneof(
  fc.record({ seq: number, isPatchDue: fc.constant(false) }),
  fc.record({ seq, isPatchDue: fc.boolean() }),
);

const FEED = "01ab89ef";
const nowhere = { feed_id: fc.constant(FEED), within: fc.constant(null), backlog: fc.constant(null) };

const feedCursor: fc.Arbitrary<FeedCursor> = fc.oneof(
  fc.record({ ...nowhere, pos: number }),
  fc.record({ ...nowhere, pos: seq, within: logCursor }),
  fc.record({ ...nowhere, pos: number, backlog: fc.constant("start" as const) }),
  fc.record({
    ...nowhere,
    pos: number,
    backlog: fc.record({ ts_ms: number, run_id: runId, isPatch: fc.boolean(), seq: number }),
  }),
);

/** Text that looks like a cursor, and text that does not. */
const text = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.stringMatching(/^[0-9bep-]{0,12}$/),
  feedCursor.chain((cursor) => damaged(writeFeedCursor(cursor).slice(FEED.length + 1))),
);

/** A text with one character taken out, doubled or replaced. */
function damaged(whole: string): fc.Arbitrary<string> {
  return fc
    .tuple(fc.nat(whole.length), fc.constantFrom("", "0", "-", "b", "e", " ", "\n", "é"), fc.nat(1))
    .map(([at, instead, width]) => whole.slice(0, at) + instead + whole.slice(at + width));
}

describe("the cursor of a run's stream", () => {
  const forms: [string, LogCursor][] = [
    ["0", { seq: 0, isPatchDue: false }],
    ["12", { seq: 12, isPatchDue: false }],
    ["12e", { seq: 12, isPatchDue: true }],
    ["999999999999999e", { seq: MAX, isPatchDue: true }],
  ];
  it.each(forms)("%s", (written, cursor) => {
    expect(readLogCursor(written)).toEqual(cursor);
    expect(writeLogCursor(cursor)).toBe(written);
  });

  it.each([
    "",
    "e",
    "0e",
    "-1",
    "+1",
    "1.0",
    "1e1",
    "1ee",
    " 1",
    "1 ",
    "1\n",
    "1E",
    "x",
    "١",
    "1".repeat(16),
  ])("%j is none", (written) => expect(readLogCursor(written)).toBeNull());

  it("is read as it was written", () => {
    fc.assert(
      fc.property(logCursor, (cursor) => {
        expect(readLogCursor(writeLogCursor(cursor))).toEqual(cursor);
      }),
    );
  });
});

describe("the cursor of a stream of many runs", () => {
  const backlog = { ts_ms: 1_700_000_000_000, run_id: "r1", isPatch: false, seq: 5 };
  const forms: [string, Omit<FeedCursor, "feed_id">][] = [
    ["0", { pos: 0, within: null, backlog: null }],
    ["17", { pos: 17, within: null, backlog: null }],
    ["17-5", { pos: 17, within: { seq: 5, isPatchDue: false }, backlog: null }],
    ["17-5e", { pos: 17, within: { seq: 5, isPatchDue: true }, backlog: null }],
    ["17b", { pos: 17, within: null, backlog: "start" }],
    ["17b1700000000000-e5-r1", { pos: 17, within: null, backlog }],
    ["17b1700000000000-p5-r1", { pos: 17, within: null, backlog: { ...backlog, isPatch: true } }],
    ["0b0-e0--", { pos: 0, within: null, backlog: { ts_ms: 0, run_id: "-", isPatch: false, seq: 0 } }],
  ];
  it.each(forms)("%s", (written, cursor) => {
    expect(readFeedCursor(`${FEED}:${written}`)).toEqual({ feed_id: FEED, ...cursor });
    expect(writeFeedCursor({ feed_id: FEED, ...cursor })).toBe(`${FEED}:${written}`);
  });

  const none = [
    "",
    "b",
    "-1",
    "1-",
    "1-e",
    "1-0e",
    "0-1",
    "1e",
    "1bb",
    "1b1",
    "1b1-x1-r",
    "1b1-e1",
    "1b1-e1-",
  ];
  it.each([
    ...none,
    "1b1-e1-r r",
    "1b1-e1-ü",
    `1b1-e1-${"r".repeat(201)}`,
    "1b1-e1-r\n",
    " 1",
    "1\n",
    "1".repeat(16),
  ])("%j is none", (written) => expect(readFeedCursor(`${FEED}:${written}`)).toBeNull());

  it.each(["1", ":1", "0123456:1", "012345678:1", "0123456G:1", "ABCDEF01:1", "01234567;1"])(
    "%j is of no feed",
    (written) => expect(readFeedCursor(written)).toBeNull(),
  );

  it("is read as it was written", () => {
    fc.assert(
      fc.property(feedCursor, (cursor) => {
        expect(readFeedCursor(writeFeedCursor(cursor))).toEqual(cursor);
      }),
    );
  });

  it("is one line of a header's characters, whatever it stands for", () => {
    fc.assert(
      fc.property(feedCursor, (cursor) => {
        expect(writeFeedCursor(cursor)).toMatch(/^[\x21-\x7e]+$/);
      }),
    );
  });
});

it("any text is a cursor or none; one that is read stands for itself, but for zeros in front", () => {
  const withoutZeros = (written: string) => written.replace(/(^|[^0-9])0+(?=[0-9])/g, "$1");
  fc.assert(
    fc.property(text, (written) => {
      const log = readLogCursor(written);
      if (log !== null) expect(writeLogCursor(log)).toBe(withoutZeros(written));
      const feed = readFeedCursor(`${FEED}:${written}`);
      if (feed?.backlog === null) expect(writeFeedCursor(feed)).toBe(`${FEED}:${withoutZeros(written)}`);
      if (feed !== null) expect(readFeedCursor(writeFeedCursor(feed))).toEqual(feed);
    }),
    { numRuns: 2_000 },
  );
});

describe("the cursor that /context clients build (02 §7.3)", () => {
  const base64url = (bytes: Uint8Array) =>
    btoa(String.fromCharCode(...bytes))
      .replace(/\+/g, "-")
      .replace(/\//g, "_")
      .replace(/=+$/, "");
  const written = (json: string) => base64url(new TextEncoder().encode(json));
  const asObjects = (cursor: ReturnType<typeof readSeenCursor>) => ({
    events: Object.fromEntries(cursor.events),
    patches: Object.fromEntries(cursor.patches),
  });
  const nothing = { events: {}, patches: {} };

  it("the contract's own example", () => {
    expect(asObjects(readSeenCursor("eyJldmVudHMiOnsiciI6M319"))).toEqual({ events: { r: 3 }, patches: {} });
  });

  const space = fc.stringMatching(/^[ \t\n\r]{0,3}$/);
  const seqs = fc.dictionary(fc.string({ unit: "grapheme" }), fc.maxSafeNat());
  it("is read padded, unpadded and with whitespace around it", () => {
    fc.assert(
      fc.property(seqs, seqs, fc.boolean(), space, space, (events, patches, isPadded, before, behind) => {
        const unpadded = written(JSON.stringify({ events, patches }));
        const cursor = isPadded ? unpadded.padEnd(Math.ceil(unpadded.length / 4) * 4, "=") : unpadded;
        const read = readSeenCursor(before + cursor + behind);
        expect(new Map(read.events)).toEqual(new Map(Object.entries(events)));
        expect(new Map(read.patches)).toEqual(new Map(Object.entries(patches)));
      }),
    );
  });

  it("a cursor with a value that is no unsigned integer counts as empty, whole (D92)", () => {
    const wrong = fc.oneof(
      fc.string(),
      fc.boolean(),
      fc.constant(null),
      fc.integer({ max: -1 }),
      fc.double({ noInteger: true, noNaN: true, noDefaultInfinity: true }),
      fc.array(fc.nat()),
    );
    fc.assert(
      fc.property(seqs, seqs, fc.string(), wrong, fc.boolean(), (events, patches, id, value, isEvent) => {
        const bad = { ...(isEvent ? events : patches), [`x${id}`]: value };
        const json = JSON.stringify(isEvent ? { events: bad, patches } : { events, patches: bad });
        expect(asObjects(readSeenCursor(written(json)))).toEqual(nothing);
      }),
    );
  });

  it("a cursor whose members are no objects counts as empty, whole (D92)", () => {
    const wrong = fc.oneof(fc.string(), fc.boolean(), fc.constant(null), fc.nat(), fc.array(fc.nat()));
    fc.assert(
      fc.property(seqs, wrong, fc.boolean(), (good, bad, isEvent) => {
        const json = JSON.stringify(
          isEvent ? { events: bad, patches: good } : { events: good, patches: bad },
        );
        expect(asObjects(readSeenCursor(written(json)))).toEqual(nothing);
      }),
    );
  });

  it("any text is read without an error; what is no base64url of JSON counts as empty (D92)", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (anything) => {
        expect(asObjects(readSeenCursor(anything))).toEqual(nothing);
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        expect(asObjects(readSeenCursor(base64url(bytes)))).toEqual(nothing);
      }),
    );
    fc.assert(fc.property(fc.jsonValue(), (value) => void readSeenCursor(written(JSON.stringify(value)))));
  });
});
