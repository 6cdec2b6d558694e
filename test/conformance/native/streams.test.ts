import { describe, expect, it } from "vitest";
import {
  addSix,
  type EventStream,
  type Frame,
  newRunAt,
  note,
  openStream,
  type StreamOptions,
  summarise,
} from "../stream-reader.ts";
import {
  addTasks,
  arrange,
  call,
  eventsOf,
  freshId,
  patchesOf,
  type RunRoutes,
  routes,
  TERMINAL,
} from "../support.ts";
import { newNativeRun } from "./support.ts";

const freshPath = () => `/srv/${freshId()}`;

const openRun = (run: RunRoutes, query = "", options: StreamOptions = {}) =>
  openStream(`/v1/runs/${run.id}/events/stream${query}`, options);

const openFeed = (params: Record<string, string>, options: StreamOptions = {}) =>
  openStream(`/v1/events/stream?${new URLSearchParams(params)}`, options);

const behind = (cursor: string | undefined): StreamOptions => ({
  headers: { "last-event-id": cursor ?? null },
});

async function runWithSix(): Promise<RunRoutes> {
  const run = await newNativeRun();
  await addSix(run);
  return run;
}

/** The JSON of a frame without the reader's cursor, and without the time it was made at. */
function content({ json }: Frame): Record<string, unknown> {
  const { cursor, timestamp_ms, ...others } = json;
  return others;
}

/** What a run's stream has for its log: of each commit the event, then the patch. */
async function runContent(run: RunRoutes): Promise<Record<string, unknown>[]> {
  const patches = new Map((await patchesOf(run)).map((patch) => [patch.seq, patch]));
  return (await eventsOf(run)).flatMap((event) => {
    const patch = patches.get(event.seq);
    const frames = [{ type: "run.event", properties: event }];
    return patch === undefined ? frames : [...frames, { type: "run.patch", properties: patch }];
  });
}

/** Proves that a stream has nothing before what is committed next. */
async function nothingBefore(stream: EventStream, run: RunRoutes): Promise<void> {
  const event = await note(run, { type: "marker" });
  const { json } = await stream.frame();
  expect(json.properties ?? json.payload).toEqual(event);
}

