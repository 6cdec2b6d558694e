import { describe, expect, it } from "vitest";
import type { CommandOf, FileCondition } from "../../src/domain/command.ts";
import type { MemoryRun } from "../../src/domain/memory.ts";
import { recall } from "../../src/domain/outcome.ts";
import { RUN_STATUSES } from "../../src/protocol/status.ts";
import {
  aContext,
  accepted,
  aRow,
  aTask,
  batch,
  committed,
  leasedTo,
  memoryRun,
  NOW,
  refused,
} from "../support/builders.ts";

const SHA = "a".repeat(64);
const OTHER = "b".repeat(64);

const put = (members: Partial<CommandOf<"put_artifact">> = {}): CommandOf<"put_artifact"> => ({
  op: "put_artifact",
  path: "p",
  sha256: SHA,
  bytes: 3,
  content_type: "text/plain",
  artifact: { artifact_type: "file" },
  ...members,
});

const remove = (members: Partial<CommandOf<"remove_artifact">> = {}): CommandOf<"remove_artifact"> => ({
  op: "remove_artifact",
  path: "p",
  ...members,
});

describe("putting an artifact", () => {
  it("05§2.2 §6 is one commit that adds the artifact and changes the path", () => {
    const run = memoryRun({ status: "running" });
    const artifact = { id: "a1", artifact_type: "file", step_id: "s", source_event_id: "e" };
    const { commits, outcome } = accepted(put({ artifact }), run, aContext(), "k");
    const [commit, ...others] = commits;
    expect(others).toEqual([]);
    const payload = {
      id: "a1",
      ts_ms: NOW,
      path: "p",
      artifact_type: "file",
      step_id: "s",
      source_event_id: "e",
    };
    const file = { path: "p", sha256: SHA, bytes: 3, content_type: "text/plain" };
    expect(commit).toMatchObject({
      event: {
        seq: 1,
        type: "context.artifact.added",
        status: "running",
        command_id: "k",
        payload: { op: "add_artifact", payload, patch_seq: 1, files: [file] },
      },
      patch: { seq: 1, op: "add_artifact", payload },
    });
    expect(outcome).toMatchObject({ op: "put_artifact", file: { ...file, version: 1, ts_ms: NOW } });
    for (const made of commits) run.apply(made);
    expect(run.file("p")).toEqual({ ...file, version: 1, ts_ms: NOW });
    expect(run.blackboard().artifacts).toEqual([payload]);
  });

  it("05§5 a repeat is told from the log what was told first", () => {
    const run = memoryRun();
    for (const command of [put(), remove()]) {
      const { commits, outcome } = accepted(command, run, aContext(), "k");
      expect(recall(command, commits, {}, aContext())).toEqual(outcome);
      for (const commit of commits) run.apply(commit);
    }
  });

  it("a removed path holds nothing, and its versions stay", () => {
    const run = memoryRun();
    expect(refused(remove(), run)).toMatchObject({ code: "ARTIFACT_NOT_FOUND", path: "p" });
    committed(put(), run);
    const [commit] = committed(remove(), run);
    expect(commit).toMatchObject({
      event: {
        type: "context.artifact.removed",
        payload: { removed: { version: 1, sha256: SHA }, files: [{ path: "p", sha256: null, bytes: 0 }] },
      },
      patch: null,
    });
    expect(run.file("p")).toBeNull();
    expect(run.fileVersion("p", 1)?.sha256).toBe(SHA);
    expect(run.fileVersion("p", 2)?.sha256).toBeNull();
    expect(refused(remove(), run).code).toBe("ARTIFACT_NOT_FOUND");
    expect(run.blackboard().artifacts).toHaveLength(1);
  });

  it("D73 neither changes the run's status, nor since when it is over", () => {
    for (const status of RUN_STATUSES) {
      const run = memoryRun({ status, ended_at_ms: 5 });
      const { ended_at_ms } = run.head().run;
      for (const command of [put(), remove()]) {
        committed(command, run);
        const { revision: _r, last_event_seq: _s, updated_at_ms: _u, ...after } = run.head().run;
        expect(after).toMatchObject({ status, steps: [] });
        expect(after.ended_at_ms).toBe(ended_at_ms);
      }
    }
  });
});

