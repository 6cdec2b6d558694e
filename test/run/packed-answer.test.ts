import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Answer } from "../../src/run/engine.ts";
import { packAnswer, unpackAnswer } from "../../src/run/packed-answer.ts";

const rows = { read: 1, written: 2 };
const outcome = { op: "requeue_stale", requeued: 3 } as const;

describe("design: an answer comes out of its object as it went in", () => {
  it.each<[string, Answer]>([
    ["a refusal", { ok: false, refusal: { code: "TASK_NOT_FOUND", error: "task\nnot found" }, rows }],
    ["an outcome without an echo", { ok: true, outcome, repeat: null, rows }],
    ["an echo that is left out", { ok: true, outcome, repeat: null, echo: null, rows }],
    ["an empty echo", { ok: true, outcome, repeat: null, echo: "", rows }],
    [
      "a repeat of another kind",
      { ok: true, outcome: null, repeat: { same: false, afterMs: null, currentTask: null }, rows },
    ],
  ])("%s", (_name, answer) => {
    expect(unpackAnswer(packAnswer(answer))).toEqual(answer);
  });

  it("with an echo of any text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (echo) => {
        const answer: Answer = { ok: true, outcome, repeat: null, echo, rows };
        expect(unpackAnswer(packAnswer(answer))).toEqual(answer);
      }),
    );
  });
});
