import { fieldInvalid, type Refusal } from "./refusals.ts";

/** Why a list of dependencies names one twice, or one of these that are there; null when it does not. @param field its path. */
export function duplicateDependency(
  ids: readonly string[],
  there: readonly string[],
  field: string,
): Refusal | null {
  const seen = new Set(there);
  const place = ids.findIndex((id) => seen.size === seen.add(id).size);
  if (place === -1) return null;
  return fieldInvalid(`${field}[${place}]`, "unique", `names ${ids[place]} again`);
}

/**
 * What an event says of dependencies that no task has yet: they are allowed, because tasks may come in any order, and told, because one
 * may be a slip of the pen. Nothing when there are none.
 */
export function unknownDependencies(
  ids: readonly string[],
  isKnown: (id: string) => boolean,
): { unknown_dependency_ids?: string[] } {
  const unknown = [...new Set(ids)].filter((id) => !isKnown(id));
  return unknown.length === 0 ? {} : { unknown_dependency_ids: unknown };
}
