import { env, exports } from "cloudflare:workers";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type SseFrame, SseParser } from "../streams/support/sse-reader.ts";
import { serve } from "../support/serve.ts";
import { answered, callAs, mint, newTenant, ROOT, requestAs } from "../support/tokens.ts";

const SECOND_MS = 1_000;

afterEach(() => {
  vi.restoreAllMocks();
});

/** A tenant's operator, a run and a token that reads it. */
async function newScene(reader: Record<string, unknown> = {}) {
  const { token: operator } = await mint({ scopes: ["operator"], tenant: newTenant() });
  const { body } = await callAs(operator, "POST", "/v1/runs", { objective: "o" });
  const runId: string = body.run.run_id;
  const viewer = await mint({ scopes: ["viewer"], ...reader }, operator);
  return {
    operator,
    runId,
    viewer,
    note: () =>
      callAs(operator, "POST", `/v1/runs/${runId}/events`, {
        type: "note",
        status: "running",
        payload: null,
      }),
    revoke: () => callAs(operator, "POST", `/v1/tokens/${viewer.token_id}/revoke`),
  };
}

/** The frames of an event stream, read as they come. */
async function follow(credential: string, path: string) {
  const response = await exports.default.fetch(requestAs(credential, "GET", path));
  expect(response.status).toBe(200);
  const reader = response.body?.getReader();
  const parser = new SseParser();
  const frames: SseFrame[] = [];
  return {
    frames,
    /** Reads until that many frames are there, or the stream has ended; false when it has. */
    read: async (count: number): Promise<boolean> => {
      while (frames.length < count) {
        const { done, value } = (await reader?.read()) ?? { done: true };
        if (done) return false;
        frames.push(...parser.push(value));
      }
      return true;
    },
  };
}

describe("a stream ends with the credential of its reader", () => {
  const streams: [string, (runId: string) => string][] = [
    ["of one run", (runId) => `/v1/runs/${runId}/events/stream`],
    ["of all runs", () => "/v1/events/stream?patches=false"],
  ];

  it.each(streams)(
    "%s, when it is revoked: what comes after is not shown, and the cursor goes on",
    async (_, path) => {
      const { runId, viewer, note, revoke } = await newScene();
      await note();
      const stream = await follow(viewer.token, path(runId));
      await stream.read(2);
      const had = stream.frames.at(-1)?.id;
      await revoke();
      await note();
      expect(await stream.read(100)).toBe(false);
      expect(stream.frames).toHaveLength(3);
      expect(stream.frames[2]).toMatchObject({
        event: "end",
        id: had,
        data: { reason: "credential_revoked", cursor: had },
      });
    },
  );

  it("on /context, where that is a comment with the seq to go on from", async () => {
    const { runId, viewer, note, revoke } = await newScene();
    await note();
    const stream = await follow(viewer.token, `/context/runs/${runId}/events/stream`);
    await stream.read(2);
    await revoke();
    await note();
    expect(await stream.read(100)).toBe(false);
    expect(stream.frames[2]?.comment).toBe(`end {"type":"end","reason":"credential_revoked","since_seq":1}`);
  });

  it("when it expires", async () => {
    const { runId, viewer, note } = await newScene({ expires_in_ms: 2_000 });
    const stream = await follow(viewer.token, `/v1/runs/${runId}/events/stream`);
    let seen = 1;
    while (await stream.read(seen)) {
      await note();
      seen += 1;
    }
    expect(stream.frames.at(-1)).toMatchObject({ event: "end", data: { reason: "credential_expired" } });
    expect(Date.now()).toBeGreaterThanOrEqual(viewer.expires_at_ms);
  });

  it("with a token that it comes from", async () => {
    const { runId, viewer, note, revoke } = await newScene();
    const child = await mint({ scopes: ["viewer"] }, viewer.token);
    const stream = await follow(child.token, `/v1/runs/${runId}/events/stream`);
    await stream.read(1);
    await revoke();
    await note();
    expect(await stream.read(100)).toBe(false);
    expect(stream.frames.at(-1)?.data?.reason).toBe("credential_revoked");
  });

  it("as a WebSocket, which is closed", async () => {
    const { runId, viewer, note, revoke } = await newScene();
    const request = requestAs(viewer.token, "GET", `/v1/runs/${runId}/events/stream`, undefined, {
      upgrade: "websocket",
    });
    const { webSocket } = await exports.default.fetch(request);
    const messages: string[] = [];
    const closed = new Promise<number>((resolve) => {
      webSocket?.addEventListener("message", ({ data }) => messages.push(String(data)));
      webSocket?.addEventListener("close", ({ code }) => resolve(code));
    });
    webSocket?.accept();
    await revoke();
    await note();
    expect(await closed).toBe(1013);
    expect(JSON.parse(messages.at(-1) ?? "")).toMatchObject({ type: "end", reason: "credential_revoked" });
  });

  it("a list that waits for news does not give them to it", async () => {
    const { runId, viewer, note, revoke } = await newScene();
    const waiting = callAs(viewer.token, "GET", `/v1/runs/${runId}/events?wait_ms=20000`);
    await revoke();
    await note();
    const answer = await waiting;
    // It had asked before it was revoked, or it was refused at once.
    expect([answer.status, answer.body.code]).toEqual([401, "AUTH_REQUIRED"]);
  });
});

describe("what another isolate has revoked", () => {
  /** Written by nobody of this isolate, as if another had. */
  const revokedElsewhere = (tokenId: string, expiresAtMs: number) =>
    env.DIRECTORY.prepare("INSERT INTO revocations (token_id, expires_at_ms) VALUES (?, ?)")
      .bind(tokenId, expiresAtMs)
      .run();

  it("is known after 10 s to all but the request that asks, and after 30 s to that one too", async () => {
    const { viewer } = await newScene();
    const other = await newScene();
    const clock = vi.spyOn(Date, "now");
    const who = async ({ token }: { token: string }) => (await callAs(token, "GET", "/v1/whoami")).status;
    const startMs = Date.now() + 3_600 * SECOND_MS;
    clock.mockReturnValue(startMs);
    expect(await who(viewer)).toBe(200);
    await revokedElsewhere(viewer.token_id, viewer.expires_at_ms);
    clock.mockReturnValue(startMs + 11 * SECOND_MS);
    await who(viewer);
    await vi.waitFor(async () => expect(await who(viewer)).toBe(401));
    await revokedElsewhere(other.viewer.token_id, other.viewer.expires_at_ms);
    clock.mockReturnValue(startMs + 60 * SECOND_MS);
    expect(await who(other.viewer)).toBe(401);
  });

  it("cannot be known while the database cannot be read: 503 for tokens, while the root credential works", async () => {
    const { viewer } = await newScene();
    const broken = { prepare: () => ({ bind: () => ({ all: () => Promise.reject(new Error("down")) }) }) };
    const without = { ...env, DIRECTORY: broken as unknown as D1Database };
    const ask = async (credential: string) =>
      answered(await serve(requestAs(credential, "GET", "/v1/whoami"), without));
    const answer = await ask(viewer.token);
    expect([answer.status, answer.body.code]).toEqual([503, "IDENTITY_UNAVAILABLE"]);
    expect(answer.headers.get("retry-after")).toBe("5");
    expect((await ask(ROOT)).status).toBe(200);
  });
});
