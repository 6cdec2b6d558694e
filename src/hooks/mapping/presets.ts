import type { Mapping, MappingPreset } from "../../protocol/mapping.ts";

/** A mapping to begin with, and the scheme whose deliveries it is for. */
export interface Preset {
  title: string;
  scheme: string;
  mapping: Mapping;
}

const sender = { url: "{{ issue.html_url }}", by: "{{ sender.login }}" };

const githubIssue: Mapping = {
  run_key: "gh/{{ repository.full_name }}/{{ issue.number }}",
  on_existing: "append_event",
  run: {
    objective:
      "Work on issue {{ issue.number }} of {{ repository.full_name | truncate(140) }}: {{ issue.title | truncate(200) }}",
    run_type: "github_issue",
    source_client: "github",
  },
};

export const PRESETS: Readonly<Record<MappingPreset, Preset>> = {
  github_issue_opened: {
    title: "GitHub: an issue is opened",
    scheme: "github",
    mapping: {
      ...githubIssue,
      when: { and: [{ event: "issues" }, { path: "action", in: ["opened", "reopened"] }] },
      event: {
        type: "github_issue",
        input: { action: "{{ action }}", title: "{{ issue.title | truncate(500) }}", ...sender },
      },
      tasks: [
        {
          task_type: "triage",
          id: "triage-{{ issue.number }}",
          payload: { title: "Triage the issue" },
          input: {
            ...sender,
            number: "{{ issue.number }}",
            repository: "{{ repository.full_name }}",
            title: "{{ issue.title | truncate(500) }}",
            body: "{{ issue.body | truncate(8000) }}",
          },
        },
      ],
    },
  },
  github_issue_labelled: {
    title: "GitHub: an issue gets the label agent",
    scheme: "github",
    mapping: {
      ...githubIssue,
      when: {
        and: [{ event: "issues" }, { path: "action", eq: "labeled" }, { path: "label.name", eq: "agent" }],
      },
      on_existing: "add_tasks",
      event: { type: "github_issue_labelled", input: { label: "{{ label.name }}", ...sender } },
      tasks: [
        {
          task_type: "fix",
          id: "fix-{{ issue.number }}",
          payload: { title: "Do what the issue asks for" },
          input: {
            ...sender,
            number: "{{ issue.number }}",
            repository: "{{ repository.full_name }}",
            title: "{{ issue.title | truncate(500) }}",
            body: "{{ issue.body | truncate(8000) }}",
          },
        },
      ],
    },
  },
  github_pr_comment: {
    title: "GitHub: somebody comments on a pull request",
    scheme: "github",
    mapping: {
      ...githubIssue,
      when: {
        and: [
          { event: "issue_comment" },
          { path: "action", eq: "created" },
          { path: "issue.pull_request", exists: true },
          // An agent that answers must not hear itself.
          { not: { path: "sender.type", eq: "Bot" } },
        ],
      },
      on_existing: "add_tasks",
      run: {
        objective:
          "Answer the comments on pull request {{ issue.number }} of {{ repository.full_name | truncate(140) }}: {{ issue.title | truncate(200) }}",
        run_type: "github_pull_request",
        source_client: "github",
      },
      event: {
        type: "github_pr_comment",
        input: { url: "{{ comment.html_url }}", by: "{{ comment.user.login }}" },
      },
      tasks: [
        {
          task_type: "answer_comment",
          id: "comment-{{ comment.id }}",
          payload: { title: "Answer the comment" },
          input: {
            url: "{{ comment.html_url }}",
            by: "{{ comment.user.login }}",
            repository: "{{ repository.full_name }}",
            number: "{{ issue.number }}",
            body: "{{ comment.body | truncate(8000) }}",
          },
        },
      ],
    },
  },
  slack_mention: {
    title: "Slack: the app is mentioned",
    scheme: "slack",
    mapping: {
      when: {
        and: [
          { path: "type", eq: "event_callback" },
          { path: "event.type", eq: "app_mention" },
          { path: "event.bot_id", exists: false },
        ],
      },
      // A thread is one conversation; what begins one has no thread_ts yet.
      run_key: "slack/{{ team_id }}/{{ event.channel }}/{{ event.thread_ts | default(event.ts) }}",
      on_existing: "add_tasks",
      run: {
        objective: "Answer the people in Slack channel {{ event.channel }}",
        run_type: "slack_thread",
        source_client: "slack",
      },
      event: { type: "slack_mention", input: { user: "{{ event.user }}", channel: "{{ event.channel }}" } },
      tasks: [
        {
          task_type: "answer_mention",
          payload: { title: "Answer the message in its thread" },
          input: {
            user: "{{ event.user }}",
            channel: "{{ event.channel }}",
            ts: "{{ event.ts }}",
            thread_ts: "{{ event.thread_ts }}",
            text: "{{ event.text | truncate(8000) }}",
          },
        },
      ],
    },
  },
  slack_slash_command: {
    title: "Slack: a slash command",
    scheme: "slack",
    mapping: {
      when: {
        and: [
          { path: "command", matches: "/*" },
          { path: "trigger_id", exists: true },
        ],
      },
      run: {
        objective: "Carry out the Slack command {{ command | truncate(50) }}: {{ text | truncate(500) }}",
        run_type: "slack_command",
        source_client: "slack",
      },
      event: {
        type: "slack_slash_command",
        input: { command: "{{ command }}", user_id: "{{ user_id }}", channel_id: "{{ channel_id }}" },
      },
      tasks: [
        {
          task_type: "slash_command",
          payload: { title: "Carry out the command and answer at response_url" },
          input: {
            command: "{{ command }}",
            text: "{{ text | truncate(8000) }}",
            user_id: "{{ user_id }}",
            channel_id: "{{ channel_id }}",
            response_url: "{{ response_url }}",
          },
        },
      ],
    },
  },
  stripe_payment_failed: {
    title: "Stripe: a payment fails",
    scheme: "stripe",
    mapping: {
      when: {
        path: "type",
        in: ["invoice.payment_failed", "payment_intent.payment_failed", "charge.failed"],
      },
      run_key: "stripe/{{ data.object.id }}",
      on_existing: "append_event",
      run: {
        objective: "Look into the failed payment {{ data.object.id | truncate(100) }}",
        run_type: "payment_failed",
        source_client: "stripe",
      },
      event: {
        type: "stripe_payment_failed",
        input: { type: "{{ type }}", id: "{{ id }}", object: "{{ data.object.id }}" },
      },
      tasks: [
        {
          task_type: "payment_failed",
          payload: { title: "Find out why the payment failed, and what to tell the customer" },
          input: {
            type: "{{ type }}",
            object: "{{ data.object.id }}",
            customer: "{{ data.object.customer }}",
            currency: "{{ data.object.currency }}",
            amount_due: "{{ data.object.amount_due }}",
            amount: "{{ data.object.amount }}",
            attempt_count: "{{ data.object.attempt_count }}",
            livemode: "{{ livemode }}",
            error: "{{ data.object.last_payment_error.message | truncate(1000) }}",
          },
        },
      ],
    },
  },
  linear_issue: {
    title: "Linear: an issue is made or changes",
    scheme: "linear",
    mapping: {
      when: {
        and: [
          { path: "type", eq: "Issue" },
          { path: "action", in: ["create", "update"] },
        ],
      },
      run_key: "linear/{{ data.id }}",
      on_existing: "append_event",
      run: {
        objective:
          'Work on Linear issue {{ data.identifier | default("") | truncate(40) }}: {{ data.title | truncate(200) }}',
        run_type: "linear_issue",
        source_client: "linear",
      },
      event: {
        type: "linear_issue",
        input: {
          action: "{{ action }}",
          url: "{{ url }}",
          state: "{{ data.state.name }}",
          updated: "{{ updatedFrom | json | truncate(2000) }}",
        },
      },
      tasks: [
        {
          task_type: "triage",
          payload: { title: "Triage the issue" },
          input: {
            identifier: "{{ data.identifier }}",
            title: "{{ data.title | truncate(500) }}",
            description: "{{ data.description | truncate(8000) }}",
            priority: "{{ data.priority }}",
            url: "{{ url }}",
          },
        },
      ],
    },
  },
  sentry_alert: {
    title: "Sentry: an alert or a new issue",
    scheme: "hmac",
    mapping: {
      when: { path: "$headers.sentry-hook-resource", in: ["event_alert", "metric_alert", "issue"] },
      // An issue and the alerts about it are one run; a metric has no issue.
      run_key:
        'sentry/{{ data.event.issue_id | default(data.issue.id) | default("metric") }}/{{ data.metric_alert.id | default("") }}',
      on_existing: "append_event",
      run: {
        objective:
          "Find the cause of a Sentry alert: {{ data.event.title | default(data.issue.title) | default(data.description_title) | truncate(200) }}",
        run_type: "sentry_alert",
        source_client: "sentry",
      },
      event: {
        type: "sentry_alert",
        input: { resource: "{{ $headers.sentry-hook-resource }}", action: "{{ action }}" },
      },
      tasks: [
        {
          task_type: "diagnose",
          payload: { title: "Find the cause, and say how to mend it" },
          input: {
            rule: "{{ data.triggered_rule }}",
            title: "{{ data.event.title | default(data.issue.title) | truncate(500) }}",
            culprit: "{{ data.event.culprit | truncate(500) }}",
            level: "{{ data.event.level }}",
            web_url: "{{ data.event.web_url }}",
            issue: "{{ data.issue.shortId }}",
            alert: "{{ data.description_title | truncate(500) }}",
          },
        },
      ],
    },
  },
  plain_json: {
    title: "Any JSON: each delivery is a run with one task",
    scheme: "standard",
    mapping: {
      run: {
        objective: "Look at what came in by the webhook",
        run_type: "webhook",
        source_client: "webhook",
      },
      event: { type: "webhook_received", input: { event: "{{ $event }}" } },
      tasks: [
        {
          task_type: "webhook",
          payload: { title: "Read the payload, and do what it calls for" },
          input: { event: "{{ $event }}", body: "{{ $body | json | truncate(8000) }}" },
        },
      ],
    },
  },
};
