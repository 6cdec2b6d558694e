import { createParser, type EventSourceMessage } from "eventsource-parser";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type EnvelopeParts,
  envelope,
  type Frame,
  feedReady,
  runReady,
  runRecord,
  sseKeepAlive,
  sseText,
} from "../../src/protocol/stream-frames.ts";

const json = fc.jsonValue({ stringUnit: "binary" }).map((value) => JSON.stringify(value));
const cursor = fc.option(fc.stringMatching(/^[\x21-\x7e]{1,40}$/).filter((text) => !/["\\]/.test(text)));
const event = fc.constantFrom("end", "gap", "overrun");

const frame: fc.Arbitrary<Frame> = fc
  .record({ data: json, id: cursor, event: fc.option(event) })
  .map(
    ({ data, id, event }) =>
      ({ data, ...(id !== null && { id }), ...(event !== null && { event }) }) as Frame,
  );

/** What a reader hears of a text that arrives in pieces of that size. */
function heard(text: string, size: number): { messages: EventSourceMessage[]; comments: string[] } {
  const messages: EventSourceMessage[] = [];
  const comments: string[] = [];
  const parser = createParser({
    onEvent: (message) => messages.push(message),
    onComment: (comment) => comments.push(comment),
    onError: (error) => {
      throw error;
    },
  });
  for (let at = 0; at < text.length; at += size) parser.feed(text.slice(at, at + size));
  return { messages, comments };
}

describe("frames as Server-Sent Events", () => {
  const texts: [string, Frame][] = [
    ['data: {"a":1}\n\n', { data: '{"a":1}' }],
    ["id: 12e\ndata: {}\n\n", { data: "{}", id: "12e" }],
    ["event: end\nid: 12\ndata: {}\n\n", { data: "{}", id: "12", event: "end" }],
    [': gap {"kind":"gap"}\n\n', { data: "", comment: 'gap {"kind":"gap"}' }],
  ];
  it.each(texts)("%j", (text, written) => {
    expect(sseText(written)).toBe(text);
  });

  it("02§7 a keep-alive is a comment; with an id it moves the reader's cursor", () => {
    expect(sseKeepAlive(null)).toBe(":\n\n");
    expect(sseKeepAlive("12")).toBe(":\nid: 12\n\n");
    expect(heard(`${sseKeepAlive(null)}${sseKeepAlive("12")}`, 1).messages).toEqual([]);
  });

  it("a reader hears what was written, however it arrives", () => {
    fc.assert(
      fc.property(fc.array(frame), fc.integer({ min: 1, max: 50 }), (frames, size) => {
        const text = frames.map((written) => sseText(written) + sseKeepAlive(null)).join("");
        const { messages, comments } = heard(text, size);
        expect(messages).toEqual(frames.map(({ data, id, event }) => ({ data, id, event })));
        expect(comments).toEqual(frames.map(() => ""));
      }),
    );
  });

  it("a comment is no message, whatever it says of itself", () => {
    fc.assert(
      fc.property(json, fc.integer({ min: 1, max: 50 }), (members, size) => {
        const { messages, comments } = heard(sseText({ data: "", comment: `gap ${members}` }), size);
        expect(messages).toEqual([]);
        expect(comments).toEqual([`gap ${members}`]);
      }),
    );
  });
});

describe("the JSON of frames", () => {
  it("02§7.1 the ready frame of a run; D06 it shows no location", () => {
    expect(JSON.stringify(runReady("r1", 1_700_000_000_000))).toBe(
      '{"path":"context-runs/r1/events","runID":"r1","status":"ready","stream":"context_run_events","timestamp_ms":1700000000000}',
    );
  });

  it("02§7.2 the ready frame of many runs", () => {
    expect(JSON.stringify(feedReady(["a", "b"], "/srv/ws", 1_700_000_000_000))).toBe(
      '{"kind":"ready","subscribed_run_ids":["a","b"],"timestamp_ms":1700000000000,"workspace":"/srv/ws"}',
    );
    expect(feedReady([], null, 1)).toMatchObject({ subscribed_run_ids: [], workspace: null });
  });

  it("02§7.1 a record of a run: its very text, on one line, with the cursor behind it", () => {
    expect(runRecord("context_run_event", '{"seq":1}', null)).toBe(
      '{"properties":{"seq":1},"type":"run.event"}',
    );
    expect(runRecord("blackboard_patch", "{}", "1")).toBe(
      '{"properties":{},"type":"run.patch","cursor":"1"}',
    );
    fc.assert(
      fc.property(json, cursor, (text, cursor) => {
        const written = runRecord("context_run_event", text, cursor);
        expect(written).not.toMatch(/[\n\r]/);
        expect(written.startsWith(`{"properties":${text},`)).toBe(true);
        expect(JSON.parse(written)).toEqual({
          properties: JSON.parse(text),
          type: "run.event",
          ...(cursor !== null && { cursor }),
        });
      }),
    );
  });

  it("01§4.9 D91 an envelope: whatever the workspace is called", () => {
    const parts: fc.Arbitrary<EnvelopeParts> = fc.record({
      kind: fc.constantFrom("context_run_event" as const, "blackboard_patch" as const),
      run_id: fc.stringMatching(/^[A-Za-z0-9._:-]{1,20}$/),
      workspace: fc.string({ unit: "binary" }),
      seq: fc.maxSafeNat(),
      ts_ms: fc.maxSafeNat(),
      record: json,
      tenant_context: json,
    });
    fc.assert(
      fc.property(parts, cursor, (parts, cursor) => {
        const written = envelope(parts, cursor);
        expect(written).not.toMatch(/[\n\r]/);
        const { record, tenant_context, ...others } = parts;
        expect(JSON.parse(written)).toEqual({
          ...others,
          payload: JSON.parse(record),
          tenantContext: JSON.parse(tenant_context),
          ...(cursor !== null && { cursor }),
        });
        const names = ["kind", "run_id", "workspace", "seq", "ts_ms", "payload", "tenantContext"];
        expect(Object.keys(JSON.parse(written)).slice(0, 7)).toEqual(names);
      }),
    );
  });
});
