import { setTimeout as sleep } from "node:timers/promises";
import { numberAt, objectAt, stringAt } from "../../drill/fields.ts";
import { createRng } from "../../drill/rng.ts";
import { type Client, createClient } from "./client.ts";
import type { Finding, Observer, Surroundings, Violation } from "./observer.ts";
import { checkPunctual, type Due } from "./punctual.ts";
import { readLogs } from "./streams.ts";
import { latestMoment } from "./timeline.ts";
import { checkWaiters, startWaiter, type Waiter } from "./waiter.ts";

/** Nobody follows, lists or subscribes to this tenant, so that nothing but time, and cron, comes by. */
export const orphansTenant = { org: "torture", workspace: "orphans" } as const;

/** How long a living server may take in one piece for what is due, ms: it shares two processors with its torturers. */
const slackMs = 10_000;
/** A waiter must be back in line first, through a proxy that cuts. */
const waiterSlackMs = 20_000;
const rngStream = 2_000_002;
const longestLeaseMs = 300_000;
/** A clock that no torture outlives: it must be armed at the end (storage.ts). */
const dayMs = 86_400_000;

export interface Orphans extends Observer {
  /** The runs that were acknowledged. */
  readonly runIds: readonly string[];
}

/**
 * Makes runs with something due just before the server dies, and never touches them again: what is due must happen all
 * the same, and near its time. Beside each of them another, with a claim that waits for its task, and that is sent again after each
 * death.
 */
export async function leaveOrphans(surroundings: Surroundings): Promise<Orphans> {
  const { url, proxyUrl, token, seed, disturbances } = surroundings;
  const client = createClient(url, token, orphansTenant);
  const distant = createClient(proxyUrl, token, orphansTenant);
  const rng = createRng(seed, rngStream);
  const runIds: string[] = [];
  const dues: Due[] = [];
  const waiters: Waiter[] = [];
  const failures: Violation[] = [];
  let made = 0;

  async function create(kind: string): Promise<{ orphan: Orphan; terms: Terms }> {
    const runId = `orphan-${seed}-${made}-${kind}`;
    const terms = {
      startMs: rng.between(2_000, 5_000),
      runMs: rng.between(1_000, 5_000),
      graceMs: rng.between(500, 4_000),
    };
    const orphan = new Orphan(client, runId);
    await orphan.create(terms);
    runIds.push(runId);
    return { orphan, terms };
  }

  async function leaveOne(): Promise<void> {
    const { orphan, terms } = await create("left");
    dues.push(...(made % 2 === 1 ? await orphan.leave(terms) : await orphan.pause(terms)));
  }

  async function leaveWaiting(): Promise<void> {
    const { orphan } = await create("waiting");
    waiters.push(startWaiter(distant, await orphan.failToRetry()));
  }

  async function make(): Promise<void> {
    made += 1;
    await Promise.all([leaveOne(), leaveWaiting()]);
  }

  // Not every kill meets a server that takes orphans: some there must be.
  await make();
  return {
    runIds,
    beforeKill: async () => {
      try {
        await make();
      } catch (error) {
        failures.push({
          rule: "not_made",
          detail: `the living server did not take an orphan: ${String(error)}`,
        });
      }
    },
    check: async (): Promise<Finding[]> => {
      const deadlines = dues.map(
        (due) => latestMoment(disturbances, due.dueMs, due.knownSinceMs, slackMs).machineMs,
      );
      // A moment more: it may happen at the very last, and its directory row is not asked for here.
      await sleep(Math.max(0, ...deadlines.map((atMs) => atMs - Date.now() + 1_000)));
      await Promise.race([Promise.all(waiters.map(({ answered }) => answered)), sleep(waiterSlackMs)]);
      const logs = await readLogs(client, runIds);
      const punctual = checkPunctual(logs, dues, disturbances, slackMs);
      const waited = checkWaiters(logs, waiters, disturbances, waiterSlackMs);
      return [
        {
          name: "what was due in runs that nobody asked about happened, in time",
          examined: dues.length,
          violations: [...failures, ...punctual],
        },
        {
          name: "claims that waited through deaths got their task, once, in time",
          examined: waiters.length,
          violations: waited,
        },
      ];
    },
    close: async () => {
      for (const waiter of waiters) waiter.stop();
    },
  };
}

interface Terms {
  readonly startMs: number;
  readonly runMs: number;
  readonly graceMs: number;
}

/** The requests that make one orphan; each of them is acknowledged. */
class Orphan {
  readonly #client: Client;
  readonly #runId: string;
  readonly #path: string;

  constructor(client: Client, runId: string) {
    this.#client = client;
    this.#runId = runId;
    this.#path = `/v1/runs/${runId}`;
  }

