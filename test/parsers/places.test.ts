import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { lookUp } from "../../src/hooks/mapping/lookup.ts";
import { Meter } from "../../src/hooks/mapping/meter.ts";
import type { Call } from "../../src/http/call.ts";
import { isWholeNumber, pageLimit, pageLinks, readCursor } from "../../src/http/pages.ts";
import { RequestRefused } from "../../src/http/problem.ts";
import {
  MAPPING_ROOTS,
  type MappingPath,
  parseMappingPath,
  readMappingPath,
} from "../../src/protocol/mapping-path.ts";
import { hasOutputs, type MappingFilter, parseTemplate } from "../../src/protocol/mapping-template.ts";
import { readQuery } from "../../src/protocol/query.ts";
import {
  readFeedCursor,
  readLogCursor,
  readSeenCursor,
  writeFeedCursor,
  writeLogCursor,
} from "../../src/protocol/stream-cursor.ts";
import { receivedOf } from "../../src/streams/sinks.ts";
import { anyJson, anyText, around } from "./support/any.ts";
import { check, expectPrototypesUntouched, outcomeOf } from "./support/check.ts";

const one = <T>(...values: T[]) => fc.constantFrom(...values);

describe("cursors of lists", () => {
  const call = { url: new URL("http://host/v1/x?limit=1&since_seq=3") } as Call;
  const isAnything = (value: unknown): value is unknown => value !== undefined;
  const latin1 = fc.string({ unit: fc.nat(0xff).map((code) => String.fromCharCode(code)), maxLength: 20 });
  const position = fc.oneof(fc.nat(), latin1, fc.tuple(fc.nat(), latin1));

  it("lead to where the page ended", () => {
    check(
      fc.property(position, (at) => {
        const { next_cursor, next } = pageLinks(call, at);
        expect(readCursor(next_cursor ?? "", isAnything)).toEqual(at);
        const { searchParams } = new URL(next ?? "", "http://host");
        expect(readCursor(searchParams.get("cursor") ?? "", isAnything)).toEqual(at);
        expect([...searchParams.keys()]).toEqual(["limit", "cursor"]);
      }),
    );
  });

  it("any text is a place in the list, or refused", () => {
    const near = fc
      .oneof(position, anyJson)
      .map((value) => Buffer.from(JSON.stringify(value)).toString("base64url"));
    check(
      fc.property(around(near), (text) => {
        const outcome = outcomeOf(() => readCursor(text, isWholeNumber));
        if ("value" in outcome) {
          expect(Number.isSafeInteger(outcome.value) && Number(outcome.value) >= 0).toBe(true);
          return;
        }
        expect(outcome.error).toBeInstanceOf(RequestRefused);
        expect((outcome.error as RequestRefused).problem.code).toBe("CURSOR_INVALID");
      }),
    );
  });

  it("a page has from 1 to 1,000 items, whatever is asked", () => {
    check(
      fc.property(fc.option(fc.maxSafeNat(), { nil: undefined }), (limit) => {
        const size = pageLimit(limit);
        expect(size).toBe(limit === undefined ? 100 : Math.min(1_000, Math.max(1, limit)));
      }),
    );
  });
});

