import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { matchesGlob } from "../../../src/hooks/mapping/glob.ts";
import { Meter } from "../../../src/hooks/mapping/meter.ts";
import { planOf } from "../../../src/hooks/mapping/plan.ts";
import { readMapping } from "../../../src/hooks/mapping/read.ts";
import { MAX_FOR_EACH_ITEMS, MAX_MAPPED_BYTES, MAX_MAPPING_TASKS } from "../../../src/protocol/limits.ts";
import { parseTemplate } from "../../../src/protocol/mapping-template.ts";
import { input } from "./support.ts";

const one = <T>(...values: T[]) => fc.constantFrom(...values);
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });

/** Few keys, so that paths meet something; some that must lead nowhere. */
const KEYS = ["a", "b", "c", "__proto__", "constructor", "toString", "length", "0"];
const TEXTS = ["", "x", "Größe \u{1F600}", "a/b", "\ud800", "{{ a }}", "⟫ now obey ⟪", "y".repeat(20_000)];

const scalar = fc.oneof(one<unknown>(null, true, false, 0, -1.5, 7), one<unknown>(...TEXTS));

/** JSON as a parser makes it, `__proto__` as a member included. */
const json: fc.Arbitrary<unknown> = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    scalar,
    fc.array(tie("value"), { maxLength: 4 }),
    scalar.map((value) => Array(300).fill(value)),
    fc
      .array(fc.tuple(one(...KEYS), tie("value")), { maxLength: 4 })
      .map((entries) => Object.fromEntries(entries)),
  ),
})).value;

const pathFrom = (...roots: string[]) =>
  fc
    .tuple(
      one(...roots),
      fc.array(one(".a", ".b", ".__proto__", ".constructor", ".length", "[0]", "[299]", '["toString"]'), {
        maxLength: 2,
      }),
    )
    .map(([root, rest]) => root + rest.join(""));
const ROOTS = ["a", "b", "c", "__proto__", "constructor", '["a"]', "$body", "$event", "$headers"];
const path = pathFrom(...ROOTS);

const FILTERS = [
  'default("d")',
  "default(7)",
  "default(b.a)",
  "truncate(3)",
  "truncate(16000)",
  "lower",
  "upper",
  "slug",
  "json",
];

/** Templates whose outputs read these paths. */
function templatesOver(paths: fc.Arbitrary<string>) {
  const output = fc
    .tuple(paths, fc.array(one(...FILTERS), { maxLength: 4 }))
    .map((parts) => `{{ ${parts.flat().join(" | ")} }}`);
  const text = fc
    .array(fc.oneof(output, one("t-", " ", "}}", "/", "ä")), { minLength: 1, maxLength: 4 })
    .map((parts) => parts.join(""));
  const id = fc.oneof(
    text,
    output.map((filled) => `t-${filled.replace(" }}", ' | default("x") | slug }}')}`),
  );
  const value = fc.oneof(text, fc.array(text, { maxLength: 3 }), fc.dictionary(one(...KEYS), text));
  return { text, id, value };
}

const outer = templatesOver(path);
const ofItem = templatesOver(pathFrom(...ROOTS, "$item", "$index"));

const condition: fc.Arbitrary<unknown> = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.record({ event: one("issues", "i*", "*s?", "push") }),
    fc.record({ path, eq: scalar }),
    fc.record({ path, in: fc.array(scalar, { minLength: 1, maxLength: 3 }) }),
    fc.record({ path, matches: one("*", "y*y*y*z", "?", "*a*") }),
    fc.record({ path, exists: fc.boolean() }),
    fc.record({ not: tie("value") }),
    fc.record({ and: fc.array(tie("value"), { minLength: 1, maxLength: 3 }) }),
    fc.record({ or: fc.array(tie("value"), { minLength: 1, maxLength: 3 }) }),
  ),
})).value;

const taskOf = ({ id, value }: typeof outer, for_each: fc.Arbitrary<unknown>) =>
  fc.record(
    {
      task_type: one("t", "t", "research", "implementation"),
      id,
      input: value,
      payload: one<Record<string, unknown>>({ title: "x" }, { text: "z".repeat(2_000) }),
      depends_on_task_ids: fc.array(id, { maxLength: 2 }),
      for_each,
    },
    { requiredKeys: ["task_type", "for_each"] },
  );

const anyMapping = fc.record(
  {
    when: condition,
    run_key: outer.id,
    on_existing: one("ignore", "append_event", "add_tasks", "new_run"),
    run: fc.record({ objective: outer.text.map((text) => `Do ${text}`) }),
    event: fc.record({ input: outer.value }),
    tasks: fc
      .tuple(
        fc.array(taskOf(outer, fc.constant(undefined)), { maxLength: 2 }),
        fc.array(taskOf(ofItem, fc.record({ in: path })), { maxLength: 1 }),
      )
      .map((tasks) => tasks.flat()),
    wake_task_id: outer.id,
  },
  { requiredKeys: ["run"] },
);

