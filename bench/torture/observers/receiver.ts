import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { numberAt, objectAt, stringAt } from "../../drill/fields.ts";
import type { Rng } from "../../drill/rng.ts";
import type { Arrival } from "./deliveries.ts";

/** A receiver of webhooks on loopback, which is no good: it is slow, refuses, hangs up and dies. */
export interface Receiver {
  readonly url: string;
  readonly arrivals: readonly Arrival[];
  /** How often it has misbehaved. */
  readonly misbehaved: number;
  /** From now on it takes everything at once. */
  behave(): Promise<void>;
  close(): Promise<void>;
}

/** What befalls a delivery. */
type Fate = "take" | "slow" | "refuse" | "busy" | "hang_up" | "take_and_hang_up" | "die";

/** A failure costs the run's next delivery five seconds, a second one of the same event five minutes: they must be few. */
const failureShare = 1 / 150;

/** Draws what befalls the next delivery. */
export function drawFate(rng: Rng): Fate {
  if (!rng.chance(failureShare)) return rng.chance(0.02) ? "slow" : "take";
  return rng.pick(["refuse", "busy", "hang_up", "take_and_hang_up", "die"] as const);
}

export async function startReceiver(rng: Rng, secret: () => string): Promise<Receiver> {
  const arrivals: Arrival[] = [];
  const failed = new Set<string>();
  let misbehaved = 0;
  let isGood = false;
  let isClosed = false;
  let port = 0;
  let server: Server | undefined;

  async function listen(): Promise<void> {
    const listening = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("error", () => undefined);
      request.on("end", () => take(request, Buffer.concat(chunks).toString(), response));
    });
    listening.listen(port, "127.0.0.1");
    await once(listening, "listening");
    port = (listening.address() as AddressInfo).port;
    server = listening;
  }

  function take({ headers }: IncomingMessage, body: string, response: ServerResponse): void {
    const messageId = String(headers["webhook-id"]);
    const fate = isGood || failed.has(messageId) ? "take" : drawFate(rng);
    const isTaken = fate === "take" || fate === "slow" || fate === "take_and_hang_up";
    const arrival = { ...readArrival(headers, body, secret()), atMs: Date.now() };
    const isUnsure = fate === "take_and_hang_up";
    const taken: { takenMs: number | undefined } & Arrival = { ...arrival, isUnsure, takenMs: undefined };
    arrivals.push(taken);
    if (fate !== "take" && fate !== "slow") {
      misbehaved += 1;
      failed.add(messageId);
    }
    const answer = (status: number): void => {
      // It may have died meanwhile.
      if (response.destroyed) return;
      // From here on the server may know.
      if (isTaken) taken.takenMs = Date.now();
      response.writeHead(status, fate === "busy" ? { "retry-after": "1" } : {}).end();
    };
    if (fate === "take") answer(204);
    else if (fate === "slow") setTimeout(() => answer(200), rng.between(50, 1_000));
    else if (fate === "refuse") answer(500);
    else if (fate === "busy") answer(503);
    else if (fate === "hang_up") response.destroy();
    else if (fate === "die") die(rng.between(200, 3_000));
    else {
      taken.takenMs = Date.now();
      response.writeHead(200, { "content-length": "10" });
      response.write("cut", () => response.destroy());
    }
  }

  function die(forMs: number): void {
    const dying = server;
    server = undefined;
    dying?.closeAllConnections();
    dying?.close();
    setTimeout(() => {
      if (!isClosed && server === undefined) void listen();
    }, forMs);
  }

  await listen();
  return {
    url: `http://127.0.0.1:${port}`,
    arrivals,
    get misbehaved() {
      return misbehaved;
    },
    behave: async () => {
      isGood = true;
      if (server === undefined) await listen();
    },
    close: async () => {
      isClosed = true;
      server?.closeAllConnections();
      server?.close();
    },
  };
}

/** Reads a delivery. Never throws: what it lacks becomes blank, and fails a check. */
export function readArrival(
  headers: IncomingMessage["headers"],
  body: string,
  secret: string,
): Omit<Arrival, "atMs" | "takenMs" | "isUnsure"> {
  const messageId = String(headers["webhook-id"] ?? "");
  const data = objectAt(parsed(body), "data");
  return {
    messageId,
    body,
    run_id: stringAt(data, "run_id") ?? "",
    seq: numberAt(data, "seq") ?? 0,
    text: JSON.stringify(objectAt(data, "event")) ?? "",
    signed: isSigned(headers, body, secret),
  };
}

/**
 * Whether one of the signatures is right (https://www.standardwebhooks.com). Not by the library of that name: it compares the
 * time of signing with a clock, and the server's has been moved.
 */
function isSigned(headers: IncomingMessage["headers"], body: string, secret: string): boolean {
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const signed = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
  const wanted = `v1,${createHmac("sha256", key).update(signed).digest("base64")}`;
  return String(headers["webhook-signature"]).split(" ").includes(wanted);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
