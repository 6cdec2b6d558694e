import { expect, it } from "vitest";
import { firstLineOf } from "../../src/moving/first-line.ts";
import { streamOf } from "../run/support/moving.ts";

it("design: whether a first line is too long does not depend on how its bytes come", async () => {
  const bytes = new TextEncoder().encode(`${"x".repeat(20)}\nrest`);
  for (const chunk of [1, 7, 20, 21, 25]) {
    expect((await firstLineOf(streamOf(bytes, { chunk }), 19)).text, `${chunk}`).toBeNull();
    expect((await firstLineOf(streamOf(bytes, { chunk }), 20)).text, `${chunk}`).toBe("x".repeat(20));
  }
});
