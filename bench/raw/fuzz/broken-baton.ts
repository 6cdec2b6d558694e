import { pathOf, targetOf } from "../../../src/http/target.ts";
import baton from "../../../src/index.ts";
import type { Submission } from "../../../src/run/engine.ts";
import type { PackedAnswer } from "../../../src/run/packed-answer.ts";
import { FeedObject, SubscriptionObject, RunObject as WatchedRunObject, watched } from "./watched-baton.ts";

// Baton with a fault of each kind that the fuzz looks for, so that a test can see each of them found.

export { FeedObject, SubscriptionObject };

const summary = (payload: string): Submission => ({
  command: { op: "patch_blackboard", patch_op: "set_rolling_summary", payload },
});

export class RunObject extends WatchedRunObject {
  /** What was refused is followed by a commit. */
  override async submit(submission: Submission): Promise<PackedAnswer> {
    const answer = await super.submit(submission);
    if (answer.startsWith('{"ok":false')) await super.submit(summary("refused"));
    return answer;
  }

  /** The alarm commits what nobody has asked for. */
  override async alarm(): Promise<void> {
    await super.submit(summary("by itself"));
    await super.alarm();
  }
}

export default watched(async (request, env, context) => {
  const pathname = pathOf(targetOf(request.url));
  if (pathname === "/v1/mappings/presets") throw new Error("a handler that throws");
  if (pathname === "/v1/quotas" && request.method === "GET") await scheduler.wait(2_000);
  if (pathname.endsWith("/verify"))
    return Response.json({ ok: false }, { headers: { "x-request-id": "it" } });
  const response = await baton.fetch(request, env, context);
  if (response.status === 404 && pathname.startsWith("/v1/hooks/")) {
    await env.DIRECTORY.prepare("INSERT OR REPLACE INTO maintenance VALUES ('broken', '{}', 1)").run();
  }
  if (response.status === 404 && pathname.startsWith("/v1/tokens/")) {
    return Response.json({ message: "not found" }, response);
  }
  if (response.status === 404 && pathname.startsWith("/v1/subscriptions/")) {
    const problem: object = await response.json();
    return Response.json({ ...problem, hint: "x".repeat(100_000) }, response);
  }
  if (response.status === 422 && pathname.startsWith("/v1/runs/")) {
    const problem: object = await response.json();
    const issues = [{ field: "elsewhere", rule: "required", message: "is required" }];
    return Response.json({ ...problem, issues }, response);
  }
  return response;
});
