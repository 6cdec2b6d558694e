import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type * as z from "zod/mini";
import {
  readBoard,
  readCheckpointHead,
  readEvent,
  readPatchRecord,
  readRun,
  readSteps,
  readTask,
} from "../../src/domain/reference-records.ts";
import { readMapping } from "../../src/hooks/mapping/read.ts";
import { batchedOp } from "../../src/http/batched-ops.ts";
import { readBody } from "../../src/http/body.ts";
import { RequestRefused } from "../../src/http/problem.ts";
import { contextBodies, nativeBodies } from "../../src/protocol/bodies.ts";
import { exportShapes } from "../../src/protocol/export-format.ts";
import { hookBodies } from "../../src/protocol/hooks.ts";
import { parseIJson } from "../../src/protocol/i-json.ts";
import { issuersSchema } from "../../src/protocol/issuers.ts";
import { hookTestSchema, mappingSchema, mappingTestSchema } from "../../src/protocol/mapping.ts";
import { issuesOfCondition } from "../../src/protocol/mapping-condition.ts";
import { quotasBody } from "../../src/protocol/quotas.ts";
import { retentionBody } from "../../src/protocol/retention.ts";
import { fitting, readShape } from "../../src/protocol/shape.ts";
import {
  emptyBody,
  enableBody,
  newSecretBody,
  newSubscriptionBody,
  replayBody,
  subscriptionBody,
} from "../../src/protocol/subscription.ts";
import { storedLifeShapes } from "../../src/protocol/task-life-shapes.ts";
import { mintBody } from "../../src/protocol/tokens.ts";
import { anyJson, around, nearlyJson, nested } from "./support/any.ts";
import { check, checkAsync, expectPrototypesUntouched, isPlain } from "./support/check.ts";
import { valuesOf } from "./support/from-schema.ts";

type Shape = [name: string, schema: z.core.$ZodType];

const listed = (prefix: string, schemas: object): Shape[] =>
  Object.entries(schemas).map(([name, schema]) => [`${prefix}.${name}`, schema]);

/** Every schema by which something from outside is read. */
const SHAPES: Shape[] = [
  ...listed("contextBodies", contextBodies()),
  ...listed("nativeBodies", nativeBodies()),
  ...listed("hookBodies", hookBodies()),
  ...listed("exportShapes.payloads", exportShapes().payloads),
  ["exportShapes.header", exportShapes().header],
  ["exportShapes.line", exportShapes().line],
  ["storedLifeShapes.settings", storedLifeShapes().settings],
  ...listed("subscriptions", { newSubscriptionBody, subscriptionBody, newSecretBody }).map(made),
  ...listed("subscriptions", { enableBody, replayBody, emptyBody }).map(made),
  ...listed("tenants", { mintBody, issuersSchema, quotasBody, retentionBody }).map(made),
  ...listed("mappings", { mappingSchema, mappingTestSchema, hookTestSchema }).map(made),
];

function made([name, make]: [string, unknown]): Shape {
  return [name, (make as () => z.core.$ZodType)()];
}

/** Those whose values are not what is read once more: they are changed into something of another shape. */
const CHANGED = new Set(["contextBodies.putSettings", "nativeBodies.putSettings"]);

describe.each(SHAPES)("%s", (name, schema) => {
  const good = valuesOf(schema);
  const values = fc.oneof(
    { weight: 3, arbitrary: good },
    { weight: 3, arbitrary: nearlyJson(good) },
    anyJson,
  );

  it("any JSON has the shape or issues, is not changed, and what was read reads the same", () => {
    check(
      fc.property(values, (value) => {
        const before = JSON.stringify(value);
        const read = readShape(schema, value, "body");
        expect(JSON.stringify(value)).toBe(before);
        if (!read.ok) {
          expect(read.issues.length).toBeGreaterThan(0);
          for (const issue of read.issues) {
            expect(issue.field).toMatch(/^body/);
            expect(issue.rule).toMatch(/^[a-z0-9_]+$/);
            expect(issue.message).not.toBe("");
          }
          expect(fitting(schema, value)).toBeNull();
          return;
        }
        expect(isPlain(read.value)).toBe(true);
        expect(fitting(schema, value)).toEqual(read.value);
        if (CHANGED.has(name)) return;
        const stored = JSON.parse(JSON.stringify(read.value));
        const again = readShape(schema, stored);
        expect(again.ok && JSON.parse(JSON.stringify(again.value))).toEqual(stored);
      }),
      25,
    );
    expectPrototypesUntouched();
  });
});