describe("cursors of streams", () => {
  const seq = fc.nat();
  const log = fc.record({ seq: fc.integer({ min: 1, max: 10 ** 15 - 1 }), isPatchDue: fc.boolean() });

  it("any text is a cursor that is written the same, but for leading zeros, or none", () => {
    const near = around(
      fc.oneof(
        log.map(writeLogCursor),
        one("0123abcd:17-5e", "0123abcd:17b1700000000000-e5-r1", "0123abcd:17b"),
      ),
    );
    const bare = (text: string) => text.replace(/(?<=^|[-:bep])0+(?=\d)/g, "");
    check(
      fc.property(near, (text) => {
        const log = readLogCursor(text);
        if (log !== null) expect(writeLogCursor(log)).toBe(bare(text));
        const feed = readFeedCursor(text);
        if (feed === null) return;
        expect(readFeedCursor(writeFeedCursor(feed))).toEqual(feed);
      }),
      500,
    );
  });

  it("any text is an account of what was seen, with seqs only, and of loaded names too", () => {
    const seen = fc.record({ events: fc.dictionary(one("r1", "constructor", "__proto__"), seq) });
    const near = fc
      .oneof(seen, anyJson)
      .map((value) => Buffer.from(JSON.stringify(value)).toString("base64url"));
    check(
      fc.property(around(near), (text) => {
        const { events, patches } = readSeenCursor(text);
        for (const seq of [...events.values(), ...patches.values()]) expect(seq >= 0).toBe(true);
      }),
    );
    check(
      fc.property(seen, (value) => {
        const { events } = readSeenCursor(Buffer.from(JSON.stringify(value)).toString("base64url"));
        expect([...events]).toEqual(Object.entries(JSON.parse(JSON.stringify(value.events))));
      }),
    );
    expectPrototypesUntouched();
  });
});

describe("what a reader of a socket says", () => {
  it("is how many messages it has received, or nothing", () => {
    const message = fc.oneof(anyJson, fc.record({ received: anyJson })).map((value) => JSON.stringify(value));
    check(
      fc.property(fc.oneof(message, around(one('{"received":3}')), fc.uint8Array()), (data) => {
        const received = receivedOf(data);
        expect(received === null || Number.isSafeInteger(received)).toBe(true);
        if (received !== null) expect(JSON.parse(data as string)).toMatchObject({ received });
      }),
    );
    check(
      fc.property(fc.maxSafeInteger(), (received) => receivedOf(JSON.stringify({ received })) === received),
    );
  });
});

describe("queries", () => {
  it("any query has the parameters that it says, or issues that name them", () => {
    const name = one("n", "b", "s", "__proto__", "other");
    const value = around(one("1", "true", "false", "007"));
    check(
      fc.property(fc.array(fc.tuple(name, value), { maxLength: 5 }), (pairs) => {
        const params = new URLSearchParams(pairs.map(([key, text]) => [key, text.toWellFormed()]));
        const read = readQuery(params, { n: "uint", b: "bool", s: "string" });
        if (!read.ok) {
          for (const { field } of read.issues) expect(["n", "b", "s"]).toContain(field);
          return;
        }
        const { n, b, s } = read.values;
        expect(n === undefined ? null : BigInt(params.get("n") ?? "")).toBe(
          n === undefined ? null : BigInt(n),
        );
        expect(b === undefined ? null : params.get("b")).toBe(b === undefined ? null : String(b));
        expect(s).toBe(params.get("s") ?? undefined);
      }),
    );
    expectPrototypesUntouched();
  });
});

