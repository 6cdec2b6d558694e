import { setTimeout as delay } from "node:timers/promises";
import { type Connection, withConnections } from "./connection.ts";
import type { Target } from "./measure.ts";

const patienceMs = 20_000;
const pollMs = 50;

/** A run as the server and the directory tell it. */
interface Listed {
  run_id: string;
  last_event_seq: number;
}

/**
 * Waits until the directory has followed a run to its end, which it does about a second after the last commit. Only
 * then does a run lie in storage as one that nobody has used for a while: its head saved, no alarm about to wake it.
 *
 * @throws Error when that takes too long.
 */
export function settled(baton: Target, path: string): Promise<void> {
  return withConnections(baton, 1, async ([connection]) => {
    const only = connection as Connection;
    const deadlineMs = performance.now() + patienceMs;
    const { run } = await only.read<{ run: Listed }>(path);
    const isFollowed = async () => {
      const { runs } = await only.read<{ runs: Listed[] }>("/v1/runs?limit=1000");
      return runs.some((one) => one.run_id === run.run_id && one.last_event_seq >= run.last_event_seq);
    };
    while (!(await isFollowed())) {
      if (performance.now() > deadlineMs) throw new Error(`the directory did not follow ${path}`);
      await delay(pollMs);
    }
    // The head is saved in the turn after the directory's answer.
    await delay(pollMs);
  });
}
