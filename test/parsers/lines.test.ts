import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readPatch } from "../../src/domain/blackboard.ts";
import { readEvent, readLines } from "../../src/domain/reference-records.ts";
import { memoryStateLines, readStateLines } from "../../src/domain/state-lines.ts";
import { firstLineOf } from "../../src/moving/first-line.ts";
import { PATCH_OPS } from "../../src/protocol/blackboard.ts";
import { exportShapes } from "../../src/protocol/export-format.ts";
import { checkRecords, parsed } from "../../src/run/arrival-checks.ts";
import { ArrivalFault } from "../../src/run/arrival-fault.ts";
import { ArrivingContents } from "../../src/run/arriving-contents.ts";
import {
  readClaimerWord,
  readObjectWord,
  writeClaimerWord,
  writeObjectWord,
} from "../../src/run/claim-line.ts";
import { LineFault, linesOf } from "../../src/run/line-reader.ts";
import { packSegment, readRows, rowLine } from "../../src/run/segment-text.ts";
import { anyJson, anyText, around, nearlyJson } from "./support/any.ts";
import { check, checkAsync, expectPrototypesUntouched, outcomeOf } from "./support/check.ts";
import { valuesOf } from "./support/from-schema.ts";

const one = <T>(...values: T[]) => fc.constantFrom(...values);
const encoder = new TextEncoder();

/** Bytes in chunks that end anywhere, also within a character. */
const inChunks = (texts: fc.Arbitrary<Uint8Array>) =>
  fc.tuple(texts, fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 8 }));

function streamOf(bytes: Uint8Array, sizes: number[]): ReadableStream<Uint8Array> {
  let [offset, turn] = [0, 0];
  return new ReadableStream({
    pull(controller) {
      if (offset >= bytes.length) return controller.close();
      const size = sizes[turn % sizes.length] ?? 1;
      controller.enqueue(bytes.slice(offset, offset + size));
      offset += size;
      turn += 1;
    },
  });
}

const someLines = fc
  .array(fc.oneof(anyText, one("", "{}", "\ufeff{}")), { maxLength: 6 })
  .map((texts) => texts.map((text) => text.slice(0, 300)).join("\n"));
const someBytes = fc.oneof(
  someLines.map((text) => encoder.encode(text)),
  fc.uint8Array({ maxLength: 60 }).map((bytes) => bytes.map((byte) => (byte < 40 ? 10 : byte))),
);

