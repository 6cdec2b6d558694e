import * as http from "node:http";
import { connect } from "node:net";
import { expect } from "vitest";

/** A request that the fuzz has found, and how it must be answered. */
export interface Found {
  readonly what: string;
  send(target: { url: string; token: string }): Promise<{ status: number; text: string }>;
  /** What the answer is to hold, at least. */
  readonly wanted: object;
}

/** Sends bytes on a connection of their own, and reads what comes until the server closes it. */
function raw(bytes: (host: string, token: string) => string): Found["send"] {
  return async ({ url, token }) => {
    const { hostname, port, host } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port) });
    socket.end(bytes(host, token), "latin1");
    let text = "";
    for await (const chunk of socket) text += String(chunk);
    return { status: Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1]), text };
  };
}

/** Sends a request with a Host of its own. */
function toHost(host: string, method: string, path: string, body: object): Found["send"] {
  return ({ url, token }) =>
    new Promise((resolve, reject) => {
      const headers = { host, authorization: `Bearer ${token}`, "content-type": "application/json" };
      const { hostname, port } = new URL(url);
      const request = http.request({ hostname, port, method, path, headers }, (response) => {
        let text = "";
        response.on("data", (chunk) => {
          text += String(chunk);
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
      });
      request.on("error", reject);
      request.end(JSON.stringify(body));
    });
}

const chunked = (line: string, type: string, chunks: string) => (host: string, token: string) =>
  `${line} HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${token}\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}`;

const LONG_NAME = "n".repeat(100_000);

/** Each was a 5xx, or longer than its request. */
export const FOUND: readonly Found[] = [
  {
    what: "a chunk of no size was 503 OVERLOADED, as if the server were busy",
    send: raw(chunked("POST /v1/runs", "application/json", 'zz\r\n{"objective":"o"}\r\n0\r\n\r\n')),
    wanted: { status: 400, text: expect.stringContaining("BODY_MALFORMED") },
  },
  {
    what: "so was a body that ends early, at /context",
    send: raw(chunked("POST /context/runs", "application/json", '5\r\n{"obj')),
    wanted: { status: 400, text: expect.stringContaining("BODY_MALFORMED") },
  },
  {
    what: "and an export that ends in its first line",
    send: raw(chunked("POST /v1/runs/import", "application/x-ndjson", "5\r\n{")),
    wanted: { status: 422, text: expect.stringContaining("IMPORT_INVALID") },
  },
  {
    what: "a hook that is made at a host whose name no URL can have was 500, and its secret lost",
    send: toHost("a b", "POST", "/v1/hooks", {
      name: "h",
      scheme: { kind: "github" },
      mapping: "plain_json",
    }),
    wanted: { status: 201, text: expect.stringMatching(/"url":"\/hooks\/[0-9a-f]+".*"secret":"/) },
  },
  {
    what: "an unknown field with a long name was told three times in the answer",
    send: toHost("localhost", "POST", "/v1/runs", { objective: "o", [LONG_NAME]: 1 }),
    wanted: { status: 422, text: expect.stringMatching(/^.{0,4000}$/) },
  },
];
