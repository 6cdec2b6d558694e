import { describe, expect, it } from "vitest";
import { checkSameOrder, checkTold } from "../../bench/torture/observers/followed.ts";
import { type RunLog, type Told, toLogRecord, toldIn } from "../../bench/torture/observers/records.ts";

const event = (run_id: string, seq: number, text = "ok") => ({
  run_id,
  seq,
  ts_ms: seq,
  type: "note",
  payload: text,
});
const patch = (run_id: string, seq: number) => ({
  run_id,
  seq,
  ts_ms: seq,
  source_event_seq: seq,
  op: "add_fact",
});

/** A run of four events, of which the second and the fourth came with patches. */
function log(run_id: string): RunLog {
  return {
    run_id,
    events: [1, 2, 3, 4].map((seq) => toLogRecord(event(run_id, seq))),
    patches: [2, 4].map((seq) => toLogRecord(patch(run_id, seq))),
  };
}

/** What a reader of it is told: `e` and `p` with the seq, `r`, or another run's name before them. */
function told(...frames: string[]): Told[] {
  return frames.map((frame) => {
    const [, run_id = "", kind, seq] = /^([a-z]*?)([ep])(\d+)$/.exec(frame.replace(/^(?=[ep]\d)/, "r")) ?? [];
    const isEvent = kind === "e";
    const record = toLogRecord(isEvent ? event(run_id, Number(seq)) : patch(run_id, Number(seq)));
    return { run_id, kind: isEvent ? "event" : "patch", record };
  });
}

const all = ["e1", "e2", "p2", "e3", "e4", "p4"];
const rules = (violations: readonly { rule: string }[]) => violations.map(({ rule }) => rule);

describe("streams.md: a reader gets every event and patch exactly once, in the order of the log", () => {
  it.each([
    ["all of it", all, []],
    ["nothing", [], ["lost", "lost"]],
    ["a gap", ["e1", "e2", "p2", "e4", "p4"], ["lost"]],
    ["the end missing", ["e1", "e2", "p2", "e3"], ["lost", "lost"]],
    ["a patch missing", ["e1", "e2", "e3", "e4", "p4"], ["lost"]],
    ["an event again", ["e1", "e2", "p2", "e2", "e3", "e4", "p4"], ["repeated"]],
    ["a patch again", [...all, "p2"], ["repeated"]],
    ["events the wrong way round", ["e1", "e3", "e2", "p2", "e4", "p4"], ["out_of_order"]],
    ["a patch before its event", ["e1", "p2", "e2", "e3", "e4", "p4"], ["patch_before_event"]],
    ["an event that is not in the log", [...all, "e5"], ["foreign"]],
    ["an event of an unknown run", [...all, "xe1"], ["foreign"]],
  ])("%s", (_, frames, expected) => {
    expect(rules(checkTold([log("r")], told(...frames)))).toEqual(expected);
  });

  it("an event with other content", () => {
    const frames = told(...all);
    const changed = { ...frames[3], record: toLogRecord(event("r", 3, "other")) } as Told;
    expect(rules(checkTold([log("r")], frames.with(3, changed)))).toEqual(["changed"]);
  });

  it("of a stream that ended with the run, what came after the end may be missing, but nothing before", () => {
    const ends = new Map([["r", 3]]);
    expect(rules(checkTold([log("r")], told("e1", "e2", "p2", "e3"), ends))).toEqual([]);
    expect(rules(checkTold([log("r")], told("e1", "e2", "p2"), ends))).toEqual(["lost"]);
    expect(rules(checkTold([log("r")], told("e1", "e2", "p2", "e4"), ends))).toEqual(["lost"]);
  });

  it("of many runs, each has its own order", () => {
    const frames = told("se1", "re1", "se2", "re2", "sp2", "rp2", "re3", "re4", "rp4", "se3", "se4", "sp4");
    expect(rules(checkTold([log("r"), log("s")], frames))).toEqual([]);
    expect(checkTold([log("r"), log("s")], frames.slice(0, -2))).toMatchObject([
      { rule: "lost", run_id: "s", seq: 4 },
      { rule: "lost", run_id: "s", seq: 4 },
    ]);
  });
});

describe("streams.md: many runs come in one order that is the same for everybody", () => {
  it("two readers of the same", () => {
    expect(checkSameOrder(told("re1", "se1", "re2"), told("re1", "se1", "re2"))).toEqual([]);
  });

  it("two readers who saw two runs the other way round", () => {
    expect(rules(checkSameOrder(told("re1", "se1"), told("se1", "re1")))).toEqual(["orders_differ"]);
  });

  it("what one of them has lost is another rule's affair", () => {
    expect(checkSameOrder(told("re1", "se1", "re2"), told("re1", "re2"))).toEqual([]);
  });
});

it("streams.md: frames of one run, of many runs, and those that tell nothing", () => {
  const record = event("r", 1);
  expect(toldIn({ type: "run.event", properties: record, cursor: "1" })).toMatchObject(told("e1")[0] ?? {});
  const many = { kind: "blackboard_patch", run_id: "r", seq: 2, payload: patch("r", 2) };
  expect(toldIn(many)).toMatchObject(told("p2")[0] ?? {});
  for (const frame of [
    { kind: "ready" },
    { type: "end", reason: "terminal" },
    { type: "keep_alive" },
    null,
    7,
  ]) {
    expect(toldIn(frame)).toBeNull();
  }
});
