import { MAX_TOOL_NAME_LENGTH, MAX_TOOLS_NAMED } from "../protocol/limits.ts";

/** How often each name was seen. */
export type Counts = Record<string, number>;

/** Stands for the tools that are not named, see {@link countedTool}. */
export const OTHER_TOOLS = "(other tools)";

/** Counts with some more of one name. The names are clients' own: none of them is a member of an object by itself. */
export function counted(counts: Counts, name: string, more = 1): Counts {
  return { ...counts, [name]: countOf(counts, name) + more };
}

export function countOf(counts: Counts, name: string): number {
  return Object.hasOwn(counts, name) ? (counts[name] ?? 0) : 0;
}

/** Counts of two stretches, the first one's names first. */
export function added(first: Counts, second: Counts): Counts {
  return Object.entries(second).reduce((sum, [name, count]) => counted(sum, name, count), first);
}

/**
 * Counts one use of a tool. So that what a run keeps of its tools has a bound, the first so many distinct tools are named,
 * and none of a longer name; all others are counted together as `(other tools)`.
 */
export function countedTool(counts: Counts, tool: string): Counts {
  const named = Object.keys(counts).length - (Object.hasOwn(counts, OTHER_TOOLS) ? 1 : 0);
  const isNamed =
    Object.hasOwn(counts, tool) || (tool.length <= MAX_TOOL_NAME_LENGTH && named < MAX_TOOLS_NAMED);
  return counted(counts, isNamed ? tool : OTHER_TOOLS);
}

/** A sorted set of tools with these in it too, within the bounds of {@link countedTool}: what is over them is left out. */
export function withTools(tools: string[], more: string[]): string[] {
  const news = new Set(more.filter((tool) => tool.length <= MAX_TOOL_NAME_LENGTH && !tools.includes(tool)));
  if (news.size === 0) return tools;
  return [...tools, ...[...news].slice(0, MAX_TOOLS_NAMED - tools.length)].sort();
}
