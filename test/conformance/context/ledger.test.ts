import { describe, expect, it } from "vitest";
import { append, appendLedger, audited, ledgerRecord } from "../audit-support.ts";
import { eventsOf, freshId, newRun, routes } from "../support.ts";

const EMPTY = {
  record_count: 0,
  by_status: {},
  by_phase: {},
  by_tool: {},
  last_seq: null,
  last_ts_ms: null,
  fintech_connector_proof: [],
};

describe("06§4 the ledger", () => {
  it("is empty at first", async () => {
    const run = await newRun();
    expect(audited(await run.get("/ledger"))).toEqual({
      records: [],
      summary: EMPTY,
      tool_manifest: {
        offered: [],
        used: [],
        hidden_by_scope: [],
        used_subset_offered: true,
        used_unoffered: [],
      },
    });
  });

  it("shows each record with its event, and what they come to", async () => {
    const run = await newRun();
    await append(run, "note", null);
    await appendLedger(run);
    await appendLedger(run, {
      phase: "outcome",
      status: "failed",
      tool: "bash",
      tool_call_id: "c",
      error: "e",
      args_summary: null,
      result_summary: [1],
      policy_decision_id: "p",
      unknown: "is dropped",
    });
    const events = await eventsOf(run);
    const { records, summary } = audited(await run.get("/ledger"));
    expect(records).toEqual([
      {
        seq: 2,
        ts_ms: events[1]?.ts_ms,
        event_id: events[1]?.event_id,
        record: ledgerRecord(),
      },
      {
        seq: 3,
        ts_ms: events[2]?.ts_ms,
        event_id: events[2]?.event_id,
        record: ledgerRecord({
          phase: "outcome",
          status: "failed",
          tool: "bash",
          tool_call_id: "c",
          error: "e",
          args_summary: null,
          result_summary: [1],
          policy_decision_id: "p",
        }),
      },
    ]);
    const expected = {
      ...EMPTY,
      record_count: 2,
      by_status: { started: 1, failed: 1 },
      by_phase: { invocation: 1, outcome: 1 },
      by_tool: { read: 1, bash: 1 },
      last_seq: 3,
      last_ts_ms: events[2]?.ts_ms,
    };
    expect(summary).toEqual(expected);
    expect(audited(await run.get()).ledger_summary).toEqual(expected);
  });

  it.each<[string, string, unknown]>([
    ["another type", "Tool_Effect_Recorded", { record: ledgerRecord() }],
    ["a type with blanks", " tool_effect_recorded", { record: ledgerRecord() }],
    ["no record", "tool_effect_recorded", {}],
    ["no payload", "tool_effect_recorded", null],
    ["a payload that is a list", "tool_effect_recorded", [{ record: ledgerRecord() }]],
    ["an unknown phase", "tool_effect_recorded", { record: ledgerRecord({ phase: "begin" }) }],
    ["an unknown status", "tool_effect_recorded", { record: ledgerRecord({ status: "done" }) }],
    ["no tool", "tool_effect_recorded", { record: ledgerRecord({ tool: undefined }) }],
    ["a tool that is no text", "tool_effect_recorded", { record: ledgerRecord({ tool: 1 }) }],
    ["no args_summary", "tool_effect_recorded", { record: ledgerRecord({ args_summary: undefined }) }],
    ["an error that is no text", "tool_effect_recorded", { record: ledgerRecord({ error: {} }) }],
  ])("leaves out %s, silently", async (_, type, payload) => {
    const run = await newRun();
    await append(run, type, payload);
    expect(audited(await run.get("/ledger"))).toMatchObject({ records: [], summary: EMPTY });
    expect(audited(await run.get()).ledger_summary).toEqual(EMPTY);
  });

  it("since_seq and tail choose events first, records then", async () => {
    const run = await newRun();
    await appendLedger(run, { tool: "one" });
    await append(run, "note", null);
    await appendLedger(run, { tool: "two" });
    await append(run, "note", null);
    const seqs = async (query: string) =>
      audited(await run.get(`/ledger${query}`)).records.map(({ seq }) => seq);
    expect(await seqs("")).toEqual([1, 3]);
    expect(await seqs("?since_seq=1")).toEqual([3]);
    expect(await seqs("?since_seq=3")).toEqual([]);
    expect(await seqs("?tail=1")).toEqual([]);
    expect(await seqs("?tail=2")).toEqual([3]);
    expect(await seqs("?tail=0")).toEqual([]);
    expect(await seqs("?since_seq=2&tail=9")).toEqual([3]);
    expect(audited(await run.get("/ledger?tail=2")).summary).toMatchObject({
      record_count: 1,
      by_tool: { two: 1 },
    });
  });

  it("02§9.1 tells which tools were offered, hidden and used", async () => {
    const run = await newRun();
    const manifest = async () => audited(await run.get("/ledger")).tool_manifest;
    await appendLedger(run, { tool: "bash" });
    await appendLedger(run, { tool: "rm", status: "blocked" });
    expect(await manifest()).toEqual({
      offered: ["bash"],
      used: ["bash"],
      hidden_by_scope: [],
      used_subset_offered: true,
      used_unoffered: [],
    });
    await append(run, "tool_routing_decision", {
      offeredTools: ["write", "read"],
      hiddenByScope: ["rm", "read"],
    });
    await append(run, "tool_routing_decision", { offered_tools: ["list", 1], hidden_by_scope: "none" });
    expect(await manifest()).toEqual({
      offered: ["list", "read", "write"],
      used: ["bash"],
      hidden_by_scope: ["rm"],
      used_subset_offered: false,
      used_unoffered: ["bash"],
    });
  });

  it.each(["__proto__", "constructor", "toString", ""])("counts a tool of the name %j", async (tool) => {
    const run = await newRun();
    await appendLedger(run, { tool });
    await appendLedger(run, { tool });
    const { text } = await run.get("/ledger");
    expect(JSON.parse(text).summary.by_tool[tool]).toBe(2);
    const shown = JSON.parse((await run.get()).text).ledger_summary.by_tool;
    expect(Object.entries(shown)).toEqual([[tool, 2]]);
  });

  it("names 250 tools, and counts the others together (docs/compatibility.md)", async () => {
    const run = await newRun();
    await appendLedger(run, { tool: "x".repeat(201) });
    for (let start = 0; start < 252; start += 42) {
      const tools = Array.from({ length: 42 }, (_, index) => `t${start + index}`);
      await Promise.all(tools.map((tool) => appendLedger(run, { tool })));
    }
    const { by_tool } = audited(await run.get()).ledger_summary as { by_tool: Record<string, number> };
    expect(Object.keys(by_tool)).toHaveLength(251);
    expect(by_tool).toMatchObject({ "(other tools)": 3, t0: 1 });
    expect(audited(await run.get("/ledger")).summary).toMatchObject({ by_tool });
  });

  it("01§8 404 for an unknown run, 400 for a malformed query", async () => {
    expect((await routes(freshId()).get("/ledger")).status).toBe(404);
    const run = await newRun();
    for (const query of ["?tail=", "?tail=-1", "?since_seq=x", "?tail=1&tail=2"]) {
      expect((await run.get(`/ledger${query}`)).status, query).toBe(400);
    }
  });
});
