import { describe, expect, it } from "vitest";
import {
  addSix,
  newRunAt,
  note,
  openSocket,
  openStream,
  type SocketStream,
  summarise,
  upgradeAnswer,
} from "../stream-reader.ts";
import { freshId, must, type RunRoutes, routes } from "../support.ts";
import { newNativeRun } from "./support.ts";

/** A stream's URL for a run of a workspace of its own, and how many frames it has for six commits with three patches. */
const streams: [string, (run: RunRoutes, workspace: string) => string, number][] = [
  ["/context/runs/{run_id}/events/stream", (run) => `/context/runs/${run.id}/events/stream?`, 6],
  ["/context/runs/events/stream", (_, workspace) => `/context/runs/events/stream?workspace=${workspace}`, 9],
  ["/v1/runs/{run_id}/events/stream", (run) => `/v1/runs/${run.id}/events/stream?patches=true`, 9],
  ["/v1/events/stream", (_, workspace) => `/v1/events/stream?workspace=${workspace}`, 9],
];

/** The JSON of the ready frame without the time it was made at. */
function readyOf(text: string): unknown {
  const { timestamp_ms, ...others } = JSON.parse(text);
  return others;
}

/** The closing of a socket, whatever it was sent before. */
async function closing(socket: SocketStream): Promise<{ code: number; wasClean: boolean }> {
  while ((await socket.message()) !== null);
  const { code, wasClean } = await socket.closed;
  return { code, wasClean };
}

describe("a stream as WebSocket", () => {
  it.each(streams)("%s: its messages are the data of the event stream's frames", async (_, pathOf, count) => {
    const workspace = `/srv/${freshId()}`;
    const run = await newRunAt(workspace);
    await addSix(run);
    const path = pathOf(run, workspace);
    const [socket, stream] = [await openSocket(path), await openStream(path)];
    const ready = await stream.frame();
    expect(readyOf((await socket.message()) ?? "")).toEqual(readyOf(ready.text));
    const backlog = (await stream.frames(count)).map(({ text }) => text);
    expect(await socket.messages(count)).toEqual(backlog);
    await addSix(run);
    const live = (await stream.frames(count)).map(({ text }) => text);
    expect(await socket.messages(count)).toEqual(live);
    expect(live.every((text) => text.includes('"cursor":"'))).toBe(path.startsWith("/v1"));
  });

  it.each(streams)("%s: a reader confirms what it received, one by one or not", async (_, pathOf, count) => {
    const workspace = `/srv/${freshId()}`;
    const run = await newRunAt(workspace);
    const socket = await openSocket(pathOf(run, workspace));
    await socket.messages(1);
    socket.send('{"received":1}');
    await addSix(run);
    await socket.messages(count);
    socket.send('{"received":1}');
    socket.send(`{"received":${count},"more":"is ignored"}`);
    socket.send(` {"received": ${count + 1}} `);
    await addSix(run);
    await socket.messages(count);
  });

  const lies = [
    "",
    "x",
    "null",
    "[]",
    "{}",
    "1",
    '{"received":"1"}',
    '{"received":-1}',
    '{"received":1.5}',
    '{"received":3}',
  ];
  it.each(lies)("one that says %j is closed with 1008 and told what to say", async (text) => {
    const run = await newNativeRun();
    await note(run);
    const socket = await openSocket(`/v1/runs/${run.id}/events/stream`);
    await socket.messages(2);
    socket.send(text);
    const { code, reason } = await socket.closed;
    expect([code, reason]).toEqual([1008, expect.stringContaining('{"received":n}')]);
  });

  it("one that takes back what it confirmed is closed with 1008", async () => {
    const run = await newNativeRun();
    const socket = await openSocket(`/v1/runs/${run.id}/events/stream`);
    await socket.messages(1);
    socket.send('{"received":1}');
    socket.send('{"received":0}');
    expect((await closing(socket)).code).toBe(1008);
  });

  it("until=terminal: the end is a message, then it is closed with 1000", async () => {
    const run = await newNativeRun();
    const path = `/v1/runs/${run.id}/events/stream?until=terminal`;
    const socket = await openSocket(path);
    await socket.messages(1);
    await note(run, { status: "completed" });
    const [, end = ""] = await socket.messages(2);
    expect(end).toBe('{"type":"end","reason":"terminal","status":"completed","cursor":"1"}');
    expect(await closing(socket)).toEqual({ code: 1000, wasClean: true });
    expect(await upgradeAnswer(path, { "last-event-id": "1" })).toEqual({ status: 204, text: "" });
    const again = await openSocket(`${path}&cursor=1`);
    expect(await again.messages(2)).toEqual([expect.stringContaining('"status":"ready"'), end]);
  });

  it("a reader resumes by cursor or by Last-Event-ID", async () => {
    const workspace = `/srv/${freshId()}`;
    const run = await newRunAt(workspace);
    await addSix(run);
    for (const [path, count] of [
      [`/v1/runs/${run.id}/events/stream?patches=true`, 9],
      [`/v1/events/stream?workspace=${workspace}`, 9],
    ] as const) {
      const messages = (await (await openSocket(path)).messages(1 + count)).slice(1);
      for (const [index, message] of messages.entries()) {
        const { cursor } = JSON.parse(message);
        const wanted = messages.slice(index + 1);
        const byCursor = await openSocket(`${path}&cursor=${cursor}`);
        expect((await byCursor.messages(1 + wanted.length)).slice(1)).toEqual(wanted);
        const byHeader = await openSocket(path, { headers: { "last-event-id": cursor } });
        expect((await byHeader.messages(1 + wanted.length)).slice(1)).toEqual(wanted);
      }
    }
  });

  it.each(streams)("%s: a reader that closes is answered, and the run goes on", async (_, pathOf) => {
    const workspace = `/srv/${freshId()}`;
    const run = await newRunAt(workspace);
    const socket = await openSocket(pathOf(run, workspace));
    await socket.messages(1);
    socket.close(1000);
    expect(await closing(socket)).toEqual({ code: 1000, wasClean: true });
    await note(run);
    await summarise(run, "x");
  });

  it("the word is case-insensitive, and other words and routes answer as ever", async () => {
    const run = await newNativeRun();
    await note(run);
    const path = `/v1/runs/${run.id}/events/stream`;
    expect((await upgradeAnswer(path, { upgrade: "WebSocket" })).status).toBe(101);
    const list = await upgradeAnswer(`/v1/runs/${run.id}/events`);
    expect([list.status, JSON.parse(list.text).events.length]).toEqual([200, 1]);
    must(await routes(run.id, "/v1").get());
  });
});