  async create({ startMs, runMs }: Terms): Promise<void> {
    const { demand } = this.#client;
    await demand("POST", "/v1/runs", { run_id: this.#runId, objective: "Nobody will look after it" });
    await demand("PUT", `${this.#path}/artifacts/left/behind.json`, { run: this.#runId });
    await demand("POST", `${this.#path}/tasks`, {
      tasks: [
        task("leased"),
        task("unclaimed", { clocks: { start_within_ms: startMs } }),
        task("dependent", { depends_on_task_ids: ["unclaimed"], on_dependency_failure: "skip" }),
        task("limited", { clocks: { run_within_ms: runMs } }),
        task("cancelled"),
        task("held"),
        task("retried", { max_attempts: 5, retry: { base_ms: 4_000, factor: 1, jitter: 0 } }),
        task("tomorrow", { clocks: { finish_within_ms: dayMs } }),
      ],
    });
  }

  /** Leases, clocks, a cancellation and a lock, all of which run out. */
  async leave({ startMs, runMs, graceMs }: Terms): Promise<Due[]> {
    const { demand } = this.#client;
    const leased = await this.#claim("leased", 5_000);
    const limited = await this.#claim("limited", longestLeaseMs);
    await this.#claim("cancelled", longestLeaseMs);
    const cancelled = await demand("POST", `${this.#path}/tasks/cancelled/cancel`, { grace_ms: graceMs });
    const locked = await demand("POST", `${this.#path}/locks`, {
      agent_id: "orphan",
      resources: [{ name: "left", mode: "exclusive" }],
      lease_ms: 5_000,
    });
    const lock = objectAt(locked, "lock");
    const lockId = stringAt(lock, "lock_id") ?? "";
    const lockedSeq = numberAt(lock, "fence") ?? 0;
    // Nothing of it was due before this was acknowledged, but for clocks that began with the tasks.
    const { created_ts } = leased;
    const failed = "context.task.failed";
    return [
      this.#due(
        "leased",
        "the end of a lease",
        leased.expiresMs,
        leased.fence,
        "context.task.stale_requeued",
      ),
      this.#due("unclaimed", "a clock for being claimed", created_ts + startMs, lockedSeq, failed),
      this.#due(
        "dependent",
        "the failure of a dependency",
        created_ts + startMs,
        lockedSeq,
        "context.task.skipped",
      ),
      this.#due("limited", "a clock for the work", limited.claimedMs + runMs, limited.fence, failed),
      this.#due(
        "cancelled",
        "the grace of a cancellation",
        numberAt(cancelled, "revoke_at_ms") ?? 0,
        lockedSeq,
        failed,
      ),
      this.#due(
        lockId,
        "the end of a lock",
        numberAt(lock, "expires_at_ms") ?? 0,
        lockedSeq,
        "context.lock.released",
      ),
    ];
  }

  /** A paused run, which takes back what is out once the grace is over. */
  async pause({ startMs, graceMs }: Terms): Promise<Due[]> {
    const { created_ts, fence } = await this.#claim("held", longestLeaseMs);
    const paused = await this.#client.demand("POST", `${this.#path}/pause`, { grace_ms: graceMs });
    return [
      this.#due(
        "held",
        "the grace of a pause",
        numberAt(paused, "revoke_at_ms") ?? 0,
        fence,
        "context.task.requeued",
      ),
      this.#due("unclaimed", "a clock for being claimed", created_ts + startMs, fence, "context.task.failed"),
    ];
  }

  /** A task that is to be tried again in a while, and until then by nobody. */
  async failToRetry(): Promise<{
    runId: string;
    taskType: string;
    dueMs: number;
    afterSeq: number;
    knownSinceMs: number;
  }> {
    const { token, fence } = await this.#claim("retried", longestLeaseMs);
    const body = { action: "fail", lease_token: token, error: "not yet" };
    const failed = await this.#client.demand("POST", `${this.#path}/tasks/retried/transition`, body);
    const dueMs = numberAt(objectAt(failed, "task"), "next_retry_at_ms") ?? 0;
    return { runId: this.#runId, taskType: "retried", dueMs, afterSeq: fence, knownSinceMs: Date.now() };
  }

  async #claim(
    task_type: string,
    lease_ms: number,
  ): Promise<{ token: string; fence: number; expiresMs: number; claimedMs: number; created_ts: number }> {
    const body = { agent_id: "orphan", task_type, lease_ms };
    const answer = await this.#client.demand("POST", `${this.#path}/tasks/claim`, body);
    const [lease, claimed] = [objectAt(answer, "lease"), objectAt(answer, "task")];
    if (lease === undefined)
      throw new Error(`nothing of ${task_type} was claimed: ${JSON.stringify(answer)}`);
    return {
      token: stringAt(lease, "token") ?? "",
      fence: numberAt(lease, "fence") ?? 0,
      expiresMs: numberAt(lease, "expires_at_ms") ?? 0,
      claimedMs: numberAt(claimed, "claimed_at_ms") ?? 0,
      created_ts: numberAt(claimed, "created_ts") ?? 0,
    };
  }

  #due(subject: string, what: string, dueMs: number, afterSeq: number, type: string): Due {
    return { run_id: this.#runId, subject, what, dueMs, afterSeq, type, knownSinceMs: Date.now() };
  }
}

function task(id: string, more: object = {}): object {
  return { id, task_type: id, payload: {}, ...more };
}
