import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
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

test("the commands of docs/identity.md mint tokens as they stand", async () => {
  const page = await readFile(join(root, "docs/identity.md"), "utf8");
  const curl = /```\n(curl [\s\S]*?)```/.exec(page)?.[1] ?? "false";
  const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", curl], {
    env: { ...process.env, URL: inject("baseUrl"), BATON_TOKEN: inject("token") },
  });
  expect(JSON.parse(stdout)).toMatchObject({ scopes: ["agent"], agent_id: "builder-1", active: true });
  const words = /`npm run token -- (mint [^`]+)`/.exec(page)?.[1]?.split(" ") ?? [];
  expect(JSON.parse(await token(...words))).toMatchObject({
    scopes: ["agent"],
    name: "worker",
    active: true,
  });
});

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
  // What is no number would be no end that anyone asked for.
  await expect(token("mint", "--scopes", "agent", "--days", "1d")).rejects.toThrow(/--days: 1d is no number/);
  await expect(token("nonsense")).rejects.toThrow(/npm run token -- mint/);
});
