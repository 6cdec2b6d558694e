import type { AuditInput } from "./audit.ts";
import type { AuditEvent, AuditLock, AuditTask, CommandRecord } from "./records.ts";
import type { Flag } from "./violation.ts";

/**
 * By the log, no two locks that do not share a resource were out at once, none was renewed or released that was not out, and each was
 * what its holder was told. The drill's resources are plain names. Returns how many locks were taken.
 */
export function checkLocks({ events, commands }: AuditInput, flag: Flag): number {
  const out = new Map<string, AuditLock>();
  let taken = 0;
  for (const event of events) {
    const { type, seq, lock, task } = event;
    if (task !== undefined) followTask(out, task);
    if (type === "context.lock.acquired" || (type === "context.task.claimed" && lock !== undefined)) {
      taken += 1;
      if (lock !== undefined) take(out, event, lock, flag);
    } else if (type === "context.lock.renewed") {
      const before = out.get(lock?.lock_id ?? "");
      if (lock === undefined || before === undefined || before.expires_at_ms <= event.ts_ms) {
        flag("locks", "renewed_late", `seq ${seq} renews a lock that is not out any more`, { seq });
      } else {
        if (lock.fence !== before.fence || lock.agent !== before.agent) {
          flag("locks", "renewed_as_another", `${lock.lock_id} is another after its renewal`, { seq });
        }
        out.set(lock.lock_id, lock);
      }
    } else if (type === "context.lock.released") {
      release(out, event, flag);
    }
  }
  const byCommand = new Map(events.map((event) => [event.command_id, event]));
  for (const command of commands) checkTold(command, byCommand.get(command.command_id), flag);
  return taken;
}

/** A lock that was taken with a task goes on with its lease, and ends with it. */
function followTask(out: Map<string, AuditLock>, { id, fence, lease_expires_at_ms }: AuditTask): void {
  for (const lock of out.values()) {
    if (lock.task_id !== id) continue;
    if (fence !== lock.fence || lease_expires_at_ms === undefined) out.delete(lock.lock_id);
    else out.set(lock.lock_id, { ...lock, expires_at_ms: lease_expires_at_ms });
  }
}

function take(out: Map<string, AuditLock>, { seq, ts_ms }: AuditEvent, lock: AuditLock, flag: Flag): void {
  if (lock.fence !== seq) {
    flag("locks", "lock_fence", `the lock taken at seq ${seq} has the fence ${lock.fence}`, { seq });
  }
  if (lock.expires_at_ms <= ts_ms) {
    flag("locks", "lock_without_term", `the lock taken at seq ${seq} expires at ${lock.expires_at_ms}`, {
      seq,
    });
  }
  for (const other of out.values()) {
    if (other.expires_at_ms <= ts_ms) continue;
    const name = commonName(lock, other);
    if (name === undefined) continue;
    const detail = `${lock.agent} was given ${name} while ${other.agent} had it with fence ${other.fence}`;
    flag("locks", "two_locks", detail, { seq });
  }
  out.set(lock.lock_id, lock);
}

/** What both are on, unless they share it. */
function commonName(one: AuditLock, other: AuditLock): string | undefined {
  return one.resources.find(({ name, mode }) =>
    other.resources.some((its) => its.name === name && (mode === "exclusive" || its.mode === "exclusive")),
  )?.name;
}

function release(
  out: Map<string, AuditLock>,
  { seq, ts_ms, lock_ids, reason }: AuditEvent,
  flag: Flag,
): void {
  for (const id of lock_ids) {
    const lock = out.get(id);
    out.delete(id);
    const isOut = lock !== undefined && lock.expires_at_ms > ts_ms;
    if (lock === undefined) {
      flag("locks", "released_twice", `${id} was released at seq ${seq}, and was not out`, { seq });
    } else if (reason === "expired" && isOut) {
      const early = lock.expires_at_ms - ts_ms;
      flag("locks", "released_early", `${id} was taken back ${early} ms before it ran out`, { seq });
    } else if (reason !== "expired" && !isOut) {
      flag("locks", "released_late", `${id} was released ${ts_ms - lock.expires_at_ms} ms after it ran out`, {
        seq,
      });
    }
  }
}

const eventTypes: ReadonlyMap<string, string> = new Map([
  ["lock", "context.lock.acquired"],
  ["renew", "context.lock.renewed"],
  ["unlock", "context.lock.released"],
  ["claim", "context.task.claimed"],
]);

/** An answer about a lock is in the log as it was told; what was refused, and never lost on the way, is not. */
function checkTold(command: CommandRecord, event: AuditEvent | undefined, flag: Flag): void {
  const { command_id, kind, answers, missed } = command;
  const type = eventTypes.get(kind);
  if (type === undefined || (kind === "claim" && command.resources === undefined)) return;
  const effect = answers.find((answer) => answer.effect !== undefined && answer.effect !== null)?.effect;
  if (effect === undefined || effect === null) {
    if (event === undefined || answers.length === 0 || missed > 0) return;
    const detail = `${kind} ${command_id} is in the log at seq ${event.seq}, but was refused`;
    flag("locks", "refused_but_done", detail, { command_id });
    return;
  }
  const logged = event?.lock?.lock_id ?? event?.lock_ids[0];
  const isSame = event?.type === type && logged === effect.lock_id && effect.lock_id !== undefined;
  const isFence = kind === "unlock" || event?.lock?.fence === effect.fence;
  if (isSame && isFence) return;
  const detail = `${kind} ${command_id} was told ${effect.lock_id} with fence ${effect.fence}, and is in the log as ${logged}`;
  flag("locks", "lock_unlike_log", detail, { command_id });
}
