import { describe, expect, test } from "vitest";
import { MAX_PAYLOAD_BYTES } from "../../src/protocol/limits.ts";
import { eventsOf, must, newRun, type RunRoutes } from "../conformance/support.ts";
import {
  eventsIn,
  followWithEventSource,
  followWithFetch,
  followWithSilentWs,
  followWithUndici,
  followWithWs,
} from "../support/stream-clients.ts";
import {
  followsRun,
  followsWorkspace,
  followThroughCuts,
  reach,
  stopsWithRun,
  type Tool,
} from "./stream-scenario.ts";

/** They wait a second before they resume. */
const EVENT_SOURCES: readonly Tool[] = [
  { name: "npm eventsource", follow: followWithEventSource, cuts: 6, seed: 27 },
  { name: "undici's EventSource", follow: followWithUndici, cuts: 6, seed: 32 },
];

/** They resume at once. */
const LOOPS: readonly Tool[] = [
  { name: "fetch and eventsource-parser", follow: followWithFetch, cuts: 20, seed: 22 },
  { name: "ws", follow: followWithWs, cuts: 20, seed: 25 },
];

const TOOLS = [...EVENT_SOURCES, ...LOOPS];

/** A run with so many events of the largest payload. */
async function largeRun(events: number, character: string): Promise<RunRoutes> {
  const run = await newRun({}, "/v1");
  const payload = { text: character.repeat((MAX_PAYLOAD_BYTES - 100) / Buffer.byteLength(character)) };
  for (let n = 0; n < events; n++) {
    must(await run.post("/events", { type: "note", status: "running", payload }), 201);
  }
  return run;
}

describe.concurrent("cut off at any byte again and again, a client is given each event in order and once", {
  timeout: 60_000,
}, () => {
  test.for(TOOLS)("of a run: $name", followsRun);

  test.for(TOOLS)("of a workspace with a run that is created meanwhile: $name", followsWorkspace);

  test.for(LOOPS)("of a backlog of the largest events: $name", async (tool, context) => {
    const run = await largeRun(12, "漢");
    const path = `/v1/runs/${run.id}/events/stream`;
    const cuts = { cuts: 20, maxBytes: 500_000 };
    const { proxy, client } = await followThroughCuts(path, { ...tool, ...cuts }, context);
    await reach(client, 12);
    expect(eventsIn(client.frames)).toEqual(await eventsOf(run));
    expect(proxy.cuts).toBeGreaterThan(0);
  });
});

describe.concurrent("until=terminal ends the stream behind the run's last event", () => {
  test.for(TOOLS)("$name", stopsWithRun);
});

test.concurrent("a WebSocket reader that confirms nothing is cut off, is told so, and can resume", async (context) => {
  const run = await largeRun(6, "x");
  const tool = { name: "ws", follow: followWithSilentWs, cuts: 0, seed: 24 };
  const { client } = await followThroughCuts(`/v1/runs/${run.id}/events/stream`, tool, context);
  await reach(client, 6);
  expect(eventsIn(client.frames)).toEqual(await eventsOf(run));
  expect(client.frames.filter((frame) => frame.type === "overrun").length).toBeGreaterThan(0);
});
