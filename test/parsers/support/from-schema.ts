import fc from "fast-check";
import * as z from "zod/mini";
import { anyJson, anyText } from "./any.ts";

/** What of JSON Schema zod writes for the schemas here. */
interface JsonSchema {
  type?: string;
  const?: unknown;
  enum?: unknown[];
  anyOf?: JsonSchema[];
  oneOf?: JsonSchema[];
  allOf?: JsonSchema[];
  properties?: Record<string, JsonSchema>;
  required?: string[];
  additionalProperties?: JsonSchema | boolean;
  items?: JsonSchema;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  pattern?: string;
  $ref?: string;
  $defs?: Record<string, JsonSchema>;
}

/** Texts that some schema or other wants beyond being texts. */
const TEXTS = [
  "a",
  "run-1",
  "/srv/app",
  "t {{ a.b }}",
  "ab".repeat(32),
  "https://a.example.com/x",
  "{body}",
  "/id",
  "*",
];

/** Values that a schema takes, or nearly: what its checks want beyond the shape is met at times only. */
export function valuesOf(schema: z.core.$ZodType): fc.Arbitrary<unknown> {
  const root = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }) as JsonSchema;
  return valuesBy(root, root.$defs ?? {});
}

function valuesBy(schema: JsonSchema, defs: Record<string, JsonSchema>): fc.Arbitrary<unknown> {
  const by = (part: JsonSchema) => valuesBy(part, defs);
  if (schema.$ref !== undefined) return by(defs[schema.$ref.replace("#/$defs/", "")] ?? {});
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return fc.oneof(...choices.map(by));
  const { minimum = 0, maximum = Number.MAX_SAFE_INTEGER } = schema;
  switch (schema.type) {
    case "object": {
      const { properties = {}, required = [], additionalProperties } = schema;
      const members = Object.fromEntries(Object.entries(properties).map(([name, part]) => [name, by(part)]));
      const requiredKeys = required.filter((name) => Object.hasOwn(members, name));
      const known = fc.record(members, { requiredKeys });
      if (typeof additionalProperties !== "object" || Object.keys(properties).length > 0) return known;
      return fc.dictionary(fc.constantFrom("a", "b", "key 1", "constructor"), by(additionalProperties), {
        maxKeys: 3,
      });
    }
    case "array": {
      const minLength = schema.minItems ?? 0;
      return fc.array(by(schema.items ?? {}), { minLength, maxLength: minLength + 2 });
    }
    case "string": {
      const { pattern, minLength = 0, maxLength = 50 } = schema;
      if (pattern !== undefined && !pattern.includes("?!")) return fc.stringMatching(new RegExp(pattern));
      const texts = fc.string({ minLength, maxLength: Math.min(maxLength, minLength + 20) });
      return fc.oneof(fc.constantFrom(...TEXTS), texts, { weight: 1, arbitrary: anyText });
    }
    case "integer":
      return fc.oneof(
        fc.constantFrom(minimum, Math.min(maximum, minimum + 1), maximum),
        fc.integer({ min: Math.max(minimum, -(2 ** 31)), max: Math.min(maximum, 2 ** 31) }),
      );
    case "number":
      return fc.double({ min: minimum, max: maximum, noNaN: true });
    case "boolean":
      return fc.boolean();
    case "null":
      return fc.constant(null);
    default:
      return anyJson;
  }
}
