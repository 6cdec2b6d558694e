import { createHash } from "node:crypto";
import { connect } from "node:net";
import { inject } from "vitest";
import type { Answer, HeaderChanges, RunRoutes } from "../support.ts";
import { call } from "../support.ts";

/** A version of a path, as lists and answers show it. */
export interface FileBody {
  path: string;
  sha256: string | null;
  bytes: number;
  content_type: string;
  version: number;
  ts_ms: number;
}

export function hexOf(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

/** The value of a digest header for a content. */
export function digestOf(content: string | Uint8Array): string {
  return `sha-256=:${createHash("sha256").update(content).digest("base64")}:`;
}

/** The URL path of an artifact: its segments percent-encoded. */
export function artifactPath({ id }: RunRoutes, path: string): string {
  return `/v1/runs/${id}/artifacts/${path.split("/").map(encodeURIComponent).join("/")}`;
}

/** Uploads a content. `query`: with its question mark. */
export function upload(
  run: RunRoutes,
  path: string,
  content: string | Uint8Array<ArrayBuffer>,
  headers: HeaderChanges = {},
  query = "",
): Promise<Answer> {
  const bytes = typeof content === "string" ? new Uint8Array(Buffer.from(content)) : content;
  return call("PUT", artifactPath(run, path) + query, bytes, {
    "content-type": "application/octet-stream",
    ...headers,
  });
}

/** The file of an upload's answer. */
export function fileOf(answer: Answer): FileBody {
  return (answer.body as unknown as { file: FileBody }).file;
}

/** What a list of artifacts has. */
export function artifactsOf(answer: Answer): FileBody[] {
  return (answer.body as unknown as { artifacts: FileBody[] }).artifacts;
}

export function versionsOf(answer: Answer): FileBody[] {
  return (answer.body as unknown as { versions: FileBody[] }).versions;
}

/**
 * Sends a request as raw text, its target untouched by any client, and gives back the status line and all that follows.
 * @param cut whether to leave once the text is sent, without waiting for an answer.
 */
export function rawRequest(text: string, cut = false): Promise<string> {
  const { hostname, port } = new URL(inject("baseUrl"));
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect(Number(port), hostname, () => {
      socket.write(text, () => {
        if (cut) socket.destroy();
      });
    });
    socket.on("data", (chunk) => {
      answer += chunk.toString("latin1");
    });
    socket.on("close", () => resolve(answer));
    socket.on("error", (error) => (cut ? resolve(answer) : reject(error)));
  });
}

/** A request line and headers with the credential, asking the server to close when it has answered. */
export function rawHead(method: string, target: string, headers: Record<string, string> = {}): string {
  const { host } = new URL(inject("baseUrl"));
  const lines = Object.entries({
    host,
    "x-agent-token": inject("token"),
    connection: "close",
    ...headers,
  }).map(([name, value]) => `${name}: ${value}`);
  return `${method} ${target} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`;
}
