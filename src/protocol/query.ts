import type { Issue } from "./issue.ts";

/**
 * How a query parameter is read.
 *
 * - `uint`: decimal digits only, 0 to 2^53 - 1, as a number.
 * - `bool`: exactly `true` or `false`.
 * - `string`: as it is, the empty string included.
 */
export type QueryKind = "uint" | "bool" | "string";

/** The parameters a route knows, by name. */
export type QuerySpec = Readonly<Record<string, QueryKind>>;

interface KindValue {
  uint: number;
  bool: boolean;
  string: string;
}

/** The values of a spec's parameters; those that the URL does not have are absent. */
export type QueryValues<Spec extends QuerySpec> = { [Name in keyof Spec]?: KindValue[Spec[Name]] };

export type QueryResult<Spec extends QuerySpec> =
  | { ok: true; values: QueryValues<Spec> }
  | { ok: false; issues: Issue[] };

/**
 * Reads the query parameters that `spec` names from a URL's parameters, percent-decoding being done.
 *
 * Parameters that `spec` does not name are ignored. Each one it names may stand there once at most (rule
 * `repeated`), and a `uint` or `bool` must have a well-formed value, so not an empty one (rules
 * `unsigned_integer`, `max`, `boolean`). All issues are reported, at most one per parameter, in the order of `spec`.
 */
export function readQuery<const Spec extends QuerySpec>(
  params: URLSearchParams,
  spec: Spec,
): QueryResult<Spec> {
  const issues: Issue[] = [];
  const entries: [string, number | boolean | string][] = [];
  for (const [field, kind] of Object.entries(spec)) {
    const [raw, ...others] = params.getAll(field);
    if (raw === undefined) continue;
    if (others.length > 0) {
      issues.push({ field, rule: "repeated", message: `${field} must not be given more than once` });
      continue;
    }
    if (kind === "string") {
      entries.push([field, raw]);
    } else if (kind === "bool") {
      if (raw === "true" || raw === "false") entries.push([field, raw === "true"]);
      else issues.push({ field, rule: "boolean", message: `${field} must be true or false` });
    } else if (!/^[0-9]+$/.test(raw)) {
      issues.push({
        field,
        rule: "unsigned_integer",
        message: `${field} must be a whole number in decimal digits`,
      });
    } else if (Number(raw) > Number.MAX_SAFE_INTEGER) {
      const limit = Number.MAX_SAFE_INTEGER;
      issues.push({ field, rule: "max", limit, message: `${field} must be at most ${limit}` });
    } else {
      entries.push([field, Number(raw)]);
    }
  }
  if (issues.length > 0) return { ok: false, issues };
  return { ok: true, values: Object.fromEntries(entries) as QueryValues<Spec> };
}
