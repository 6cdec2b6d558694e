import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Audit, auditMembers, type EffectKind, NO_AUDIT, withEvent } from "../../src/domain/audit.ts";
import { canonicalJson } from "../../src/domain/canonical-json.ts";
import type { Command } from "../../src/domain/command.ts";
import { countedTool, OTHER_TOOLS, withTools } from "../../src/domain/counts.ts";
import { referenceTo } from "../../src/domain/evidence.ts";
import { newHead } from "../../src/domain/head.ts";
import { mutationTotals } from "../../src/domain/rollback.ts";
import { MAX_TOOL_NAME_LENGTH, MAX_TOOLS_NAMED } from "../../src/protocol/limits.ts";
import { aMutation, anEvent, anyMutation, countedAnew, fakeHash } from "../support/audit.ts";
import { accepted, aRow, aRun, batch, committed, memoryRun, NOW } from "../support/builders.ts";
import { MemoryEngine } from "../support/memory-engine.ts";

const tool = fc.constantFrom("read", "write", "__proto__", "bash");

const ledgerRecord = fc.record({
  session_id: fc.constantFrom("s1", "s2"),
  message_id: fc.constant("m"),
  tool,
  phase: fc.constantFrom("invocation", "outcome"),
  status: fc.constantFrom("started", "succeeded", "failed", "blocked"),
  args_summary: fc.jsonValue({ maxDepth: 1 }),
});

/** Commands that append what audits look at, and things that look like it. */
const command: fc.Arbitrary<Command> = fc
  .oneof(
    fc.record({ type: fc.constant("tool_effect_recorded"), payload: fc.record({ record: ledgerRecord }) }),
    fc.record({
      type: fc.constant("mutation_checkpoint_recorded"),
      payload: fc.record({ record: anyMutation }),
    }),
    fc.record({
      type: fc.constantFrom("rollback_execution_applied", "rollback_execution_blocked"),
      payload: fc.oneof(
        fc.jsonValue({ maxDepth: 2 }),
        fc.record({ reason: fc.string(), selected_event_ids: fc.array(fc.string()), steps: fc.jsonValue() }),
      ),
    }),
    fc.record({
      type: fc.constantFrom(
        "tool_effect_recorded",
        "mutation_checkpoint_recorded",
        "tool_routing_decision",
        "plan_approved",
        "note",
      ),
      payload: fc.oneof(
        fc.jsonValue({ maxDepth: 3 }),
        fc.record({ offered_tools: fc.array(fc.string()), hiddenByScope: fc.array(fc.string()) }),
        fc.record({ record: fc.jsonValue({ maxDepth: 2 }) }),
      ),
    }),
  )
  .chain(({ type, payload }) =>
    fc
      .constantFrom("paused" as const, "running" as const, "completed" as const)
      .map((status): Command => ({ op: "append_event", type, status, payload })),
  );

/** A fold over events, from nothing. */
function folded(events: readonly Parameters<typeof withEvent>[1][]): Audit {
  return events.reduce((audit, event) => withEvent(audit, event).audit, NO_AUDIT);
}

