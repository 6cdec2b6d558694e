import { describe, expect, it } from "vitest";
import { type Audit, NO_AUDIT, withEvent } from "../../src/domain/audit.ts";
import {
  approvalEvidence,
  artifactEvidence,
  type EvidenceBasis,
  evidenceOf,
  fileEvidence,
  type Hash,
  mutationEvidence,
  policyDecisionEvidence,
  reporterOf,
  rollbackEvidence,
  toolCallEvidence,
} from "../../src/domain/evidence.ts";
import { newHead } from "../../src/domain/head.ts";
import type { EventRecord } from "../../src/protocol/event.ts";
import type { RunHeader } from "../../src/protocol/run.ts";
import { RUN_STATUSES } from "../../src/protocol/status.ts";
import { aFile, aMutation, anEvent } from "../support/audit.ts";
import { aRun, CREATED, stepsOf } from "../support/builders.ts";

/** Tells what was hashed. */
const hash: Hash = (text) => `hash of ${text}`;

const text = (value: string, length = value.length) => ({
  sha256: `hash of ${value}`,
  length,
  shape: "string",
});
const json = (value: string, shape: string) => ({ ...text(value), shape });

const BASIS: EvidenceBasis = {
  actors: { sessions: [], agents: [] },
  log_hash: "00",
  reported_by_clients: 0,
  unreadable: 0,
};

const RECORD = {
  session_id: "s",
  message_id: "m",
  tool: "bash",
  phase: "invocation",
  status: "started",
  args_summary: null,
};

function ledgerEvent(seq: number, record: object, members: Partial<EventRecord> = {}): EventRecord {
  return anEvent({
    seq,
    type: "tool_effect_recorded",
    payload: { record: { ...RECORD, ...record } },
    ...members,
  });
}

/** The audit of a log with so many calls and outcomes. */
function auditOf({ calls = 0, outcomes = 0 }): Audit {
  const phases = [...Array(calls).fill("invocation"), ...Array(outcomes).fill("outcome")];
  return phases.reduce(
    (audit: Audit, phase, index) => withEvent(audit, ledgerEvent(index + 1, { phase })).audit,
    NO_AUDIT,
  );
}

interface Case {
  run?: Partial<RunHeader>;
  audit?: { calls?: number; outcomes?: number };
  basis?: Partial<EvidenceBasis>;
}

function packageOf({ run = {}, audit = {}, basis = {} }: Case) {
  const head = { ...newHead(aRun({ status: "completed", ...run })), audit: auditOf(audit) };
  return evidenceOf(head, { ...BASIS, ...basis }, hash);
}

const FORKED = { forked_from: { run_id: "first", seq: 3, state_sha256: "ab" } };

