import { type Connection, withConnections } from "./connection.ts";
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

const maxBatch = 500;

/** Creates a run with that many ready tasks and gives its path, like `/v1/runs/run-1`. */
export function newRun(baton: Target, objective: string, taskCount = 0): Promise<string> {
  return withConnections(baton, 1, async ([connection]) => {
    const only = connection as Connection;
    const { run } = await only.call<{ run: { run_id: string } }>("/v1/runs", { objective });
    const path = `/v1/runs/${run.run_id}`;
    for (let from = 0; from < taskCount; from += maxBatch) {
      const count = Math.min(maxBatch, taskCount - from);
      const tasks = Array.from({ length: count }, (_, index) => newTask(`t${from + index}`));
      await only.call(`${path}/tasks`, { tasks });
    }
    return path;
  });
}

/** A claim's answer. */
export interface Claimed {
  task: { id: string } | null;
  lease: { token: string } | null;
}
