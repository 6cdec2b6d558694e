import type { Rng } from "../drill/rng.ts";
import type { Garbage } from "./garbage.ts";
import { mutatedText } from "./garbage.ts";
import { pickFrom } from "./values.ts";
import type { World } from "./world.ts";

/** A body with the headers that belong to it. */
export interface Delivery {
  readonly body: Uint8Array;
  readonly headers: readonly (readonly [string, string])[];
}

const encoder = new TextEncoder();

/** What a provider would send to one of the lane's hooks, signed rightly, wrongly or not at all. */
export async function draftDelivery(world: World, garbage: Garbage, rng: Rng): Promise<Delivery> {
  const hook = pickFrom(rng, [
    ...world.hooks.values(),
    { kind: "shared_secret", secret: "0123456789abcdef" },
  ]);
  const payload = {
    a: garbage.text(rng).toWellFormed(),
    list: [{ b: 1 }, { b: "x" }],
    action: pickFrom(rng, ["opened", "labeled", "closed"]),
    issue: { number: 7, title: garbage.text(rng).toWellFormed(), body: "b", labels: [] },
    repository: { full_name: "zoe/app" },
    type: pickFrom(rng, ["event_callback", "url_verification", "note"]),
    challenge: "c",
    event: { type: "app_mention", text: "hi" },
    webhookTimestamp: Date.now(),
  };
  const whole = rng.chance(0.7) ? JSON.stringify(payload) : mutatedText(JSON.stringify(payload), rng);
  const text = rng.chance(0.1) ? `payload=${encodeURIComponent(whole.toWellFormed())}` : whole;
  const body = rng.chance(0.08) ? garbage.bytes(rng) : encoder.encode(text);
  const isRight = rng.chance(0.7);
  const secret = isRight ? hook.secret : `${hook.secret}x`;
  const type = text.startsWith("payload=") ? "application/x-www-form-urlencoded" : "application/json";
  const id = rng.chance(0.3) ? "same" : `d-${rng.between(0, 1e9)}`;
  return {
    body,
    headers: [["content-type", type], ...(await proof(hook.kind, secret, body, id, isRight, rng))],
  };
}

async function proof(
  kind: string,
  secret: string,
  body: Uint8Array,
  id: string,
  isRight: boolean,
  rng: Rng,
): Promise<[string, string][]> {
  const seconds = String(
    Math.floor(Date.now() / 1000) - (isRight ? 0 : pickFrom(rng, [0, 1_000, -1_000, 1e12])),
  );
  switch (kind) {
    case "github": {
      const signature = `sha256=${hex(await hmac(encoder.encode(secret), body))}`;
      return [
        ["x-hub-signature-256", signature],
        ["x-github-event", "issues"],
        ["x-github-delivery", id],
      ];
    }
    case "standard": {
      const key = Uint8Array.from(atob(secret.replace(/^whsec_/, "").replace(/x$/, "")), (c) =>
        c.charCodeAt(0),
      );
      const signed = concat(encoder.encode(`${id}.${seconds}.`), body);
      const signature = `v1,${btoa(String.fromCharCode(...(await hmac(key, signed))))}`;
      return [
        ["webhook-id", id],
        ["webhook-timestamp", seconds],
        ["webhook-signature", isRight ? signature : `${signature} v1,`],
      ];
    }
    case "slack": {
      const signature = hex(
        await hmac(encoder.encode(secret), concat(encoder.encode(`v0:${seconds}:`), body)),
      );
      return [
        ["x-slack-signature", `v0=${signature}`],
        ["x-slack-request-timestamp", seconds],
      ];
    }
    case "stripe": {
      const signature = hex(await hmac(encoder.encode(secret), concat(encoder.encode(`${seconds}.`), body)));
      return [["stripe-signature", `t=${seconds},v1=${signature}`]];
    }
    default:
      return [["x-token", secret]];
  }
}

async function hmac(key: Uint8Array, content: Uint8Array): Promise<Uint8Array> {
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const imported = await crypto.subtle.importKey("raw", new Uint8Array(key), algorithm, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", imported, new Uint8Array(content)));
}

function concat(before: Uint8Array, after: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(before.length + after.length);
  bytes.set(before);
  bytes.set(after, before.length);
  return bytes;
}

function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