describe("02§9.1 the package", () => {
  const redaction_policy = {
    free_text: expect.any(String),
    payloads: expect.any(String),
    kept: expect.any(String),
  };

  it("of a new run says what is not there, too", () => {
    expect(evidenceOf(newHead(aRun()), BASIS, hash)).toStrictEqual({
      schema_version: 1,
      package_type: "tandem_run_governance_evidence",
      provenance: {
        engine: "baton",
        source: "event_log",
        run_id: "r",
        first_seq: null,
        last_seq: 0,
        log_hash: "00",
        forked_from: null,
        as_of_ms: CREATED,
      },
      run: {
        run_id: "r",
        run_type: "interactive",
        status: "queued",
        revision: 1,
        last_event_seq: 0,
        created_at_ms: CREATED,
        started_at_ms: null,
        ended_at_ms: null,
        updated_at_ms: CREATED,
        model_provider: null,
        model_id: null,
        mcp_servers: [],
        workspace: { workspace_id: "w", canonical_path: "/srv/ws", lease_epoch: 1 },
        objective: text("Ship it"),
        why_next_step: null,
        source_metadata: null,
        steps: [],
      },
      actors: {
        tenant: { org_id: "local", workspace_id: "local", actor_id: null },
        source_client: null,
        sessions: [],
        agents: [],
      },
      tool_manifest: {
        offered: [],
        used: [],
        hidden_by_scope: [],
        used_subset_offered: true,
        used_unoffered: [],
      },
      tool_call_summary: {
        record_count: 0,
        by_status: {},
        by_phase: {},
        by_tool: {},
        last_seq: null,
        last_ts_ms: null,
        fintech_connector_proof: [],
      },
      audit_completeness: "complete_with_warnings",
      memory_promotions: [],
      memory_audit: [],
      final_outcome: { status: "queued", is_final: false, ended_at_ms: null, last_error: null },
      limitations: expect.any(Array),
      redaction_policy,
    });
  });

  it("of a run that is over tells how it went, and free texts and payloads by reference only", () => {
    const run: Partial<RunHeader> = {
      ...FORKED,
      status: "failed",
      revision: 5,
      last_event_seq: 4,
      started_at_ms: 2_000,
      ended_at_ms: 3_000,
      updated_at_ms: 4_000,
      tenant_context: { org_id: "o", workspace_id: "v", actor_id: "ann", source: "explicit" },
      source_client: "cli",
      model_provider: "provider",
      model_id: "model",
      mcp_servers: ["fs"],
      objective: "für 😀",
      why_next_step: "why",
      source_metadata: { b: 1, a: [2] },
      steps: stepsOf({ s1: "done", s2: "failed" }),
      last_error: "boom",
    };
    const basis = { actors: { sessions: ["s"], agents: ["eve"] }, log_hash: "ff" };
    const evidence = packageOf({ run, audit: { calls: 1, outcomes: 1 }, basis });
    expect(evidence).toMatchObject({
      provenance: { first_seq: 1, last_seq: 4, log_hash: "ff", ...FORKED, as_of_ms: 4_000 },
      run: {
        status: "failed",
        revision: 5,
        last_event_seq: 4,
        started_at_ms: 2_000,
        ended_at_ms: 3_000,
        updated_at_ms: 4_000,
        model_provider: "provider",
        model_id: "model",
        mcp_servers: ["fs"],
        objective: text("für 😀", 9),
        why_next_step: text("why"),
        source_metadata: json('{"a":[2],"b":1}', "object"),
        steps: [
          { step_id: "s1", title: text("title of s1"), status: "done" },
          { step_id: "s2", title: text("title of s2"), status: "failed" },
        ],
      },
      actors: {
        tenant: { org_id: "o", workspace_id: "v", actor_id: "ann" },
        source_client: "cli",
        sessions: ["s"],
        agents: ["eve"],
      },
      tool_manifest: { offered: ["bash"], used: ["bash"] },
      tool_call_summary: { record_count: 2, by_tool: { bash: 2 }, last_seq: 2 },
      final_outcome: { status: "failed", is_final: true, ended_at_ms: 3_000, last_error: text("boom") },
    });
    expect(packageOf({ run: { source_metadata: null } }).run.source_metadata).toEqual(json("null", "null"));
  });
});

describe("what is known to be missing", () => {
  const cases: [string, Case, string, RegExp[]][] = [
    ["a run that is over", {}, "complete", []],
    ["calls that all have their outcome", { audit: { calls: 2, outcomes: 2 } }, "complete", []],
    ["more outcomes than calls", { audit: { calls: 1, outcomes: 2 } }, "complete", []],
    [
      "a client's report",
      { basis: { reported_by_clients: 1 } },
      "complete_with_warnings",
      [/^1 records were/],
    ],
    ["a fork", { run: FORKED }, "complete_with_warnings", [/`forked_from`/]],
    ["a run that goes on", { run: { status: "running" } }, "complete_with_warnings", [/run is not over/]],
    ["a call without its outcome", { audit: { calls: 3, outcomes: 2 } }, "incomplete", [/^1 tool calls/]],
    ["what cannot be read", { basis: { unreadable: 1 } }, "incomplete", [/^1 recorded events/]],
    [
      "all of it",
      {
        run: { ...FORKED, status: "paused" },
        audit: { calls: 2 },
        basis: { reported_by_clients: 3, unreadable: 4 },
      },
      "incomplete",
      [/^3 records were/, /`forked_from`/, /^2 tool calls/, /^4 recorded events/, /run is not over/],
    ],
  ];
  it.each(cases)("02§9.1 %s", (_, one, completeness, sentences) => {
    const always = packageOf({}).limitations;
    expect(always).toHaveLength(4);
    const { audit_completeness, limitations } = packageOf(one);
    expect(audit_completeness).toBe(completeness);
    expect(limitations.slice(0, always.length)).toEqual(always);
    expect(limitations.slice(always.length)).toEqual(
      sentences.map((sentence) => expect.stringMatching(sentence)),
    );
  });

  it.each(RUN_STATUSES)("02§9.1 a run that is %s is complete exactly when it is over", (status) => {
    const isOver = ["failed", "completed", "cancelled"].includes(status);
    const { audit_completeness, final_outcome } = packageOf({ run: { status } });
    expect(final_outcome).toMatchObject({ status, is_final: isOver });
    expect(audit_completeness).toBe(isOver ? "complete" : "complete_with_warnings");
  });
});

it.each<[string, "client" | undefined, "client" | "engine"]>([
  ["tool_effect_recorded", undefined, "engine"],
  ["tool_effect_recorded", "client", "client"],
  ["context.task.created", undefined, "engine"],
  ["plan_approved", undefined, "client"],
  ["plan_approved", "client", "client"],
])("D07 an event %s of origin %s is the %s's word", (type, origin, reporter) => {
  const event = anEvent({ seq: 1, type, ...(origin !== undefined && { origin }) });
  expect(reporterOf(event)).toBe(reporter);
});

