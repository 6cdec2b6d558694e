import { createHmac } from "node:crypto";
import { describe, expect, it } from "vitest";
import { createRng } from "../../bench/drill/rng.ts";
import { type Arrival, checkDeliveries } from "../../bench/torture/observers/deliveries.ts";
import { checkDirectoryRows } from "../../bench/torture/observers/directory-rows.ts";
import type { Disturbances } from "../../bench/torture/observers/observer.ts";
import { drawFate, readArrival } from "../../bench/torture/observers/receiver.ts";
import { type RunLog, toLogRecord } from "../../bench/torture/observers/records.ts";

const event = (seq: number, type = "note") => ({ run_id: "r", seq, ts_ms: 1_000 + seq, type });
/** Four events; of the third no subscription wants to hear. */
const log: RunLog = {
  run_id: "r",
  events: [event(1), event(2), event(3, "noise"), event(4)].map(toLogRecord),
  patches: [],
};

/** An arrival of an event at a moment, taken at once. */
const came = (seq: number, atMs: number, more: Partial<Arrival> = {}): Arrival => ({
  atMs,
  messageId: `msg_${seq}`,
  body: `body ${seq}`,
  run_id: "r",
  seq,
  text: toLogRecord(event(seq)).text,
  signed: true,
  takenMs: atMs,
  isUnsure: false,
  ...more,
});
const refused = (seq: number, atMs: number) => came(seq, atMs, { takenMs: undefined });

function rules(
  arrivals: Arrival[],
  more: { sinceMs?: number; outages?: Disturbances["outages"] } = {},
): string[] {
  const options = { wanted: (type: string) => type === "note", sinceMs: 0, outages: [], ...more };
  return checkDeliveries([log], arrivals, options).map(({ rule }) => rule);
}

describe("webhooks-out.md: at least once, under one id, in order per run", () => {
  it.each<[string, Arrival[], string[]]>([
    ["each once", [came(1, 10), came(2, 20), came(4, 40)], []],
    ["one refused, and sent again", [came(1, 10), refused(2, 20), came(2, 25), came(4, 40)], []],
    ["one lost", [came(1, 10), came(2, 20)], ["lost"]],
    ["one refused, and never sent again", [came(1, 10), came(2, 20), refused(4, 40)], ["lost"]],
    ["one skipped", [came(1, 10), came(4, 40)], ["skipped", "lost"]],
    [
      "one sent before the one before was taken",
      [came(1, 10), refused(2, 20), came(4, 40), came(2, 50)],
      ["skipped", "out_of_order"],
    ],
    ["the wrong way round", [came(2, 10), came(1, 20), came(4, 40)], ["skipped", "out_of_order"]],
    [
      "one that was not wanted",
      [came(1, 10), came(2, 20), came(3, 30, { text: toLogRecord(event(3, "noise")).text }), came(4, 40)],
      ["foreign"],
    ],
    [
      "one of another run",
      [came(1, 10), came(2, 20), came(4, 40), came(1, 50, { run_id: "x", messageId: "msg_x" })],
      ["foreign"],
    ],
    ["other content than the log's", [came(1, 10), came(2, 20, { text: "{}" }), came(4, 40)], ["changed"]],
    [
      "another body under the same id",
      [came(1, 10), refused(2, 20), came(2, 25, { body: "other" }), came(4, 40)],
      ["changed"],
    ],
    [
      "the same event under another id",
      [came(1, 10), refused(2, 20), came(2, 25, { messageId: "msg_9" }), came(4, 40)],
      ["other_id"],
    ],
    ["one that is not signed", [came(1, 10), came(2, 20, { signed: false }), came(4, 40)], ["unsigned"]],
    [
      "one that comes again though it was taken",
      [came(1, 10), came(2, 20), came(2, 25), came(4, 40)],
      ["repeated"],
    ],
    [
      "one that comes again because the answer broke off",
      [came(1, 10), came(2, 20, { isUnsure: true }), came(2, 25), came(4, 40)],
      [],
    ],
  ])("%s", (_, arrivals, expected) => expect(rules(arrivals)).toEqual(expected));

  it("what was taken comes again after a crash, and only around one", () => {
    const arrivals = [came(1, 10_000), came(2, 20_000), came(2, 25_000), came(4, 40_000)];
    const found = (fromMs: number, untilMs: number) => rules(arrivals, { outages: [{ fromMs, untilMs }] });
    expect(found(21_000, 24_000)).toEqual([]);
    // It was dying, and had not died.
    expect(found(19_000, 24_000)).toEqual([]);
    expect(found(17_000, 19_000)).toEqual(["repeated"]);
    // It had time enough to note it.
    expect(found(23_000, 24_000)).toEqual(["repeated"]);
    expect(found(26_000, 27_000)).toEqual(["repeated"]);
  });

  it("what is older than the subscription need not come", () => {
    expect(rules([came(2, 20), came(4, 40)], { sinceMs: 1_002 })).toEqual([]);
  });
});

