import { forgetTokens } from "../directory/tokens.ts";
import type { Env } from "../env.ts";

/** Tokens that have expired stay in lists for so long, and their revocations as long, in milliseconds. */
const KEPT_MS = 30 * 24 * 60 * 60 * 1000;
/** Rows of a kind per tick: what is left over is next tick's. */
const MAX_PER_TICK = 500;

/** Forgets tokens that expired a while ago, and their revocations. */
export function forgetOldTokens(env: Env, nowMs: number): Promise<{ tokens: number; revocations: number }> {
  return forgetTokens(env.DIRECTORY, nowMs, KEPT_MS, MAX_PER_TICK);
}