const isUtf8 = (bytes: Uint8Array) => {
  try {
    new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
};

/** Where each line ends, behind its line break. */
const endsOf = (bytes: Uint8Array) => [...bytes.keys()].filter((at) => bytes[at] === 10).map((at) => at + 1);

describe("lines of a stream", () => {
  it("are what lies between line breaks, wherever the chunks end, up to the first that is none", async () => {
    await checkAsync(
      fc.asyncProperty(
        inChunks(someBytes),
        fc.integer({ min: 1, max: 200 }),
        async ([bytes, sizes], most) => {
          const read: Uint8Array[] = [];
          let fault: unknown = null;
          try {
            for await (const line of linesOf(streamOf(bytes, sizes), most)) {
              expect(line.number).toBe(read.length + 1);
              expect(encoder.encode(`${line.text}\n`)).toEqual(line.bytes);
              read.push(line.bytes);
            }
          } catch (error) {
            fault = error;
          }
          const ends = endsOf(bytes);
          const lines = [...ends, bytes.length].map((end, index) => bytes.slice(ends[index - 1] ?? 0, end));
          expect(read).toEqual(lines.slice(0, read.length));
          const next = lines[read.length] ?? new Uint8Array();
          if (fault === null) {
            expect(next).toEqual(new Uint8Array());
            return;
          }
          expect(fault).toBeInstanceOf(LineFault);
          const { rule, line } = fault as LineFault;
          expect(line).toBe(read.length + 1);
          if (rule === "max_length") expect(next.length).toBeGreaterThan(most);
          else if (rule === "utf8") expect(isUtf8(next)).toBe(false);
          else expect([rule, read.length, next.length > 0]).toEqual(["terminated", ends.length, true]);
        },
      ),
      300,
    );
  });

  it("the first is found if it is short enough, wherever the chunks end, and the stream is whole all the same", async () => {
    await checkAsync(
      fc.asyncProperty(inChunks(someBytes), fc.integer({ min: 1, max: 80 }), async ([bytes, sizes], most) => {
        const { text, stream } = await firstLineOf(streamOf(bytes, sizes), most);
        const [end] = endsOf(bytes);
        const isShort = end !== undefined && end - 1 <= most;
        expect(text).toBe(isShort ? new TextDecoder().decode(bytes.slice(0, end - 1)) : null);
        expect(new Uint8Array(await new Response(stream).arrayBuffer())).toEqual(bytes);
      }),
      300,
    );
    expect((await firstLineOf(null, 10)).text).toBeNull();
  });
});

describe("lines of an export", () => {
  const { header, line: lineShape } = exportShapes();

  it("any line is one of the format, unchanged, or a fault that names it", () => {
    const good = fc.oneof(valuesOf(header), valuesOf(lineShape));
    const text = fc.oneof(
      fc.oneof(good, nearlyJson(good), anyJson).map((value) => JSON.stringify(value)),
      around(one('{"blob_part":"QQ=="}', '{"checkpoint_name":{"name":"a","seq":1}}')),
    );
    check(
      fc.property(text, fc.boolean(), (given, isFirst) => {
        const line = { number: 7, text: given, bytes: new Uint8Array() };
        const outcome = outcomeOf(() => parsed(line, isFirst ? header : lineShape));
        if ("value" in outcome) {
          expect(outcome.value).toEqual(JSON.parse(given));
          return;
        }
        expect(outcome.error).toBeInstanceOf(ArrivalFault);
      }),
    );
    expectPrototypesUntouched();
  });

  it("records of a commit belong together, or are a fault", () => {
    const { payloads } = exportShapes();
    const type = one(
      "context.task.claimed",
      "context.lock.acquired",
      "context.run.replaced",
      "todo_synced",
      "other",
    );
    const payload = fc.oneof(anyJson, ...Object.values(payloads).map((shape) => valuesOf(shape)));
    const initial = { tenant_context: { org_id: "local", workspace_id: "local" } };
    check(
      fc.property(type, payload, fc.nat(2), one("r", "s"), (type, payload, seq, run_id) => {
        const commit = { event: { type, payload, seq, run_id }, patch: null } as never;
        const outcome = outcomeOf(() => checkRecords(3, commit, 1, { run_id: "r", initial } as never));
        if ("error" in outcome) expect(outcome.error).toBeInstanceOf(ArrivalFault);
        else expect([seq, run_id]).toEqual([1, "r"]);
      }),
      400,
    );
  });

  it("a part of a content is base64 as it is written, or a fault", () => {
    const base64 = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString("base64"));
    check(
      fc.property(around(base64), (text) => {
        const contents = new ArrivingContents(null, "h");
        contents.begin(1, { sha256: "0".repeat(64), bytes: 100_000 });
        const outcome = outcomeOf(() => contents.addPart(2, text));
        if ("value" in outcome) expect(Buffer.from(text, "base64").toString("base64")).toBe(text);
        else expect(outcome.error).toBeInstanceOf(ArrivalFault);
      }),
    );
  });
});

describe("lines of a segment", () => {
  const text = fc.oneof(anyText, fc.json());
  const row = fc.record({
    prev_hash: fc.option(fc.stringMatching(/^[0-9a-f]{8}$/)),
    command_id: fc.option(anyText),
    receipt: fc.option(text),
    event: text,
    patch: fc.option(text),
  });
  const rows = fc
    .tuple(fc.array(row, { minLength: 1, maxLength: 5 }), fc.nat(100))
    .map(([some, first]) => some.map((columns, index) => ({ seq: first + index, ...columns })));

  it("tell the rows that they were written of", () => {
    check(
      fc.property(rows, (given) => {
        const { bytes, segment } = packSegment("key", given);
        expect(readRows(bytes, segment.from_seq)).toEqual(given);
      }),
      100,
    );
  });

  it("of any bytes tell rows that are written the same, from where they should begin", () => {
    const nearly = rows.chain((given) =>
      around(fc.constant(given.map((one) => `${rowLine(one)}\n`).join(""))),
    );
    check(
      fc.property(nearly, fc.nat(100), (given, fromSeq) => {
        const read = readRows(encoder.encode(given), fromSeq);
        expect(read.map(({ seq }) => seq)).toEqual(read.map((_, index) => fromSeq + index));
        const written = read.map((one) => `${rowLine(one)}\n`).join("");
        expect(`${given.toWellFormed()}\n`.startsWith(written)).toBe(true);
      }),
    );
  });
});

