import type { AuditInput } from "./audit.ts";
import type { Flag } from "./violation.ts";

/** Of tasks with the same concurrency key no more are held at once, by the log, than the limit. Returns how many such claims there were. */
export function checkKeys({ events, concurrencyLimits }: AuditInput, flag: Flag): number {
  const held = new Map<string, Set<string>>();
  let claims = 0;
  for (const { type, seq, task } of events) {
    const key = task?.concurrency_key;
    if (task === undefined || key === undefined) continue;
    const holders = held.get(key) ?? new Set<string>();
    held.set(key, holders);
    if (task.lease_owner === undefined) {
      holders.delete(task.id);
      continue;
    }
    holders.add(task.id);
    if (type !== "context.task.claimed") continue;
    claims += 1;
    const limit = concurrencyLimits[key] ?? 1;
    if (holders.size <= limit) continue;
    const detail = `${task.id} was claimed as one of ${[...holders].join(", ")}, more of ${key} than ${limit} at once`;
    flag("keys", "too_many_at_once", detail, { seq, task_id: task.id });
  }
  return claims;
}
