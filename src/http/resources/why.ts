import { taskNotFound } from "../../domain/refusals.ts";
import { type Call, unwrap } from "../call.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonAnswer, RawJson } from "../json.ts";
import { isWholeNumber, pageLimit, pageLinks, readCursor } from "../pages.ts";
import { RequestRefused, refuseIssues } from "../problem.ts";

/** `GET /v1/…/tasks/{task_id}/why`: what a task waits for. */
export async function getWhy(call: Call): Promise<HttpAnswer> {
  const why = unwrap(await call.run().readWhy(call.id("task_id")));
  if (why === null) throw new RequestRefused(taskNotFound);
  return jsonAnswer({ ...why });
}

/** `GET /v1/…/tasks?ready=…`: those that a claim can take, or those that none can, each with what it waits for. */
export async function listByReadiness(call: Call, ready: boolean): Promise<HttpAnswer> {
  const run = call.run();
  const { limit, cursor, ...filters } = call.query({
    status: "string",
    dead_letter: "bool",
    limit: "uint",
    cursor: "string",
  });
  for (const [field, value] of Object.entries(filters)) {
    if (value === undefined) continue;
    const message = "cannot be combined with ready";
    refuseIssues("QUERY_INVALID", [{ field, rule: "one_filter", message }]);
  }
  const afterPos = readCursor(cursor, isWholeNumber) ?? 0;
  const page = unwrap(await run.readByReadiness({ ready, afterPos, limit: pageLimit(limit) }));
  return jsonAnswer({ tasks: new RawJson(page.items), ...pageLinks(call, page.nextPos) });
}
