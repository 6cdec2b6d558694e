import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type LocalRuntime, startLocalRuntime } from "../../scripts/local-runtime.ts";

const TOKEN = "chosen-and-long-enough-to-be-a-key";

let cwd: string;
let runtime: LocalRuntime;

beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), "baton-docs-"));
  runtime = await startLocalRuntime({ port: 0, stateDir: join(cwd, "state"), token: TOKEN });
});

afterAll(async () => {
  await runtime.close();
  await rm(cwd, { recursive: true, force: true });
});

const page = (name: string) => readFile(join(import.meta.dirname, "../../docs", name), "utf8");

const blocks = (text: string, language: string) =>
  [...text.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, "g"))].map(
    (match) => match[1] ?? "",
  );

/** Runs shell blocks as they stand, one after another in one shell; gives what each of them has printed. */
async function run(shell: string[]): Promise<string[]> {
  const mark = "\n--- next ---\n";
  const script = shell.join(`\nprintf '${mark.replaceAll("\n", "\\n")}'\n`);
  const env = { ...process.env, URL: runtime.url, TOKEN };
  const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", script], { cwd, env });
  return stdout.split(mark);
}

async function api(method: string, path: string, body?: unknown) {
  const headers = { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" };
  const init = { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) };
  const response = await fetch(runtime.url + path, init);
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of many shapes.
  return (await response.json()) as any;
}

test("docs/webhooks-in.md: a hook is made, a delivery signed and sent, and its run is there", async () => {
  const shell = blocks(await page("webhooks-in.md"), "sh");
  expect(shell).toHaveLength(3);
  const [made = "", sent = "", listed = ""] = await run(shell);
  expect(JSON.parse(made)).toMatchObject({
    hook: { mapping: "github_issue_opened" },
    secret: expect.stringMatching(/^whsec_/),
  });
  const { delivery_id } = JSON.parse(sent);
  expect(JSON.parse(sent)).toMatchObject({ status: "accepted", keyed_by: "delivery_id" });
  const { hook } = JSON.parse(made);
  expect(JSON.parse(listed).deliveries).toMatchObject([{ delivery_id, hook_id: hook.hook_id }]);
  // It is mapped after the answer.
  const path = `/v1/hooks/${hook.hook_id}/deliveries/${delivery_id}`;
  const read = async () => (await api("GET", path)).delivery;
  await expect.poll(async () => (await read()).status, { timeout: 20_000 }).toBe("mapped");
  const became = await api("GET", `/v1/runs/${(await read()).run_id}`);
  expect(became.run.objective).toBe("Work on issue 7 of ⟪zoe/app⟫: ⟪It crashes⟫");
});

test("docs/webhooks-in.md: the schemes that it gives as examples are taken", async () => {
  const text = (await page("webhooks-in.md")).replaceAll("\n", " ");
  const schemes = [...text.matchAll(/`(\{"kind": "[^`]*\})`/g)].map((match) => JSON.parse(match[1] ?? ""));
  expect(schemes.map(({ header }) => header)).toEqual(["sentry-hook-signature", "x-shopify-hmac-sha256"]);
  for (const scheme of schemes) {
    const made = await api("POST", "/v1/hooks", { name: "example", scheme, mapping: "plain_json" });
    expect(made).toMatchObject({ hook: { scheme } });
  }
});

test("docs/mapping.md: the mapping that it begins with, and its command", async () => {
  const text = await page("mapping.md");
  const [mapping = "", ...more] = blocks(text, "json");
  expect(more).toEqual([]);
  const shell = blocks(text, "sh");
  expect(shell).toHaveLength(1);
  const [tested = ""] = await run(shell);
  expect(JSON.parse(tested)).toMatchObject({
    verdict: "plan",
    plan: { run_key: "gh/zoe/app/7", tasks: [{ id: "triage-7" }] },
  });
  const issue = {
    number: 7,
    title: "It crashes",
    body: "On start.",
    labels: [{ name: "bug" }, { name: "urgent" }],
  };
  const sample = { event: "issues", body: { action: "opened", issue, repository: { full_name: "zoe/app" } } };
  const planned = await api("POST", "/v1/mappings/test", { mapping: JSON.parse(mapping), sample });
  expect(planned).toMatchObject({
    verdict: "plan",
    plan: {
      run: { objective: "Work on issue 7: ⟪It crashes⟫" },
      tasks: [
        { id: "triage-7", payload: { input: { title: "It crashes", body: "On start." } } },
        { payload: { input: { label: "bug", place: 0 } } },
        { payload: { input: { label: "urgent", place: 1 } } },
      ],
    },
  });
});
