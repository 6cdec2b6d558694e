import { accepted, type Connection, type Reply, withConnections } from "./connection.ts";
import type { Target } from "./measure.ts";

/** A task as it is put on a board: 120 to 130 bytes of payload, like a line of a real plan. */
export function newTask(id: string): Record<string, unknown> {
  return {
    id,
    task_type: "build",
    payload: {
      title: "Read both forms of the header",
      files: ["src/a.ts", "src/b.ts"],
      description: "See §3.",
    },
  };
}

/** How many task types and workflows a busy board mixes: 50 lanes of ready tasks. */
const taskTypes = 5;
const workflows = 10;

/** The task of that index on a board of many types, workflows and priorities. */
export function mixedTask(index: number): Record<string, unknown> {
  return {
    ...newTask(`t${index}`),
    task_type: `type-${index % taskTypes}`,
    workflow_id: `flow-${Math.floor(index / taskTypes) % workflows}`,
    priority: index % 7,
  };
}

const maxBatch = 500;

/** Creates a run with that many ready tasks and gives its path, like `/v1/runs/run-1`. */
export function newRun(
  baton: Target,
  objective: string,
  taskCount = 0,
  taskAt: (index: number) => Record<string, unknown> = (index) => newTask(`t${index}`),
): Promise<string> {
  return withConnections(baton, 1, async ([connection]) => {
    const only = connection as Connection;
    const { run } = await only.call<{ run: { run_id: string } }>("/v1/runs", { objective });
    const path = `/v1/runs/${run.run_id}`;
    for (let from = 0; from < taskCount; from += maxBatch) {
      const count = Math.min(maxBatch, taskCount - from);
      const tasks = Array.from({ length: count }, (_, index) => taskAt(from + index));
      await only.call(`${path}/tasks`, { tasks });
    }
    return path;
  });
}

/** The same run at the door of `/context`. */
export function contextPath(path: string): string {
  return path.replace("/v1/", "/context/");
}

/** A claim's answer, and how long it took. */
export interface Claimed {
  task: { id: string } | null;
  lease: { token: string } | null;
  /** In milliseconds. */
  elapsedMs: number;
}

/** As long as leases can be: none may run out while it is measured. */
const leaseMs = 300_000;

/** Claims whatever is next on the board of the run at `path`; nulls when nothing is. */
export async function claim(connection: Connection, path: string, agentId = "agent-1"): Promise<Claimed> {
  const body = JSON.stringify({ agent_id: agentId, lease_ms: leaseMs });
  const reply = accepted(path, await connection.post(`${path}/tasks/claim`, body));
  return { ...(JSON.parse(reply.text) as Omit<Claimed, "elapsedMs">), elapsedMs: reply.elapsedMs };
}

/** Completes what was claimed. @throws Error when that was nothing */
export function complete(connection: Connection, path: string, claimed: Claimed): Promise<Reply> {
  return transition(connection, path, claimed, "complete");
}

/** Extends the lease of what was claimed. @throws Error when that was nothing */
export function heartbeat(connection: Connection, path: string, claimed: Claimed): Promise<Reply> {
  return transition(connection, path, claimed, "heartbeat");
}

async function transition(
  connection: Connection,
  path: string,
  { task, lease }: Claimed,
  action: "complete" | "heartbeat",
): Promise<Reply> {
  if (task === null || lease === null) throw new Error(`${path} has no ready task left`);
  const url = `${path}/tasks/${task.id}/transition`;
  return accepted(url, await connection.post(url, JSON.stringify({ action, lease_token: lease.token })));
}