describe("U1 the audit in the head", () => {
  it("is what the same log gives from the start, and what counting anew gives", () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 30 }), (commands) => {
        const run = memoryRun();
        const events = commands.flatMap((one) => committed(one, run).map(({ event }) => event));
        const { audit } = run.head();
        expect(audit).toEqual(folded(events));
        expect(audit).toMatchObject(countedAnew(events));
        expect(run.effects().map(({ kind, seq }) => [kind, seq])).toEqual(
          events.flatMap((event) => {
            const { effect } = withEvent(NO_AUDIT, event);
            return effect === null ? [] : [[effect.kind, event.seq]];
          }),
        );
        expect(audit.requested).toEqual([]);
        expect(events.every((event) => withEvent(audit, event).applied.length === 0)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it("survives being stored: the fold over the log as text gives the same", () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 15 }), (commands) => {
        const engine = new MemoryEngine(aRun());
        for (const one of commands) engine.submit(one, undefined, NOW);
        const run = engine.initial();
        for (const commit of engine.commits()) run.apply(commit);
        const text = JSON.stringify(run.head().audit);
        expect(JSON.parse(text)).toEqual(run.head().audit);
        expect(folded(engine.commits().map(({ event }) => event))).toEqual(JSON.parse(text));
      }),
      { numRuns: 30 },
    );
  });

  it("never throws, whatever an event of any type holds", () => {
    const types = fc.constantFrom(
      "tool_effect_recorded",
      "mutation_checkpoint_recorded",
      "rollback_execution_applied",
      "rollback_execution_blocked",
      "rollback_execution_requested",
      "tool_routing_decision",
    );
    fc.assert(
      fc.property(types, fc.jsonValue(), fc.boolean(), (type, payload, isClient) => {
        const event = anEvent({ seq: 1, type, payload, ...(isClient && { origin: "client" as const }) });
        expect(() => withEvent(NO_AUDIT, event)).not.toThrow();
      }),
    );
  });

  it("06§5 a record with as many faults as fit into an event is none", () => {
    const payload = { record: { ...aMutation([]), files: Array(80_000).fill({}) } };
    const event = anEvent({ seq: 1, type: "mutation_checkpoint_recorded", payload, origin: "client" });
    expect(withEvent(NO_AUDIT, event).audit).toEqual(NO_AUDIT);
  });

  it("the totals of the mutation view follow from those of the preview", () => {
    fc.assert(
      fc.property(fc.array(anyMutation, { maxLength: 8 }), (records) => {
        const run = memoryRun();
        for (const record of records) {
          committed(
            {
              op: "append_event",
              type: "mutation_checkpoint_recorded",
              status: "paused",
              payload: { record },
            },
            run,
          );
        }
        const { mutations, preview } = run.head().audit;
        const totals = mutationTotals(mutations.record_count, preview);
        const changed = records.flatMap(({ files }) => files.filter((one) => one.changed));
        const inline = changed.filter(
          (one) => one.existed_before && one.rollback_snapshot.status === "inline_text",
        );
        const created = changed.filter((one) => !one.existed_before && one.existed_after);
        expect(totals.rollback_readiness).toMatchObject({
          record_count: records.length,
          candidate_file_count: changed.length,
          directly_revertible_file_count: inline.length + created.length,
          requires_snapshot_file_count: changed.filter(
            (one) => one.existed_before && one.rollback_snapshot.status !== "inline_text",
          ).length,
        });
        const steps = records
          .map(({ files }) => files.filter((one) => one.changed))
          .filter((files) => files.length > 0);
        const isExecutable = (one: (typeof changed)[number]) => inline.includes(one) || created.includes(one);
        const executable = steps.filter((files) => files.every(isExecutable));
        expect(totals.rollback_plan).toEqual({
          record_count: records.length,
          executable_record_count: executable.length,
          advisory_record_count: steps.length - executable.length,
          executable_operation_count: inline.length + created.length,
          advisory_operation_count: changed.length - inline.length - created.length,
          by_action: preview.by_action,
        });
        expect(totals.rollback_readiness.by_action).toEqual(preview.by_action);
      }),
      { numRuns: 50 },
    );
  });
});

describe("U2 what it can grow to", () => {
  it("names so many tools, and counts the others together", () => {
    const names = Array.from({ length: MAX_TOOLS_NAMED + 5 }, (_, index) => `t${index}`);
    const counts = [...names, ...names].reduce(countedTool, {});
    expect(Object.keys(counts)).toHaveLength(MAX_TOOLS_NAMED + 1);
    expect(counts).toMatchObject({ t0: 2, [OTHER_TOOLS]: 10 });
    expect(withTools(names.slice(0, MAX_TOOLS_NAMED), names)).toHaveLength(MAX_TOOLS_NAMED);
  });

  it("a tool of that name, or of too long a name, is one of the others", () => {
    expect(["x".repeat(201), OTHER_TOOLS].reduce(countedTool, {})).toEqual({ [OTHER_TOOLS]: 2 });
    expect(withTools([], ["x".repeat(201), "b", "a", "b"])).toEqual(["a", "b"]);
    const longest = "x".repeat(MAX_TOOL_NAME_LENGTH);
    expect(countedTool({}, longest)).toEqual({ [longest]: 1 });
    expect(withTools([], [longest])).toEqual([longest]);
  });

  it("the others take no place of those that are named", () => {
    const names = Array.from({ length: MAX_TOOLS_NAMED }, (_, index) => `t${index}`);
    const counts = ["x".repeat(201), ...names, "one more"].reduce(countedTool, {});
    expect(counts).toEqual({ ...Object.fromEntries(names.map((name) => [name, 1])), [OTHER_TOOLS]: 2 });
  });
});

