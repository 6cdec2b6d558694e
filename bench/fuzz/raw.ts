import * as net from "node:net";
import type { Rng } from "../drill/rng.ts";
import { pickFrom } from "./values.ts";

/** Bytes on a connection of their own, and what must come of them. */
export interface RawPlan {
  readonly name: string;
  /** Sent one after the other. */
  readonly bytes: readonly Buffer[];
  /** How many answers must come before the connection ends; 0 where the client just goes away. */
  readonly answers: number;
  /** How long to stay when no answer is waited for, ms. */
  readonly stayMs: number;
}

/** What came back on a connection. */
export interface RawResult {
  readonly statuses: readonly number[];
  readonly text: string;
  /** Whether the answers, or the end of the connection, came in time. */
  readonly isDone: boolean;
}

/** What raw requests name. */
export interface RawPlace {
  readonly host: string;
  readonly lane: number;
  readonly authorization: string;
  readonly tenant: string;
  readonly runId: string;
  /** The run whose claims are cut off. */
  readonly cutRun: string;
}

/** Requests that no HTTP client would send, or would not send so. */
export function rawPlan(place: RawPlace, rng: Rng): RawPlan {
  const plan = pickFrom(rng, PLANS);
  return plan(place, rng);
}

type Planner = (place: RawPlace, rng: Rng) => RawPlan;

function head(
  { host, lane, authorization, tenant }: RawPlace,
  line: string,
  more: readonly string[] = [],
): string {
  const headers = [
    `Host: ${host}`,
    `Authorization: ${authorization}`,
    `X-Tandem-Org-Id: ${tenant}`,
    `X-Fuzz-Lane: ${lane}`,
    ...more,
  ];
  return `${line} HTTP/1.1\r\n${headers.join("\r\n")}\r\n\r\n`;
}

const event = JSON.stringify({ type: "note", status: "running" });
const latin1 = (text: string): Buffer => Buffer.from(text, "latin1");
const answered = (name: string, text: string, answers = 1): RawPlan => ({
  name,
  bytes: [latin1(text)],
  answers,
  stayMs: 0,
});
const left = (name: string, ...texts: string[]): RawPlan => ({
  name,
  bytes: texts.map(latin1),
  answers: 0,
  stayMs: 20,
});
const post = (place: RawPlace, more: readonly string[]) =>
  head(place, `POST /v1/runs/${place.runId}/events`, ["Content-Type: application/json", ...more]);

/** Routes that read their body in ways of their own, with the type that each wants. */
const BODIES: readonly (readonly [string, string])[] = [
  ["PUT /v1/runs/RUN/artifacts/raw.bin", "text/plain"],
  ["POST /v1/runs/import?run_id=cut-import", "application/x-ndjson"],
  ["POST /v1/runs/import/reference", "multipart/form-data; boundary=b"],
  ["POST /v1/runs/RUN/events", "application/json"],
  ["POST /v1/runs", "application/json"],
  ["POST /hooks/none", "application/json"],
];

