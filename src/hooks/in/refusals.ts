import { countRefusals, type Hook } from "../../directory/hooks.ts";
import type { Failure } from "./scheme.ts";

/** How long counts are gathered before they are written: a flood of forgeries must not become a flood of writes. */
const GATHERED_MS = 10_000;
/** Hooks whose counts an isolate gathers. */
const MAX_HOOKS_GATHERED = 1_000;

interface Gathered {
  count: number;
  writtenAtMs: number;
}

const gathered = new Map<string, Gathered>();

/**
 * Counts a delivery that was not believed, for the hook's operator: at once when it is the first for a while, else with the
 * next that comes later. What an isolate has gathered goes with it, so that the count is one of "at least".
 */
export async function noteRefusal(db: D1Database, hook: Hook, reason: Failure, nowMs: number): Promise<void> {
  const known = gathered.get(hook.public_id) ?? { count: 0, writtenAtMs: Number.NEGATIVE_INFINITY };
  known.count += 1;
  if (nowMs < known.writtenAtMs + GATHERED_MS) return;
  const { count } = known;
  gathered.delete(hook.public_id);
  gathered.set(hook.public_id, { count: 0, writtenAtMs: nowMs });
  const [oldest] = gathered.keys();
  if (gathered.size > MAX_HOOKS_GATHERED && oldest !== undefined) gathered.delete(oldest);
  await countRefusals(db, hook, { count, reason, atMs: nowMs });
}