describe("what agents were asked for", () => {
  const applied = {
    workspace_root: "",
    selected_event_ids: ["evt-1"],
    applied_step_count: 1,
    applied_operation_count: 0,
    applied_by_action: {},
    steps: [{ seq: 1, event_id: "evt-1", tool: "t", operation_count: 0, operations: [] }],
  };
  const request = anEvent({
    seq: 2,
    type: "rollback_execution_requested",
    payload: { task_id: "t", applied },
  });
  const asked = withEvent(NO_AUDIT, request).audit;

  it.each<[string, Parameters<typeof anEvent>[0], number]>([
    ["a client's request", { ...request, seq: 3, origin: "client" }, 1],
    [
      "the end of its task",
      { seq: 3, type: "rollback_execution_applied", payload: { ...applied, task_id: "t" } },
      0,
    ],
    [
      "its failure",
      { seq: 3, type: "rollback_execution_blocked", payload: { reason: "r", task_id: "t" } },
      0,
    ],
    [
      "the end of another",
      { seq: 3, type: "rollback_execution_applied", payload: { ...applied, task_id: "u" } },
      1,
    ],
    [
      "a client's word for its end",
      { seq: 3, type: "rollback_execution_applied", payload: { task_id: "t" }, origin: "client" },
      1,
    ],
    ["a task in its place", { seq: 3, type: "context.task.created", task_id: "t" }, 0],
    ["another task", { seq: 3, type: "context.task.created", task_id: "u" }, 1],
    ["an end that names no task", { seq: 3, type: "rollback_execution_blocked", payload: null }, 1],
    ["a PUT", { seq: 3, type: "context.run.replaced", payload: { run: {} } }, 0],
    ["an import", { seq: 3, type: "context.run.imported", payload: { run: {} } }, 0],
    ["a client's word for either", { seq: 3, type: "context.run.replaced", origin: "client" }, 1],
    ["a transition of its task", { seq: 3, type: "context.task.claimed", task_id: "t" }, 1],
  ])("%s", (_, event, left) => {
    expect(asked.requested).toEqual([{ task_id: "t", applied }]);
    expect(withEvent(asked, anEvent(event)).audit.requested).toHaveLength(left);
  });

  it("marks as applied what the engine says was, and nothing else", () => {
    const payload = { steps: [{ seq: 1 }, { seq: "2" }, null, { seq: 1.5 }, { seq: 2 ** 53 }, { seq: 4 }] };
    const event = { seq: 5, type: "rollback_execution_applied", payload };
    expect(withEvent(NO_AUDIT, anEvent(event)).applied).toEqual([1, 4]);
    expect(withEvent(NO_AUDIT, anEvent({ ...event, origin: "client" })).applied).toEqual([]);
    const blocked = anEvent({ ...event, type: "rollback_execution_blocked" });
    expect(withEvent(NO_AUDIT, blocked).applied).toEqual([]);
  });

  it.each([[null], [{}], [{ steps: null }], [{ steps: "1" }], [{ steps: { 0: { seq: 1 } } }]])(
    "a log from elsewhere may say of an applied rollback %j: it marks nothing",
    (payload) => {
      const event = anEvent({ seq: 5, type: "rollback_execution_applied", payload });
      expect(withEvent(NO_AUDIT, event).applied).toEqual([]);
    },
  );

  it.each([
    [null],
    [{}],
    [{ task_id: "t" }],
    [{ task_id: "t", applied: null }],
    [{ task_id: "t", applied: { steps: {} } }],
    [{ applied }],
    [{ task_id: 1, applied }],
  ])("a log from elsewhere may ask with %j: nobody is asked for anything", (payload) => {
    expect(withEvent(NO_AUDIT, anEvent({ ...request, payload })).audit).toEqual(NO_AUDIT);
  });

  it("several are asked for in order, and each is ended alone", () => {
    const second = anEvent({ ...request, seq: 3, payload: { task_id: "u", applied } });
    const both = withEvent(asked, second).audit;
    expect(both.requested.map(({ task_id }) => task_id)).toEqual(["t", "u"]);
    const end = anEvent({
      seq: 4,
      type: "rollback_execution_applied",
      payload: { ...applied, task_id: "t" },
    });
    expect(withEvent(both, end).audit.requested).toEqual([{ task_id: "u", applied }]);
  });
});

