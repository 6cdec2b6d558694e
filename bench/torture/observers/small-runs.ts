import { createClient } from "./client.ts";
import type { Observer, Surroundings, Violation } from "./observer.ts";

export const smallRunsTenant = { org: "torture", workspace: "small" } as const;

/** Runs that are made, or changed, just before each kill. */
const eachTime = 24;
const most = 240;

export interface SmallRuns extends Observer {
  /** The runs that were acknowledged. */
  readonly runIds: readonly string[];
}

/**
 * Makes many runs, each of which is changed once and then left alone: what the directory misses of a run that goes on, it has
 * with the next change, but of these there is none. It judges nothing itself: their rows are compared with all others.
 */
export async function makeSmallRuns({ url, token, seed }: Surroundings): Promise<SmallRuns> {
  const { demand } = createClient(url, token, smallRunsTenant);
  const runIds: string[] = [];
  const failures: Violation[] = [];
  let changes = 0;

  async function makeOrChange(): Promise<void> {
    const at = changes % most;
    changes += 1;
    const runId = `small-${seed}-${at}`;
    if (!runIds.includes(runId)) {
      await demand("POST", "/v1/runs", { run_id: runId, objective: "Small" });
      runIds.push(runId);
    }
    const tasks = [{ id: `t${changes}`, task_type: "t", payload: {} }];
    await demand("POST", `/v1/runs/${runId}/tasks`, { tasks });
  }

  async function make(): Promise<void> {
    try {
      await Promise.all(Array.from({ length: eachTime }, makeOrChange));
    } catch (error) {
      failures.push({ rule: "not_made", detail: `the living server did not take a run: ${String(error)}` });
    }
  }

  await make();
  return {
    runIds,
    beforeKill: make,
    check: async () => {
      await make();
      const name = "small runs are made, and changed, just before each kill";
      return [{ name, examined: changes, violations: failures }];
    },
    close: async () => undefined,
  };
}
