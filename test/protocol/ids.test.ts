import fc from "fast-check";
import { expect, it } from "vitest";
import { issueForId, isValidId } from "../../src/protocol/ids.ts";

const valid = ["a", "A-1", "run_1.2:3", "...", "-", ".a", "0", "x".repeat(200)];
it.each(valid)("%s is an id", (id) => {
  expect(isValidId(id)).toBe(true);
  expect(issueForId("run_id", id)).toBeNull();
});

const invalid: [string, string][] = [
  ["", "id"],
  [".", "id"],
  ["..", "id"],
  ["../x", "id"],
  ["a/b", "id"],
  ["a b", "id"],
  ["a\n", "id"],
  ["a%2f", "id"],
  ["é", "id"],
  ["x".repeat(201), "max_length"],
  [`${"x".repeat(201)} `, "id"],
];
it.each(invalid)("%j is none", (id, rule) => {
  expect(isValidId(id)).toBe(false);
  expect(issueForId("run_id", id)).toEqual({
    field: "run_id",
    rule,
    message: expect.stringContaining("run_id"),
    ...(rule === "max_length" && { limit: 200 }),
  });
});

it("an id stands in a URL path as it is", () => {
  const id = fc.stringMatching(/^[A-Za-z0-9._:-]{1,200}$/).filter(isValidId);
  fc.assert(
    fc.property(
      id,
      (id) => new URL(`https://x.test/v1/runs/${id}/tasks`).pathname === `/v1/runs/${id}/tasks`,
    ),
  );
});
