import { setTimeout as sleep } from "node:timers/promises";
import { stringAt } from "../../drill/fields.ts";
import { type RunLog, toLogRecords } from "./records.ts";

/** One answer. */
export interface Reply {
  readonly status: number;
  /** Parsed JSON; undefined when the body was none. */
  readonly body: unknown;
}

/** Asks one server as one tenant. */
export interface Client {
  /** Sends a request once. @throws Error when no answer came within its time. */
  ask(method: string, path: string, body?: unknown, options?: AskOptions): Promise<Reply>;
  /** The same, and it must be answered with success. @throws Error otherwise. */
  demand(method: string, path: string, body?: unknown, options?: AskOptions): Promise<unknown>;
  /** Bodies of all pages of a list. @throws Error when a page is refused. */
  pages(path: string): Promise<readonly unknown[]>;
}

interface AskOptions {
  /** Sent as `Idempotency-Key`. */
  readonly key?: string;
  /** How long an answer is waited for, ms. */
  readonly patienceMs?: number;
}

/** Where orphans live: nobody follows or lists this tenant, so that nothing but time comes by. */
export interface TenantName {
  readonly org: string;
  readonly workspace: string;
}

const patienceMs = 20_000;

export function createClient(url: string, token: string, tenant?: TenantName): Client {
  const headers: Record<string, string> = { authorization: `Bearer ${token}` };
  if (tenant !== undefined) {
    headers["x-tenant-org-id"] = tenant.org;
    headers["x-tenant-workspace-id"] = tenant.workspace;
  }

  async function ask(method: string, path: string, body?: unknown, options: AskOptions = {}): Promise<Reply> {
    const response = await fetch(url + path, {
      method,
      headers: {
        ...headers,
        ...(body !== undefined && { "content-type": "application/json" }),
        ...(options.key !== undefined && { "idempotency-key": options.key }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(options.patienceMs ?? patienceMs),
    });
    const text = await response.text();
    return { status: response.status, body: parsed(text) };
  }

  async function demand(
    method: string,
    path: string,
    body?: unknown,
    options?: AskOptions,
  ): Promise<unknown> {
    const reply = await ask(method, path, body, options);
    if (reply.status < 300) return reply.body;
    throw new Error(`${method} ${path} was answered ${reply.status}: ${JSON.stringify(reply.body)}`);
  }

  async function pages(path: string): Promise<readonly unknown[]> {
    const bodies: unknown[] = [];
    for (let cursor: string | undefined = ""; cursor !== undefined; ) {
      const from: string = cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`;
      const body = await demand("GET", `${path}${path.includes("?") ? "&" : "?"}limit=1000${from}`);
      bodies.push(body);
      cursor = stringAt(body, "next_cursor");
    }
    return bodies;
  }

  return { ask, demand, pages };
}

/** Reads a run's whole log; of a run that is not found, an empty one. */
export async function readRunLog(client: Client, run_id: string): Promise<RunLog> {
  const path = `/v1/runs/${run_id}`;
  if ((await client.ask("GET", path)).status === 404) return { run_id, events: [], patches: [] };
  const events = toLogRecords(await client.pages(`${path}/events`), "events");
  const patches = toLogRecords(await client.pages(`${path}/blackboard/patches`), "patches");
  return { run_id, events, patches };
}

/** Asks until it is so, or the time is over. */
export async function waitUntil(isSo: () => boolean | Promise<boolean>, withinMs: number): Promise<boolean> {
  for (const deadlineMs = Date.now() + withinMs; Date.now() < deadlineMs; await sleep(50)) {
    if (await isSo()) return true;
  }
  return isSo();
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