describe("GET /v1/runs/{run_id}/events/stream", () => {
  it("v1 bytes: retry first, then frames with an id that is their cursor", async () => {
    const run = await newNativeRun();
    await note(run);
    const stream = await openRun(run);
    expect(stream.status).toBe(200);
    expect(stream.headers.get("content-type")).toBe("text/event-stream");
    expect(stream.headers.get("cache-control")).toBe("no-cache");
    const members = `"path":"context-runs/${run.id}/events","runID":"${run.id}","status":"ready"`;
    const ready = `{${members},"stream":"context_run_events","timestamp_ms":\\d{13},"cursor":"0"}`;
    expect(await stream.block()).toMatch(new RegExp(`^retry: 1000\nid: 0\ndata: ${ready}\n\n$`));
    await note(run);
    const events = await eventsOf(run);
    for (const event of events) {
      const json = `{"properties":${JSON.stringify(event)},"type":"run.event","cursor":"${event.seq}"}`;
      expect(await stream.block()).toBe(`id: ${event.seq}\ndata: ${json}\n\n`);
    }
  });

  it("v1 patches=true: each commit's patch follows its event, from the log and live", async () => {
    const run = await runWithSix();
    const stream = await openRun(run, "?patches=true");
    await stream.block();
    await addTasks(run, { id: "a" }, { id: "b" });
    const frames = await stream.frames(9 + 4);
    expect(frames.map(content)).toEqual(await runContent(run));
    expect(frames.at(2)?.text).toMatch(/^{"properties":{"patch_id":.*},"type":"run.patch","cursor":"2"}$/);
    expect(new Set(frames.map(({ id }) => id)).size).toBe(frames.length);
    for (const { id, json } of frames) expect(json.cursor).toBe(id);
  });

  it("v1 patches=false, and without: events alone", async () => {
    for (const query of ["", "?patches=false"]) {
      const run = await runWithSix();
      const stream = await openRun(run, query);
      await stream.block();
      expect((await stream.frames(6)).map(({ json }) => json.type)).toEqual(Array(6).fill("run.event"));
      await summarise(run, "live");
      expect((await stream.frame()).json.properties.seq).toBe(7);
      await nothingBefore(stream, run);
    }
  });

  const windows: [string, number[]][] = [
    ["?since_seq=0", [1, 2, 3, 4, 5, 6]],
    ["?since_seq=4", [5, 6]],
    ["?since_seq=6", []],
    ["?tail=0", []],
    ["?tail=2", [5, 6]],
    ["?tail=2000", [1, 2, 3, 4, 5, 6]],
    ["?since_seq=5&tail=3", [6]],
    ["?since_seq=1&tail=3", [4, 5, 6]],
    ["?cursor=4", [5, 6]],
    ["?cursor=6", []],
    ["?cursor=0", [1, 2, 3, 4, 5, 6]],
    ["?cursor=5&since_seq=1&tail=6", [6]],
    ["?types=marker,note-1,note-3", [1, 5]],
    ["?types=marker,%20note-2%20,,note-2", [3]],
    ["?types=", [1, 2, 3, 4, 5, 6]],
    ["?types=marker,context.blackboard.patched&since_seq=2", [4, 6]],
    ["?types=marker,unheard-of", []],
    ["?types=%20,", [1, 2, 3, 4, 5, 6]],
    ["?types=marker,note-1&tail=3", []],
    ["?colour=red&tail=1", [6]],
  ];
  it.each(windows)("v1 %s begins with %j and goes on with 7", async (query, seqs) => {
    const run = await runWithSix();
    const stream = await openRun(run, query);
    await stream.block();
    expect((await stream.frames(seqs.length)).map(({ json }) => json.properties.seq)).toEqual(seqs);
    await nothingBefore(stream, run);
  });

  it("v1 types: patches are not of a type", async () => {
    const run = await runWithSix();
    const stream = await openRun(run, "?types=note-2&patches=true");
    await stream.block();
    const frames = await stream.frames(4);
    expect(frames.map(({ json }) => [json.type, json.properties.seq])).toEqual([
      ["run.patch", 2],
      ["run.event", 3],
      ["run.patch", 4],
      ["run.patch", 6],
    ]);
  });

  it("v1 every frame's cursor goes on right behind it, as Last-Event-ID and as cursor", async () => {
    const run = await runWithSix();
    await addTasks(run, { id: "a" }, { id: "b" }, { id: "c" });
    const whole = await openRun(run, "?patches=true");
    const frames = [await whole.frame(), ...(await whole.frames(15))];
    for (const [index, { id }] of frames.entries()) {
      const wanted = frames.slice(index + 1).map(({ text }) => text);
      for (const stream of [
        await openRun(run, "?patches=true", behind(id)),
        await openRun(run, `?patches=true&cursor=${id}`),
        await openRun(run, "?patches=true&cursor=1&since_seq=2&tail=1", behind(id)),
      ]) {
        const ready = await stream.frame();
        expect([ready.id, ready.json.cursor, ready.json.status]).toEqual([id, id, "ready"]);
        expect((await stream.frames(wanted.length)).map(({ text }) => text)).toEqual(wanted);
      }
    }
    const last = await openRun(run, "?patches=true", behind(frames.at(-1)?.id));
    await last.frame();
    await nothingBefore(last, run);
  });

  it("v1 a cursor between an event and its patch holds without patches too", async () => {
    const run = await runWithSix();
    const stream = await openRun(run, "", behind("4e"));
    expect((await stream.frame()).id).toBe("4e");
    expect((await stream.frames(2)).map(({ json }) => json.properties.seq)).toEqual([5, 6]);
  });

  it("v1 an empty Last-Event-ID is none", async () => {
    const stream = await openRun(await runWithSix(), "?cursor=5", { headers: { "last-event-id": "" } });
    expect((await stream.frame()).id).toBe("5");
  });
});

