import { describe, expect, it } from "vitest";
import { addSix, note, summarise } from "../stream-reader.ts";
import { call, freshId, must, newRun, type RunRoutes, routes } from "../support.ts";
import { good, newNativeRun, problem } from "./support.ts";

const doors = ["/context", "/v1"] as const;

/** Longer than a test may take: whoever is answered did not wait for the end of it. */
const LONG_MS = 55_000;

const seqsOf = (events: { seq: number }[]) => events.map(({ seq }) => seq);

const poll = (run: RunRoutes, door: (typeof doors)[number], query: string) =>
  routes(run.id, door).get(`/events?${query}`);

describe.each(doors)("GET %s/runs/{run_id}/events?wait_ms=", (door) => {
  const there: [string, number[]][] = [
    ["", [1, 2, 3, 4, 5, 6]],
    ["&since_seq=0", [1, 2, 3, 4, 5, 6]],
    ["&since_seq=4", [5, 6]],
    ["&since_seq=5", [6]],
    ["&since_seq=2&tail=2", [5, 6]],
  ];
  it.each(there)(`what is there is answered at once: %s has %j`, async (query, seqs) => {
    const run = await newRun();
    await addSix(run);
    const { events } = must(await poll(run, door, `wait_ms=${LONG_MS}${query}`));
    expect(seqsOf(events)).toEqual(seqs);
  });

  it("what is committed meanwhile is answered, to everybody who waits", async () => {
    const run = await newRun();
    await note(run);
    const waiting = Array.from({ length: 10 }, () => poll(run, door, `since_seq=1&wait_ms=${LONG_MS}`));
    for (let n = 0; n < 10; n += 1) must(await run.get());
    const event = await note(run, { type: "news" });
    for (const answer of await Promise.all(waiting)) expect(must(answer).events).toEqual([event]);
  });

  it("the first event of a run is waited for", async () => {
    const run = await newRun();
    const waiting = poll(run, door, `wait_ms=${LONG_MS}`);
    must(await run.get());
    const event = await note(run);
    expect(must(await waiting).events).toEqual([event]);
  });

  it("a reader that goes on where it was loses nothing and gets nothing twice", async () => {
    const run = await newRun();
    const seen: number[] = [];
    const reading = (async () => {
      while (seen.length < 30) {
        const { events } = must(await poll(run, door, `since_seq=${seen.at(-1) ?? 0}&wait_ms=${LONG_MS}`));
        seen.push(...seqsOf(events));
      }
    })();
    for (let n = 0; n < 15; n += 1) await note(run);
    await Promise.all(Array.from({ length: 15 }, () => note(run)));
    await reading;
    expect(seen).toEqual(Array.from({ length: 30 }, (_, n) => n + 1));
  });

  it.each(["since_seq=1", "since_seq=5", "since_seq=4000000"])(
    "nothing comes: the answer to %s is empty when the time is over",
    async (query) => {
      const run = await newRun();
      await note(run);
      const startedAtMs = Date.now();
      const { events } = must(await poll(run, door, `${query}&wait_ms=300`));
      expect(events).toEqual([]);
      expect(Date.now() - startedAtMs).toBeGreaterThanOrEqual(290);
      expect(Date.now() - startedAtMs).toBeLessThan(10_000);
    },
  );

  it("wait_ms=0 does not wait", async () => {
    expect(must(await poll(await newRun(), door, "wait_ms=0")).events).toEqual([]);
  });

  it.each(["wait_ms=55001", "wait_ms=", "wait_ms=x", "wait_ms=-1", "wait_ms=1.5", "wait_ms=1&wait_ms=1"])(
    "400 for %s",
    async (query) => {
      const answer = await poll(await newRun(), door, query);
      expect([answer.status, answer.body.code]).toEqual([400, "QUERY_INVALID"]);
      expect(answer.body.issues[0]?.field).toBe("wait_ms");
    },
  );

  it("404 for an unknown run, at once", async () => {
    for (const sub of ["/events", "/blackboard/patches"]) {
      const answer = await call("GET", `${door}/runs/${freshId()}${sub}?wait_ms=${LONG_MS}`);
      expect([answer.status, answer.body.code]).toEqual([404, "RUN_NOT_FOUND"]);
    }
  });

  it("patches are waited for alike", async () => {
    const run = await newRun();
    await summarise(run, "1");
    const at = routes(run.id, door);
    expect(must(await at.get(`/blackboard/patches?wait_ms=${LONG_MS}`)).patches).toHaveLength(1);
    const waiting = at.get(`/blackboard/patches?since_seq=1&wait_ms=${LONG_MS}`);
    must(await at.get());
    const patch = await summarise(run, "2");
    expect(must(await waiting).patches).toEqual([patch]);
  });
});

describe("GET /v1/runs/{run_id}/events?wait_ms=", () => {
  it("v1 names the limit", async () => {
    const run = await newNativeRun();
    const { issues } = problem(await run.get("/events?wait_ms=55001"), 400, "QUERY_INVALID");
    expect(issues).toEqual([
      { field: "wait_ms", rule: "max", limit: 55_000, message: expect.stringContaining("55000") },
    ]);
  });

  it("v1 pages and waiting go together: the cursor of a page is where to wait", async () => {
    const run = await newNativeRun();
    await addSix(run);
    const first = good(await run.get(`/events?limit=5&wait_ms=${LONG_MS}`));
    expect(seqsOf(first.events)).toEqual([1, 2, 3, 4, 5]);
    const second = good(await call("GET", first.next ?? ""));
    expect([seqsOf(second.events), second.next]).toEqual([[6], null]);
  });
});
