import { describe, expect, it } from "vitest";
import { createRng } from "../../bench/drill/rng.ts";
import { garbageOf, mutatedLines, mutatedText } from "../../bench/fuzz/garbage.ts";
import { faultyValue, fittingValue, type Schema, type Source } from "../../bench/fuzz/values.ts";
import { contextBodies, nativeBodies } from "../../src/protocol/bodies.ts";
import { hookBodies } from "../../src/protocol/hooks.ts";
import { mappingTestSchema } from "../../src/protocol/mapping.ts";
import { quotasBody } from "../../src/protocol/quotas.ts";
import { readShape } from "../../src/protocol/shape.ts";
import { newSubscriptionBody, replayBody } from "../../src/protocol/subscription.ts";
import { mintBody } from "../../src/protocol/tokens.ts";

const garbage = garbageOf(1);
const DRAWN = 150;

/** Ids of the right form; all else is drawn from the schema alone. */
function sourceOf(index: number): Source {
  const rng = createRng(1, index);
  const isId = /(^|_)(id|ids)$|^(add|remove|dependency|dependencie)$/;
  const hints: Record<string, unknown> = { name: "n", path: "a/b", sha256: "0".repeat(64), scope: "viewer" };
  return {
    rng,
    hint: (name) => hints[name] ?? (isId.test(name) ? "id-1" : undefined),
    json: () => garbage.json(rng),
  };
}

const SCHEMAS: [string, Schema][] = [
  ...Object.entries(nativeBodies()).map(([name, schema]): [string, Schema] => [`${name} of /v1`, schema]),
  ...Object.entries(contextBodies()).map(([name, schema]): [string, Schema] => [
    `${name} of /context`,
    schema,
  ]),
  ...Object.entries(hookBodies()).map(([name, schema]): [string, Schema] => [`hooks, ${name}`, schema]),
  ["a mapping's test", mappingTestSchema()],
  ["quotas", quotasBody()],
  ["a subscription", newSubscriptionBody()],
  ["a replay", replayBody()],
  ["a token", mintBody()],
];

describe("bodies drawn from a schema", () => {
  it.each(SCHEMAS)("%s: fitting ones are accepted, but for what members mean together", (_, schema) => {
    const values = Array.from({ length: DRAWN }, (_, index) => fittingValue(schema, sourceOf(index)));
    const accepted = values.filter((value) => readShape(schema, wire(value)).ok);
    expect(accepted.length).toBeGreaterThan(DRAWN / 10);
    expect(new Set(values.map((value) => JSON.stringify(value))).size).toBeGreaterThan(1);
  });

  it.each(SCHEMAS)("%s: one wrong place is refused, and that place named", (_, schema) => {
    let sure = 0;
    for (let index = 0; index < DRAWN; index += 1) {
      const faulty = faultyValue(schema, sourceOf(index));
      if (faulty === null || !faulty.isSure) continue;
      sure += 1;
      expect(readShape(schema, wire(faulty.value)).ok, `${faulty.path.join(".")} ${faulty.what}`).toBe(false);
    }
    expect(sure).toBeGreaterThan(DRAWN / 3);
  });

  it("are the same for the same seed", () => {
    const [, schema] = SCHEMAS[0] ?? [];
    if (schema === undefined) throw new Error("no schema");
    const draw = () => Array.from({ length: 20 }, (_, index) => fittingValue(schema, sourceOf(index)));
    expect(draw()).toEqual(draw());
  });
});

describe("garbage", () => {
  it("is the same for the same seed, and another for another", () => {
    const texts = (seed: number) => {
      const { text, json } = garbageOf(seed);
      return Array.from({ length: 50 }, (_, index) => [text(createRng(1, index)), json(createRng(2, index))]);
    };
    expect(texts(7)).toEqual(texts(7));
    expect(texts(7)).not.toEqual(texts(8));
  });

  it("texts and lines that are tampered with mostly differ from what they were", () => {
    const text = '{"a": [1, 2, 3], "b": "text"}';
    const lines = "one\ntwo\nthree\nfour\n";
    const rngs = Array.from({ length: 100 }, (_, index) => createRng(3, index));
    expect(rngs.filter((rng) => mutatedText(text, rng) !== text).length).toBeGreaterThan(80);
    expect(rngs.filter((rng) => mutatedLines(lines, rng) !== lines).length).toBeGreaterThan(80);
  });
});

/** As it arrives: without what JSON has not. */
function wire(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value) ?? "null");
}
