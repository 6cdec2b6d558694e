import { afterEach, describe, expect, it, vi } from "vitest";
import { LOCAL_TENANT } from "../../src/identity/tenant.ts";
import { eventually } from "../run/support/test-run.ts";
import { feedOf, followersOf, newPath, recordsIn, Subject } from "./support/scenario.ts";
import { type FrameData, fetchWorker, type SseFrame, SseParser, SseReader } from "./support/sse-reader.ts";
import { WsReader } from "./support/ws-reader.ts";

// Streams wait for each other more than they compute: a busy machine takes its time.
vi.setConfig({ testTimeout: 30_000 });

const MIB = 1024 * 1024;
/** In UTF-8 bytes, three for each character. */
const LONG_NOTE = { do: "note", length: 80_000 } as const;
const LONG_NOTE_LENGTH = LONG_NOTE.length;

/** A connection that is read by hand. */
class HandReader {
  readonly frames: SseFrame[] = [];
  readonly #parser = new SseParser();
  readonly #body: ReadableStreamDefaultReader<Uint8Array>;

  private constructor(body: ReadableStreamDefaultReader<Uint8Array>) {
    this.#body = body;
  }

  static async open(path: string, lastId?: string | null): Promise<HandReader> {
    const response = await fetchWorker(path, lastId ? { "last-event-id": lastId } : {});
    if (response.body === null) throw new Error("there is no stream");
    return new HandReader(response.body.getReader());
  }

  /** The content it has read. */
  get content(): FrameData[] {
    return this.frames.flatMap(({ data, event }) => (data === null || event !== null ? [] : [data]));
  }

