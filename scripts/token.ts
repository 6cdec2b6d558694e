import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";

const USAGE = `npm run token -- mint --scopes agent[,planner,…] [--name …] [--days 30] [--run …] [--agent …] [--types a,b] [--actor …] [--org … --workspace …]
npm run token -- list [--org … --workspace …]
npm run token -- show <token_id> | revoke <token_id> [--org … --workspace …]
npm run token -- whoami

BATON_URL      the deployment, default http://127.0.0.1:8787
BATON_TOKEN    the credential to ask with; default that of the local start, in STATE_DIR (default .baton)`;

const DAY_MS = 24 * 60 * 60 * 1000;

const options = {
  scopes: { type: "string" },
  name: { type: "string" },
  days: { type: "string" },
  run: { type: "string" },
  agent: { type: "string" },
  types: { type: "string" },
  actor: { type: "string" },
  org: { type: "string" },
  workspace: { type: "string" },
} as const;

/** `npm run token`: mints, lists and revokes tokens over the API. A minted token is printed, and nowhere else. */
async function main(): Promise<void> {
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const [verb, tokenId] = positionals;
  const tenant: Record<string, string> = {
    ...(values.org !== undefined && { "x-tandem-org-id": values.org }),
    ...(values.workspace !== undefined && { "x-tandem-workspace-id": values.workspace }),
  };
  switch (verb) {
    case "mint":
      return print(
        await ask("POST", "/v1/tokens", tenant, {
          scopes: wordsOf(values.scopes),
          name: values.name,
          expires_in_ms: lifetimeOf(values.days),
          run_id: values.run,
          agent_id: values.agent,
          task_types: values.types === undefined ? undefined : wordsOf(values.types),
          actor_id: values.actor,
        }),
      );
    case "list":
      for (let next: string | null = "/v1/tokens?limit=1000"; next !== null; ) {
        const page: { tokens: object[]; next: string | null } = await ask("GET", next, tenant);
        for (const token of page.tokens) console.log(JSON.stringify(token));
        next = page.next;
      }
      return;
    case "show":
    case "revoke": {
      if (tokenId === undefined) throw new Error(USAGE);
      const path = `/v1/tokens/${encodeURIComponent(tokenId)}`;
      return print(
        await (verb === "show" ? ask("GET", path, tenant) : ask("POST", `${path}/revoke`, tenant)),
      );
    }
    case "whoami":
      return print(await ask("GET", "/v1/whoami", tenant));
    default:
      throw new Error(USAGE);
  }
}

/** @throws Error with what the deployment says, when it refuses. */
async function ask<T = object>(
  method: string,
  path: string,
  headers: Record<string, string>,
  body?: object,
): Promise<T> {
  const url = (process.env.BATON_URL || "http://127.0.0.1:8787").replace(/\/$/, "");
  const response = await fetch(url + path, {
    method,
    headers: {
      ...headers,
      authorization: `Bearer ${await credential()}`,
      ...(body !== undefined && { "content-type": "application/json" }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const answer = (await response.json()) as { error?: string; hint?: string };
  if (!response.ok) throw new Error(`${response.status}: ${answer.error ?? ""} ${answer.hint ?? ""}`);
  return answer as T;
}

async function credential(): Promise<string> {
  if (process.env.BATON_TOKEN) return process.env.BATON_TOKEN;
  const path = join(process.env.STATE_DIR || ".baton", "token");
  return (await readFile(path, "utf8")).trim();
}

/** @throws Error where it is no number: JSON would have null for it, and the token the default. */
function lifetimeOf(days: string | undefined): number | undefined {
  if (days === undefined) return undefined;
  if (!Number.isFinite(Number(days))) throw new Error(`--days: ${days} is no number`);
  return Math.round(Number(days) * DAY_MS);
}

function wordsOf(list: string | undefined): string[] {
  return (list ?? "").split(",").flatMap((word) => word.trim() || []);
}

function print(answer: object): void {
  console.log(JSON.stringify(answer, null, 2));
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});