describe("lines of a state", () => {
  const head = { run: { run_id: "r", steps: [] }, blackboard_revision: 1, summaries: {} };
  const line = fc.oneof(
    one(
      JSON.stringify({ head }),
      '{"task":{"id":"t"}}',
      '{"facts":{"id":"f"}}',
      '{"file":{"path":"a","sha256":null}}',
    ),
    anyJson.map((value) => JSON.stringify(value)),
    anyText,
  );

  it("any lines tell a run whose lines tell the same run, or throw an error", () => {
    check(
      fc.property(
        fc.array(fc.oneof(line, fc.constant(JSON.stringify({ head }))), { maxLength: 5 }),
        (lines) => {
          const outcome = outcomeOf(() => readStateLines(lines));
          if ("error" in outcome) {
            expect(outcome.error).toBeInstanceOf(Error);
            return;
          }
          const told = [...memoryStateLines(outcome.value)];
          expect([...memoryStateLines(readStateLines(told))]).toEqual(told);
        },
      ),
    );
    expectPrototypesUntouched();
  });
});

describe("files of the reference engine", () => {
  const event = fc
    .record({ seq: fc.nat(), text: anyText.map((text) => text.replaceAll("{", "(")) })
    .map(({ seq, text }) => ({
      event_id: "e",
      seq,
      ts_ms: 1,
      type: "x",
      status: "running",
      payload: { text },
    }));

  it("every record of a file is found, also behind one that was cut off; what is none is counted", () => {
    const torn = event.chain((record) =>
      fc.nat(JSON.stringify(record).length - 1).map((end) => JSON.stringify(record).slice(0, end)),
    );
    const written = fc.tuple(fc.option(torn, { nil: "" }), event, one("\n", "\r\n", "\n\n", " \n"));
    check(
      fc.property(fc.array(written, { maxLength: 6 }), (lines) => {
        const file = lines.map(([start, record, end]) => start + JSON.stringify(record) + end).join("");
        const read = readLines(file, readEvent);
        const texts = (read?.records ?? []).map(({ record }) => JSON.stringify(record));
        const seqs = lines.map(([, record]) => record.seq);
        expect(
          (read?.records ?? []).map(({ record }) => record.seq),
          texts.join("\n"),
        ).toEqual(seqs);
        expect(read?.found).toMatchObject({ lines: lines.length, taken: lines.length });
      }),
    );
  });

  it("any file has records or none, and its lines are all accounted for", () => {
    check(
      fc.property(around(event.map((record) => JSON.stringify(record))), (file) => {
        const read = readLines(file, readEvent);
        if (read === null) throw new Error("so short a file is looked at to its end");
        const { lines, taken, unparsable, behind_torn } = read.found;
        expect(lines).toBe(file.split("\n").filter((line) => line.trim() !== "").length);
        expect(taken).toBe(read.records.length);
        expect(lines - unparsable + behind_torn).toBe(taken);
      }),
    );
  });
});

describe("words on a line between objects", () => {
  it("are read as they were written", () => {
    const word = fc.oneof(one("leave" as const), fc.record({ park: anyJson, place: fc.option(fc.nat()) }));
    check(
      fc.property(word, fc.nat(), anyText, (claimer, place, answer) => {
        expect(readClaimerWord(writeClaimerWord(claimer as never))).toEqual(
          JSON.parse(JSON.stringify(claimer)),
        );
        for (const said of ["failed" as const, { place }, { answer }]) {
          expect(readObjectWord(writeObjectWord(said))).toEqual(said);
        }
      }),
    );
  });

  it("any text is a word of an object, and what it cannot mean is a failure", () => {
    check(
      fc.property(around(one("P12", "A{}", "F")), (text) => {
        const word = readObjectWord(text);
        if (!/^[PA]/.test(text)) expect(word).toBe("failed");
      }),
    );
  });
});

describe("patches", () => {
  it("any payload has an effect, or issues with places", () => {
    const payload = fc.oneof(
      one<unknown>(
        "so far",
        { id: "f", text: "x", ts_ms: 1 },
        { id: "a", path: "p", artifact_type: "t", ts_ms: 1 },
      ),
      nearlyJson(one<unknown>({ id: "f", text: "x", ts_ms: 1 })),
      anyJson,
    );
    check(
      fc.property(one(...PATCH_OPS), payload, (op, given) => {
        const read = readPatch(op, given);
        if (!read.ok) for (const { field } of read.issues) expect(field).toMatch(/^(payload|op)/);
      }),
    );
    expectPrototypesUntouched();
  });
});
