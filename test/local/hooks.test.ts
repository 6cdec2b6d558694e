import { once } from "node:events";
import { request } from "node:http";
import { sign } from "@octokit/webhooks-methods";
import { expect, onTestFinished, test } from "vitest";
import { startLocalRuntime } from "../../scripts/local-runtime.ts";
import { descendants, endIfThere, startBaton, temporaryStateDir } from "./baton-process.ts";

const TOKEN = "chosen-and-long-enough-to-be-a-key";
const SECRET = "It's a Secret to Everybody";
const DELIVERIES = 60;
const ANSWERED_BEFORE_KILL = 15;

interface Delivery {
  delivery_id: string;
  delivery_key: string;
  status: string;
  run_id: string;
}

async function api<T>(url: string, path: string, body?: unknown): Promise<T> {
  const headers = { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" };
  const init = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  const response = await fetch(url + path, init);
  const text = await response.text();
  expect(response.ok, text).toBe(true);
  return JSON.parse(text) as T;
}

/** Makes a hook; each delivery makes a run of its own, named by its body. */
async function newHook(url: string): Promise<{ id: string; path: string }> {
  const { hook } = await api<{ hook: { hook_id: string; url: string } }>(url, "/v1/hooks", {
    name: "h",
    scheme: { kind: "github" },
    secret: SECRET,
    mapping: { run: { objective: "Look at {{ n }}" }, run_key: "{{ n }}", tasks: [{ task_type: "look" }] },
  });
  return { id: hook.hook_id, path: new URL(hook.url).pathname };
}

/** A delivery as it goes over the wire; each header may stand there several times. */
async function post(
  address: string,
  body: string,
  headers: Record<string, string | string[]>,
): Promise<{ status: number; text: string }> {
  const sent = request(address, { method: "POST", headers });
  sent.end(body);
  const [response] = await once(sent, "response");
  let text = "";
  for await (const chunk of response) text += chunk;
  return { status: response.statusCode, text };
}

const headersOf = async (body: string, id: string) => ({
  "x-hub-signature-256": await sign(SECRET, body),
  "x-github-event": "push",
  "x-github-delivery": id,
  "content-type": "application/json",
});

test("deliveries that were answered before the server was killed become one run each", async () => {
  const stateDir = await temporaryStateDir();
  const baton = await startBaton({ PORT: "0", STATE_DIR: stateDir, BATON_TOKEN: TOKEN });
  const hook = await newHook(baton.url);
  const address = baton.url + hook.path;

  // On the wire: in chunks, and with the signature twice.
  const first = JSON.stringify({ n: "first" });
  const chunked = { ...(await headersOf(first, "first")), "transfer-encoding": "chunked" };
  expect(await post(address, first, chunked)).toMatchObject({ status: 202 });
  const { "x-hub-signature-256": signature, ...others } = await headersOf(first, "second");
  const twice = { ...others, "x-hub-signature-256": [signature, signature] };
  expect(await post(address, first, twice)).toMatchObject({ status: 401 });

  const answered: string[] = [];
  const sending = Array.from({ length: DELIVERIES }, async (_, index) => {
    const body = JSON.stringify({ n: `n${index}` });
    const { status } = await post(address, body, await headersOf(body, `d${index}`));
    if (status === 202) answered.push(`d${index}`);
    if (answered.length === ANSWERED_BEFORE_KILL) {
      for (const pid of [...descendants(baton.pid), baton.pid]) endIfThere(pid);
    }
  });
  await Promise.allSettled(sending);
  await baton.exited;
  expect(answered.length).toBeGreaterThanOrEqual(ANSWERED_BEFORE_KILL);

  const runtime = await startLocalRuntime({ port: 0, stateDir, token: TOKEN });
  onTestFinished(() => runtime.close());
  // Whoever had begun before the kill has let its deadline pass by then.
  await runtime.runCron(Date.now() + 180_000);
  const { deliveries } = await api<{ deliveries: Delivery[] }>(
    runtime.url,
    `/v1/hooks/${hook.id}/deliveries?limit=1000`,
  );
  const keys = deliveries.map(({ delivery_key }) => delivery_key);
  expect(keys).toEqual(expect.arrayContaining(answered));
  expect(new Set(keys).size).toBe(keys.length);
  expect(deliveries.filter(({ status }) => status !== "mapped")).toEqual([]);
  expect(new Set(deliveries.map(({ run_id }) => run_id)).size).toBe(deliveries.length);
  for (const { run_id } of deliveries) {
    const { tasks } = await api<{ tasks: unknown[] }>(runtime.url, `/v1/runs/${run_id}/tasks`);
    expect(tasks).toHaveLength(1);
  }
  const { runs } = await api<{ runs: unknown[] }>(runtime.url, "/v1/runs?limit=1000");
  expect(runs).toHaveLength(deliveries.length);
});
