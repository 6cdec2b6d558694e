import { describe, expect, it } from "vitest";
import { accepted, newTestRun } from "./support/test-run.ts";

const PAYLOAD_LENGTH = 250_000;
/** Together more than one message between Worker and object may hold (32 MiB). */
const FACTS = 140;

describe("design: a blackboard larger than a message", () => {
  it("design: is read whole, with and without its tasks", async () => {
    const run = await newTestRun();
    const text = "x".repeat(PAYLOAD_LENGTH);
    for (let index = 0; index < FACTS; index += 1) {
      const payload = { id: `f${index}`, ts_ms: index, text };
      await accepted(run, { op: "patch_blackboard", patch_op: "add_fact", payload });
    }
    for (const withTasks of [false, true]) {
      const read = await run.client.readBlackboard(withTasks);
      if (!read.ok) throw new Error("the run exists");
      const board = JSON.parse(await new Response(read.value).text()) as { facts: unknown[] };
      expect(board.facts).toHaveLength(FACTS);
    }
  });
});