describe("conditions on what a path holds", () => {
  const conditions: [FileCondition, "nothing" | "something" | "both" | "neither"][] = [
    [{}, "both"],
    [{ exists: true }, "something"],
    [{ exists: false }, "nothing"],
    [{ version: 0 }, "nothing"],
    [{ version: 1 }, "something"],
    [{ version: 2 }, "neither"],
    [{ sha256: [SHA] }, "something"],
    [{ sha256: [OTHER, SHA] }, "something"],
    [{ sha256: [OTHER] }, "neither"],
    [{ sha256: [] }, "neither"],
    [{ sha256: [SHA], version: 2 }, "neither"],
  ];
  it.each(conditions)("%j holds for %s", (expected, when) => {
    const empty = memoryRun();
    const full = memoryRun();
    committed(put(), full);
    const verdict = (run: MemoryRun, command: CommandOf<"put_artifact" | "remove_artifact">) => {
      try {
        accepted(command, run);
        return "accepted";
      } catch {
        return refused(command, run).code;
      }
    };
    const failed = "ARTIFACT_PRECONDITION_FAILED";
    const isMet = (state: typeof when) => when === "both" || when === state;
    expect(verdict(empty, put({ expected }))).toBe(isMet("nothing") ? "accepted" : failed);
    expect(verdict(full, put({ expected }))).toBe(isMet("something") ? "accepted" : failed);
    expect(verdict(full, remove({ expected }))).toBe(isMet("something") ? "accepted" : failed);
    expect(verdict(empty, remove({ expected }))).toBe("ARTIFACT_NOT_FOUND");
  });

  it("that it holds nothing does not hold for what a fork began with, though that is its version 0", () => {
    const fork = memoryRun();
    fork.restore({
      file: { path: "p", sha256: SHA, bytes: 3, content_type: "text/plain", version: 0, ts_ms: NOW },
    });
    expect(refused(put({ expected: { version: 0 } }), fork)).toMatchObject({
      code: "ARTIFACT_PRECONDITION_FAILED",
      version: 0,
      sha256: SHA,
    });
    accepted(put({ expected: { sha256: [SHA] } }), fork);
  });

  it("a refusal tells what the path holds", () => {
    const run = memoryRun();
    expect(refused(put({ expected: { exists: true } }), run)).toMatchObject({
      error: "the path holds nothing",
      version: null,
      sha256: null,
    });
    committed(put(), run);
    expect(refused(put({ expected: { exists: false } }), run)).toMatchObject({
      error: "the path holds another version",
      version: 1,
      sha256: SHA,
    });
  });
});

describe("leases that a write claims to hold (contract 04 §7)", () => {
  const held = () => memoryRun({}, [aTask({ status: "in_progress", ...leasedTo("ann", "lease-1") })]);

  it.each([put, remove])("the token must be the task's", (command) => {
    const run = held();
    committed(put(), run);
    const { commits } = accepted(command({ task_id: "t", lease_token: "lease-1" }), run);
    expect(commits[0]?.event.payload).toMatchObject({ task_id: "t" });
    expect(JSON.stringify(commits)).not.toContain("lease-1");
    const holder = { lease_owner: "ann", lease_expires_at_ms: NOW + 1 };
    expect(refused(command({ task_id: "t", lease_token: "lease-2" }), run)).toMatchObject({
      code: "TASK_LEASE_INVALID",
      ...holder,
    });
    expect(refused(command({ task_id: "t" }), run)).toMatchObject({ code: "TASK_LEASE_REQUIRED", ...holder });
    expect(refused(command({ task_id: "x", lease_token: "lease-1" }), run).code).toBe("TASK_NOT_FOUND");
    expect(refused(command({ lease_token: "lease-1" }), run).code).toBe("FIELD_INVALID");
  });

  it("a lease that is no more, and the stored fingerprint of one, prove nothing", () => {
    const run = memoryRun({}, [aTask()]);
    const refusal = refused(put({ task_id: "t", lease_token: "lease-1" }), run);
    expect(refusal).toMatchObject({ code: "TASK_LEASE_INVALID", lease_owner: null });
    const fingerprint = held().task("t")?.lease_token ?? "";
    expect(refused(put({ task_id: "t", lease_token: fingerprint }), held()).code).toBe("TASK_LEASE_INVALID");
  });
});

describe("payloads that are artifacts", () => {
  const event = (payload: unknown, version?: number): CommandOf<"append_event"> => ({
    op: "append_event",
    type: "note",
    status: "running",
    payload,
    payload_artifact: { path: "p", version },
  });
  const ref = { path: "p", version: 1, sha256: SHA, bytes: 3, content_type: "text/plain" };

  it("become a reference to the very version, beside the members of an object", () => {
    const run = memoryRun();
    committed(put(), run);
    const payloadOf = (command: CommandOf<"append_event">) =>
      accepted(command, run).commits[0]?.event.payload;
    expect(payloadOf(event(null))).toEqual({ artifact_ref: ref });
    expect(payloadOf(event({ a: 1 }))).toEqual({ a: 1, artifact_ref: ref });
    committed(put({ sha256: OTHER }), run);
    expect(payloadOf(event(null, 1))).toEqual({ artifact_ref: ref });
    expect(payloadOf(event(null))).toEqual({ artifact_ref: { ...ref, version: 2, sha256: OTHER } });
  });

  it("are refused where there is no such version, and where nothing can be merged", () => {
    const run = memoryRun();
    expect(refused(event(null), run).code).toBe("ARTIFACT_NOT_FOUND");
    committed(put(), run);
    committed(remove(), run);
    for (const version of [undefined, 2, 3]) {
      expect(refused(event(null, version), run).code).toBe("ARTIFACT_NOT_FOUND");
    }
    for (const payload of [[], "x", 5, false, { artifact_ref: null }]) {
      expect(refused(event(payload, 1), run).code).toBe("FIELD_INVALID");
    }
  });

  it("a task's payload too, before its contract is applied; a refusal names the row", () => {
    const run = memoryRun();
    committed(put(), run);
    const row = aRow({ task_type: "implementation", payload_artifact: { path: "p" } });
    const target = { output_target: { path: "x" } };
    const [commit] = accepted(batch({ ...row, payload: target }), run).commits;
    expect(commit?.event.payload).toMatchObject({ task: { payload: { ...target, artifact_ref: ref } } });
    const missing = aRow({ payload_artifact: { path: "none" } });
    expect(refused(batch(aRow(), missing), run)).toMatchObject({ code: "ARTIFACT_NOT_FOUND", row: 1 });
  });
});
