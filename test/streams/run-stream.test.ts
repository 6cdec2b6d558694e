import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import { LOCAL_TENANT, segmentPrefix, tenantKey } from "../../src/identity/tenant.ts";
import { RunObject } from "../../src/run/run-object.ts";
import {
  anyDisturbance,
  anyWork,
  type Disturbance,
  recordsIn,
  Subject,
  type Work,
} from "./support/scenario.ts";
import { type Asking, fetchWorker, SseReader } from "./support/sse-reader.ts";

// Streams wait for each other more than they compute: a busy machine takes its time.
vi.setConfig({ testTimeout: 30_000 });

/** A property starts many streams, and waits for each. */
const TIMEOUT_MS = 90_000;

type Door = "/v1" | "/v1 with patches" | "/context";

/** Asks for the rest of a run's stream, in the way of each door. */
function asking(door: Door, runId: string): (reader: SseReader) => Asking {
  return (reader) => {
    if (door === "/context") {
      const last = recordsIn(reader.content).at(-1)?.seq ?? 0;
      return { path: `/context/runs/${runId}/events/stream?since_seq=${last}` };
    }
    const path = `/v1/runs/${runId}/events/stream${door === "/v1" ? "" : "?patches=true"}`;
    return { path, ...(reader.lastId !== null && { headers: { "last-event-id": reader.lastId } }) };
  };
}

/** What a reader of that door must have been given: all of it. */
function logOf(subject: Subject, door: Door) {
  return door === "/v1 with patches" ? subject.records() : subject.log("event");
}

const anyReader = fc.record({
  door: fc.constantFrom<Door>("/v1", "/v1 with patches", "/context"),
  cuts: fc.array(fc.oneof(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 600, max: 9_000 })), {
    maxLength: 8,
  }),
});

/** One step of a history. */
type Step = { do: "commit"; work: Work } | { do: "disturb"; how: Disturbance } | { do: "settle" };

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: anyWork.map((work): Step => ({ do: "commit", work })) },
  { weight: 2, arbitrary: anyDisturbance.map((how): Step => ({ do: "disturb", how })) },
  { weight: 1, arbitrary: fc.constant<Step>({ do: "settle" }) },
);

