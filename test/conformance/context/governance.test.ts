import { describe, expect, it } from "vitest";
import {
  append,
  appendLedger,
  appendMutation,
  audited,
  createdFile,
  rollBack,
  sha256,
} from "../audit-support.ts";
import { addTasks, claim, freshId, must, newRun, routes } from "../support.ts";

const MEMBERS = [
  "schema_version",
  "package_type",
  "provenance",
  "run",
  "actors",
  "tool_calls",
  "tool_manifest",
  "tool_call_summary",
  "policy_decisions",
  "approvals",
  "audit",
  "audit_completeness",
  "memory_promotions",
  "memory_audit",
  "artifacts",
  "final_outcome",
  "limitations",
  "redaction_policy",
];

describe("02§9.1 governance evidence", () => {
  it.each(["/context", "/v1"] as const)("of an empty run, at %s", async (door) => {
    const run = routes((await newRun()).id, door);
    const answer = await run.get("/governance-evidence");
    const body = audited(answer);
    expect(Object.keys(body).sort()).toEqual(["content_sha256", "evidence_package", "filename"]);
    expect(body.filename).toBe(`tandem-governance-evidence-${run.id}.json`);
    expect(Object.keys(body.evidence_package).sort()).toEqual(MEMBERS.toSorted());
    expect(body.evidence_package).toMatchObject({
      schema_version: 1,
      package_type: "tandem_run_governance_evidence",
      tool_calls: [],
      policy_decisions: [],
      approvals: [],
      artifacts: [],
      memory_promotions: [],
      memory_audit: [],
      audit_completeness: "complete_with_warnings",
      final_outcome: { status: "queued", is_final: false, ended_at_ms: null, last_error: null },
    });
    expect(audited(await routes(run.id).get("/governance-evidence"))).toEqual(body);
  });

  it("hashes the package's canonical JSON: members in order of name, no blanks", async () => {
    const run = await newRun({ objective: "ä \u2028 😀" });
    await appendLedger(run, { args_summary: { b: 1, a: [null, { d: 1, c: 2 }] } });
    for (const tool of ["10", "9", "Z", "a", "é"]) await appendLedger(run, { tool });
    const { evidence_package, content_sha256 } = audited(await run.get("/governance-evidence"));
    expect(content_sha256).toBe(sha256(canonical(evidence_package)));
    const again = audited(await run.get("/governance-evidence"));
    expect(again.content_sha256).toBe(content_sha256);
    await append(run, "note", null);
    expect(audited(await run.get("/governance-evidence")).content_sha256).not.toBe(content_sha256);
  });

  it("tells who did what, and no free text or payload", async () => {
    const secret = "SECRET";
    const run = await newRun({ objective: `${secret} plan for everything`, source_client: "cli" });
    await append(run, "planning_started", { note: secret });
    await append(run, "plan_approved", null);
    await append(run, "tool_routing_decision", { offered_tools: ["bash"], reason: secret });
    await appendLedger(run, { tool: "bash", session_id: "s2", args_summary: { command: secret } });
    await appendLedger(run, {
      tool: "bash",
      phase: "outcome",
      status: "failed",
      result_summary: secret,
      error: secret,
      policy_decision_id: "pd-1",
    });
    await appendMutation(run, [createdFile({ before_hash: secret })]);
    await append(run, "rollback_execution_blocked", { reason: secret, selected_event_ids: ["e"] });
    await addTasks(run, { id: "t" });
    await claim(run, { agent_id: "worker" });
    must(
      await run.post("/blackboard/patches", {
        op: "add_artifact",
        payload: { id: "a", ts_ms: 1, path: "out.txt", artifact_type: "report" },
      }),
    );
    const answer = await run.get("/governance-evidence");
    expect(answer.text).not.toContain(secret);
    const text = (value: string) => ({
      sha256: sha256(value),
      length: value.length,
      shape: "string",
    });
    expect(audited(answer).evidence_package).toMatchObject({
      run: { run_id: run.id, objective: text(`${secret} plan for everything`) },
      actors: { source_client: "cli", sessions: ["s", "s2"], agents: ["worker"] },
      tool_calls: [
        {
          seq: 4,
          reported_by: "client",
          tool: "bash",
          args_summary: {
            sha256: sha256(`{"command":"${secret}"}`),
            length: 20,
            shape: "object",
          },
        },
        { seq: 5, result_summary: text(secret), error: text(secret) },
      ],
      tool_manifest: { offered: ["bash"], used: ["bash"], used_subset_offered: true },
      tool_call_summary: { record_count: 2 },
      policy_decisions: [{ seq: 5, policy_decision_id: "pd-1", tool: "bash", status: "failed" }],
      approvals: [
        { seq: 1, decision: "planning_started", reported_by: "client" },
        { seq: 2, decision: "plan_approved", payload: null },
      ],
      audit: {
        mutation_checkpoints: [{ seq: 6, tool: "edit", outcome: "succeeded", file_count: 1 }],
        rollback_history: [{ seq: 7, outcome: "blocked", reported_by: "client", reason: text(secret) }],
      },
      artifacts: [{ kind: "artifact", id: "a", path: "out.txt", artifact_type: "report" }],
    });
  });

  it("is complete for a run that is over and needs no client's word, and says what is missing otherwise", async () => {
    const run = await newRun();
    const completeness = async () =>
      audited(await run.get("/governance-evidence")).evidence_package.audit_completeness;
    await append(run, "note", null, "completed");
    expect(await completeness()).toBe("complete");
    audited(await rollBack(run, ["none"]));
    expect(await completeness()).toBe("complete");
    await appendLedger(run, { phase: "outcome" });
    await append(run, "note", null, "completed");
    expect(await completeness()).toBe("complete_with_warnings");
    await appendLedger(run);
    await appendLedger(run);
    expect(await completeness()).toBe("incomplete");
  });

  it("of a fork names the run whose log tells how it began, and is never complete without it", async () => {
    const run = await newRun();
    await append(run, "note", null, "completed");
    const forked = await routes(run.id, "/v1").post("/fork", { run_id: freshId() });
    expect(forked.status).toBe(201);
    const fork = forked.body.run as unknown as { run_id: string; forked_from: unknown };
    const evidence = async (id: string) =>
      audited(await routes(id).get("/governance-evidence")).evidence_package;
    const { log_hash } = must(await routes(run.id, "/v1").get("")).run as unknown as { log_hash: string };
    expect(await evidence(run.id)).toMatchObject({
      provenance: { forked_from: null, log_hash },
      audit_completeness: "complete",
    });
    expect(await evidence(fork.run_id)).toMatchObject({
      provenance: { forked_from: fork.forked_from },
      audit_completeness: "complete_with_warnings",
    });
  });

  it("404 for an unknown run", async () => {
    const answer = await routes(freshId()).get("/governance-evidence");
    expect(answer.status).toBe(404);
    expect(answer.body.error).toEqual(expect.any(String));
  });
});

/** Canonical JSON, in other words than the engine's. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const members = Object.keys(value)
    .sort()
    .map((name) => `${JSON.stringify(name)}:${canonical((value as Record<string, unknown>)[name])}`);
  return `{${members.join(",")}}`;
}
