import { describe, expect, it } from "vitest";
import { type EventStream, newRunAt, note, openStream } from "../stream-reader.ts";
import { freshId, newRun } from "../support.ts";

/** Waits for the next block, which must be a keep-alive and come 10 s after the last frame. */
async function keepAlive(stream: EventStream, lastFrameAtMs: number): Promise<void> {
  expect(await stream.block()).toBe(":\n\n");
  const afterMs = Date.now() - lastFrameAtMs;
  expect(afterMs).toBeGreaterThan(9_000);
  expect(afterMs).toBeLessThan(15_000);
}

describe.concurrent("02§7 a keep-alive after 10 s without any other frame", () => {
  it("of a run, counted from its last frame", async ({ onTestFinished }) => {
    const run = await newRun();
    const stream = await openStream(`/context/runs/${run.id}/events/stream`, { onFinished: onTestFinished });
    await stream.block();
    await note(run);
    expect(await stream.block()).toMatch(/^data: /);
    await keepAlive(stream, Date.now());
  });

  it("of a run without events", async ({ onTestFinished }) => {
    const run = await newRun();
    const path = `/context/runs/${run.id}/events/stream?tail=0`;
    const stream = await openStream(path, { onFinished: onTestFinished });
    await stream.block();
    await keepAlive(stream, Date.now());
  });

  it("of a workspace without runs", async ({ onTestFinished }) => {
    const path = `/context/runs/events/stream?workspace=/srv/${freshId()}`;
    const stream = await openStream(path, { onFinished: onTestFinished });
    await stream.block();
    await keepAlive(stream, Date.now());
  });

  it("of named runs, whatever others do meanwhile", async ({ onTestFinished }) => {
    const workspace = `/srv/${freshId()}`;
    const [named, other] = [await newRunAt(workspace), await newRunAt(workspace)];
    const path = `/context/runs/events/stream?workspace=${workspace}&run_ids=${named.id}`;
    const stream = await openStream(path, { onFinished: onTestFinished });
    await stream.block();
    const lastFrameAtMs = Date.now();
    let isWaiting = true;
    const others = (async () => {
      while (isWaiting) {
        await note(other);
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
    })();
    await keepAlive(stream, lastFrameAtMs).finally(() => {
      isWaiting = false;
      return others;
    });
    await note(named);
    expect(await stream.block()).toMatch(/^data: /);
  });
});