const PLANS: readonly Planner[] = [
  (place, rng) => {
    const [line, type] = pickFrom(rng, BODIES);
    const more = [
      `Content-Type: ${type}`,
      pickFrom(rng, ["Content-Length: 5000", "Transfer-Encoding: chunked"]),
    ];
    const piece = more[1]?.startsWith("Content")
      ? "some of it"
      : pickFrom(rng, ["5\r\nsome ", "zz\r\nsome", "ffffffffff\r\nsome"]);
    return left(
      `a body of ${line} that ends early`,
      head(place, line.replace("RUN", place.runId), more),
      piece,
    );
  },
  (place, rng) => {
    const whole = post(place, [`Content-Length: ${event.length}`]) + event;
    return left("a request that ends early", whole.slice(0, rng.between(1, whole.length - 1)));
  },
  (place, rng) => {
    const whole = post(place, [`Content-Length: ${event.length}`]) + event;
    const at = rng.between(1, whole.length - 1);
    return {
      ...answered("a request in two pieces", ""),
      bytes: [latin1(whole.slice(0, at)), latin1(whole.slice(at))],
    };
  },
  (place, rng) => {
    const count = rng.between(2, 6);
    const one = head(place, `GET /v1/runs/${place.runId}`);
    const two = post(place, [`Content-Length: ${event.length}`]) + event;
    return answered(
      "pipelined requests",
      Array.from({ length: count }, (_, i) => (i % 2 === 0 ? one : two)).join(""),
      count,
    );
  },
  (place) => left("a body shorter than it says", post(place, ["Content-Length: 5000"]) + event),
  (place) => answered("a body longer than it says", post(place, ["Content-Length: 5"]) + event),
  (place, rng) => {
    const length = pickFrom(rng, [
      "-1",
      "+5",
      "0x10",
      "1e3",
      "99999999999999999999999",
      "5, 5",
      "5, 6",
      "",
      "a",
    ]);
    return answered("a length that is none", post(place, [`Content-Length: ${length}`]) + event);
  },
  (place) =>
    answered("two lengths", post(place, ["Content-Length: 5", `Content-Length: ${event.length}`]) + event),
  (place) =>
    answered(
      "chunks",
      `${post(place, ["Transfer-Encoding: chunked"])}${event.length.toString(16)}\r\n${event}\r\n0\r\n\r\n`,
    ),
  (place, rng) => {
    const size = pickFrom(rng, ["zz", "-1", "FFFFFFFFFFFFFFFFFF", "", "5;ext=\u0000"]);
    return {
      ...answered(
        "a chunk of no size",
        `${post(place, ["Transfer-Encoding: chunked"])}${size}\r\n${event}\r\n0\r\n\r\n`,
      ),
      answers: 0,
      stayMs: 30,
    };
  },
  (place) => left("chunks that never end", `${post(place, ["Transfer-Encoding: chunked"])}5\r\n{"typ`),
  (place) =>
    answered(
      "chunks and a length",
      `${post(place, ["Transfer-Encoding: chunked", "Content-Length: 3"])}${event.length.toString(16)}\r\n${event}\r\n0\r\n\r\n`,
    ),
  (place) =>
    answered(
      "an expectation",
      post(place, ["Expect: 100-continue", `Content-Length: ${event.length}`]) + event,
    ),
  (place) =>
    answered(
      "an unknown expectation",
      post(place, ["Expect: more", `Content-Length: ${event.length}`]) + event,
    ),
  (place) =>
    answered(
      "a header of 60 KB",
      head(place, `GET /v1/runs/${place.runId}`, [`X-Long: ${"a".repeat(60_000)}`]),
    ),
  (place) =>
    answered(
      "a header of 200 KB",
      head(place, `GET /v1/runs/${place.runId}`, [`X-Long: ${"a".repeat(200_000)}`]),
    ),
  (place) =>
    answered(
      "300 headers",
      head(
        place,
        `GET /v1/runs/${place.runId}`,
        Array.from({ length: 300 }, (_, i) => `X-${i}: ${i}`),
      ),
    ),
  (place, rng) => {
    const odd = pickFrom(rng, [
      "X-A: a\u0000b",
      "no colon",
      ": nameless",
      "X-A : b",
      " folded",
      "X-A: \u00e9\u00ff",
      "X-A: a\rb",
    ]);
    return answered(
      `an odd header ${JSON.stringify(odd)}`,
      head(place, `GET /v1/runs/${place.runId}`, [odd]),
    );
  },
  (place, rng) => {
    const method = pickFrom(rng, [
      "BREW",
      "get",
      "PROPFIND",
      "M-SEARCH",
      "G\u0000T",
      "A".repeat(5_000),
      "PATCH",
      "TRACE",
    ]);
    // Not CONNECT: to that the runtime itself answers 500, because the Worker is no proxy.
    return answered(`the method ${method.slice(0, 20)}`, head(place, `${method} /v1/runs/${place.runId}`));
  },
  (place, rng) => {
    const target = pickFrom(rng, [
      "http://evil.example/v1/runs",
      "//v1/runs",
      "*",
      "/v1/runs?\u00e9",
      "/v1/\u00ff\u00fe",
      "/v1/runs/a b",
      "/v1/runs\u0000",
      "/v1/runs#x",
      "v1/runs",
      "",
      `/v1/runs/${"a".repeat(30_000)}`,
      "/v1/../global/health",
      "/v1/runs/%2e%2e/runs",
      "http://[::1/v1/runs",
      "/\\evil",
    ]);
    return answered(`the target ${JSON.stringify(target.slice(0, 40))}`, head(place, `GET ${target}`));
  },
  (place, rng) => {
    const host = pickFrom(rng, [
      "",
      "a b",
      "[::1",
      "evil.example:99999",
      "\u00e9.example",
      "a".repeat(5_000),
      "x/../y",
    ]);
    return answered(
      `the host ${JSON.stringify(host.slice(0, 20))}`,
      head({ ...place, host }, `GET /v1/runs/${place.runId}`),
    );
  },
  (place) => answered("two hosts", head(place, `GET /v1/runs/${place.runId}`, ["Host: other"])),
  (place) => answered("two credentials", head(place, "GET /v1/whoami", ["Authorization: Bearer other"])),
  () => answered("no host", "GET /v1/whoami HTTP/1.1\r\n\r\n"),
  () => answered("HTTP/1.0", "GET /global/health HTTP/1.0\r\n\r\n"),
  () => answered("HTTP/9.9", "GET /global/health HTTP/9.9\r\nHost: a\r\n\r\n"),
  () => ({
    ...answered("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    answers: 0,
    stayMs: 30,
  }),
  (_, rng) => ({ name: "random bytes", bytes: [randomOf(rng, 300)], answers: 0, stayMs: 20 }),
  () => left("blank lines", "\r\n".repeat(20)),
  (place, rng) => {
    // The answer comes after the claim has been waited for; nobody is there any more by then.
    const claim = JSON.stringify({
      agent_id: "gone",
      wait_ms: pickFrom(rng, [2_000, 20_000]),
      task_type: "never",
    });
    const line = `POST /v1/runs/${place.cutRun}/tasks/claim`;
    return left(
      "a claim that waits and is left",
      head(place, line, ["Content-Type: application/json", `Content-Length: ${claim.length}`]) + claim,
    );
  },
  (place) =>
    left(
      "an event that is waited for and left",
      head(place, `GET /v1/runs/${place.cutRun}/events?wait_ms=20000&since_seq=999`),
    ),
  (place, rng) =>
    socketPlan(place, rng, [
      `/v1/runs/${place.runId}/events/stream`,
      "/v1/events/stream",
      `/context/runs/${place.runId}/events/stream`,
      "/v1/whoami",
    ]),
  (place, rng) =>
    socketPlan(place, rng, [
      `/v1/runs/${place.runId}/events/stream?until=terminal&patches=true`,
      "/v1/events/stream?cursor=x",
    ]),
];

/** A WebSocket that is opened, rightly or not, spoken to in frames that mean nothing, and left. */
function socketPlan(place: RawPlace, rng: Rng, paths: readonly string[]): RawPlan {
  const version = rng.chance(0.8) ? "13" : pickFrom(rng, ["8", "", "x"]);
  const key = rng.chance(0.8)
    ? randomOf(rng, 16).toString("base64")
    : pickFrom(rng, ["", "short", "a".repeat(500)]);
  const headers = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    `Sec-WebSocket-Version: ${version}`,
    `Sec-WebSocket-Key: ${key}`,
  ];
  if (rng.chance(0.2)) headers.pop();
  const opening = latin1(head(place, `GET ${pickFrom(rng, paths)}`, headers));
  const frames = [
    Buffer.from([0x81, 0x82, 1, 2, 3, 4, 0x62, 0x6b]),
    Buffer.from([0x88, 0x80, 1, 2, 3, 4]),
    Buffer.from([0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4]),
    Buffer.from([0xff, 0xff, 0xff]),
    Buffer.from([0x89, 0x80, 1, 2, 3, 4]),
    randomOf(rng, 100),
  ];
  return { name: "a WebSocket", bytes: [opening, pickFrom(rng, frames)], answers: 0, stayMs: 40 };
}

