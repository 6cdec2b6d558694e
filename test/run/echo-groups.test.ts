import { describe, expect, it } from "vitest";
import { submit } from "../../src/run/run-client.ts";
import { accepted, newTestRun } from "./support/test-run.ts";

const FACTS = 16;
const COMMANDS = 12;

describe("design: answers that echo a large board", () => {
  it("design: concurrent ones are all answered, each with the board as its command left it", async () => {
    const run = await newTestRun();
    const text = "x".repeat(240_000);
    for (let index = 0; index < FACTS; index += 1) {
      const payload = { id: `f${index}`, ts_ms: index, text };
      await accepted(run, { op: "patch_blackboard", patch_op: "add_fact", payload });
    }
    const answers = await Promise.all(
      Array.from({ length: COMMANDS }, (_, index) =>
        submit(run.client, {
          command: {
            op: "patch_blackboard",
            patch_op: "add_fact",
            payload: { id: `n${index}`, ts_ms: 0, text: "new" },
          },
          echo: "blackboard",
        }),
      ),
    );
    for (const [index, answer] of answers.entries()) {
      if (!answer.ok || typeof answer.echo !== "string")
        throw new Error("the command is answered with its echo");
      const board = JSON.parse(answer.echo) as { facts: { id: string }[]; revision: number };
      expect(board.revision).toBe(FACTS + index + 1);
      expect(board.facts.at(-1)?.id).toBe(`n${index}`);
    }
  });
});
