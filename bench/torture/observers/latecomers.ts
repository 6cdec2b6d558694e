import { listAt, numberAt, objectAt, stringAt } from "../../drill/fields.ts";
import { createClient } from "./client.ts";
import { checkLatecomers, type Try } from "./late-writes.ts";
import type { Observer, Surroundings, Violation } from "./observer.ts";
import { readLogs } from "./streams.ts";

/** A tenant of its own: nobody claims there, who would have stale leases taken back before their holders come. */
export const latecomersTenant = { org: "torture", workspace: "late" } as const;

/** Tasks under leases that run out. */
const leases = 12;
/** Tasks under clocks that do, each in a run of its own: the first write in a run may notice all that is due there. */
const clocks = 12;
const leaseMs = 5_000;
const longestLeaseMs = 300_000;
const runWithinMs = 2_000;
/** A jump that is shorter does not end the leases. */
const leastJumpMs = leaseMs + 1_000;
/** Rounding, and what a request takes to be told the time. */
const slackMs = 50;
const patienceMs = 5_000;

export interface Latecomers extends Observer {
  /** The runs that were acknowledged. */
  readonly runIds: readonly string[];
}

/** What is held, and is not any more once the clock says so. */
interface Held {
  readonly run_id: string;
  /** Of the task, or the lock. */
  readonly id: string;
  readonly token: string;
  /** By the server's clock, epoch ms. */
  readonly untilMs: number;
}

interface Kind {
  readonly leaseMs: number;
  /** Of the clock that ends the work; absent where the lease does. */
  readonly runWithinMs?: number;
}

/**
 * Holds leases and locks while the server's clock jumps past their ends, and writes under them at once. Nothing has noticed by
 * then: alarms go by the old time, and nobody else asks. So each write must be refused by what it says itself.
 */
export function sendLatecomers({ url, token, seed, disturbances }: Surroundings): Latecomers {
  const client = createClient(url, token, latecomersTenant);
  const runIds: string[] = [];
  const tries: Try[] = [];
  const failures: Violation[] = [];
  let waiting: { held: readonly Held[]; locks: readonly Held[] } | undefined;
  let made = 0;

  async function attempt({ run_id, untilMs }: Held, what: string, path: string, body: object): Promise<void> {
    // Jumps are noted when they are done: this is what the clock says, though the last was answered in this millisecond.
    const offsetMs = disturbances.jumps.reduce((sum, { byMs }) => sum + byMs, 0);
    const lateMs = Date.now() + offsetMs - untilMs;
    if (lateMs < slackMs) return;
    // One that is not answered, because the server dies, is judged by the log.
    const status = await client.ask("POST", `/v1/runs/${run_id}${path}`, body, { patienceMs }).then(
      (reply) => reply.status,
      () => undefined,
    );
    tries.push({ run_id, what, lateMs, status });
  }

  /** All that a holder may do, each of them first with some. */
  async function writeUnder(held: Held, index: number): Promise<void> {
    const { id, token: lease_token } = held;
    const move =
      (action: string, more: object = {}) =>
      () =>
        attempt(held, `${action} of ${id}`, `/tasks/${id}/transition`, { action, lease_token, ...more });
    const fact = (): Promise<void> => {
      const payload = { id: `late-${id}`, ts_ms: Date.now(), text: "late" };
      const body = { op: "add_fact", payload, task_id: id, lease_token };
      return attempt(held, `a fact under ${id}`, "/blackboard/patches", body);
    };
    const writes = [
      fact,
      move("heartbeat"),
      move("complete"),
      move("fail", { error: "too late" }),
      move("release"),
    ];
    const first = index % writes.length;
    for (const write of [...writes.slice(first), ...writes.slice(0, first)]) await write();
  }

  async function useLock(held: Held): Promise<void> {
    const body = { lease_token: held.token };
    await attempt(held, `renewal of ${held.id}`, `/locks/${held.id}/heartbeat`, body);
    await attempt(held, `release of ${held.id}`, `/locks/${held.id}/release`, body);
  }

  async function create(run_id: string): Promise<string> {
    await client.demand("POST", "/v1/runs", { run_id, objective: "Too late" });
    runIds.push(run_id);
    return `/v1/runs/${run_id}`;
  }

  async function hold(run_id: string, count: number, kind: Kind): Promise<Held[]> {
    const path = await create(run_id);
    const tasks = Array.from({ length: count }, (_, index) => ({
      id: `t${index}`,
      task_type: "t",
      payload: {},
      ...(kind.runWithinMs !== undefined && { clocks: { run_within_ms: kind.runWithinMs } }),
    }));
    await client.demand("POST", `${path}/tasks`, { tasks });
    const asked = { agent_id: "late", lease_ms: kind.leaseMs, max: count };
    const claims = listAt(await client.demand("POST", `${path}/tasks/claim`, asked), "claims");
    if (claims.length !== count) throw new Error(`${claims.length} of ${count} tasks were claimed`);
    return claims.map((claim) => {
      const [task, lease] = [objectAt(claim, "task"), objectAt(claim, "lease")];
      const clockEndMs = (numberAt(task, "claimed_at_ms") ?? 0) + (kind.runWithinMs ?? Number.NaN);
      const leaseEndMs = numberAt(lease, "expires_at_ms") ?? 0;
      const token = stringAt(lease, "token");
      if (token === undefined) throw new Error("a lease has no token");
      return {
        run_id,
        id: stringAt(task, "id") ?? "",
        token,
        untilMs: kind.runWithinMs === undefined ? leaseEndMs : clockEndMs,
      };
    });
  }

  async function lock(run_id: string): Promise<Held[]> {
    const path = await create(run_id);
    return Promise.all(
      ["a", "b", "c", "d"].map(async (name) => {
        const body = { agent_id: "late", resources: [{ name, mode: "exclusive" }], lease_ms: leaseMs };
        const given = objectAt(await client.demand("POST", `${path}/locks`, body), "lock");
        const [id, token] = [stringAt(given, "lock_id") ?? "", stringAt(given, "token")];
        // With a wrong token it would be refused for that.
        if (token === undefined) throw new Error(`lock ${id} has no token`);
        return { run_id, id, token, untilMs: numberAt(given, "expires_at_ms") ?? 0 };
      }),
    );
  }

  return {
    runIds,
    beforeJump: async (byMs) => {
      if (byMs < leastJumpMs) return;
      made += 1;
      const name = `late-${seed}-${made}`;
      try {
        const [leased, locks, ...clocked] = await Promise.all([
          hold(`${name}-leased`, leases, { leaseMs }),
          lock(`${name}-locked`),
          ...Array.from({ length: clocks }, (_, index) =>
            hold(`${name}-clocked${index}`, 1, { leaseMs: longestLeaseMs, runWithinMs }),
          ),
        ]);
        waiting = { held: [...leased, ...clocked.flat()], locks };
      } catch (error) {
        failures.push({ rule: "not_made", detail: `the living server did not take it: ${String(error)}` });
      }
    },
    afterJump: async () => {
      if (waiting === undefined) return;
      const { held, locks } = waiting;
      waiting = undefined;
      await Promise.all([...held.map(writeUnder), ...locks.map(useLock)]);
    },
    check: async () => {
      const violations = [...failures, ...checkLatecomers(tries, await readLogs(client, runIds))];
      const name = "nothing is taken under a lease, a clock or a lock that is over, noticed or not";
      return [{ name, examined: tries.length, violations }];
    },
    close: async () => undefined,
  };
}
