import { describe, expect, it } from "vitest";
import { planOf } from "../../../src/hooks/mapping/plan.ts";
import { PRESETS } from "../../../src/hooks/mapping/presets.ts";
import { MAPPING_PRESETS, type MappingPreset } from "../../../src/protocol/mapping.ts";
import { exampleOf, GITHUB } from "./github-examples.ts";
import { input, planned } from "./support.ts";

const headersOf = (event: string) => ({ event, headers: { "x-github-event": event } });

/** The verdicts of a preset on all of GitHub's examples: how many of which event and action are mapped. */
function mappedBy(preset: MappingPreset): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { event, action, body } of GITHUB) {
    const came = planOf(PRESETS[preset].mapping, input(body, headersOf(event)));
    expect(came.verdict, `${event} ${action}: ${JSON.stringify(came)}`).not.toBe("error");
    if (came.verdict === "plan") counts[`${event}.${action}`] = (counts[`${event}.${action}`] ?? 0) + 1;
  }
  return counts;
}

describe("the real payloads of @octokit/webhooks-examples", () => {
  it("are there", () => {
    expect(GITHUB.length).toBeGreaterThan(300);
  });

  it("are mapped or skipped by every preset, and those for GitHub take what they say", () => {
    const taken = Object.fromEntries(MAPPING_PRESETS.map((preset) => [preset, mappedBy(preset)]));
    const { plain_json: any, ...others } = taken;
    expect(Object.values(any ?? {}).reduce((sum, count) => sum + count, 0)).toBe(GITHUB.length);
    expect(others).toEqual({
      github_issue_opened: { "issues.opened": 4, "issues.reopened": 1 },
      // None of the examples has a label of that name.
      github_issue_labelled: {},
      github_pr_comment: expect.toSatisfy((counts: object) =>
        Object.keys(counts).every((key) => key === "issue_comment.created"),
      ),
      slack_mention: {},
      slack_slash_command: {},
      stripe_payment_failed: {},
      linear_issue: {},
      sentry_alert: {},
    });
  });

  it("an issue that is opened becomes a run of that issue, with one task", () => {
    const { body } = exampleOf("issues", "opened");
    const { number, title } = body.issue as { number: number; title: string };
    const { full_name } = body.repository as { full_name: string };
    const plan = planned(PRESETS.github_issue_opened.mapping, body, headersOf("issues"));
    expect(plan.run_key).toBe(`gh/${full_name}/${number}`);
    expect(plan.run.objective).toBe(`Work on issue ${number} of ⟪${full_name}⟫: ⟪${title}⟫`);
    expect(plan.tasks).toMatchObject([
      {
        id: `triage-${number}`,
        payload: { title: "Triage the issue", input: { number, title, repository: full_name } },
      },
    ]);
  });

  it("a label that calls for an agent adds its task to the run of that issue", () => {
    const { body } = exampleOf("issues", "labeled");
    const labelled = { ...body, label: { ...(body.label as object), name: "agent" } };
    const { number } = body.issue as { number: number };
    const plan = planned(PRESETS.github_issue_labelled.mapping, labelled, headersOf("issues"));
    const opened = planned(
      PRESETS.github_issue_opened.mapping,
      { ...body, action: "opened" },
      headersOf("issues"),
    );
    expect(plan).toMatchObject({
      run_key: opened.run_key,
      on_existing: "add_tasks",
      tasks: [{ id: `fix-${number}` }],
    });
  });

  it("a comment on a pull request adds a task to the run of that pull request; a bot's does not", () => {
    const { body } = exampleOf("issue_comment", "created");
    const issue = {
      ...(body.issue as { number: number }),
      pull_request: { url: "https://api.github.com/x" },
    };
    const human = { ...(body.sender as object), type: "User" };
    const comment = body.comment as { id: number; body: string };
    const map = (sender: object) =>
      planOf(
        PRESETS.github_pr_comment.mapping,
        input({ ...body, issue, sender }, headersOf("issue_comment")),
      );
    expect(map(human)).toMatchObject({
      verdict: "plan",
      plan: {
        on_existing: "add_tasks",
        tasks: [{ id: `comment-${comment.id}`, payload: { input: { body: comment.body } } }],
      },
    });
    expect(map({ ...human, type: "Bot" }).verdict).toBe("skip");
    const onIssue = { ...body, issue: body.issue, sender: human };
    const isPullRequest = "pull_request" in (body.issue as object);
    expect(
      planOf(PRESETS.github_pr_comment.mapping, input(onIssue, headersOf("issue_comment"))).verdict,
    ).toBe(isPullRequest ? "plan" : "skip");
  });
});

// In the shapes that the providers document, shortened.

const slackMention = (event: object = {}) => ({
  token: "XXYYZZ",
  team_id: "T061EG9R6",
  api_app_id: "A0PNCHHK2",
  event: {
    type: "app_mention",
    user: "U061F7AUR",
    text: "<@U0LAN0Z89> is it everything a river should be?",
    ts: "1515449522.000016",
    channel: "C0LAN2Q65",
    event_ts: "1515449522000016",
    ...event,
  },
  type: "event_callback",
  event_id: "Ev0MDYGDKJ",
  event_time: 1515449522000016,
});

const slashCommand = {
  token: "gIkuvaNzQIHg97ATvDxqgjtO",
  team_id: "T0001",
  channel_id: "C2147483705",
  user_id: "U2147483697",
  command: "/weather",
  text: "94070",
  response_url: "https://hooks.slack.com/commands/1234/5678",
  trigger_id: "13345224609.738474920.8088930838d88f008e0",
};