function randomOf(rng: Rng, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => rng.between(0, 255)));
}

/** Sends the bytes, and reads until the answers are there, the server has closed, or it has taken too long. */
export async function sendRaw(url: string, plan: RawPlan, answerMs: number): Promise<RawResult> {
  const { hostname, port } = new URL(url);
  return await new Promise<RawResult>((resolve) => {
    let text = "";
    const statuses = () =>
      [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)]
        .map((match) => Number(match[1]))
        .filter((status) => status !== 100);
    const socket = net.connect({ host: hostname, port: Number(port) });
    const finish = (isDone: boolean) => {
      clearTimeout(patience);
      resolve({ statuses: statuses(), text, isDone });
      socket.destroy();
    };
    const patience = setTimeout(
      () => finish(plan.answers === 0),
      plan.answers === 0 ? plan.stayMs : answerMs,
    );
    socket.on("data", (chunk: Buffer) => {
      if (text.length < 1_000_000) text += chunk.toString("latin1");
      if (plan.answers > 0 && statuses().length >= plan.answers) finish(true);
    });
    socket.on("error", () => finish(true));
    socket.on("close", () => finish(true));
    socket.on("connect", () => {
      const [first, ...rest] = plan.bytes;
      if (first !== undefined) socket.write(first);
      for (const [index, piece] of rest.entries())
        setTimeout(() => socket.destroyed || socket.write(piece), 5 * (index + 1));
    });
  });
}