describe("paths and templates of mappings", () => {
  const member = fc.oneof(
    fc.stringMatching(/^[A-Za-z0-9_-]{1,8}$/),
    fc.string({ maxLength: 8 }).filter((text) => !text.includes("\n")),
    one("__proto__", "constructor", 'a"b', "\\"),
    fc.nat(10 ** 9 - 1),
  );
  const path: fc.Arbitrary<MappingPath> = fc.record({
    root: one(...MAPPING_ROOTS),
    segments: fc.array(member, { maxLength: 6 }),
  });

  const quoted = (text: string) => `"${text.replace(/["\\]/g, "\\$&")}"`;

  function written({ root, segments }: MappingPath): string {
    return segments.reduce<string>((text, segment) => {
      if (typeof segment === "number") return `${text}[${segment}]`;
      return /^[A-Za-z0-9_-]+$/.test(segment) ? `${text}.${segment}` : `${text}[${quoted(segment)}]`;
    }, root);
  }

  it("a path is read as it was written, and stops where it ends", () => {
    check(
      fc.property(path, one("", " ", " | x", "}}", ")"), (given, rest) => {
        const text = written(given);
        expect(parseMappingPath(` ${text} `)).toEqual({ ok: true, path: given, end: text.length });
        expect(readMappingPath(`{{${text}${rest}`, 2)).toEqual({
          ok: true,
          path: given,
          end: text.length + 2,
        });
      }),
    );
  });

  it("any text is a path, which is written and read the same, or tells why not", () => {
    check(
      fc.property(
        around(one("issue.labels[0].name", '["a key"].b', "$headers.x-y", "a[01]", "a.", '["a')),
        (text) => {
          const read = parseMappingPath(text);
          if (!read.ok) {
            expect(read.message).not.toBe("");
            return;
          }
          const again = parseMappingPath(written(read.path));
          expect(again.ok && again.path).toEqual(read.path);
        },
      ),
    );
  });

  it("a path leads to own members of what JSON made, and nowhere else", () => {
    const input = {
      hook_id: "h",
      delivery_id: "d",
      received_at_ms: 1,
      event: null,
      headers: {},
      body: null as unknown,
    };
    check(
      fc.property(path, anyJson, ({ segments }, body) => {
        const found = lookUp({ root: "$body", segments }, { input: { ...input, body } }, new Meter());
        let expected: unknown = body;
        for (const segment of segments) {
          const isThere =
            typeof expected === "object" &&
            expected !== null &&
            Array.isArray(expected) === (typeof segment === "number") &&
            Object.keys(expected).includes(String(segment));
          expected = isThere ? (expected as Record<string | number, unknown>)[segment] : undefined;
        }
        expect(found).toBe(expected);
      }),
    );
  });

  it("a template is read as it was written", () => {
    const argument = fc.oneof(
      fc.string({ maxLength: 8 }).filter((text) => !text.includes("\n")),
      fc.nat(999_999_999),
      path.filter(({ segments }) => segments.length < 3),
    );
    const filter: fc.Arbitrary<MappingFilter> = fc.oneof(
      one<MappingFilter>({ name: "lower" }, { name: "upper" }, { name: "slug" }, { name: "json" }),
      fc.integer({ min: 1, max: 16_384 }).map((length) => ({ name: "truncate" as const, length })),
      argument.map((value) => ({ name: "default" as const, value })),
    );
    const output = fc.record({ path, filters: fc.array(filter, { maxLength: 8 }) });
    const literal = fc.string({ minLength: 1, maxLength: 10 }).filter((text) => !/\{/.test(text));
    const argumentText = (value: string | number | MappingPath) =>
      typeof value === "object" ? written(value) : typeof value === "string" ? quoted(value) : String(value);
    const filterText = (filter: MappingFilter) => {
      if (filter.name === "truncate") return `truncate( ${filter.length})`;
      return filter.name === "default" ? `default(${argumentText(filter.value)} )` : filter.name;
    };
    const blank = one("", " ", "\n ");
    check(
      fc.property(
        fc.array(output, { minLength: 1, maxLength: 3 }),
        literal,
        blank,
        (outputs, between, gap) => {
          const text = outputs
            .map(
              ({ path, filters }) =>
                `{{${gap}${[written(path), ...filters.map(filterText)].join(`${gap}|${gap}`)}${gap}}}`,
            )
            .join(between);
          const template = outputs.flatMap((one, index) => (index === 0 ? [one] : [between, one]));
          expect(parseTemplate(text)).toEqual({ ok: true, template });
        },
      ),
    );
  });

  it("any text is a template or tells why not; without {{ it is itself", () => {
    check(
      fc.property(around(one('t {{ a.b | default("x") | lower }}', "{{ a", "{{a|truncate(0)}}")), (text) => {
        const read = parseTemplate(text);
        if (!hasOutputs(text)) expect(read).toEqual({ ok: true, template: text === "" ? [] : [text] });
        else if (!read.ok) expect(read.message).toMatch(/in \{\{ at character \d+/);
      }),
    );
    check(fc.property(anyText, (text) => void parseTemplate(`{{ ${text} }}`)));
  });
});
