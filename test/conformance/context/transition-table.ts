/** The body of an append. */
export type Sent = { type: string; status: string; step_id?: string | null; payload?: unknown };
/** What changes; "now" is the time of the event, null an absent member. Members not named stay as they were. */
export interface Effect {
  status: string;
  steps?: Record<string, string>;
  why?: string;
  started?: "now";
  ended?: "now" | null;
  error?: string | null;
}

/** What every event that starts work has in common. */
export const started: Effect = { status: "running", started: "now", ended: null, error: null };
export const inRun = "session run in progress";
export const planned = "plan generated and awaiting approval";

/** The transition table of 03 §2: what is appended to the run of the test, and what it changes. */
export const table: [Sent, Effect][] = [
  [
    { type: "session_run_started", status: "failed", step_id: "s1" },
    { ...started, why: inRun, steps: { s1: "in_progress" } },
  ],
  [
    { type: "session_run_started", status: "queued" },
    { ...started, why: inRun, steps: { "session-run": "in_progress" } },
  ],
  [
    { type: "session_run_started", status: "queued", step_id: "  " },
    { ...started, why: inRun, steps: { "session-run": "in_progress" } },
  ],
  [
    { type: "session_run_started", status: "completed", step_id: "nope" },
    { ...started, why: inRun },
  ],
  [
    {
      type: "session_run_started",
      status: "queued",
      step_id: "s1",
      payload: { why_next_step: " w ", error: "e", step_status: "failed" },
    },
    { ...started, why: "w", steps: { s1: "in_progress" } },
  ],
  [
    { type: "planning_started", status: "completed" },
    { ...started, status: "awaiting_approval", why: planned },
  ],
  [
    {
      type: "planning_started",
      status: "planning",
      step_id: "s1",
      payload: { why_next_step: "w", error: "e" },
    },
    { ...started, status: "awaiting_approval", why: planned },
  ],
  [
    { type: "plan_approved", status: "failed", step_id: "s2", payload: { why_next_step: "w" } },
    { ...started, why: "executing step `s1` after approval", steps: { s1: "in_progress" } },
  ],
  [
    { type: "run_paused", status: "running", payload: { why_next_step: "w", error: "e" } },
    { status: "paused", why: "run paused by operator" },
  ],
  [
    { type: "run_resumed", status: "failed", payload: { why_next_step: "w", error: "e" } },
    { status: "running", why: "run resumed by operator", ended: null },
  ],
  [
    { type: "run_cancelled", status: "running", payload: { why_next_step: "w", error: "e" } },
    { status: "cancelled", why: "run cancelled by operator", ended: "now" },
  ],
  [
    {
      type: "task_retry_requested",
      status: "failed",
      step_id: " s0 ",
      payload: { why_next_step: "w", error: "e" },
    },
    {
      status: "running",
      why: "retry requested for step `s0`",
      steps: { s0: "runnable" },
      ended: null,
      error: null,
    },
  ],
  [
    { type: "task_retry_requested", status: "failed", step_id: "nope" },
    { status: "running", why: "retry requested for step `nope`", ended: null, error: null },
  ],
  [
    { type: "task_retry_requested", status: "failed" },
    { status: "running", ended: null, error: null },
  ],
  [
    { type: "revision_requested", status: "running", payload: { feedback: " shorter ", error: "e" } },
    { status: "blocked", why: "revision requested: shorter" },
  ],
  [
    { type: "revision_requested", status: "running", payload: { feedback: " " } },
    { status: "blocked", why: "revision requested by operator" },
  ],
  [
    { type: "revision_requested", status: "completed", payload: { feedback: 5, why_next_step: "w" } },
    { status: "blocked", why: "revision requested by operator" },
  ],
  ...["step_started", "task_started"].flatMap((type): [Sent, Effect][] => [
    [
      { type, status: "running", step_id: "s1" },
      { status: "running", steps: { s1: "in_progress" } },
    ],
    [{ type, status: "planning", step_id: "nope" }, { status: "planning" }],
    [{ type, status: "running" }, { status: "running" }],
    [
      {
        type,
        status: "failed",
        step_id: "s1",
        payload: { step_status: "done", why_next_step: "w", error: "e" },
      },
      { status: "failed", why: "w", steps: { s1: "done" }, ended: "now" },
    ],
  ]),
  ...["step_completed", "task_completed", "step_done"].flatMap((type): [Sent, Effect][] => [
    [
      { type, status: "running", step_id: "s1" },
      { status: "running", steps: { s1: "done" } },
    ],
    [
      { type, status: "running", step_id: "s1", payload: { stepStatus: "blocked", error: "e" } },
      { status: "running", steps: { s1: "blocked" } },
    ],
    [
      { type, status: "completed" },
      { status: "completed", ended: "now" },
    ],
  ]),
  ...["step_failed", "task_failed"].flatMap((type): [Sent, Effect][] => [
    [
      { type, status: "running", step_id: "s1" },
      { status: "running", steps: { s1: "failed" } },
    ],
    [
      {
        type,
        status: "blocked",
        step_id: "s1",
        payload: { error: " e ", why_next_step: " ", step_status: "?" },
      },
      { status: "blocked", steps: { s1: "failed" }, error: "e" },
    ],
    [
      { type, status: "failed", payload: { error: " " } },
      { status: "failed", ended: "now" },
    ],
  ]),
  ...["note", "run_completed", "run_failed", "plan_ready_for_approval", ""].flatMap(
    (type): [Sent, Effect][] => [
      [{ type, status: "running", step_id: "s1" }, { status: "running" }],
      [
        {
          type,
          status: "planning",
          step_id: "s1",
          payload: { step_status: "Done", why_next_step: "w", error: "e" },
        },
        { status: "planning", steps: { s1: "done" }, why: "w", error: "e" },
      ],
      [
        { type, status: "completed", payload: "text" },
        { status: "completed", ended: "now" },
      ],
    ],
  ),
  ...["todo_synced", "workspace_mismatch", "meta_next_step_selected", "context.run.replaced"].map(
    (type): [Sent, Effect] => [
      { type, status: "running", payload: { run: { status: "failed" }, steps: [], why_next_step: "w" } },
      { status: "running", why: "w" },
    ],
  ),
];
