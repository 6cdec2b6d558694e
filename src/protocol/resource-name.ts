import { MAX_RESOURCE_NAME_LENGTH } from "./limits.ts";

/** What is wrong with a resource's name: the rule and a sentence; null when nothing is. */
export function faultOfResourceName(
  name: string,
): { rule: string; message: string; limit?: number; actual?: number } | null {
  if (name.length > MAX_RESOURCE_NAME_LENGTH) {
    const message = `must have at most ${MAX_RESOURCE_NAME_LENGTH} characters`;
    return { rule: "max_length", message, limit: MAX_RESOURCE_NAME_LENGTH, actual: name.length };
  }
  if (name.trim() === "") return { rule: "non_blank", message: "must not be blank" };
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\u0000-\u001f\u007f]/.test(name)) {
    return { rule: "printable", message: "must have no control characters" };
  }
  const segments = name.split("/");
  if (segments.some((segment) => segment === "." || segment === "..")) {
    // Two names of one file would not conflict.
    return { rule: "canonical", message: "must have no segments . and .." };
  }
  if (segments.some((segment) => segment.includes("**") && segment !== "**")) {
    return { rule: "glob", message: "** stands for whole segments of a path, and for nothing less" };
  }
  return null;
}