describe("a run's stream", () => {
  const readers: SseReader[] = [];
  afterEach(async () => {
    vi.restoreAllMocks();
    await Promise.all(readers.splice(0).map((reader) => reader.stop()));
  });

  it(
    "every reader has the log in order and once, over cuts at any byte, evictions and aborts",
    async () => {
      const history = fc.record({
        before: fc.array(anyWork, { maxLength: 4 }),
        readers: fc.array(anyReader, { minLength: 1, maxLength: 4 }),
        steps: fc.array(anyStep, { minLength: 4, maxLength: 14 }),
        // Steps that are not waited for meet the next one.
        isHasty: fc.boolean(),
      });
      await fc.assert(
        fc.asyncProperty(history, async ({ before, readers, steps, isHasty }) => {
          const subject = await Subject.create(LOCAL_TENANT);
          for (const work of before) await subject.commit(work);
          const opened = readers.map(({ door, cuts }) => ({
            door,
            reader: new SseReader({ ask: asking(door, subject.id), cuts }),
          }));
          try {
            await Promise.all(opened.map(({ reader }) => reader.until(({ frames }) => frames.length > 0)));
            let committing: Promise<unknown> = Promise.resolve();
            for (const step of steps) {
              if (step.do === "commit") {
                committing = Promise.all([committing, subject.commit(step.work)]);
                if (!isHasty) await committing;
              } else if (step.do === "disturb") {
                await subject.disturb(step.how);
              } else {
                await committing;
                await expectAll(subject, opened);
              }
            }
            await committing;
            await expectAll(subject, opened);
          } finally {
            await Promise.all(opened.map(({ reader }) => reader.stop()));
            await subject.retire();
          }
        }),
        { numRuns: 15, endOnFailure: true },
      );
    },
    TIMEOUT_MS,
  );

  it.each([
    ["", null],
    [" from sealed history", 1],
  ])("whichever frame was a reader's last, it is given exactly what comes after that%s", async (_, keep) => {
    const subject = await Subject.create(LOCAL_TENANT);
    for (const work of HISTORY) await subject.commit(work);
    const log = await subject.records();
    const first = new SseReader({ ask: asking("/v1 with patches", subject.id) });
    readers.push(first);
    await first.until(({ content }) => recordsIn(content).length === log.length);
    if (keep !== null) {
      await subject.commit({ do: "seal", keep });
      expect(await sealedUpto(subject)).toBeGreaterThan(3);
    }
    for (const [index, { id }] of first.frames.entries()) {
      const path = `/v1/runs/${subject.id}/events/stream?patches=true`;
      const resumed = new SseReader({
        ask: () =>
          index % 2 ? { path: `${path}&cursor=${id}` } : { path, headers: { "last-event-id": String(id) } },
      });
      readers.push(resumed);
      await resumed.until(({ content }) => content.length > first.frames.length - index - 1);
      expect(resumed.frames.slice(1), `after ${id}`).toEqual(first.frames.slice(index + 1));
    }
    await subject.retire();
  });

  it("sealed history that is damaged ends a stream before it, and is not passed over", async () => {
    const subject = await Subject.create(LOCAL_TENANT);
    for (const work of HISTORY) await subject.commit(work);
    await subject.commit({ do: "seal", keep: 1 });
    const bucket = env.ARTIFACTS as R2Bucket;
    const prefix = segmentPrefix(tenantKey(LOCAL_TENANT), subject.id);
    const { objects } = await bucket.list({ prefix: `${prefix}3-` });
    await bucket.delete(objects.map(({ key }) => key));
    const response = await fetchWorker(`/v1/runs/${subject.id}/events/stream`);
    const text = await endOf(response);
    expect([...text.matchAll(/"seq":(\d+),"ts_ms"/g)].map(([, seq]) => seq)).toEqual(["1", "2"]);
    expect(text).toMatch(/event: ?gap/);
    expect(objects).toHaveLength(1);
    await subject.retire();
  });

  it("a read of the log that fails keeps nothing from a reader, and does not keep it waiting", async () => {
    const subject = await Subject.create(LOCAL_TENANT);
    const reader = new SseReader({ ask: asking("/v1", subject.id) });
    readers.push(reader);
    await reader.until(({ content }) => content.length === 1);
    vi.spyOn(console, "error").mockReturnValue(undefined);
    vi.spyOn(RunObject.prototype, "readStretch").mockRejectedValueOnce(new Error("the object restarts"));
    // Together too much to be told at once: the log is read.
    await subject.commit({ do: "group", count: 4, length: 100_000 });
    await reader.until(({ content }) => recordsIn(content).length === 4, 5_000);
    expect(recordsIn(reader.content)).toEqual(await subject.log("event"));
  });
});

/** Commits with and without patches. */
const HISTORY: readonly Work[] = [
  { do: "note", length: 1 },
  { do: "tasks", count: 3 },
  { do: "burst", count: 2 },
  { do: "fact" },
  { do: "claim" },
  { do: "finish" },
];

interface Opened {
  door: Door;
  reader: SseReader;
}

/** Waits until each reader has the log's end, and compares all it has with the log. */
async function expectAll(subject: Subject, opened: Opened[]): Promise<void> {
  for (const { door, reader } of opened) {
    const log = await logOf(subject, door);
    await reader.until(() => recordsIn(reader.content).length >= log.length, 15_000);
    expect(recordsIn(reader.content), `${door}: ${reader.describe()}`).toEqual(log);
  }
}

/** Up to which seq a run's log lies in segments. */
function sealedUpto(subject: Subject): Promise<number> {
  return runInDurableObject(subject.stub, (_object, { storage }) => {
    const [row] = storage.sql.exec<{ seq: number }>("SELECT max(upto_seq) AS seq FROM segments").toArray();
    return row?.seq ?? 0;
  });
}

/** All that a stream says until it ends, well or not. */
async function endOf(response: Response): Promise<string> {
  const utf8 = new TextDecoder();
  let text = "";
  try {
    for await (const chunk of response.body ?? []) text += utf8.decode(chunk, { stream: true });
  } catch {
    // A stream that is not complete is cut off.
  }
  return text;
}
