import { describe, expect, it } from "vitest";
import { batchRefusal } from "../../src/domain/batch.ts";
import type { Command } from "../../src/domain/command.ts";
import { MAX_COMMANDS_PER_BATCH, MAX_TASKS_PER_BATCH } from "../../src/protocol/limits.ts";
import { aRow, batch } from "../support/builders.ts";

const refusal = (commands: Command[], expected_revision?: number) =>
  batchRefusal(
    { op: "batch", commands, dry_run: false, ...(expected_revision !== undefined && { expected_revision }) },
    7,
  );
const times = <T>(count: number, value: T): T[] => new Array<T>(count).fill(value);

const event: Command = { op: "append_event", type: "note", payload: null };
const claim = (max?: number): Command => ({
  op: "claim_task",
  agent_id: "ann",
  ...(max !== undefined && { max }),
});
const create = (count: number): Command => batch(...times(count, aRow()));
const limit = MAX_TASKS_PER_BATCH;

describe("bounds of a batch", () => {
  it.each<[string, Command[], Command[], number]>([
    ["commands_per_batch", times(MAX_COMMANDS_PER_BATCH, event), [event], MAX_COMMANDS_PER_BATCH],
    ["tasks_per_batch", [create(limit - 1), claim(), create(1)], [create(1)], limit],
    ["claims_per_batch", [claim(limit - 1), create(1), claim()], [claim()], limit],
  ])("%s: what is at it fits, one more does not", (limit_name, fitting, more, bound) => {
    expect(refusal(fitting)).toBeNull();
    expect(refusal([...fitting, ...more])).toMatchObject({
      code: "LIMIT_EXCEEDED",
      limit_name,
      limit: bound,
      actual: bound + 1,
    });
  });

  it("names at least one command", () => {
    expect(refusal([])).toMatchObject({
      code: "FIELD_INVALID",
      issues: [{ field: "commands", rule: "non_empty" }],
    });
  });

  it("is for the revision that it expects, if it expects one", () => {
    expect([refusal([event]), refusal([event], 7)]).toEqual([null, null]);
    expect(refusal([event], 6)).toEqual({
      code: "RUN_REVISION_MISMATCH",
      error: "run is at revision 7, not 6",
      revision: 7,
    });
  });
});
