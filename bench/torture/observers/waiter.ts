import { setTimeout as sleep } from "node:timers/promises";
import { numberAt, objectAt, stringAt } from "../../drill/fields.ts";
import type { Client } from "./client.ts";
import type { Disturbances, Violation } from "./observer.ts";
import type { RunLog } from "./records.ts";
import { latestMoment } from "./timeline.ts";

/** What a claim waits for. */
export interface Awaited {
  readonly runId: string;
  readonly taskType: string;
  /** When its task comes back on the board, by the server's clock, epoch ms. */
  readonly dueMs: number;
  /** Seq of the claim before. */
  readonly afterSeq: number;
  /** By this machine's clock, epoch ms. */
  readonly knownSinceMs: number;
}

/** What a waiting claim was answered. */
export interface Granted {
  readonly task_id: string;
  readonly fence: number;
}

export interface Waiter {
  readonly awaited: Awaited;
  /** Resolves when it has a task. */
  readonly answered: Promise<void>;
  /** What it has; undefined while it waits, or when it was sent away. */
  readonly granted: Granted | undefined;
  /** What else it was answered. */
  readonly refusal: string | undefined;
  stop(): void;
}

const retryMs = 200;
/** The longest that the server waits; each request waits less, so that one whose server died is not waited for in vain. */
const waitMs = 5_000;

/** Claims, waiting; when no answer comes, or an empty one, it claims again under the same key, as docs/claims.md has it. */
export function startWaiter(client: Client, awaited: Awaited): Waiter {
  const { runId, taskType } = awaited;
  const answered = Promise.withResolvers<void>();
  const state: { granted?: Granted; refusal?: string; isStopped: boolean } = { isStopped: false };

  async function claimOnce(): Promise<void> {
    const body = { agent_id: "waiter", task_type: taskType, wait_ms: waitMs, lease_ms: 300_000 };
    const options = { key: `${runId}.waiter`, patienceMs: waitMs * 3 };
    const reply = await client.ask("POST", `/v1/runs/${runId}/tasks/claim`, body, options);
    const lease = objectAt(reply.body, "lease");
    if (reply.status >= 400 && reply.status < 500) {
      state.refusal = `${reply.status} ${JSON.stringify(reply.body)}`;
      answered.resolve();
    } else if (lease !== undefined) {
      const task_id = stringAt(objectAt(reply.body, "task"), "id") ?? "";
      state.granted = { task_id, fence: numberAt(lease, "fence") ?? 0 };
      answered.resolve();
    }
  }

  void (async () => {
    while (!state.isStopped && state.granted === undefined && state.refusal === undefined) {
      // Whatever became of it, the same claim is sent again.
      await claimOnce().catch(() => undefined);
      await sleep(retryMs);
    }
  })();
  return {
    awaited,
    answered: answered.promise,
    get granted() {
      return state.granted;
    },
    get refusal() {
      return state.refusal;
    },
    stop: () => {
      state.isStopped = true;
    },
  };
}

/** Whether each waiter has its task, the log has that claim once, and it was given out in time. */
export function checkWaiters(
  logs: readonly RunLog[],
  waiters: readonly Pick<Waiter, "awaited" | "granted" | "refusal">[],
  disturbances: Disturbances,
  slackMs: number,
): Violation[] {
  return waiters.flatMap(({ awaited, granted, refusal }) => {
    const { runId: run_id, dueMs, afterSeq, knownSinceMs } = awaited;
    const flag = (rule: string, detail: string, seq?: number): Violation[] => [
      { rule, detail, run_id, ...(seq !== undefined && { seq }) },
    ];
    if (refusal !== undefined) return flag("refused", `a waiting claim was answered ${refusal}`);
    if (granted === undefined) return flag("never", "a waiting claim has no task");
    const claims = (logs.find((log) => log.run_id === run_id)?.events ?? []).filter(
      ({ type, task_id, seq }) =>
        type === "context.task.claimed" && task_id === granted.task_id && seq > afterSeq,
    );
    const [claim] = claims;
    if (claim === undefined || claims.length > 1 || claim.seq !== granted.fence) {
      const seqs = claims.map(({ seq }) => seq).join(", ");
      return flag("other", `it was given fence ${granted.fence}, the log has claims ${seqs || "none"}`);
    }
    if (claim.ts_ms < dueMs) return flag("early", `${dueMs - claim.ts_ms} ms before its time`, claim.seq);
    const latest = latestMoment(disturbances, dueMs, knownSinceMs, slackMs).serverMs;
    const lateMs = claim.ts_ms - dueMs;
    return claim.ts_ms > latest
      ? flag("late", `${lateMs} ms after its time, at most ${latest - dueMs} are explained`, claim.seq)
      : [];
  });
}
