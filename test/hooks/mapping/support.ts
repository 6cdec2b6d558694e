import { type Planned, planOf } from "../../../src/hooks/mapping/plan.ts";
import type { MappingInput } from "../../../src/hooks/mapping/sample.ts";
import type { Mapping } from "../../../src/protocol/mapping.ts";

/** A delivery with this body. */
export function input(body: unknown, fields: Partial<MappingInput> = {}): MappingInput {
  return {
    hook_id: "hook_1",
    delivery_id: "dlv_1",
    event: "issues",
    headers: { "x-github-event": "issues" },
    body,
    received_at_ms: 1_700_000_000_000,
    ...fields,
  };
}

/** A mapping with no more than it must have. */
export function mapping(fields: Partial<Mapping> = {}): Mapping {
  return { run: { objective: "look at it" }, ...fields };
}

/** The plan, where there must be one. */
export function planned(from: Mapping, body: unknown, fields: Partial<MappingInput> = {}) {
  const came = planOf(from, input(body, fields));
  if (came.verdict !== "plan") throw new Error(JSON.stringify(came));
  return came.plan;
}

/** What an output comes to, as the event's input. */
export function filledIn(template: unknown, body: unknown, fields: Partial<MappingInput> = {}): unknown {
  const { payload } = planned(mapping({ event: { input: template } }), body, fields).event;
  return (payload as { input: unknown }).input;
}

/** Code and limit of a plan that was cut off, or code and fields of one with issues. */
export function failure(came: Planned): unknown[] {
  if (came.verdict !== "error") return [came.verdict];
  const { error, issues } = came;
  if (error.code === "MAPPING_LIMIT") return [error.code, error.limit_name];
  return [error.code, ...issues.map(({ field, rule }) => `${field}: ${rule}`)];
}
