import { createClient } from "./client.ts";
import { watchDirectory } from "./directory.ts";
import { latecomersTenant, sendLatecomers } from "./latecomers.ts";
import type { Finding, Observer, Observers, Surroundings } from "./observer.ts";
import { leaveOrphans, orphansTenant } from "./orphans.ts";
import { leavePending } from "./pending.ts";
import { makeSmallRuns, smallRunsTenant } from "./small-runs.ts";
import { checkStorage } from "./storage/check.ts";
import { watchFeed, watchRuns } from "./streams.ts";
import { watchDeliveries } from "./webhooks.ts";

/** Starts every observer; the server must answer. */
export async function startObservers(surroundings: Surroundings): Promise<Observers> {
  const { url, token } = surroundings;
  const client = createClient(url, token);
  const runIds: string[] = [];
  const orphans = await leaveOrphans(surroundings);
  const smallRuns = await makeSmallRuns(surroundings);
  const latecomers = sendLatecomers(surroundings);
  const directory = watchDirectory([
    { client, runIds: (ofDrills) => ofDrills },
    { client: createClient(url, token, orphansTenant), runIds: () => orphans.runIds },
    { client: createClient(url, token, smallRunsTenant), runIds: () => smallRuns.runIds },
    { client: createClient(url, token, latecomersTenant), runIds: () => latecomers.runIds },
  ]);
  // In the order of judging: whoever asks orphans anything comes after those who wait for them.
  const observers: readonly Observer[] = [
    orphans,
    watchRuns(surroundings, client),
    await watchFeed(surroundings, client),
    await watchDeliveries(surroundings, client),
    latecomers,
    smallRuns,
    directory,
    leavePending(surroundings),
  ];
  return {
    runStarted: (runId) => {
      runIds.push(runId);
      for (const observer of observers) observer.runStarted?.(runId);
    },
    beforeKill: async () => {
      await Promise.all(observers.map((observer) => observer.beforeKill?.()));
    },
    beforeJump: async (byMs) => {
      await Promise.all(observers.map((observer) => observer.beforeJump?.(byMs)));
    },
    afterJump: async () => {
      await Promise.all(observers.map((observer) => observer.afterJump?.()));
    },
    check: async () => {
      const findings: Finding[] = [];
      for (const observer of observers) findings.push(...(await observer.check(runIds)));
      return findings;
    },
    close: async () => {
      await Promise.all(observers.map((observer) => observer.close()));
    },
    checkStorage: (stateDir) => checkStorage(stateDir, surroundings.disturbances),
  };
}
