import { describe, expect, it } from "vitest";
import { addSix, note, openStream, summarise } from "../stream-reader.ts";
import { call, freshId, must, newRun, type RunRoutes } from "../support.ts";

const pathOf = (run: RunRoutes, query = "") => `/context/runs/${run.id}/events/stream${query}`;

/** The blocks that a stream has for a run's events, byte by byte: records are the bytes of the list. */
async function eventBlocks(run: RunRoutes): Promise<string[]> {
  const { text, body } = await call("GET", `/context/runs/${run.id}/events`);
  const records = body.events.map((event) => JSON.stringify(event));
  expect(text).toBe(`{"events":[${records.join(",")}]}`);
  return records.map((record) => `data: {"properties":${record},"type":"run.event"}\n\n`);
}

/** The first block of a run's stream, but for its time. */
function readyBlock(run: RunRoutes): RegExp {
  const members = `"path":"context-runs/${run.id}/events","runID":"${run.id}","status":"ready"`;
  return new RegExp(`^data: {${members},"stream":"context_run_events","timestamp_ms":\\d{13}}\n\n$`);
}

async function runWithSix(): Promise<RunRoutes> {
  const run = await newRun();
  await addSix(run);
  return run;
}

describe("GET /context/runs/{run_id}/events/stream: bytes", () => {
  it("02§7 status and headers", async () => {
    const stream = await openStream(pathOf(await newRun()));
    expect(stream.status).toBe(200);
    expect(stream.headers.get("content-type")).toBe("text/event-stream");
    expect(stream.headers.get("cache-control")).toBe("no-cache");
    expect(stream.headers.get("access-control-allow-origin")).toBe("*");
  });

  it("02§7.1 a ready frame, then each event as the list has it, later ones as they are committed", async () => {
    const run = await runWithSix();
    const stream = await openStream(pathOf(run));
    const ready = (await stream.block()) ?? "";
    expect(ready).toMatch(readyBlock(run));
    const { timestamp_ms } = JSON.parse(ready.slice("data: ".length));
    expect(Math.abs(timestamp_ms - Date.now())).toBeLessThan(10_000);
    expect(await stream.blocks(6)).toEqual(await eventBlocks(run));
    await note(run);
    await summarise(run, "no part of this stream");
    await note(run);
    expect(await stream.blocks(3)).toEqual((await eventBlocks(run)).slice(6));
  });

  it("02§7.1 a run without events: the ready frame alone, until there is one", async () => {
    const run = await newRun();
    const stream = await openStream(pathOf(run));
    expect(await stream.block()).toMatch(readyBlock(run));
    await note(run);
    expect(await stream.blocks(1)).toEqual(await eventBlocks(run));
  });

  const texts = [
    "a\nb",
    "\r\n\r\n",
    "data: x\n\n",
    "\u2028\u2029\u0085\ufeff",
    "漢字 😀 e\u0301",
    '"\\/',
    "\u0000",
  ];
  it("02§7 whatever an event holds, its frame is one line", async () => {
    const run = await newRun();
    const stream = await openStream(pathOf(run));
    await stream.block();
    for (const text of texts) {
      const event = await note(run, { type: text, payload: { [text]: text } });
      const block = (await stream.block()) ?? "";
      expect(block).toMatch(/^data: {[^\n\r]+}\n\n$/);
      expect(JSON.parse(block.slice("data: ".length))).toEqual({ properties: event, type: "run.event" });
    }
  });

  it("02§7 no id:, event: or retry: lines, whatever a reader asks for", async () => {
    const run = await runWithSix();
    const query = "?patches=true&types=x&until=terminal&cursor=4";
    const stream = await openStream(pathOf(run, query), { headers: { "last-event-id": "6" } });
    expect(await stream.block()).toMatch(readyBlock(run));
    expect(await stream.blocks(6)).toEqual(await eventBlocks(run));
    must(await run.post("/events", { type: "note", status: "completed" }));
    await note(run);
    expect(await stream.blocks(2)).toEqual((await eventBlocks(run)).slice(6));
  });

  it("02§1.3 a run id is percent-decoded", async () => {
    const run = await runWithSix();
    const encoded = run.id.replace(/-/g, "%2D");
    const stream = await openStream(`/context/runs/${encoded}/events/stream`);
    expect(await stream.block()).toMatch(readyBlock(run));
  });
});