describe("02§9.1 entries", () => {
  const whereabouts = { seq: 7, ts_ms: 1_007, event_id: "evt-7" };

  it("a tool call keeps its ids, and what it was called with and came to by reference", () => {
    expect(toolCallEvidence(ledgerEvent(7, {}), hash)).toStrictEqual({
      ...whereabouts,
      reported_by: "engine",
      ...RECORD,
      args_summary: json("null", "null"),
    });
    const more = { tool_call_id: "c", policy_decision_id: "pd" };
    const record = { ...more, args_summary: { x: 1 }, result_summary: [1], error: "boom" };
    expect(toolCallEvidence(ledgerEvent(7, record, { origin: "client" }), hash)).toStrictEqual({
      ...whereabouts,
      reported_by: "client",
      ...RECORD,
      ...more,
      args_summary: json('{"x":1}', "object"),
      result_summary: json("[1]", "array"),
      error: text("boom"),
    });
  });

  it("a policy decision is that of a record that names one", () => {
    const named = ledgerEvent(7, { policy_decision_id: "pd", phase: "outcome", status: "blocked" });
    expect(policyDecisionEvidence(named)).toStrictEqual({
      ...whereabouts,
      reported_by: "engine",
      policy_decision_id: "pd",
      tool: "bash",
      phase: "outcome",
      status: "blocked",
    });
    expect(policyDecisionEvidence(ledgerEvent(7, {}))).toBeNull();
  });

  it("an approval tells what was decided, and its payload by reference", () => {
    const event = anEvent({ seq: 7, type: " plan_approved ", status: "running", payload: { note: "n" } });
    expect(approvalEvidence(event, hash)).toStrictEqual({
      ...whereabouts,
      reported_by: "client",
      decision: "plan_approved",
      run_status: "paused",
      payload: json('{"note":"n"}', "object"),
    });
    expect(approvalEvidence({ ...event, payload: null }, hash).payload).toBeNull();
    expect(approvalEvidence({ ...event, payload: 0 }, hash).payload).toEqual(json("0", "number"));
  });

  it("a mutation tells how many files, and which by reference", () => {
    const record = { ...aMutation([aFile({ path: "p" })]), tool_call_id: "c", workspace_root: "/srv" };
    const event = anEvent({ seq: 7, type: "mutation_checkpoint_recorded", payload: { record } });
    expect(mutationEvidence(event, hash)).toStrictEqual({
      ...whereabouts,
      reported_by: "engine",
      session_id: "s",
      message_id: "m",
      tool: "edit",
      outcome: "succeeded",
      file_count: 1,
      changed_file_count: 1,
      files: {
        sha256: expect.stringMatching(/^hash of \[\{.*"path":"p".*\}\]$/),
        length: expect.any(Number),
        shape: "array",
      },
    });
  });

  it("a rollback tells what was selected and how it ended, and why by reference", () => {
    const payload = { selected_event_ids: ["e1", "e2"], reason: "no" };
    const blocked = anEvent({ seq: 7, type: "rollback_execution_blocked", payload, origin: "client" });
    expect(rollbackEvidence(blocked, hash)).toStrictEqual({
      ...whereabouts,
      reported_by: "client",
      outcome: "blocked",
      selected_event_ids: ["e1", "e2"],
      reason: text("no"),
    });
    const applied = anEvent({ seq: 7, type: "rollback_execution_applied", payload });
    expect(rollbackEvidence(applied, hash)).toMatchObject({ outcome: "applied", reason: null });
  });

  it("an event that is no record of the kind is no evidence of it", () => {
    const others = [
      anEvent({ seq: 7, type: "note" }),
      ledgerEvent(7, { phase: "later" }),
      anEvent({ seq: 7, type: "mutation_checkpoint_recorded", payload: { record: {} } }),
    ];
    for (const event of others) {
      expect(toolCallEvidence(event, hash)).toBeNull();
      expect(policyDecisionEvidence(event)).toBeNull();
      expect(mutationEvidence(event, hash)).toBeNull();
      expect(rollbackEvidence(event, hash)).toBeNull();
    }
  });

  it("artifacts and files say where something lies and when it came there", () => {
    const artifact = { id: "a", ts_ms: 1, path: "p", artifact_type: "report", step_id: "s" };
    expect(artifactEvidence(artifact)).toStrictEqual({
      kind: "artifact",
      id: "a",
      ts_ms: 1,
      path: "p",
      artifact_type: "report",
    });
    const file = { path: "p", sha256: "ab", bytes: 3, content_type: "text/plain", version: 4, ts_ms: 5 };
    expect(fileEvidence(file)).toStrictEqual({ kind: "file", ...file });
  });
});