describe("JSON from outside", () => {
  it("whatever a body is, it is read or refused with a code", async () => {
    const text = around(
      fc.oneof(
        fc.json(),
        anyJson.map((value) => JSON.stringify(value)),
      ),
    );
    const bytes = fc.oneof(
      text.map((given) => new TextEncoder().encode(given)),
      fc.uint8Array({ maxLength: 40 }),
    );
    await checkAsync(
      fc.asyncProperty(bytes, fc.boolean(), async (body, mayBeEmpty) => {
        const headers = { "content-type": "application/json" };
        const request = new Request("http://host/", { method: "POST", headers, body });
        const schema = nativeBodies().redriveTask;
        const read = await readBody(request, schema, { mayBeEmpty }).catch((error: unknown) => error);
        if (!(read instanceof Error)) return;
        expect(read).toBeInstanceOf(RequestRefused);
        expect(["BODY_INVALID", "BODY_MALFORMED", "ID_INVALID"]).toContain(
          (read as RequestRefused).problem.code,
        );
      }),
    );
  });

  it("is what JSON.parse makes of it, plain, with all its members, or has a problem", () => {
    check(
      fc.property(
        fc.oneof(
          anyJson.map((value) => JSON.stringify(value)),
          around(fc.json()),
        ),
        (text) => {
          const read = parseIJson(text);
          if (!read.ok) return;
          expect(read.value).toEqual(JSON.parse(text));
          expect(isPlain(read.value)).toBe(true);
          // But for the sign of a zero, which JSON.stringify does not write.
          const written = JSON.stringify(read.value);
          const again = parseIJson(written);
          if (again.ok) expect(JSON.stringify(again.value)).toBe(written);
          // 1e17 is a number like any other; written out by JavaScript it is an integer that others may read differently.
          else expect(again.problem.kind).toBe("unsafe_integer");
        },
      ),
      500,
    );
    expectPrototypesUntouched();
  });

  it("that is nested as deep as a body can be has an end", () => {
    for (const depth of [65, 1_000, 1_000_000]) {
      expect(parseIJson("[".repeat(depth)), String(depth)).toMatchObject({ problem: { kind: "too_deep" } });
      expect(parseIJson(`${'{"a":'.repeat(depth)}1${"}".repeat(depth)}`).ok).toBe(false);
    }
    expect(readShape(mappingSchema(), { run: { objective: "x" }, event: { input: nested(5_000) } }).ok).toBe(
      false,
    );
  });
});

describe("parts of bodies", () => {
  it("a setting's limits are kept whatever their keys, or refused: none is silently left out", () => {
    const key = fc.oneof(
      fc.constantFrom("__proto__", "constructor", "toString", ""),
      fc.string({ maxLength: 5 }),
    );
    check(
      fc.property(fc.array(fc.tuple(key, fc.nat()), { maxLength: 4 }), (entries) => {
        const concurrency_limits = Object.fromEntries(entries);
        const read = readShape(nativeBodies().putSettings, { concurrency_limits });
        if (read.ok)
          expect(Object.keys(read.value.settings.concurrency_limits ?? {})).toEqual(
            Object.keys(concurrency_limits),
          );
        else expect(read.issues).toMatchObject([{ field: "concurrency_limits.__proto__" }]);
      }),
    );
  });

  it("any name of an operation is one of those that batches know, or none", () => {
    check(
      fc.property(around(fc.constantFrom("claim_task", "create_tasks", "constructor")), (name) => {
        const known = batchedOp(name);
        expect(known === null || typeof known.mutation.command === "function").toBe(true);
      }),
    );
  });

  it("any condition of a mapping is one, or has issues with places and rules", () => {
    const good = fc.letrec<{ value: unknown }>((tie) => ({
      value: fc.oneof(
        { depthSize: "small" },
        fc.constantFrom<unknown>({ event: "a*" }, { path: "a.b", eq: 1 }, { path: "$event", in: ["x"] }),
        fc.record({ and: fc.array(tie("value"), { minLength: 1, maxLength: 3 }) }),
        fc.record({ not: tie("value") }),
      ),
    })).value;
    check(
      fc.property(fc.oneof(good, nearlyJson(good), anyJson), (value) => {
        const issues = issuesOfCondition(value);
        const read = readMapping({ run: { objective: "x" }, when: value });
        expect(read.ok).toBe(issues.length === 0);
        for (const issue of issues) expect([issue.rule, issue.message]).not.toContain("");
      }),
    );
  });
});

describe("records of the reference engine", () => {
  const readers = { readRun, readTask, readSteps, readEvent, readPatchRecord, readBoard, readCheckpointHead };
  const at = { created_ts: 1, updated_ts: 2 };
  const task = { id: "t", task_type: "x", status: "done", ...at };
  const samples = [
    task,
    [{ step_id: "s", title: "t", status: "pending" }],
    { run_id: "r", status: "running", created_at_ms: 1, updated_at_ms: 2, tasks: [task], steps: null },
    { event_id: "e", event_seq: 1, ts_ms: 1, type: "x", status: "running", payload: { a: 1 } },
    { patch_id: "p", seq: 1, ts_ms: 1, op: "add_fact" },
    { facts: [{ id: "f", ts_ms: 1, text: "x" }], summaries: null, revision: 3 },
    { checkpoint_id: "c", seq: 1, ts_ms: 1 },
  ];

  it.each(Object.entries(readers))(
    "%s: any JSON is a record that reads the same again, or none",
    (_, read) => {
      const sample = fc.constantFrom<unknown>(...samples);
      check(
        fc.property(fc.oneof(sample, nearlyJson(sample), anyJson), (value) => {
          const record = read(value);
          if (record === null) return;
          expect(isPlain(record)).toBe(true);
          expect(read(JSON.parse(JSON.stringify(record)))).toEqual(JSON.parse(JSON.stringify(record)));
        }),
        100,
      );
      expectPrototypesUntouched();
    },
  );
});
