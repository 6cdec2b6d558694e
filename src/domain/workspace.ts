/** Paths are compared trimmed and without a trailing slash (contract 02 §8). The root stays `/`. */
export function normalisePath(path: string): string {
  const trimmed = path.trim();
  return trimmed === "" ? "" : trimmed.replace(/\/+$/, "") || "/";
}

/** Whether a path is absolute: a leading slash, or a drive letter (contract 02 §8). */
export function isAbsolutePath(path: string): boolean {
  return /^(\/|[A-Za-z]:[\\/])/.test(path);
}
