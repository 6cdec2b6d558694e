import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, inject, test } from "vitest";
import { freshId } from "../conformance/support.ts";

const root = join(import.meta.dirname, "../..");

/** Runs `npm run token` against the deployment under test. */
async function token(...words: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)("npm", ["run", "-s", "token", "--", ...words], {
    cwd: root,
    env: { ...process.env, BATON_URL: inject("baseUrl"), BATON_TOKEN: inject("token") },
  });
  return stdout;
}

test("npm run token: mints, lists and revokes; a refusal says what to do", async () => {
  const tenant = ["--org", freshId("org"), "--workspace", "main"];
  const minted = JSON.parse(
    await token(
      "mint",
      "--scopes",
      "agent,viewer",
      "--days",
      "1",
      "--types",
      "a,b",
      "--name",
      "n",
      ...tenant,
    ),
  );
  expect(minted).toMatchObject({
    scopes: ["agent", "viewer"],
    task_types: ["a", "b"],
    name: "n",
    active: true,
  });
  const listed = (await token("list", ...tenant)).trim().split("\n");
  expect(listed.map((line) => JSON.parse(line).token_id)).toEqual([minted.token_id]);
  expect(listed.join()).not.toContain(minted.token);
  expect(JSON.parse(await token("revoke", minted.token_id, ...tenant))).toMatchObject({ active: false });
  await expect(token("mint", "--scopes", "admin")).rejects.toThrow(/422: scopes\[0\]/);
  await expect(token("nonsense")).rejects.toThrow(/npm run token -- mint/);
});
