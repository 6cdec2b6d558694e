import { describe, expect, it } from "vitest";
import { newRun, withStatus } from "../../src/domain/run.ts";
import { runDraft } from "../../src/domain/run-draft.ts";
import type { BodyOf } from "../../src/protocol/bodies.ts";
import { MAX_NEW_RUN_BYTES, MAX_RUN_SETTINGS_BYTES } from "../../src/protocol/limits.ts";
import type { RunHeader } from "../../src/protocol/run.ts";
import { RUN_STATUSES, type RunStatus } from "../../src/protocol/status.ts";
import { aRun, NOW } from "../support/builders.ts";

type Asked = BodyOf<"createRun">;

const asked = (members: object = {}) => ({ objective: "o", ...members }) as Asked;

/** What a request that says nothing but its objective becomes. */
const least = {
  run_id: "r",
  objective: "o",
  run_type: "interactive",
  workspace: { workspace_id: "", canonical_path: "", lease_epoch: 0 },
  mcp_servers: [],
};

describe("02§2.1 a new run", () => {
  const workspace = { workspace_id: "w", canonical_path: "/srv/ws", lease_epoch: 3 };
  const settings = { concurrency_limits: { key: 2 } };

  it.each<[string, object, object]>([
    ["nothing", {}, {}],
    ["a type", { run_type: "batch" }, { run_type: "batch" }],
    ["an empty type", { run_type: "" }, { run_type: "" }],
    ["a workspace", { workspace }, { workspace }],
    [
      "who asks, in texts with blanks around them",
      { source_client: " cli ", model_provider: "\tp", model_id: "m\n" },
      { source_client: "cli", model_provider: "p", model_id: "m" },
    ],
    ["blank texts", { source_client: " ", model_provider: "", model_id: "\t" }, {}],
    ["servers, some blank", { mcp_servers: [" a ", "", " ", "b"] }, { mcp_servers: ["a", "b"] }],
    ["settings", { settings }, { settings }],
    ["empty settings", { settings: {} }, {}],
  ])("that is told %s has what it is told, and defaults", (_, members, told) => {
    const made = runDraft(asked(members), "r");
    expect(made).toStrictEqual({ ok: true, draft: { ...least, ...told } });
  });

  it("has the metadata of the delivery that makes it, null too, and else none", () => {
    for (const source_metadata of [{ hook: "h" }, null]) {
      expect(runDraft(asked(), "r", source_metadata)).toStrictEqual({
        ok: true,
        draft: { ...least, source_metadata },
      });
    }
  });

  it("is as large as a run may be when it is made, and no larger", () => {
    const frame = JSON.stringify({ ...least, objective: "" }).length;
    const sized = (bytes: number) => runDraft(asked({ objective: "x".repeat(bytes - frame) }), "r");
    expect(sized(MAX_NEW_RUN_BYTES).ok).toBe(true);
    expect(sized(MAX_NEW_RUN_BYTES + 1)).toMatchObject({
      ok: false,
      refusal: { limit_name: "new_run_bytes", limit: MAX_NEW_RUN_BYTES, actual: MAX_NEW_RUN_BYTES + 1 },
    });
  });

  it("has no more settings than a run may have, whatever else it is told", () => {
    const limits = { ["k".repeat(MAX_RUN_SETTINGS_BYTES)]: 1 };
    expect(runDraft(asked({ settings: { concurrency_limits: limits } }), "r")).toMatchObject({
      ok: false,
      refusal: { limit_name: "run_settings_bytes", limit: MAX_RUN_SETTINGS_BYTES },
    });
  });

  it("01§5 begins queued, at revision 1, without an event", () => {
    const made = runDraft(asked(), "r");
    if (!made.ok) throw new Error("it was refused");
    const tenant = { org_id: "o", workspace_id: "w", source: "explicit" } as const;
    expect(newRun(made.draft, tenant, NOW)).toStrictEqual({
      ...least,
      tenant_context: tenant,
      status: "queued",
      steps: [],
      why_next_step: null,
      revision: 1,
      last_event_seq: 0,
      created_at_ms: NOW,
      updated_at_ms: NOW,
    });
  });
});

describe("07 D65, D66 a run's end", () => {
  const OVER: ReadonlySet<RunStatus> = new Set(["failed", "completed", "cancelled"]);
  const EARLIER = NOW - 10;
  const run = (status: RunStatus, ended_at_ms?: number): RunHeader =>
    aRun({ status, ...(ended_at_ms !== undefined && { ended_at_ms }) });

  it("is when it came into a status that ends it; one that leaves such a status has none", () => {
    for (const from of RUN_STATUSES) {
      for (const to of RUN_STATUSES) {
        const before = run(from, OVER.has(from) ? EARLIER : undefined);
        const endedAt = OVER.has(from) ? EARLIER : NOW;
        const after = OVER.has(to) ? run(to, endedAt) : run(to);
        expect(withStatus(before, to, NOW), `${from} to ${to}`).toStrictEqual(after);
      }
    }
  });

  it("is now where another engine's run is over and nobody knows since when", () => {
    expect(withStatus(run("failed"), "completed", NOW)).toStrictEqual(run("completed", NOW));
  });

  it("is now where another engine's run has an end, but is not over", () => {
    expect(withStatus(run("running", EARLIER), "failed", NOW)).toStrictEqual(run("failed", NOW));
  });
});
