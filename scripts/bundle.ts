import { type BuildFailure, buildSync } from "esbuild";
import { reasonOf, StartError } from "./start-error.ts";

/**
 * The Worker whose entry is `main`, as the text of one module that workerd can run.
 *
 * @param projectDir what `main` is relative to.
 * @throws StartError when it does not build.
 */
export function bundleWorker(projectDir: string, main: string): string {
  try {
    // The synchronous form leaves no esbuild process behind.
    const { outputFiles } = buildSync({
      absWorkingDir: projectDir,
      entryPoints: [main],
      bundle: true,
      write: false,
      format: "esm",
      target: "es2024",
      conditions: ["workerd", "worker", "browser"],
      mainFields: ["module", "main"],
      external: ["cloudflare:*", "node:*"],
      sourcemap: "inline",
      logLevel: "silent",
    });
    return outputFiles[0]?.text ?? "";
  } catch (error) {
    const first = (error as Partial<BuildFailure>).errors?.[0];
    const place = first?.location ? `${first.location.file}:${first.location.line}: ` : "";
    throw new StartError(`the Worker does not build: ${place}${first?.text ?? reasonOf(error)}`);
  }
}
