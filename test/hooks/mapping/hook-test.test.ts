import { describe, expect, it } from "vitest";
import { deliveryRunId, keyedRunId } from "../../../src/hooks/mapping/ids.ts";
import { ANYTHING, api, delivery, newHook, send, type TestHook } from "../in/support/hooks.ts";
import { githubSender } from "../in/support/senders.ts";
import { exampleOf } from "./github-examples.ts";

const { body: opened } = exampleOf("issues", "opened");
const { issue, repository } = opened as unknown as {
  issue: { number: number };
  repository: { full_name: string };
};

/** Delivers GitHub's example of an opened issue, signed by its own library, and gives back the delivery's id. */
async function deliverIssue(hook: TestHook): Promise<string> {
  const request = await delivery(githubSender, hook.url, {
    id: crypto.randomUUID(),
    body: JSON.stringify(opened),
  });
  const answered = await send(request);
  expect(answered.status, answered.text).toBe(202);
  return answered.body.delivery_id;
}

const test = (hook: TestHook, body: unknown) => api("POST", `${hook.path}/test`, body);

describe("POST /v1/hooks/{hook_id}/test", () => {
  const sample = { event: "issues", body: opened };

  it("shows what a sample would become, and then whether that is there", async () => {
    const hook = await newHook(githubSender, { mapping: "github_issue_opened" });
    const run_id = keyedRunId(hook.id, `gh/${repository.full_name}/${issue.number}`);
    const tested = await test(hook, { sample });
    expect(tested.body).toMatchObject({
      verdict: "plan",
      plan: { tasks: [{ id: `triage-${issue.number}`, payload: { source: { hook_id: hook.id } } }] },
      run_id,
      run_exists: false,
    });
    expect((await api("GET", `/v1/runs/${run_id}`)).status).toBe(404);

    const delivery_id = await deliverIssue(hook);
    const made = await api("GET", `/v1/runs/${run_id}`);
    expect(made.body.run).toMatchObject({
      run_type: "github_issue",
      task_counts: { total: 1 },
      source_metadata: { hook_id: hook.id, delivery_id },
    });
    expect((await test(hook, { sample })).body).toMatchObject({ run_id, run_exists: true });
  });

  it("takes a delivery that the hook has had, and another mapping", async () => {
    const hook = await newHook(githubSender, { mapping: "github_issue_labelled" });
    const delivery_id = await deliverIssue(hook);
    expect((await test(hook, { delivery_id })).body).toMatchObject({
      verdict: "skip",
      conditions: [{ matched: false }, { condition: "when.and[0]", matched: true }, { matched: false }, {}],
    });
    const { run_key: _key, ...keyless } = ANYTHING;
    const mapping = { ...keyless, event: { input: "{{ $headers.x-github-event }} {{ $event }}" } };
    expect((await test(hook, { delivery_id, mapping })).body).toMatchObject({
      verdict: "plan",
      plan: { event: { payload: { input: "issues issues", source: { delivery_id } } } },
      run_id: deliveryRunId(hook.id, delivery_id),
      run_exists: false,
    });
    expect((await test(hook, { sample, mapping })).body).toMatchObject({ run_id: null, run_exists: false });
  });

  it("shows why nothing would come of it", async () => {
    const hook = await newHook(githubSender, { mapping: { ...ANYTHING, run_key: "{{ gone }}" } });
    expect((await test(hook, { sample: {} })).body).toMatchObject({
      verdict: "error",
      issues: [{ field: "run_key", rule: "missing" }],
    });
  });

  it("refuses what it does not know", async () => {
    const [hook, other] = [await newHook(githubSender), await newHook(githubSender)];
    const delivery_id = await deliverIssue(other);
    const cases: [body: unknown, status: number, code: string][] = [
      [{}, 422, "BODY_INVALID"],
      [{ sample, delivery_id }, 422, "BODY_INVALID"],
      [{ sample, mapping: { run: {} } }, 422, "BODY_INVALID"],
      [{ sample, extra: 1 }, 422, "BODY_INVALID"],
      [{ delivery_id: "dlv_none" }, 404, "DELIVERY_NOT_FOUND"],
      // Another hook's, also of the same tenant.
      [{ delivery_id }, 404, "DELIVERY_NOT_FOUND"],
    ];
    for (const [body, status, code] of cases) {
      const refused = await test(hook, body);
      expect([refused.status, refused.body.code], JSON.stringify(body)).toEqual([status, code]);
    }
    const unknown = await api("POST", "/v1/hooks/hook_none/test", { sample });
    expect([unknown.status, unknown.body.code]).toEqual([404, "HOOK_NOT_FOUND"]);
  });

  it("tells of a delivery whose body is no data", async () => {
    const hook = await newHook(githubSender);
    const answered = await send(
      await delivery(githubSender, hook.url, { id: crypto.randomUUID(), body: "{" }),
    );
    const { status, body } = await test(hook, { delivery_id: answered.body.delivery_id });
    expect([status, body.issues]).toEqual([
      422,
      [expect.objectContaining({ field: "delivery_id", rule: "payload" })],
    ]);
  });
});