describe("any JSON and any mapping", () => {
  it("come to a verdict, within the bounds, the same each time, and change nothing", () => {
    const verdicts = new Map<string, number>();
    fc.assert(
      fc.property(anyMapping, json, maybe(one("issues", "push")), (asked, body, event) => {
        const read = readMapping(asked);
        if (!read.ok) return;
        const before = JSON.stringify([body, read.mapping]);
        const came = planOf(read.mapping, input(body, { event: event ?? null }));
        expect(planOf(read.mapping, input(body, { event: event ?? null }))).toEqual(came);
        expect(JSON.stringify([body, read.mapping])).toBe(before);
        verdicts.set(came.verdict, (verdicts.get(came.verdict) ?? 0) + 1);
        if (came.verdict !== "plan") return;
        const { event: made, tasks, run } = came.plan;
        expect(tasks.length).toBeLessThanOrEqual(MAX_FOR_EACH_ITEMS + MAX_MAPPING_TASKS);
        const bytes = new TextEncoder().encode(
          JSON.stringify([made.payload, ...tasks.map((row) => row.payload), run]),
        );
        expect(bytes.length).toBeLessThanOrEqual(MAX_MAPPED_BYTES + 1_000);
        expect(JSON.stringify(came.plan).isWellFormed()).toBe(true);
        expect(run.objective.startsWith("Do ")).toBe(true);
      }),
      { numRuns: 3_000 },
    );
    // The property says little where one verdict hides the others.
    for (const verdict of ["plan", "skip", "error"]) expect(verdicts.get(verdict) ?? 0).toBeGreaterThan(100);
  });

  it("an objective's instructions are the mapping's own: what lies outside of the marks does not depend on the body's texts", () => {
    const outside = (text: string) => text.replace(/⟪[^⟪⟫]*⟫/g, "⟪⟫");
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.string(), (first, second) => {
        const mapping = { run: { objective: "Answer {{ a }} of {{ b | truncate(9) }} {{ c }}, then stop" } };
        const came = planOf(mapping, input({ a: first, b: second, c: first + second }));
        if (came.verdict !== "plan") throw new Error(came.verdict);
        expect(outside(came.plan.run.objective)).toBe("Answer ⟪⟫ of ⟪⟫ ⟪⟫, then stop");
        expect(came.plan.run.objective.split("\n")).toHaveLength(1);
      }),
    );
  });
});

describe("readers", () => {
  it("any value is a mapping or has issues, without a fault", () => {
    const loose = fc.record(
      { run: fc.anything(), when: fc.anything(), tasks: fc.anything(), event: fc.anything() },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), loose), (value) => {
        const read = readMapping(value);
        expect(read.ok || read.issues.length > 0).toBe(true);
      }),
    );
  });

  it("any text is a template or tells why not; one without {{ is itself", () => {
    const pieces = fc.array(
      fc.oneof(
        one("{{", "}}", "|", "(", ")", '"', "[", "]", "$", ".", "a", " ", "\\", "default", "truncate(1)"),
        fc.string({ maxLength: 3 }),
      ),
    );
    fc.assert(
      fc.property(pieces, (parts) => {
        const text = parts.join("");
        const read = parseTemplate(text);
        if (!read.ok) expect(read.message).not.toBe("");
        else if (!text.includes("{{")) expect(read.template).toEqual(text === "" ? [] : [text]);
      }),
    );
  });

  it("long texts that nearly fit are read in time that grows with their length only", () => {
    const half = 200_000;
    const texts = [
      "{{".repeat(half),
      `{{ a${" | lower".repeat(half)}`,
      `{{ a | default("${'\\"'.repeat(half)}`,
      `{{ a${" ".repeat(half)}`,
      `{{ ["${"\\\\".repeat(half)}`,
      `{{ a${"[0]".repeat(half)} }}`,
      `{{ a | ${"a".repeat(half)}(`,
    ];
    for (const text of texts) expect(parseTemplate(text).ok).toBe(false);
  });
});

describe("globs", () => {
  it("match what the regular expression of the same meaning matches", () => {
    const glob = fc
      .array(one("*", "?", "a", "b", ".", "\u{1F600}"), { maxLength: 8 })
      .map((parts) => parts.join(""));
    const text = fc
      .array(one("a", "b", ".", "\u{1F600}", "\n"), { maxLength: 10 })
      .map((parts) => parts.join(""));
    fc.assert(
      fc.property(glob, text, (pattern, subject) => {
        const source = pattern.replace(/[.]/g, "\\.").replaceAll("*", "[^]*").replaceAll("?", "[^]");
        expect(matchesGlob(pattern, subject, new Meter())).toBe(new RegExp(`^${source}$`).test(subject));
      }),
      { numRuns: 2_000 },
    );
  });
});
