import type { Client } from "./client.ts";
import { readRunLog, waitUntil } from "./client.ts";
import { type Follower, followEvents, followSocket } from "./follow.ts";
import { checkSameOrder, checkTold } from "./followed.ts";
import type { Observer, Surroundings, Violation } from "./observer.ts";
import type { RunLog } from "./records.ts";

/** How long a reader may take to have everything once the server rests, ms. */
const catchUpMs = 30_000;

/** Follows each run from before it is made to its end: one reader by server-sent events, one by WebSocket. */
export function watchRuns({ proxyUrl, token }: Surroundings, client: Client): Observer {
  const readers: { run_id: string; name: string; follower: Follower }[] = [];
  return {
    runStarted: (run_id) => {
      const url = `${proxyUrl}/v1/runs/${run_id}/events/stream?patches=true`;
      readers.push({ run_id, name: "events", follower: followEvents(`${url}&until=terminal`, token) });
      readers.push({ run_id, name: "sockets", follower: followSocket(url.replace(/^http/, "ws"), token) });
    },
    check: async () => {
      const logs = await readLogs(client, [...new Set(readers.map(({ run_id }) => run_id))]);
      const logOf = (run_id: string): RunLog[] => logs.filter((one) => one.run_id === run_id);
      const isComplete = () =>
        readers.every(({ run_id, follower }) => hasEverything(follower, logOf(run_id)));
      await waitUntil(isComplete, catchUpMs);
      const violations: Violation[] = [];
      let examined = 0;
      for (const { run_id, name, follower } of readers) {
        const log = logOf(run_id);
        examined += follower.told.length;
        const { ended } = follower;
        const isOver = ended === "end terminal";
        if (ended !== undefined && !isOver) violations.push(endedEarly(name, ended, run_id));
        const endsAt = isOver ? new Map([[run_id, endOf(log[0])]]) : undefined;
        violations.push(...checkTold(log, follower.told, endsAt));
      }
      const name = "each event once and in order, on the streams of runs, whatever broke";
      return [{ name, examined, violations }];
    },
    close: async () => {
      for (const { follower } of readers) follower.stop();
    },
  };
}

/** Follows all runs of the tenant, with two readers, who must be told the same in the same order. */
export async function watchFeed({ proxyUrl, token }: Surroundings, client: Client): Promise<Observer> {
  const url = `${proxyUrl}/v1/events/stream`;
  const events = followEvents(url, token);
  const sockets = followSocket(url.replace(/^http/, "ws"), token);
  // From here on both have a cursor, and what comes is the feed's order and no backlog.
  await Promise.all([events.ready, sockets.ready]);
  return {
    check: async (runIds) => {
      const logs = await readLogs(client, runIds);
      await waitUntil(() => hasEverything(events, logs) && hasEverything(sockets, logs), catchUpMs);
      const violations: Violation[] = [];
      for (const [name, follower] of Object.entries({ events, sockets })) {
        if (follower.ended !== undefined) violations.push(endedEarly(name, follower.ended));
        violations.push(...checkTold(logs, follower.told));
      }
      violations.push(...checkSameOrder(events.told, sockets.told));
      const examined = events.told.length + sockets.told.length;
      return [
        { name: "each event once, in one order for all, on the stream of many runs", examined, violations },
      ];
    },
    close: async () => {
      events.stop();
      sockets.stop();
    },
  };
}

export async function readLogs(client: Client, runIds: readonly string[]): Promise<RunLog[]> {
  const logs: RunLog[] = [];
  for (const runId of runIds) logs.push(await readRunLog(client, runId));
  return logs;
}

function hasEverything({ told, ended }: Follower, logs: readonly RunLog[]): boolean {
  const wanted = logs.reduce((sum, { events, patches }) => sum + events.length + patches.length, 0);
  return ended !== undefined || told.length >= wanted;
}

/** The stream of a run that is over has at least the event that ended it. */
function endOf(log: RunLog | undefined): number {
  const ends = ["completed", "failed", "cancelled"];
  return log?.events.find(({ run_status }) => ends.includes(run_status))?.seq ?? Number.POSITIVE_INFINITY;
}

function endedEarly(name: string, ended: string, run_id?: string): Violation {
  const detail = `the reader of ${name} was sent away: ${ended}`;
  return { rule: "ended", detail, ...(run_id !== undefined && { run_id }) };
}
