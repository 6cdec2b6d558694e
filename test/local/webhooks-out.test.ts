import { execFile } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { Webhook } from "standardwebhooks";
import { expect, inject, onTestFinished, test, vi } from "vitest";
import { startBaton, temporaryStateDir } from "./baton-process.ts";

interface Delivery {
  path: string;
  headers: Record<string, string>;
  body: string;
}

interface Attempt {
  run_id: string;
  seq: number;
  attempt: number;
  status: number | null;
  delivered: boolean;
  error: string | null;
  duration_ms: number;
}

/** Waits until it is so. */
async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  await vi.waitUntil(isSo, { timeout: 90_000, interval: 50 });
}

/** A receiver on this machine that answers as its paths say; what it is not told it does not do. */
async function startReceiver(
  answers: Record<string, (request: IncomingMessage, answer: ServerResponse) => void>,
) {
  const received: Delivery[] = [];
  const server = createServer((request, answer) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const path = request.url ?? "";
      const headers = request.headers as Record<string, string>;
      received.push({ path, headers, body: Buffer.concat(chunks).toString() });
      answers[path]?.(request, answer);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, received, at: (path: string) => received.filter((delivery) => delivery.path === path) };
}

/** What a test asks of a running Baton. */
function clientOf(baton: { url: string; token: string }) {
  const call = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const response = await fetch(baton.url + path, {
      method,
      headers: { authorization: `Bearer ${baton.token}`, "content-type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return (text === "" ? {} : JSON.parse(text)) as T;
  };
  return {
    call,
    newRun: async (): Promise<string> => {
      const { run } = await call<{ run: { run_id: string } }>("POST", "/v1/runs", {
        objective: "Tell others",
      });
      return run.run_id;
    },
    append: (runId: string, payload: unknown = null) =>
      call("POST", `/v1/runs/${runId}/events`, { type: "note", status: "running", payload }),
    subscribe: async (url: string, fields: object = {}): Promise<{ id: string; secret: string }> => {
      const made = await call<{ subscription: { subscription_id: string }; secret: string }>(
        "POST",
        "/v1/subscriptions",
        { url, ...fields },
      );
      return { id: made.subscription.subscription_id, secret: made.secret };
    },
    attempts: async (id: string): Promise<Attempt[]> =>
      (await call<{ attempts: Attempt[] }>("GET", `/v1/subscriptions/${id}/attempts`)).attempts,
  };
}

test("webhooks §5.3: a receiver that fails in every way delays nobody, and is told again", async () => {
  let tries = 0;
  const receiver = await startReceiver({
    "/ok": (_, answer) => answer.writeHead(204).end(),
    "/500": (_, answer) => answer.writeHead(500).end("no"),
    "/flaky": (_, answer) => answer.writeHead(tries++ === 0 ? 500 : 200).end(),
    "/redirect": (_, answer) => answer.writeHead(307, { location: "/target" }).end(),
    "/gone": (_, answer) => answer.writeHead(410).end(),
    "/busy": (_, answer) => answer.writeHead(429, { "retry-after": "60" }).end(),
    "/slow": (_, answer) => void delay(1_500).then(() => answer.writeHead(200).end()),
    "/huge": (_, answer) => {
      answer.writeHead(200);
      const piece = Buffer.alloc(1024 * 1024);
      const more = (): void => {
        while (!answer.destroyed && answer.write(piece));
        if (!answer.destroyed) answer.once("drain", more);
      };
      more();
    },
    "/drip": (_, answer) => {
      answer.writeHead(200);
      const drops = setInterval(() => answer.write("."), 100);
      answer.on("close", () => clearInterval(drops));
    },
    "/close": (request) => request.socket.destroy(),
    "/hang": () => undefined,
  });
  const baton = await startBaton({ PORT: "0", STATE_DIR: await temporaryStateDir() });
  const { newRun, append, subscribe, attempts, call } = clientOf(baton);

  const expected: [string, Partial<Attempt>][] = [
    ["/ok", { delivered: true, status: 204 }],
    ["/500", { delivered: false, status: 500, error: "status_500" }],
    ["/redirect", { delivered: false, status: 307, error: "status_307" }],
    ["/gone", { delivered: false, status: 410, error: "status_410" }],
    ["/busy", { delivered: false, status: 429, error: "status_429" }],
    ["/slow", { delivered: true, status: 200 }],
    ["/huge", { delivered: true, status: 200 }],
    ["/drip", { delivered: true, status: 200 }],
    ["/close", { delivered: false, status: null, error: "connection" }],
    ["/hang", { delivered: false, status: null, error: "timeout" }],
  ];
  const run = await newRun();
  const subscriptions = new Map<string, { id: string; secret: string }>();
  for (const [path] of [...expected, ["/flaky"] as const, ["/refused"] as const]) {
    const url = path === "/refused" ? "http://127.0.0.1:1/" : receiver.url + path;
    subscriptions.set(path, await subscribe(url, { run_id: run }));
  }
  const of = (path: string) => subscriptions.get(path) ?? { id: "", secret: "" };

  // While all of them have something on its way, commits take as long as ever.
  await append(run);
  await until(() => receiver.at("/hang").length === 1);
  const slowest = await (async () => {
    let longest = 0;
    for (let index = 0; index < 50; index += 1) {
      const started = performance.now();
      await append(run, { index });
      longest = Math.max(longest, performance.now() - started);
    }
    return longest;
  })();
  expect(slowest).toBeLessThan(5_000);

  for (const [path, attempt] of expected) {
    const first = async () =>
      (await attempts(of(path).id)).find(({ seq, attempt: n }) => seq === 1 && n === 1);
    await until(async () => (await first()) !== undefined);
    expect(await first(), path).toMatchObject(attempt);
  }
  await until(async () => (await attempts(of("/refused").id)).length > 0);
  expect((await attempts(of("/refused").id))[0]).toMatchObject({ delivered: false, error: "connection" });
  expect(receiver.at("/target")).toEqual([]);
  const [hung] = await attempts(of("/hang").id);
  expect(hung?.duration_ms).toBeGreaterThanOrEqual(19_900);

  // The ones that took the first have all in order, each once, signed by the book.
  await until(() => receiver.at("/ok").length === 51 && receiver.at("/flaky").length === 52);
  for (const path of ["/ok", "/flaky"]) {
    const { secret } = of(path);
    const seqs = receiver.at(path).map(({ headers, body }) => {
      const { data } = new Webhook(secret).verify(body, headers) as { data: { seq: number; run_id: string } };
      expect(data.run_id).toBe(run);
      return data.seq;
    });
    const all = Array.from({ length: 51 }, (_, index) => index + 1);
    expect(seqs, path).toEqual(path === "/ok" ? all : [1, ...all]);
  }
  const [lost, again] = receiver.at("/flaky");
  expect(again?.headers["webhook-id"]).toBe(lost?.headers["webhook-id"]);
  const { subscription } = await call<{ subscription: object }>("GET", `/v1/subscriptions/${of("/gone").id}`);
  expect(subscription).toMatchObject({ status: "disabled", disabled_reason: "gone" });
  expect(receiver.at("/gone")).toHaveLength(1);
  expect(receiver.at("/busy")).toHaveLength(1);
});

test("design: deliveries survive the death of the server, at least once, in order", async () => {
  let isDown = true;
  const receiver = await startReceiver({
    "/hook": (_, answer) => {
      // While it is down it neither answers nor hangs up.
      if (!isDown) answer.writeHead(200).end();
    },
  });
  const environment = { PORT: "0", STATE_DIR: await temporaryStateDir() };
  const before = await startBaton(environment);
  const first = clientOf(before);
  const { secret } = await first.subscribe(`${receiver.url}/hook`);
  const runs = [await first.newRun(), await first.newRun()];
  for (const run of runs) for (let index = 0; index < 3; index += 1) await first.append(run, index);
  await until(() => receiver.received.length === 2);
  before.kill("SIGKILL");
  await before.exited;
  isDown = false;
  await startBaton(environment);
  const told = () =>
    receiver.received.map(({ headers, body }) => {
      const { data } = new Webhook(secret).verify(body, headers) as { data: { seq: number; run_id: string } };
      return data;
    });
  const seqsOf = (run: string) => told().flatMap(({ run_id, seq }) => (run_id === run ? [seq] : []));
  await until(() => runs.every((run) => seqsOf(run).includes(3)));
  for (const run of runs) {
    const seqs = seqsOf(run);
    expect(seqs.slice(0, 2)).toEqual([1, 1]);
    // A start runs the runtime twice: what was delivered in the first, and not noted there, is delivered again.
    expect(seqs.filter((seq, index) => seq !== seqs[index - 1])).toEqual([1, 2, 3]);
  }
});

test("docs/webhooks-out.md: the command works as it stands", async () => {
  const page = await readFile(join(import.meta.dirname, "../../docs/webhooks-out.md"), "utf8");
  const commands = [...page.matchAll(/```sh\n([\s\S]*?)```/g)].map((match) => match[1] ?? "");
  expect(commands).toHaveLength(1);
  const [url, token] = [inject("baseUrl"), inject("token")];
  const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", commands.join("\n")], {
    env: { ...process.env, URL: url, TOKEN: token },
  });
  const made = JSON.parse(stdout) as { subscription: { subscription_id: string }; secret: string };
  await clientOf({ url, token }).call("DELETE", `/v1/subscriptions/${made.subscription.subscription_id}`);
  expect(made).toMatchObject({
    subscription: { status: "active", events: ["context.task.*"] },
    secret: expect.stringMatching(/^whsec_/),
  });
});
