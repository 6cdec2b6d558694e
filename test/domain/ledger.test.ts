import { describe, expect, it } from "vitest";
import {
  ledgerRecordOf,
  NO_TOOLS,
  payloadMember,
  stringsOf,
  type ToolManifest,
  type ToolSets,
  toolManifest,
  withRouting,
  withUse,
} from "../../src/domain/ledger.ts";
import { anEvent } from "../support/audit.ts";

const RECORD = {
  session_id: "s",
  message_id: "m",
  tool: "bash",
  phase: "invocation",
  status: "started",
  args_summary: null,
} as const;

describe("06§4 records", () => {
  it.each<[string, boolean]>([
    ["tool_effect_recorded", true],
    [" tool_effect_recorded", false],
    ["Tool_Effect_Recorded", false],
    ["mutation_checkpoint_recorded", false],
    ["note", false],
  ])("the type %j is matched exactly", (type, isRecord) => {
    const event = anEvent({ seq: 1, type, payload: { record: { ...RECORD, error: null, more: 1 } } });
    expect(ledgerRecordOf(event)).toStrictEqual(isRecord ? RECORD : null);
  });

  it.each<[string, unknown]>([
    ["an object that has it", { length: 7 }],
    ["an object that has it as null", { length: null }],
    ["a list", [1, 2]],
  ])("a member of a payload is read from %s", (_, payload) => {
    const event = anEvent({ seq: 1, type: "note", payload });
    expect(payloadMember(event, "length")).toBe((payload as { length: unknown }).length);
  });

  it.each([[{}], ["text"], [""], [7], [true], [null], [undefined]])(
    "the payload %j has no such member, nor what every object has",
    (payload) => {
      const event = anEvent({ seq: 1, type: "note", payload });
      for (const name of ["length", "toString", "__proto__", "record"])
        expect(payloadMember(event, name)).toBeUndefined();
    },
  );

  it.each<[unknown, string[]]>([
    [
      ["a", 1, null, "b", ["c"], ""],
      ["a", "b", ""],
    ],
    [[], []],
    ["text", []],
    [{ 0: "a", length: 1 }, []],
    [null, []],
    [undefined, []],
  ])("of %j the strings are %j", (value, strings) => {
    expect(stringsOf(value)).toEqual(strings);
  });
});

describe("02§9.1 tools", () => {
  it.each(["started", "succeeded", "failed", "blocked"] as const)(
    "a call that was %s used its tool, unless it was kept from it",
    (status) => {
      const tools: ToolSets = { offered: ["x"], hidden: ["y"], used: ["read"] };
      const used = status === "blocked" ? ["read"] : ["bash", "read"];
      expect(withUse(tools, { ...RECORD, status })).toEqual({ ...tools, used });
    },
  );

  const before: ToolSets = { offered: ["bash"], hidden: ["rm"], used: ["bash"] };
  it.each<[string, unknown, string[], string[]]>([
    ["camel case", { offeredTools: ["b", "a"], hiddenByScope: ["z"] }, ["a", "b", "bash"], ["rm", "z"]],
    ["snake case", { offered_tools: ["a"], hidden_by_scope: ["z", "y"] }, ["a", "bash"], ["rm", "y", "z"]],
    [
      "both",
      { offeredTools: ["a"], offered_tools: ["b", "a"], hidden_by_scope: ["z"], hiddenByScope: ["y"] },
      ["a", "b", "bash"],
      ["rm", "y", "z"],
    ],
    ["what is none", { offeredTools: "a", hidden_by_scope: [1] }, ["bash"], ["rm"]],
    ["nothing", null, ["bash"], ["rm"]],
  ])("a routing decision adds what was offered and hidden: %s", (_, payload, offered, hidden) => {
    const event = anEvent({ seq: 1, type: "tool_routing_decision", payload });
    expect(withRouting(before, event)).toEqual({ offered, hidden, used: ["bash"] });
  });

  it("any other event routes nothing", () => {
    const payload = { offered_tools: ["a"] };
    for (const type of ["note", "Tool_Routing_Decision", "tool_effect_recorded"])
      expect(withRouting(before, anEvent({ seq: 1, type, payload }))).toBeNull();
  });

  it.each<[string, Partial<ToolSets>, Partial<ToolManifest>]>([
    ["nothing", {}, {}],
    ["all that was used was offered", { offered: ["a", "b"], used: ["a"] }, {}],
    [
      "some of it was not",
      { offered: ["a"], used: ["a", "b", "c"] },
      { used_subset_offered: false, used_unoffered: ["b", "c"] },
    ],
    ["nothing is known of offers: what was used must have been", { used: ["a"] }, { offered: ["a"] }],
    [
      "what was hidden once and offered another time is not hidden",
      { offered: ["a", "b"], hidden: ["b", "c"] },
      { hidden_by_scope: ["c"] },
    ],
    [
      "hidden, and used all the same",
      { hidden: ["a", "b"], used: ["a"] },
      { offered: ["a"], hidden_by_scope: ["b"] },
    ],
  ])("the manifest where %s", (_, sets, expected) => {
    expect(toolManifest({ ...NO_TOOLS, ...sets })).toEqual({
      offered: sets.offered ?? [],
      used: sets.used ?? [],
      hidden_by_scope: [],
      used_subset_offered: true,
      used_unoffered: [],
      ...expected,
    });
  });
});
