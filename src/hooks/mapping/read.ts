import type { Issue } from "../../protocol/issue.ts";
import { MAPPING_PRESETS, type Mapping, mappingSchema } from "../../protocol/mapping.ts";
import { readShape } from "../../protocol/shape.ts";
import { PRESETS } from "./presets.ts";

/** Reads a mapping as it is sent and stored: the mapping itself, or the name of a preset. `field` is where it stands. */
export function readMapping(
  value: unknown,
  field = "mapping",
): { ok: true; mapping: Mapping } | { ok: false; issues: Issue[] } {
  if (typeof value === "string") {
    const name = MAPPING_PRESETS.find((known) => known === value);
    if (name !== undefined) return { ok: true, mapping: PRESETS[name].mapping };
    const message = `there is no preset of that name, only ${MAPPING_PRESETS.join(", ")}`;
    return { ok: false, issues: [{ field, rule: "one_of", message }] };
  }
  const read = readShape(mappingSchema(), value, field);
  return read.ok ? { ok: true, mapping: read.value } : { ok: false, issues: read.issues };
}
