import { setTimeout as sleep } from "node:timers/promises";
import { numberAt, objectAt, stringAt } from "../../drill/fields.ts";
import { createRng } from "../../drill/rng.ts";
import type { Client } from "./client.ts";
import { checkDeliveries } from "./deliveries.ts";
import type { Observer, Surroundings } from "./observer.ts";
import { startReceiver } from "./receiver.ts";
import { readLogs } from "./streams.ts";

/** Far from the streams of drills and agents. */
const rngStream = 2_000_001;
/** How long what is left may take to be delivered once the receiver behaves, ms. */
const patienceMs = 60_000;
/** About one event of five: a delivery costs more than the commit that it tells of. */
const wantedTypes = ["context.task.completed", "context.task.failed", "context.run.*", "drill_*", "run_*"];

/** Subscribes to all runs of the tenant with a receiver that is no good, and judges what reached it. */
export async function watchDeliveries(
  { seed, disturbances }: Surroundings,
  client: Client,
): Promise<Observer> {
  let secret = "";
  const receiver = await startReceiver(createRng(seed, rngStream), () => secret);
  const made = await client.demand("POST", "/v1/subscriptions", {
    url: receiver.url,
    data: "full",
    events: wantedTypes,
  });
  secret = stringAt(made, "secret") ?? "";
  const subscription = objectAt(made, "subscription");
  const path = `/v1/subscriptions/${stringAt(subscription, "subscription_id")}`;
  const sinceMs = numberAt(subscription, "created_at_ms") ?? 0;
  return {
    check: async (runIds) => {
      const logs = await readLogs(client, runIds);
      const wanted = logs.flatMap(({ run_id, events }) =>
        events
          .filter(({ type, ts_ms }) => isWanted(type) && ts_ms >= sinceMs)
          .map(({ seq }) => `${run_id} ${seq}`),
      );
      await receiver.behave();
      for (const deadlineMs = Date.now() + patienceMs; Date.now() < deadlineMs; await sleep(1_000)) {
        const taken = new Set(
          receiver.arrivals.flatMap(({ takenMs, run_id, seq }) =>
            takenMs === undefined ? [] : `${run_id} ${seq}`,
          ),
        );
        if (wanted.every((one) => taken.has(one))) break;
        // What waits for its five minutes is tried at once.
        await client.ask("POST", `${path}/enable`, {});
      }
      const { outages } = disturbances;
      const violations = checkDeliveries(logs, receiver.arrivals, { wanted: isWanted, sinceMs, outages });
      const name = "deliveries of webhooks: every event, in order, under one id, whatever the receiver did";
      return [{ name, examined: receiver.arrivals.length, violations }];
    },
    close: () => receiver.close(),
  };
}

/** Whether the subscription wants events of a type; patterns here end with their star. */
function isWanted(type: string): boolean {
  return wantedTypes.some((wanted) =>
    wanted.endsWith("*") ? type.startsWith(wanted.slice(0, -1)) : type === wanted,
  );
}
