import { listAt, numberAt, objectAt, stringAt } from "../../drill/fields.ts";
import { type Client, createClient } from "./client.ts";
import { checkLatecomers, type Try } from "./late-writes.ts";
import type { Observer, Surroundings, Violation } from "./observer.ts";
import { readLogs } from "./streams.ts";

/** A tenant of its own: nobody claims there, who would have stale leases taken back before their holders come. */
export const latecomersTenant = { org: "torture", workspace: "late" } as const;

/** Tasks under leases that run out, as many under clocks that do, and locks. */
const each = 12;
const leaseMs = 5_000;
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
  readonly task_id: string;
  readonly token: string;
  /** By the server's clock, epoch ms. */
  readonly untilMs: number;
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
  let waiting: { run_id: string; held: readonly Held[]; locks: readonly Held[] } | undefined;
  let made = 0;

  async function attempt(run_id: string, what: string, untilMs: number, ask: AskOf): Promise<void> {
    // Jumps are noted when they are done: this is what the clock says, though the last was answered in this millisecond.
    const offsetMs = disturbances.jumps.reduce((sum, { byMs }) => sum + byMs, 0);
    const lateMs = Date.now() + offsetMs - untilMs;
    if (lateMs < slackMs) return;
    // One that is not answered, because the server dies, is judged by the log.
    const status = await ask().then(
      (reply) => reply.status,
      () => undefined,
    );
    tries.push({ run_id, what, lateMs, status });
  }

  return {
    runIds,
    beforeJump: async (byMs) => {
      if (byMs < leastJumpMs) return;
      made += 1;
      const run_id = `late-${seed}-${made}`;
      try {
        const held = await hold(client, run_id);
        runIds.push(run_id);
        waiting = { run_id, ...held };
      } catch (error) {
        failures.push({ rule: "not_made", detail: `the living server did not take it: ${String(error)}` });
      }
    },
    afterJump: async () => {
      if (waiting === undefined) return;
      const { run_id, held, locks } = waiting;
      waiting = undefined;
      const post = (path: string, body: object) => () =>
        client.ask("POST", `/v1/runs/${run_id}${path}`, body, { patienceMs });
      const ends = ["complete", "fail", "release"];
      const ofTasks = held.map(async ({ task_id, token, untilMs }, index) => {
        const proof = { task_id, lease_token: token };
        const move = (action: string) =>
          attempt(
            run_id,
            `${action} of ${task_id}`,
            untilMs,
            post(`/tasks/${task_id}/transition`, { action, lease_token: token, ...fieldsOf(action) }),
          );
        const fact = { op: "add_fact", payload: { id: task_id, ts_ms: Date.now(), text: "late" }, ...proof };
        await attempt(run_id, `a fact under ${task_id}`, untilMs, post("/blackboard/patches", fact));
        await move("heartbeat");
        await move(ends[index % ends.length] ?? "complete");
      });
      const ofLocks = locks.map(async ({ task_id, token, untilMs }) => {
        const path = `/locks/${task_id}`;
        const body = { lease_token: token };
        await attempt(run_id, `renewal of ${task_id}`, untilMs, post(`${path}/heartbeat`, body));
        await attempt(run_id, `release of ${task_id}`, untilMs, post(`${path}/release`, body));
      });
      await Promise.all([...ofTasks, ...ofLocks]);
    },
    check: async () => {
      const violations = [...failures, ...checkLatecomers(tries, await readLogs(client, runIds))];
      const name = "nothing is taken under a lease, a clock or a lock that is over, noticed or not";
      return [{ name, examined: tries.length, violations }];
    },
    close: async () => undefined,
  };
}

type AskOf = () => ReturnType<Client["ask"]>;

function fieldsOf(action: string): object {
  return action === "fail" ? { error: "too late" } : {};
}

async function hold(client: Client, run_id: string): Promise<{ held: Held[]; locks: Held[] }> {
  const path = `/v1/runs/${run_id}`;
  await client.demand("POST", "/v1/runs", { run_id, objective: "Too late" });
  const clocks = { run_within_ms: runWithinMs };
  const tasks = Array.from({ length: each }, (_, index) => [
    { id: `leased${index}`, task_type: "leased", payload: {} },
    { id: `clocked${index}`, task_type: "clocked", payload: {}, clocks },
  ]).flat();
  await client.demand("POST", `${path}/tasks`, { tasks });
  const claim = async (task_type: string, lease_ms: number): Promise<Held[]> => {
    const answer = await client.demand("POST", `${path}/tasks/claim`, {
      agent_id: "late",
      task_type,
      lease_ms,
      max: each,
    });
    return listAt(answer, "claims").map((one) => {
      const [task, lease] = [objectAt(one, "task"), objectAt(one, "lease")];
      const leaseEndMs = numberAt(lease, "expires_at_ms") ?? 0;
      const clockEndMs = (numberAt(task, "claimed_at_ms") ?? 0) + runWithinMs;
      return {
        task_id: stringAt(task, "id") ?? "",
        token: stringAt(lease, "token") ?? "",
        untilMs: task_type === "clocked" ? clockEndMs : leaseEndMs,
      };
    });
  };
  const lock = async (name: string): Promise<Held> => {
    const body = { agent_id: "late", resources: [{ name, mode: "exclusive" }], lease_ms: leaseMs };
    const locked = objectAt(await client.demand("POST", `${path}/locks`, body), "lock");
    return {
      task_id: stringAt(locked, "lock_id") ?? "",
      token: stringAt(locked, "lease_token") ?? "",
      untilMs: numberAt(locked, "expires_at_ms") ?? 0,
    };
  };
  const clocked = await claim("clocked", 300_000);
  const locks = await Promise.all(["a", "b", "c", "d"].map(lock));
  return { held: [...(await claim("leased", leaseMs)), ...clocked], locks };
}