describe("the index of what audits ask for", () => {
  const APPROVALS = [
    "planning_started",
    "plan_approved",
    "revision_requested",
    "run_paused",
    "run_resumed",
    "run_cancelled",
    "task_retry_requested",
  ];
  const record = {
    session_id: "s",
    message_id: "m",
    tool: "t",
    phase: "outcome",
    status: "failed",
    args_summary: 1,
  };
  it.each<[string, unknown, EffectKind | null]>([
    ["tool_effect_recorded", { record }, "ledger"],
    ["tool_effect_recorded", { record: { ...record, tool: 1 } }, null],
    ["mutation_checkpoint_recorded", { record: aMutation([]) }, "mutation"],
    ["mutation_checkpoint_recorded", {}, null],
    ["rollback_execution_applied", null, "rollback"],
    ["rollback_execution_blocked", null, "rollback"],
    ["rollback_execution_requested", null, null],
    ["tool_routing_decision", null, "routing"],
    ...APPROVALS.map((type): [string, unknown, EffectKind] => [type, null, "approval"]),
    [" Plan_Approved\n", null, "approval"],
    ["plan_approved_", null, null],
    ["note", null, null],
    ["context.task.created", null, null],
  ])("an event %j %j is one of %s; only a mutation is found by its id", (type, payload, kind) => {
    const event = anEvent({ seq: 4, type, payload });
    expect(withEvent(NO_AUDIT, event).effect).toEqual(
      kind === null ? null : { kind, seq: 4, event_id: kind === "mutation" ? "evt-4" : null },
    );
  });
});

it("02§2.3 beside a run that nothing was recorded of, everything is nought", () => {
  expect(auditMembers(newHead(aRun({ status: "running" })))).toEqual({
    ledger_summary: {
      record_count: 0,
      by_status: {},
      by_phase: {},
      by_tool: {},
      last_seq: null,
      last_ts_ms: null,
      fintech_connector_proof: [],
    },
    mutation_checkpoint_summary: {
      record_count: 0,
      changed_file_count: 0,
      by_outcome: {},
      by_tool: {},
      last_seq: null,
      last_ts_ms: null,
    },
    rollback_preview_summary: {
      executable: false,
      step_count: 0,
      executable_step_count: 0,
      advisory_step_count: 0,
      executable_operation_count: 0,
      advisory_operation_count: 0,
      by_action: {},
    },
    rollback_history_summary: { entry_count: 0, by_outcome: {}, last_seq: null, last_ts_ms: null },
    last_rollback_outcome: null,
    rollback_policy: {
      eligible: false,
      run_status: "running",
      required_confirm: "rollback",
      required_policy_ack: "allow_rollback_execution",
    },
  });
});

it("a task commit of a run with nothing to do with rollbacks leaves the audit as it is", () => {
  const run = memoryRun();
  const { audit } = run.head();
  committed(batch(aRow({ id: "t" })), run);
  accepted({ op: "claim_task", agent_id: "a" }, run);
  expect(run.head().audit).toBe(audit);
});

describe("references in evidence", () => {
  it.each<[unknown, string, string]>([
    ["text", "text", "string"],
    [{ b: 1, a: [2, { d: 3, c: 4 }] }, '{"a":[2,{"c":4,"d":3}],"b":1}', "object"],
    [[], "[]", "array"],
    [null, "null", "null"],
    [undefined, "null", "null"],
    [1.5, "1.5", "number"],
    [false, "false", "boolean"],
  ])("%j", (value, hashed, shape) => {
    expect(referenceTo(value, fakeHash)).toEqual({ sha256: fakeHash(hashed), length: hashed.length, shape });
  });

  it("canonical JSON has members in order of their names, numbers among them, and no blanks", () => {
    const value = { b: undefined, "10": 1, "9": [undefined, { z: null, a: "\u2028" }], é: {}, "": true };
    expect(canonicalJson(value)).toBe('{"":true,"10":1,"9":[null,{"a":"\u2028","z":null}],"é":{}}');
  });

  it("canonical JSON does not depend on the order of members", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (value) => {
        const other = Object.fromEntries(Object.entries(value).reverse());
        expect(canonicalJson(other)).toBe(canonicalJson(value));
        expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });
});
