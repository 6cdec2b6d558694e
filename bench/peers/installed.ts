import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { Skipped } from "./peer.ts";

/** Whether all these programs can be executed from a folder. */
export function hasPrograms(folder: string, programs: readonly string[]): boolean {
  try {
    for (const program of programs) accessSync(join(folder, program), constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The first folder on PATH that has all these programs. */
export function folderOnPath(programs: readonly string[]): string | undefined {
  const folders = (process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== "");
  return folders.find((folder) => hasPrograms(folder, programs));
}

/**
 * The name and installed version of a package of this folder.
 *
 * @throws Skipped when it is not installed.
 */
export function installedPackage(name: string): string {
  const file = join(import.meta.dirname, "node_modules", name, "package.json");
  if (!existsSync(file)) throw notInstalled(name);
  const { version } = JSON.parse(readFileSync(file, "utf8")) as { version: string };
  return `${name} ${version}`;
}

/** Says how a missing package is installed. */
export function notInstalled(name: string): Skipped {
  return new Skipped(`package ${name} is not installed: npm ci --prefix bench/peers`);
}