describe("the receiver", () => {
  const secret = `whsec_${Buffer.from("0123456789abcdef01234567").toString("base64")}`;
  const body = JSON.stringify({ type: "note", data: { run_id: "r", seq: 7, event: { seq: 7 } } });
  const sign = (text: string) =>
    `v1,${createHmac("sha256", "0123456789abcdef01234567").update(`msg_1.5.${text}`).digest("base64")}`;
  const headers = { "webhook-id": "msg_1", "webhook-timestamp": "5" };

  it("reads a delivery, and whether it is signed by the book", () => {
    const good = { ...headers, "webhook-signature": `v1,AAAA ${sign(body)}` };
    expect(readArrival(good, body, secret)).toEqual({
      messageId: "msg_1",
      body,
      run_id: "r",
      seq: 7,
      text: '{"seq":7}',
      signed: true,
    });
    expect(readArrival({ ...headers, "webhook-signature": sign("other") }, body, secret).signed).toBe(false);
    expect(readArrival({}, "no JSON", secret)).toMatchObject({ run_id: "", seq: 0, signed: false });
  });

  it("draws the same fates from the same seed, most of them good and each of them sometimes", () => {
    const draw = () => {
      const rng = createRng(5, 1);
      return Array.from({ length: 20_000 }, () => drawFate(rng));
    };
    const fates = draw();
    expect(draw()).toEqual(fates);
    const seen = new Set(fates);
    expect([...seen].sort()).toEqual([
      "busy",
      "die",
      "hang_up",
      "refuse",
      "slow",
      "take",
      "take_and_hang_up",
    ]);
    expect(fates.filter((fate) => fate === "take").length).toBeGreaterThan(18_000);
  });
});

describe("architecture.md: the directory has one row per run, which follows the run", () => {
  const run = { run_id: "r", status: "running", revision: 3, last_event_seq: 2, task_counts: { total: 1 } };
  const rules = (rows: unknown[], runs: [string, typeof run | undefined][]) =>
    checkDirectoryRows(rows, new Map(runs)).map(({ rule }) => rule);

  it("the row of the run", () => expect(rules([run], [["r", run]])).toEqual([]));
  it("no row", () => expect(rules([], [["r", run]])).toEqual(["missing"]));
  it("no run", () => expect(rules([run], [["r", undefined]])).toEqual(["lost"]));
  it("a row too many", () => expect(rules([run, run], [["r", run]])).toEqual(["listed_twice"]));
  it("a row of nobody's run", () => expect(rules([run, { run_id: "x" }], [["r", run]])).toEqual(["foreign"]));
  it("a row that is behind", () => {
    const behind = { ...run, last_event_seq: 1, task_counts: { total: 0 } };
    expect(rules([behind], [["r", run]])).toEqual(["differs", "differs"]);
  });
});
