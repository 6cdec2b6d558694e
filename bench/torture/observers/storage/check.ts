import type { Disturbances, Finding } from "../observer.ts";
import { judge } from "./judge.ts";
import { readStorage } from "./read.ts";

/** Reads and judges what a closed server has left on the disk; null where this Node has no SQLite. */
export async function checkStorage(
  stateDir: string,
  disturbances: Disturbances,
): Promise<readonly Finding[] | null> {
  const stored = await readStorage(stateDir);
  return stored === null ? null : judge(stored, disturbances, Date.now());
}
