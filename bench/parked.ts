import { type Connection, withConnections } from "./connection.ts";
import type { Target } from "./measure.ts";

/** As long as a claim can wait. */
const waitMs = 55_000;
/** As long as leases can be: none may run out while it is measured. */
const leaseMs = 300_000;

/** A claim that waits. */
export interface Parked {
  /** Resolves with the task's id and when the answer had come (`performance.now`). */
  held: Promise<{ id: string; atMs: number }>;
}

/** Sends a claim that waits, of the run at `path`. */
export function park(connection: Connection, path: string, agentId: string): Parked {
  const body = { agent_id: agentId, lease_ms: leaseMs, wait_ms: waitMs };
  const held = connection
    .call<{ task: { id: string } | null }>(`${path}/tasks/claim`, body)
    .then(({ task }) => {
      if (task === null) throw new Error(`${path}: a claim waited in vain`);
      return { id: task.id, atMs: performance.now() };
    });
  return { held };
}

/** Opens that many connections, with a claim that waits on each, and runs `use`. */
export function withParked<T>(
  target: Target,
  path: string,
  count: number,
  use: (parked: Parked[]) => Promise<T>,
): Promise<T> {
  return withConnections(target, count, (connections) =>
    use(connections.map((connection, index) => park(connection, path, `parked-${index}`))),
  );
}