describe("GET /context/runs/{run_id}/events/stream: where it begins", () => {
  const windows: [string, number[]][] = [
    ["", [1, 2, 3, 4, 5, 6]],
    ["?since_seq=0", [1, 2, 3, 4, 5, 6]],
    ["?since_seq=2", [3, 4, 5, 6]],
    ["?since_seq=5", [6]],
    ["?since_seq=6", []],
    ["?tail=0", []],
    ["?tail=1", [6]],
    ["?tail=4", [3, 4, 5, 6]],
    ["?tail=6", [1, 2, 3, 4, 5, 6]],
    ["?tail=4000000", [1, 2, 3, 4, 5, 6]],
    ["?since_seq=1&tail=2", [5, 6]],
    ["?since_seq=4&tail=5", [5, 6]],
    ["?since_seq=4&tail=0", []],
    ["?since_seq=6&tail=3", []],
    ["?colour=red", [1, 2, 3, 4, 5, 6]],
  ];
  it.each(windows)("02§7.1 %s begins with %j and goes on with 7 and 8", async (query, seqs) => {
    const run = await runWithSix();
    const stream = await openStream(pathOf(run, query));
    await stream.block();
    await note(run);
    await note(run);
    const expected = await eventBlocks(run);
    expect(await stream.blocks(seqs.length + 2)).toEqual([...seqs, 7, 8].map((seq) => expected[seq - 1]));
  });

  it("02§7.1 since_seq beyond the log: nothing before what is newer than that", async () => {
    const run = await newRun();
    await note(run);
    const stream = await openStream(pathOf(run, "?since_seq=3"));
    await stream.block();
    for (let seq = 2; seq <= 5; seq += 1) await note(run);
    expect(await stream.blocks(2)).toEqual((await eventBlocks(run)).slice(3));
  });

  it("02§7.1 D93 tail=0 without since_seq is live only, on an empty log too", async () => {
    const run = await newRun();
    const stream = await openStream(pathOf(run, "?tail=0"));
    await stream.block();
    await note(run);
    expect(await stream.blocks(1)).toEqual(await eventBlocks(run));
  });

  it("02§7.1 D87 what is committed while streams open is in each of them once, in order", async () => {
    const run = await newRun();
    const appending = (async () => {
      for (let n = 0; n < 40; n += 1) await note(run);
    })();
    const reading = Array.from({ length: 8 }, async () => {
      const stream = await openStream(pathOf(run));
      return (await stream.blocks(41)).slice(1);
    });
    await appending;
    const expected = await eventBlocks(run);
    for (const blocks of await Promise.all(reading)) expect(blocks).toEqual(expected);
  });

  it("02§7.1 commands that meet in one flush are streamed one by one", async () => {
    const run = await newRun();
    const stream = await openStream(pathOf(run));
    await stream.block();
    await Promise.all(Array.from({ length: 40 }, () => note(run)));
    expect(await stream.blocks(40)).toEqual(await eventBlocks(run));
  });
});

describe("GET /context/runs/{run_id}/events/stream: refusals", () => {
  const bad = [
    "since_seq=",
    "since_seq",
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
    const answer = await call("GET", pathOf(await newRun(), `?${query}`));
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ code: "QUERY_INVALID", error: expect.stringMatching(/./) });
  });

  it("01§8 D94 404 for an unknown run", async () => {
    for (const query of ["", "?tail=0", "?since_seq=5"]) {
      const answer = await call("GET", `/context/runs/${freshId()}/events/stream${query}`);
      expect(answer.status).toBe(404);
      expect(answer.body).toMatchObject({ code: "RUN_NOT_FOUND", error: expect.stringMatching(/./) });
    }
  });

  it("02§1.3 the query is looked at before the run", async () => {
    const answer = await call("GET", `/context/runs/${freshId()}/events/stream?tail=x`);
    expect(answer.status).toBe(400);
  });

  it("02§1.1 401 without a credential, and with a wrong one", async () => {
    const run = await newRun();
    for (const token of [null, "wrong"]) {
      const answer = await call("GET", pathOf(run), undefined, { "x-agent-token": token });
      expect(answer.status).toBe(401);
      expect(answer.body.code).toBe("AUTH_REQUIRED");
    }
  });

  it.each(["POST", "PUT", "DELETE", "PATCH"])(
    "02§1.3 405 for %s, which says what there is",
    async (method) => {
      const answer = await call(method, pathOf(await newRun()), {});
      expect(answer.status).toBe(405);
      expect(answer.headers.get("allow")?.split(", ").sort()).toEqual(["GET", "HEAD"]);
    },
  );

  it("02§0 no trailing slash", async () => {
    const answer = await call("GET", `/context/runs/${(await newRun()).id}/events/stream/`);
    expect(answer.status).toBe(404);
  });

  it("HEAD has the headers of GET and ends at once", async () => {
    const answer = await call("HEAD", pathOf(await runWithSix()));
    expect(answer.status).toBe(200);
    expect(answer.headers.get("content-type")).toBe("text/event-stream");
    expect(answer.headers.get("cache-control")).toBe("no-cache");
    expect(answer.text).toBe("");
    const unknown = await call("HEAD", `/context/runs/${freshId()}/events/stream`);
    expect(unknown.status).toBe(404);
  });
});
