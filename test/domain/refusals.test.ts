import { expect, it } from "vitest";
import {
  agentBlank,
  artifactNotFound,
  checkpointNotFound,
  commandIdConflict,
  commitTooLarge,
  overloaded,
  type Refusal,
  runNotFound,
  seqUnknown,
  taskNotFound,
} from "../../src/domain/refusals.ts";

/** What a caller is told, word for word: contract 02 §1.5, docs/compatibility.md. */
it.each<[string, () => Refusal, Refusal]>([
  ["no run", () => runNotFound, { code: "RUN_NOT_FOUND", error: "run not found" }],
  ["no task", () => taskNotFound, { code: "TASK_NOT_FOUND", error: "task not found" }],
  [
    "no checkpoint",
    () => checkpointNotFound,
    { code: "CHECKPOINT_NOT_FOUND", error: "checkpoint not found" },
  ],
  [
    "no artifact",
    () => artifactNotFound("a/b"),
    { code: "ARTIFACT_NOT_FOUND", error: "artifact not found", path: "a/b" },
  ],
  [
    "no such version of an artifact",
    () => artifactNotFound("a/b", 7),
    { code: "ARTIFACT_NOT_FOUND", error: "artifact has no version 7", path: "a/b" },
  ],
  [
    "no such place in the log",
    () => seqUnknown(9, 8),
    {
      code: "SEQ_UNKNOWN",
      error: "the log ends at seq 8, there is no seq 9",
      seq: 9,
      last_event_seq: 8,
    },
  ],
  [
    "a command id that stands for another request",
    () => commandIdConflict,
    { code: "COMMAND_ID_CONFLICT", error: "the command id was used for another request" },
  ],
  [
    "a blank agent",
    () => agentBlank,
    {
      code: "FIELD_INVALID",
      error: "agent_id: must not be blank",
      issues: [{ field: "agent_id", rule: "non_blank", message: "must not be blank" }],
    },
  ],
  [
    "a commit that no row holds",
    () => commitTooLarge(1_950_001),
    {
      code: "LIMIT_EXCEEDED",
      error: "commit_bytes is limited to 1950000, got 1950001",
      limit_name: "commit_bytes",
      limit: 1_950_000,
      actual: 1_950_001,
    },
  ],
  [
    "no room now",
    () => overloaded("too many wait"),
    { code: "OVERLOADED", error: "too many wait", retry_after_ms: 1_000 },
  ],
])("02§1.5 %s", (_, refusal, told) => {
  expect(refusal()).toEqual(told);
});
