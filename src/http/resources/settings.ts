import { refuseBound } from "../bounds.ts";
import { type Call, unwrap } from "../call.ts";
import { type Mutation, mutate } from "../command.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonAnswer } from "../json.ts";
import { expectedRevision } from "./runs.ts";

/** `GET /v1/runs/{run_id}/settings`. */
export async function getSettings(call: Call): Promise<HttpAnswer> {
  const { settings = {}, revision } = unwrap(await call.run().readOverview());
  return jsonAnswer({ settings }, { headers: { etag: `"${revision}"` } });
}

export const setting: Mutation<"put_settings", "putSettings"> = {
  body: "putSettings",
  command: ({ settings }, call) => {
    // They are about tasks of any type and agent.
    refuseBound(call.principal, "task_types", "agent_id");
    return { op: "put_settings", settings, expected_revision: expectedRevision(call) };
  },
  context: () => ({}),
  native: ({ outcome: { settings, event } }) => ({
    members: { settings },
    headers: { etag: `"${event.revision}"` },
  }),
  represents: ["run"],
};

/** `PUT /v1/runs/{run_id}/settings`: replaces what was said before. */
export const putSettings = (call: Call) => mutate(setting, call);