describe("GET /v1/runs/{run_id}/events/stream?until=terminal", () => {
  it.each(TERMINAL)("v1 ends behind the event that made the run %s", async (status) => {
    const run = await newNativeRun();
    const stream = await openRun(run, "?until=terminal");
    await stream.block();
    await note(run);
    expect((await stream.frame()).json.properties.seq).toBe(1);
    await note(run, { status });
    expect((await stream.frame()).json.properties).toMatchObject({ seq: 2, run_status: status });
    const end = `{"type":"end","reason":"terminal","status":"${status}","cursor":"2"}`;
    expect(await stream.block()).toBe(`event: end\nid: 2\ndata: ${end}\n\n`);
    expect(await stream.block()).toBeNull();
  });

  it.each(TERMINAL)("v1 a run that is %s already: what the reader lacks, and the end", async (status) => {
    const run = await runWithSix();
    await note(run, { status });
    const lacks: [string, number[]][] = [
      ["", [1, 2, 3, 4, 5, 6, 7]],
      ["&since_seq=5", [6, 7]],
      ["&since_seq=7", []],
      ["&tail=0", []],
      ["&tail=1", [7]],
      ["&cursor=6", [7]],
      ["&cursor=7", []],
      ["&types=note-1", [1]],
      ["&types=unheard-of", []],
    ];
    for (const [query, seqs] of lacks) {
      const stream = await openRun(run, `?until=terminal${query}`);
      expect((await stream.frame()).json.status).toBe("ready");
      const frames = await stream.rest();
      const end = frames.pop();
      expect(
        frames.map(({ json }) => json.properties.seq),
        query,
      ).toEqual(seqs);
      expect(end, query).toMatchObject({ event: "end", id: "7", json: { reason: "terminal", status } });
    }
  });

  it("v1 a run that is replaced by one that has ended has ended", async () => {
    const run = await runWithSix();
    const stream = await openRun(run, "?until=terminal&tail=0");
    await stream.block();
    await arrange(run, { status: "cancelled" });
    const [replaced, end] = await stream.rest();
    expect(replaced?.json.properties).toMatchObject({ seq: 7, type: "context.run.replaced" });
    expect(end).toMatchObject({ event: "end", id: "7", json: { status: "cancelled" } });
  });

  it("v1 the last commit's patch comes before the end", async () => {
    const run = await newNativeRun();
    await summarise(run, "last");
    await note(run, { status: "completed" });
    await summarise(run, "after the end");
    const stream = await openRun(run, "?until=terminal&patches=true");
    const frames = await stream.rest();
    expect(frames.slice(1, -1).map(content)).toEqual(await runContent(run));
    expect(frames.at(-1)).toMatchObject({ event: "end", id: "3" });
  });

  it("v1 204 when a reader comes back to the end, and stops EventSource", async () => {
    const run = await runWithSix();
    await note(run, { status: "completed" });
    const path = `/v1/runs/${run.id}/events/stream?until=terminal`;
    const end = (await (await openStream(path)).rest()).at(-1);
    for (const query of ["", "&patches=true", "&types=note-1", "&cursor=2"]) {
      const answer = await call("GET", path + query, undefined, { "last-event-id": end?.id ?? null });
      expect([answer.status, answer.text], query).toEqual([204, ""]);
    }
    const late = await openStream(path, behind("6"));
    expect((await late.rest()).map(({ event }) => event)).toEqual([undefined, undefined, "end"]);
  });

  it("v1 a run that goes on after its end is followed on; without until=terminal nothing ends", async () => {
    const run = await newNativeRun();
    const stream = await openRun(run);
    await stream.block();
    await note(run, { status: "completed" });
    await note(run);
    expect((await stream.frames(2)).map(({ event, id }) => [event, id])).toEqual([
      [undefined, "1"],
      [undefined, "2"],
    ]);
    const resumed = await openRun(run, "", behind("2"));
    expect(resumed.status).toBe(200);
    await resumed.frame();
    await nothingBefore(resumed, run);
  });
});

