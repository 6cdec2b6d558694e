import { objectAt, stringAt } from "../../drill/fields.ts";
import { createClient } from "./client.ts";
import type { Observer, Surroundings } from "./observer.ts";

/** A tenant of its own: what is here wakes nobody else's runs. */
const tenant = { org: "torture", workspace: "pending" } as const;

const hourMs = 3_600_000;

/**
 * Leaves behind what is not due yet when the server is closed, of every kind that an alarm must stand for, so that the
 * look at the storage has something to find. It judges nothing itself.
 */
export function leavePending({ url, token, seed }: Surroundings): Observer {
  const { demand } = createClient(url, token, tenant);
  return {
    check: async () => {
      // Nobody listens there.
      await demand("POST", "/v1/subscriptions", { url: "http://127.0.0.1:9/" });
      for (const kind of ["leased", "clocked", "cancelled", "locked", "paused"]) {
        const runId = `pending-${seed}-${kind}`;
        const path = `/v1/runs/${runId}`;
        await demand("POST", "/v1/runs", { run_id: runId, objective: "Not due yet" });
        const clocks = { finish_within_ms: hourMs };
        const row = { id: "t", task_type: "t", payload: {}, ...(kind === "clocked" && { clocks }) };
        await demand("POST", `${path}/tasks`, { tasks: [row] });
        const lease = { agent_id: "pending", lease_ms: 300_000 };
        if (kind === "locked") {
          await demand("POST", `${path}/locks`, { ...lease, resources: [{ name: "left", mode: "shared" }] });
        } else if (kind !== "clocked") {
          const claim = await demand("POST", `${path}/tasks/claim`, lease);
          if (stringAt(objectAt(claim, "task"), "id") !== "t")
            throw new Error(`nothing to claim in ${runId}`);
        }
        if (kind === "cancelled") await demand("POST", `${path}/tasks/t/cancel`, { grace_ms: hourMs });
        if (kind === "paused") await demand("POST", `${path}/pause`, { grace_ms: hourMs });
      }
      return [];
    },
    close: async () => undefined,
  };
}
