import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import type { Bench } from "./measure.ts";

const projectDir = join(import.meta.dirname, "..");

/** A Worker as it is uploaded. */
export interface DeployBundle {
  /** The text of its only module. */
  code: string;
  /** In bytes. */
  size: number;
  gzipSize: number;
}

/**
 * Bundles the Worker with `wrangler deploy --dry-run`, which uploads nothing and needs no account.
 *
 * @throws Error when wrangler fails, as it does on a Node before 22.
 */
export async function deployBundle(bench: Bench, { minify }: { minify: boolean }): Promise<DeployBundle> {
  const outDir = await bench.directory(minify ? "bundle-minified" : "bundle");
  const wrangler = createRequire(import.meta.url).resolve("wrangler/package.json");
  const command = [join(dirname(wrangler), "bin", "wrangler.js"), "deploy", "--dry-run", "--outdir", outDir];
  await promisify(execFile)(process.execPath, minify ? [...command, "--minify"] : command, {
    cwd: projectDir,
    signal: bench.signal,
    env: {
      ...process.env,
      CLOUDFLARE_CF_FETCH_ENABLED: "false",
      WRANGLER_SEND_METRICS: "false",
      WRANGLER_HIDE_BANNER: "true",
      WRANGLER_LOG_PATH: await bench.directory("wrangler-logs"),
    },
  });
  const modules = (await readdir(outDir)).filter((name) => !name.endsWith(".map") && name !== "README.md");
  const [main] = modules;
  if (main === undefined || modules.length > 1) throw new Error(`the bundle is not one module: ${modules}`);
  const code = await readFile(join(outDir, main));
  return { code: code.toString("utf8"), size: code.length, gzipSize: gzipSync(code).length };
}
