import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";

test("design: `npm run rows` finds every operation within its budget", { timeout: 120_000 }, async () => {
  const { stdout } = await promisify(execFile)("npm", ["run", "--silent", "rows", "--", "--tasks", "100"]);
  const rows = stdout.split("\n").filter((line) => /\d+ \/ \d+/.test(line));
  expect(rows.length).toBeGreaterThanOrEqual(10);
});
