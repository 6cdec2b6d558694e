import { describe, expect, it } from "vitest";
import { newRunAt, note, openSocket, openStream } from "../stream-reader.ts";
import { freshId } from "../support.ts";
import { newNativeRun } from "./support.ts";

/** Ten seconds after that, give or take what it takes to tell. */
function expectTenSecondsSince(ms: number): void {
  expect(Date.now() - ms).toBeGreaterThan(9_000);
  expect(Date.now() - ms).toBeLessThan(15_000);
}

describe.concurrent("a keep-alive after 10 s without any other frame", () => {
  it("v1 of a run: it moves the reader's cursor over what a filter left out", async ({ onTestFinished }) => {
    const run = await newNativeRun();
    const path = `/v1/runs/${run.id}/events/stream?types=wanted`;
    const stream = await openStream(path, { onFinished: onTestFinished });
    await stream.frame();
    const lastFrameAtMs = Date.now();
    await note(run);
    await note(run);
    expect(await stream.block()).toBe(":\nid: 2\n\n");
    expectTenSecondsSince(lastFrameAtMs);
  });

  it("v1 of a workspace: it moves the reader's cursor over runs that were not named", async ({
    onTestFinished,
  }) => {
    const workspace = `/srv/${freshId()}`;
    const [named, other] = [await newRunAt(workspace), await newRunAt(workspace)];
    const path = `/v1/events/stream?workspace=${workspace}&run_ids=${named.id}`;
    const stream = await openStream(path, { onFinished: onTestFinished });
    await stream.frame();
    const lastFrameAtMs = Date.now();
    await note(other);
    const block = (await stream.block()) ?? "";
    expect(block).toMatch(/^:\nid: [0-9a-f]{8}:[1-9]\d*\n\n$/);
    expectTenSecondsSince(lastFrameAtMs);
    await note(named);
    const wanted = await stream.frame();
    const headers = { "last-event-id": /id: (.*)\n/.exec(block)?.[1] ?? null };
    const resumed = await openStream(path, { headers, onFinished: onTestFinished });
    await resumed.frame();
    expect((await resumed.frame()).text).toBe(wanted.text);
  });

  it("as a message of every WebSocket", async ({ onTestFinished }) => {
    const run = await newRunAt(`/srv/${freshId()}`);
    const routes: [string, object][] = [
      [`/v1/runs/${run.id}/events/stream`, { type: "keep_alive" }],
      ["/v1/events/stream", { kind: "keep_alive" }],
      [`/context/runs/${run.id}/events/stream`, { type: "keep_alive" }],
      ["/context/runs/events/stream", { kind: "keep_alive" }],
    ];
    const watching = routes.map(async ([path, message]) => {
      const query = `?tail=0&workspace=/srv/${freshId()}`;
      const socket = await openSocket(path + query, { onFinished: onTestFinished });
      await socket.messages(1);
      const lastMessageAtMs = Date.now();
      expect(JSON.parse((await socket.message()) ?? ""), path).toEqual(message);
      expectTenSecondsSince(lastMessageAtMs);
    });
    await Promise.all(watching);
  });
});
