import type { JsonObject } from "../../drill/fields.ts";
import { listAt } from "../../drill/fields.ts";
import { type Client, waitUntil } from "./client.ts";
import { checkDirectoryRows, runOf } from "./directory-rows.ts";
import type { Observer, Violation } from "./observer.ts";

/** The directory follows a run within about a second, and after a time without it within a minute at most, ms. */
const convergenceMs = 75_000;

/** Compares what is listed with what was made. @param clients one per tenant, with the runs made there by others. */
export function watchDirectory(
  tenants: readonly { client: Client; runIds(ofDrills: readonly string[]): readonly string[] }[],
): Observer {
  return {
    check: async (ofDrills) => {
      const violations: Violation[] = [];
      let examined = 0;
      for (const { client, runIds } of tenants) {
        const known = runIds(ofDrills);
        let found: Violation[] = [];
        await waitUntil(async () => {
          found = await compare(client, known);
          return found.length === 0;
        }, convergenceMs);
        violations.push(...found);
        examined += known.length;
      }
      return [{ name: "the directory has every run as it is, and no other", examined, violations }];
    },
    close: async () => undefined,
  };
}

async function compare(client: Client, runIds: readonly string[]): Promise<Violation[]> {
  const rows = (await client.pages("/v1/runs")).flatMap((page) => listAt(page, "runs"));
  const runs = new Map<string, JsonObject | undefined>();
  for (const runId of runIds) runs.set(runId, runOf((await client.ask("GET", `/v1/runs/${runId}`)).body));
  return checkDirectoryRows(rows, runs);
}