  /** Reads on until it is so, or the stream ends. */
  async readUntil(isSo: () => boolean): Promise<void> {
    while (!isSo()) {
      const { value } = await this.#body.read();
      if (value === undefined) return;
      this.frames.push(...this.#parser.push(value));
    }
  }

  async close(): Promise<void> {
    await this.#body.cancel();
  }
}

describe("readers that do not keep up", () => {
  const closing: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of closing.splice(0)) await close();
  });

  async function openByHand(path: string, lastId?: string | null): Promise<HandReader> {
    const reader = await HandReader.open(path, lastId);
    closing.push(() => reader.close());
    return reader;
  }

  async function openWs(path: string, confirms: boolean, latencyMs = 0): Promise<WsReader> {
    const reader = await WsReader.open(path, { confirms, latencyMs });
    closing.push(() => reader.close());
    return reader;
  }

  it.each([
    { door: "/v1", isFeed: false },
    { door: "/context", isFeed: false },
    { door: "/v1", isFeed: true },
    { door: "/context", isFeed: true },
  ])(
    "one that stops reading is cut off after 4 MiB, others are not delayed ($door, many runs: $isFeed)",
    async ({ door, isFeed }) => {
      const workspace = newPath();
      const subject = await Subject.create(LOCAL_TENANT, workspace);
      const many = `${door === "/v1" ? "/v1" : "/context/runs"}/events/stream?workspace=${encodeURIComponent(workspace)}`;
      const path = isFeed ? many : `${door}/runs/${subject.id}/events/stream`;
      const stalled = await openByHand(path);
      await stalled.readUntil(() => stalled.content.length === 1);
      const other = new SseReader({ ask: () => ({ path }) });
      closing.push(() => other.stop());
      await other.until(({ content }) => content.length === 1);
      const needed = Math.ceil((4 * MIB) / LONG_NOTE_LENGTH) + 10;
      for (let seq = 1; seq <= needed; seq += 1) {
        await subject.commit(LONG_NOTE);
        // The other reader has each commit, whatever the stalled one does.
        await other.until(({ content }) => recordsIn(content).length === seq);
      }
      expect(other.endings).toBe(0);
      // It reads on only when it has been cut off, and is followed no more.
      const followed = isFeed ? feedOf(LOCAL_TENANT, workspace) : subject.stub;
      await eventually(
        () => followersOf(followed),
        (count) => count === 1,
        20_000,
      );
      await stalled.readUntil(() => false);
      const had = recordsIn(stalled.content);
      const last = stalled.frames.at(-1);
      const log = await subject.log("event");
      expect(had).toEqual(log.slice(0, had.length));
      expect(had.length).toBeLessThan(needed);
      if (door === "/context") {
        expect(last).toMatchObject({ data: null, comment: expect.stringContaining("overrun") });
        return;
      }
      expect(last).toMatchObject({ event: "overrun", id: last?.data?.cursor });
      const resumed = await openByHand(path, last?.id);
      await resumed.readUntil(() => recordsIn(resumed.content).length === log.length - had.length);
      expect([...had, ...recordsIn(resumed.content)]).toEqual(log);
    },
    30_000,
  );

  it("a WebSocket that never confirms is cut off after 1 MiB, with the cursor to resume from", async () => {
    const subject = await Subject.create(LOCAL_TENANT);
    const path = `/v1/runs/${subject.id}/events/stream`;
    const reader = await openWs(path, false);
    await reader.until(({ frames }) => frames.length === 1);
    const needed = Math.ceil(MIB / LONG_NOTE_LENGTH) + 1;
    for (let seq = 1; seq <= needed; seq += 1) await subject.commit(LONG_NOTE);
    await reader.until(({ closed }) => closed !== null);
    expect(reader.closed?.code).toBe(1013);
    const last = reader.frames.at(-1);
    expect(last).toMatchObject({ type: "overrun", cursor: expect.any(String) });
    const log = await subject.log("event");
    const had = recordsIn(reader.frames);
    expect(had).toEqual(log.slice(0, had.length));
    const resumed = await openWs(`${path}?cursor=${last?.cursor}`, false);
    await resumed.until(({ frames }) => recordsIn(frames).length === log.length - had.length);
    expect([...had, ...recordsIn(resumed.frames)]).toEqual(log);
  });

  it("one that confirms what it received is not, however much is committed", async () => {
    const subject = await Subject.create(LOCAL_TENANT);
    const reader = await openWs(`/v1/runs/${subject.id}/events/stream`, true);
    await reader.until(({ frames }) => frames.length === 1);
    const needed = Math.ceil((5 * MIB) / LONG_NOTE_LENGTH);
    for (let seq = 1; seq <= needed; seq += 1) await subject.commit(LONG_NOTE);
    await reader.until(({ frames }) => recordsIn(frames).length === needed);
    expect(reader.closed).toBe(null);
    expect(recordsIn(reader.frames)).toEqual(await subject.log("event"));
  });

  it.each([0, 50])(
    "one that confirms is not, however long the log is that it begins with (confirmations take %i ms)",
    async (latencyMs) => {
      const subject = await Subject.create(LOCAL_TENANT);
      const needed = Math.ceil((5 * MIB) / LONG_NOTE_LENGTH);
      for (let seq = 1; seq <= needed; seq += 1) await subject.commit(LONG_NOTE);
      const reader = await openWs(`/v1/runs/${subject.id}/events/stream`, true, latencyMs);
      await reader.until(({ frames, closed }) => recordsIn(frames).length === needed || closed !== null);
      expect(reader.closed).toBe(null);
      expect(recordsIn(reader.frames)).toEqual(await subject.log("event"));
    },
    15_000,
  );

  it.each([
    ["more than were sent", [2]],
    ["fewer than before", [1, 0]],
    ["no whole number", [0.5]],
    ["a negative number", [-1]],
    ["text", ["1"]],
    ["nothing", [undefined]],
  ] as [string, unknown[]][])("a WebSocket that confirms %s is closed", async (_what, confirmations) => {
    const subject = await Subject.create(LOCAL_TENANT);
    const reader = await openWs(`/v1/runs/${subject.id}/events/stream`, false);
    await reader.until(({ frames }) => frames.length === 1);
    for (const received of confirmations) reader.confirm(received);
    await reader.until(({ closed }) => closed !== null);
    expect(reader.closed?.code).toBe(1008);
  });
});