describe("GET /v1/events/stream", () => {
  it("v1 bytes: retry, a ready frame with a cursor, envelopes with an id that is their cursor", async () => {
    const path = freshPath();
    const run = await newRunAt(path, "/v1");
    await note(run);
    const stream = await openFeed({ workspace: path });
    const ready = `{"kind":"ready","subscribed_run_ids":\\["${run.id}"\\],"timestamp_ms":\\d{13},"workspace":"${path}"`;
    expect(await stream.block()).toMatch(
      new RegExp(`^retry: 1000\nid: ([^\n]+)\ndata: ${ready},"cursor":"\\1"}\n\n$`),
    );
    await note(run);
    for (const event of await eventsOf(run)) {
      const { seq, ts_ms } = event;
      const head = `"kind":"context_run_event","run_id":"${run.id}","workspace":"${path}","seq":${seq},"ts_ms":${ts_ms}`;
      const tenant = `{"org_id":"local","workspace_id":"local","source":"local_implicit"}`;
      const block = (await stream.block()) ?? "";
      const id = /^id: ([^\n]+)\n/.exec(block)?.[1];
      expect(block).toBe(
        `id: ${id}\ndata: {${head},"payload":${JSON.stringify(event)},"tenantContext":${tenant},"cursor":"${id}"}\n\n`,
      );
    }
  });

  it("v1 every cursor of the backlog goes on right behind it", async () => {
    const path = freshPath();
    const runs = [await newRunAt(path), await newRunAt(path)];
    await Promise.all(runs.map(addSix));
    const whole = await openFeed({ workspace: path });
    const frames = await whole.frames(1 + 18);
    for (const run of runs) await note(run);
    const live = (await whole.frames(2)).map(({ text }) => text);
    for (const [index, { id }] of frames.entries()) {
      const wanted = [...frames.slice(index + 1).map(({ text }) => text), ...live];
      for (const stream of [
        await openFeed({ workspace: path }, behind(id)),
        await openFeed({ workspace: path, cursor: id ?? "" }),
      ]) {
        expect((await stream.frame()).id).toBe(id);
        expect((await stream.frames(wanted.length)).map(({ text }) => text)).toEqual(wanted);
      }
    }
  });

  it("v1 every cursor of what came live goes on right behind it", async () => {
    const path = freshPath();
    const runs = [await newRunAt(path), await newRunAt(path), await newRunAt(path)];
    const whole = await openFeed({ workspace: path });
    const ready = await whole.frame();
    await Promise.all(
      runs.map(async (run) => {
        await addTasks(run, ...["a", "b", "c", "d"].map((id) => ({ id })));
        await note(run);
        await summarise(run, "x");
      }),
    );
    const frames = [ready, ...(await whole.frames(3 * (8 + 1 + 2)))];
    expect(new Set(frames.map(({ id }) => id)).size).toBe(frames.length);
    for (const [index, { id }] of frames.entries()) {
      const wanted = frames.slice(index + 1).map(content);
      const stream = await openFeed({ workspace: path }, behind(id));
      expect((await stream.frame()).id).toBe(id);
      expect((await stream.frames(wanted.length)).map(content)).toEqual(wanted);
    }
    const last = await openFeed({ workspace: path }, behind(frames.at(-1)?.id));
    await last.frame();
    for (const run of runs) await nothingBefore(last, run);
  });

  it("v1 tail, types and patches=false hold in the backlog and live, and across a resumption", async () => {
    const path = freshPath();
    const run = await newRunAt(path);
    await addSix(run);
    const views: [Record<string, string>, string[]][] = [
      [{ tail: "0" }, ["e7", "e8", "p8"]],
      [{ tail: "1" }, ["e6", "p6", "e7", "e8", "p8"]],
      [{ patches: "false" }, ["e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8"]],
      [{ patches: "false", tail: "2" }, ["e5", "e6", "e7", "e8"]],
      [{ types: "note-2,note" }, ["p2", "e3", "p4", "p6", "e7", "p8"]],
      [{ types: "note-2 , note", patches: "false" }, ["e3", "e7"]],
    ];
    const streams = await Promise.all(views.map(([params]) => openFeed({ workspace: path, ...params })));
    for (const stream of streams) await stream.block();
    await note(run);
    await summarise(run, "live");
    for (const [index, [params, expected]] of views.entries()) {
      const name = ({ json }: Frame) => `${json.kind === "blackboard_patch" ? "p" : "e"}${json.seq}`;
      const frames = (await streams[index]?.frames(expected.length)) ?? [];
      const inOrder = [...frames].sort(
        (a, b) => a.json.seq - b.json.seq || (a.json.kind < b.json.kind ? 1 : -1),
      );
      expect(inOrder.map(name), JSON.stringify(params)).toEqual(expected);
      for (const [at, { id }] of frames.entries()) {
        const resumed = await openFeed({ workspace: path, ...params }, behind(id));
        await resumed.frame();
        const wanted = frames.slice(at + 1);
        expect((await resumed.frames(wanted.length)).map(content)).toEqual(wanted.map(content));
      }
    }
  });

  it("v1 without a workspace: all runs, those without a path included", async () => {
    const stream = await openFeed({ tail: "0" });
    expect((await stream.frame()).json.workspace).toBeNull();
    const runs = [await newNativeRun(), await newRunAt(freshPath())];
    for (const run of runs) await note(run);
    const seen: string[] = [];
    // Other tests commit meanwhile.
    while (seen.length < 2) {
      const { json } = await stream.frame();
      if (runs.some(({ id }) => id === json.run_id)) seen.push(json.run_id);
    }
    expect(seen.sort()).toEqual(runs.map(({ id }) => id).sort());
  });

  it("v1 run_ids without a workspace: runs of any, with what they have", async () => {
    const runs = [await newNativeRun(), await newRunAt(freshPath())];
    for (const run of runs) await note(run);
    const stream = await openFeed({ run_ids: runs.map(({ id }) => ` ${id}`).join() });
    expect((await stream.frame()).json.subscribed_run_ids).toEqual(runs.map(({ id }) => id).sort());
    expect((await stream.frames(2)).map(({ json }) => json.run_id)).toEqual(runs.map(({ id }) => id));
    for (const run of runs) await nothingBefore(stream, run);
  });

  it("v1 a run that is created later joins, is named from then on, and is resumed like any other", async () => {
    const path = freshPath();
    const stream = await openFeed({ workspace: path });
    const ready = await stream.frame();
    expect(ready.json.subscribed_run_ids).toEqual([]);
    const run = await newRunAt(path);
    await addSix(run);
    const frames = await stream.frames(9);
    expect(frames.map(({ json }) => json.seq)).toEqual([1, 2, 2, 3, 4, 4, 5, 6, 6]);
    for (const [index, { id }] of [ready, ...frames].entries()) {
      const resumed = await openFeed({ workspace: path }, behind(id));
      await resumed.frame();
      const wanted = frames.slice(index).map(content);
      expect((await resumed.frames(wanted.length)).map(content)).toEqual(wanted);
    }
    const again = await openFeed({ workspace: path });
    expect((await again.frame()).json.subscribed_run_ids).toEqual([run.id]);
    expect((await again.frames(9)).every(({ json }) => json.run_id === run.id)).toBe(true);
  });

  it("v1 the ready frame names a run without commits too, also one that was made while a stream was open", async () => {
    const path = freshPath();
    const [first, stream] = [await newRunAt(path), await openFeed({ workspace: path })];
    expect((await stream.frame()).json.subscribed_run_ids).toEqual([first.id]);
    const second = await newRunAt(path);
    const again = await openFeed({ workspace: path });
    expect((await again.frame()).json.subscribed_run_ids).toEqual([first.id, second.id].sort());
  });

  it("v1 readers that come later see the order that was seen live", async () => {
    const path = freshPath();
    const runs = await Promise.all(Array.from({ length: 3 }, () => newRunAt(path)));
    const stream = await openFeed({ workspace: path });
    const ready = await stream.frame();
    await Promise.all(runs.map((run) => routes(run.id, "/v1")).map(addSix));
    const frames = (await stream.frames(27)).map(content);
    const others = await Promise.all([1, 2, 3].map(() => openFeed({ workspace: path }, behind(ready.id))));
    for (const other of others) {
      await other.frame();
      expect((await other.frames(27)).map(content)).toEqual(frames);
    }
  });
});
