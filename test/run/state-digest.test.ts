import { describe, expect, it } from "vitest";
import { stateDigest } from "../../src/run/state-digest.ts";

const HEAD = {
  audit: { ledger: [] },
  blackboard_revision: 2,
  last_mismatch: null,
  run: { run_id: "r", revision: 3 },
  summaries: { rolling: "", latest_context_pack: "" },
  workspace_since_seq: 0,
};
const digestOf = (head: object, ...rest: string[]) => stateDigest([JSON.stringify({ head }), ...rest]);

describe("the digest of a state", () => {
  it("is what it was in every release: exports and checkpoints carry it", () => {
    expect(digestOf(HEAD, '{"facts":{"id":"f"}}')).toBe(
      "bc6632b466fd8f0bd5dcbe18d1db8e3c72a560288cd72f328697f6c99416dfc7",
    );
  });

  it("is not of what the log comes to for an audit, nor of members that a release may add to heads", () => {
    const digest = digestOf(HEAD);
    expect(digestOf({ ...HEAD, audit: { ledger: ["read otherwise"] } })).toBe(digest);
    expect(digestOf({ ...HEAD, zeal: 1 })).toBe(digest);
    const { audit: _audit, ...older } = HEAD;
    expect(digestOf(older)).toBe(digest);
  });

  it.each([
    { ...HEAD, blackboard_revision: 3 },
    { ...HEAD, last_mismatch: { phase: "p" } },
    { ...HEAD, run: { ...HEAD.run, revision: 4 } },
    { ...HEAD, summaries: { ...HEAD.summaries, rolling: "x" } },
    { ...HEAD, workspace_since_seq: 1 },
  ])("is of everything else: %j", (head) => {
    expect(digestOf(head)).not.toBe(digestOf(HEAD));
  });

  it("is of every line", () => {
    expect(digestOf(HEAD, '{"facts":{"id":"f"}}')).not.toBe(digestOf(HEAD, '{"facts":{"id":"g"}}'));
  });
});
