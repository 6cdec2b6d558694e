import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect } from "vitest";
import type { Env } from "../../../../src/env.ts";
import { serve } from "../../../../src/http/server.ts";
import type { Sender } from "./senders.ts";

/** The members of all answers that these tests look at. */
export interface Answered {
  status: number;
  headers: Headers;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of many shapes.
  body: any;
}

/** Sends a request and, unless told otherwise, waits for what the Worker does after its answer. */
export async function send(
  request: Request,
  options: { bindings?: Env; wait?: boolean } = {},
): Promise<Answered> {
  const context = createExecutionContext();
  const response = await serve(request, options.bindings ?? env, context);
  const text = await response.text();
  if (options.wait !== false) await waitOnExecutionContext(context);
  const isJson = /\bjson\b/.test(response.headers.get("content-type") ?? "");
  const { status, headers } = response;
  return { status, headers, text, body: isJson ? JSON.parse(text) : null };
}

/** A call of the API with the root credential. */
export function api(method: string, path: string, body?: unknown, bindings?: Env): Promise<Answered> {
  const request = new Request(`https://baton.test${path}`, {
    method,
    headers: { authorization: "Bearer test-token", "content-type": "application/json" },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return send(request, { ...(bindings && { bindings }) });
}

/** A mapping that takes everything, and makes one run of each hook. */
export const ANYTHING = {
  run: { objective: "Look at what came in" },
  run_key: "all",
  event: { type: "came_in" },
};

export interface TestHook {
  id: string;
  /** Where its API is. */
  path: string;
  url: string;
  secret: string;
}

/** Makes a hook for a sender, with the sender's first secret. */
export async function newHook(sender: Sender, fields: Record<string, unknown> = {}): Promise<TestHook> {
  const [secret] = sender.secrets;
  const body = { name: sender.name, scheme: sender.scheme, mapping: ANYTHING, secret, ...fields };
  return hookOf(await api("POST", "/v1/hooks", body));
}

/** The hook that a creation has made. */
export function hookOf(created: Answered): TestHook {
  expect(created.status, created.text).toBe(201);
  const { hook, secret } = created.body;
  return { id: hook.hook_id, path: `/v1/hooks/${hook.hook_id}`, url: hook.url, secret };
}

/** A delivery as the sender signs it. */
export async function delivery(
  sender: Sender,
  url: string,
  options: { id?: string; body?: string; secret?: string; headers?: Record<string, string> } = {},
): Promise<Request> {
  const nowMs = Date.now();
  const body = options.body ?? sender.body(nowMs, options.id);
  const signed = await sender.sign(options.secret ?? sender.secrets[0], body, nowMs, options.id);
  const headers = { "content-type": "application/json", ...signed, ...options.headers };
  return new Request(url, { method: "POST", headers, body });
}