const stripeEvent = (type: string, object: object) => ({
  id: "evt_1NG8Du2eZvKYlo2CUI79vXWy",
  object: "event",
  api_version: "2019-02-19",
  created: 1686089970,
  data: { object },
  livemode: false,
  type,
});

const linearIssue = {
  action: "create",
  actor: { id: "b5ea5f1f-8adc-4f52-b4bd-ab4e84cf51ba", type: "user", name: "Ann" },
  createdAt: "2020-01-23T12:53:18.084Z",
  data: {
    id: "539068e2-ae88-4d09-bd75-22eb4a59612f",
    identifier: "LIN-7",
    title: "It breaks",
    description: "When I press it.",
    priority: 2,
    state: { name: "Todo" },
  },
  url: "https://linear.app/issue/LIN-7",
  type: "Issue",
  webhookTimestamp: 1676056940508,
};

const sentryAlert = {
  action: "triggered",
  data: {
    event: {
      issue_id: "1117540176",
      title: "ReferenceError: heck is not defined",
      culprit: "?(runner)",
      level: "error",
      web_url:
        "https://sentry.io/organizations/test-org/issues/1117540176/events/e4874d664c3540c1a32eab185f12c5ab/",
    },
    triggered_rule: "Very Important Alert Rule!",
  },
};

const sentryIssue = {
  action: "created",
  data: { issue: { id: "1170820242", shortId: "IPE-1", title: "Error: Oh no!" } },
};

const sentryHeaders = (resource: string) => ({ headers: { "sentry-hook-resource": resource } });

describe("payloads in the providers' documented shapes", () => {
  it("Slack: a mention begins a run of its thread, and a mention in the thread is of that run", () => {
    const { mapping } = PRESETS.slack_mention;
    const first = planned(mapping, slackMention(), { event: "app_mention" });
    const reply = planned(mapping, slackMention({ ts: "1515449999.1", thread_ts: "1515449522.000016" }), {});
    expect(first).toMatchObject({
      run_key: "slack/T061EG9R6/C0LAN2Q65/1515449522.000016",
      on_existing: "add_tasks",
      tasks: [{ payload: { input: { user: "U061F7AUR", thread_ts: null } } }],
    });
    expect(reply.run_key).toBe(first.run_key);
    expect(planOf(mapping, input(slackMention({ bot_id: "B1" }))).verdict).toBe("skip");
  });

  it("Slack: a slash command is a run", () => {
    expect(planned(PRESETS.slack_slash_command.mapping, slashCommand)).toMatchObject({
      run_key: null,
      run: { objective: "Carry out the Slack command ⟪/weather⟫: ⟪94070⟫" },
      tasks: [{ payload: { input: { text: "94070", response_url: slashCommand.response_url } } }],
    });
  });

  it("Stripe: a failed payment is a run per invoice, payment or charge", () => {
    const { mapping } = PRESETS.stripe_payment_failed;
    const invoice = {
      id: "in_1",
      object: "invoice",
      customer: "cus_1",
      currency: "usd",
      amount_due: 2000,
      attempt_count: 1,
    };
    expect(planned(mapping, stripeEvent("invoice.payment_failed", invoice))).toMatchObject({
      run_key: "stripe/in_1",
      tasks: [{ payload: { input: { customer: "cus_1", amount_due: 2000, livemode: false } } }],
    });
    const payment = { id: "pi_1", amount: 5, last_payment_error: { message: "Your card was declined." } };
    expect(planned(mapping, stripeEvent("payment_intent.payment_failed", payment)).tasks).toMatchObject([
      { payload: { input: { error: "Your card was declined." } } },
    ]);
    expect(planOf(mapping, input(stripeEvent("invoice.paid", invoice))).verdict).toBe("skip");
  });

  it("Linear: an issue is a run, and what happens to it is told in that run", () => {
    const { mapping } = PRESETS.linear_issue;
    const made = planned(mapping, linearIssue, { event: "Issue" });
    const updated = { ...linearIssue, action: "update", updatedFrom: { stateId: "x" } };
    const changed = planned(mapping, updated, { event: "Issue" });
    expect(made).toMatchObject({
      run_key: `linear/${linearIssue.data.id}`,
      run: { objective: "Work on Linear issue ⟪LIN-7⟫: ⟪It breaks⟫" },
    });
    expect(changed).toMatchObject({
      run_key: made.run_key,
      on_existing: "append_event",
      event: { payload: { input: { action: "update", updated: '{"stateId":"x"}' } } },
    });
    expect(planOf(mapping, input({ ...linearIssue, type: "Comment" })).verdict).toBe("skip");
  });

  it("Sentry: an alert and an issue are runs", () => {
    const { mapping } = PRESETS.sentry_alert;
    expect(planned(mapping, sentryAlert, sentryHeaders("event_alert"))).toMatchObject({
      run: { objective: "Find the cause of a Sentry alert: ⟪ReferenceError: heck is not defined⟫" },
      run_key: "sentry/1117540176/",
      tasks: [{ payload: { input: { rule: "Very Important Alert Rule!", level: "error" } } }],
    });
    expect(planned(mapping, sentryIssue, sentryHeaders("issue"))).toMatchObject({
      run_key: "sentry/1170820242/",
      tasks: [{ payload: { input: { issue: "IPE-1" } } }],
    });
    expect(planOf(mapping, input(sentryAlert, sentryHeaders("installation"))).verdict).toBe("skip");
  });

  it("plain JSON: whatever comes is a run, also what is too large to be shown whole", () => {
    const { mapping } = PRESETS.plain_json;
    for (const body of [null, 1, "text", [], {}, { a: "x".repeat(100_000) }, Array(50_000).fill({ a: 1 })]) {
      expect(planned(mapping, body, { event: null }).tasks).toHaveLength(1);
    }
  });
});
