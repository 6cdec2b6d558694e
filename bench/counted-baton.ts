import { startLocalRuntime } from "../scripts/local-runtime.ts";
import type { Closable, Target } from "./measure.ts";

/** Serves the Worker of bench/raw/counted-baton.ts: Baton, with the constructions of its runs' objects counted. */
export function startCountedBaton(stateDir: string): Promise<Target & Closable> {
  return startLocalRuntime({ port: 0, stateDir, main: "bench/raw/counted-baton.ts" });
}
