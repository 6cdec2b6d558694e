import { beforeAll, describe, expect, it } from "vitest";
import {
  type EventRecord,
  eventsOf,
  freshId,
  must,
  newRun,
  type Patch,
  patchesOf,
  routes,
} from "../support.ts";

const run = await newRun();
let events: EventRecord[] = [];
let patches: Patch[] = [];

/** A read-only run shared by the tests of this file: events 1 to 6, patches at 2, 4 and 6. */
beforeAll(async () => {
  for (const n of [1, 2, 3]) {
    must(await run.post("/events", { type: `note-${n}`, status: "running" }));
    must(await run.post("/blackboard/patches", { op: "set_rolling_summary", payload: `${n}` }));
  }
  events = await eventsOf(run);
  patches = await patchesOf(run);
});

const windows: [string, number[]][] = [
  ["", [1, 2, 3, 4, 5, 6]],
  ["?since_seq=0", [1, 2, 3, 4, 5, 6]],
  ["?since_seq=2", [3, 4, 5, 6]],
  ["?since_seq=6", []],
  ["?since_seq=4000000", []],
  ["?tail=0", []],
  ["?tail=1", [6]],
  ["?tail=4", [3, 4, 5, 6]],
  ["?tail=4000000", [1, 2, 3, 4, 5, 6]],
  ["?since_seq=1&tail=2", [5, 6]],
  ["?since_seq=4&tail=5", [5, 6]],
  ["?colour=red", [1, 2, 3, 4, 5, 6]],
];

describe("GET …/events and GET …/blackboard/patches", () => {
  it.each(windows)("02§3.1 events%s are %j", async (query, seqs) => {
    const body = must(await run.get(`/events${query}`));
    expect(Object.keys(body)).toEqual(["events"]);
    expect(body.events).toEqual(seqs.map((seq) => events[seq - 1]));
  });

  it.each(windows)("02§5.2 patches%s are those of %j", async (query, seqs) => {
    const body = must(await run.get(`/blackboard/patches${query}`));
    expect(Object.keys(body)).toEqual(["patches"]);
    const inWindow = patches.filter((patch) => seqs.includes(patch.seq));
    const tail = Number(new URLSearchParams(query).get("tail") ?? 9);
    const since = Number(new URLSearchParams(query).get("since_seq") ?? 0);
    const wanted = patches.filter((patch) => patch.seq > since);
    expect(body.patches).toEqual(tail === 0 ? [] : wanted.slice(-tail));
    expect(body.patches).toEqual(expect.arrayContaining(inWindow));
  });

  const bad = [
    "since_seq=",
    "since_seq=x",
    "since_seq=-1",
    "since_seq=1.5",
    "since_seq=1&since_seq=1",
    "tail=",
    "tail=-1",
    "tail=x",
    "tail=1&tail=2",
    "tail=true",
  ];
  it.each(bad)("02§1.3 400 for the query %s", async (query) => {
    for (const path of ["/events", "/blackboard/patches"]) {
      const answer = await run.get(`${path}?${query}`);
      expect(answer.status, path).toBe(400);
      expect(answer.body.code, path).toBe("QUERY_INVALID");
    }
  });

  it("01§8 a run without events answers empty lists, an unknown run 404", async () => {
    const empty = await newRun();
    expect(must(await empty.get("/events"))).toEqual({ events: [] });
    expect(must(await empty.get("/blackboard/patches"))).toEqual({ patches: [] });
    const unknown = routes(freshId());
    for (const path of ["/events", "/blackboard/patches", "/blackboard", "/checkpoints/latest", "/replay"]) {
      const answer = await unknown.get(path);
      expect(answer.status, path).toBe(404);
      expect(answer.body.code, path).toBe("RUN_NOT_FOUND");
    }
  });

  it("I17 records never change once written", async () => {
    must(await run.get("/events"));
    expect((await eventsOf(run)).slice(0, 6)).toEqual(events);
    expect((await patchesOf(run)).slice(0, 3)).toEqual(patches);
  });
});
