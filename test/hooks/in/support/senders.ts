import { createHmac } from "node:crypto";
import { sign as signGithub } from "@octokit/webhooks-methods";
import { Webhook } from "standardwebhooks";
import Stripe from "stripe";
import type { SchemeConfig } from "../../../../src/protocol/hooks.ts";

/** Signs as a provider does, by the provider's own library where there is one and never by the code under test. */
export interface Sender {
  name: string;
  scheme: SchemeConfig;
  /** Two that the scheme takes. */
  secrets: [string, string];
  /** Header names, all of which must be there. */
  needed: string[];
  /** The header that proves it. */
  proof: string;
  /** How far the signed time may be off, in ms; null when no time is signed. */
  toleranceMs: number | null;
  /** The headers of a delivery. */
  sign(secret: string, body: string, atMs: number, id?: string): Promise<Record<string, string>>;
  /** A body that the provider could send then; others are signed all the same. */
  body(atMs: number, id?: string): string;
}

const stripeClient = new Stripe("sk_test_none", { httpClient: Stripe.createFetchHttpClient() });
const stripeCrypto = Stripe.createSubtleCryptoProvider();

const hexOf = (secret: string, content: string) => createHmac("sha256", secret).update(content).digest("hex");

const seconds = (atMs: number) => Math.floor(atMs / 1000);

const hmacConfig = {
  prefix: "",
  encoding: "hex",
  algorithm: "sha256",
  signed: "{body}",
  secret_encoding: "utf8",
  timestamp_unit: "s",
} as const;

const standardHeaders =
  (prefix: string) => async (secret: string, body: string, atMs: number, id?: string) => {
    const message = id ?? "msg_p5jXN8AQM9LWM0D4loKWxJek";
    return {
      [`${prefix}-id`]: message,
      [`${prefix}-timestamp`]: String(seconds(atMs)),
      [`${prefix}-signature`]: new Webhook(secret).sign(message, new Date(atMs), body),
    };
  };

const standardOf = (prefix: string): Sender => ({
  name: `standard, ${prefix}`,
  scheme: { kind: "standard" },
  secrets: ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"],
  needed: [`${prefix}-id`, `${prefix}-timestamp`, `${prefix}-signature`],
  proof: `${prefix}-signature`,
  toleranceMs: 300_000,
  sign: standardHeaders(prefix),
  body: () => `{"type":"contact.created","data":{"name":"Zoë"}}`,
});

export const githubSender: Sender = {
  name: "github",
  scheme: { kind: "github" },
  secrets: ["It's a Secret to Everybody", "another secret of somebody"],
  needed: ["x-hub-signature-256"],
  proof: "x-hub-signature-256",
  toleranceMs: null,
  sign: async (secret, body, _atMs, id = "72d3162e-cc78-11e3-81ab-4c9367dc0958") => ({
    // The library takes no empty payload.
    "x-hub-signature-256": body === "" ? `sha256=${hexOf(secret, body)}` : await signGithub(secret, body),
    "x-github-event": "issues",
    "x-github-delivery": id,
  }),
  body: () => `{"action":"opened","issue":{"number":1},"repository":{"full_name":"a/b"}}`,
};

export const slackSender: Sender = {
  name: "slack",
  scheme: { kind: "slack" },
  secrets: ["8f742231b10e8888abcd99yyyzzz85a5", "0123456789abcdef0123456789abcdef"],
  needed: ["x-slack-signature", "x-slack-request-timestamp"],
  proof: "x-slack-signature",
  toleranceMs: 300_000,
  sign: async (secret, body, atMs) => ({
    "x-slack-signature": `v0=${hexOf(secret, `v0:${seconds(atMs)}:${body}`)}`,
    "x-slack-request-timestamp": String(seconds(atMs)),
  }),
  body: (_atMs, id = "Ev08MFMKH6") =>
    JSON.stringify({ type: "event_callback", event_id: id, event: { type: "app_mention", text: "hi" } }),
};

export const stripeSender: Sender = {
  name: "stripe",
  scheme: { kind: "stripe" },
  secrets: ["whsec_test_secret_of_stripe", "whsec_test_secret_number_two"],
  needed: ["stripe-signature"],
  proof: "stripe-signature",
  toleranceMs: 300_000,
  sign: async (secret, payload, atMs) => ({
    "stripe-signature": await stripeClient.webhooks.generateTestHeaderStringAsync({
      payload,
      secret,
      timestamp: seconds(atMs),
      cryptoProvider: stripeCrypto,
    }),
  }),
  body: (_atMs, id = "evt_1") => JSON.stringify({ id, type: "invoice.payment_failed", data: {} }),
};

export const linearSender: Sender = {
  name: "linear",
  scheme: { kind: "linear" },
  secrets: ["lin_wh_0123456789abcdef", "lin_wh_fedcba9876543210"],
  needed: ["linear-signature"],
  proof: "linear-signature",
  toleranceMs: 60_000,
  sign: async (secret, body, _atMs, id = "234d1a4e-b617-4388-90fe-adc3633d6b72") => ({
    "linear-signature": hexOf(secret, body),
    "linear-delivery": id,
    "linear-event": "Issue",
  }),
  body: (atMs) => JSON.stringify({ type: "Issue", action: "create", webhookTimestamp: atMs }),
};

/** Sentry: `Sentry-Hook-Signature`, hex over the body. */
export const sentrySender: Sender = {
  name: "hmac as Sentry has it",
  scheme: {
    kind: "hmac",
    ...hmacConfig,
    header: "sentry-hook-signature",
    id_header: "request-id",
    event_header: "sentry-hook-resource",
  },
  secrets: ["a client secret of sentry", "a second client secret"],
  needed: ["sentry-hook-signature"],
  proof: "sentry-hook-signature",
  toleranceMs: null,
  sign: async (secret, body, _atMs, id = "r1") => ({
    "sentry-hook-signature": hexOf(secret, body),
    "sentry-hook-resource": "event_alert",
    "request-id": id,
  }),
  body: () => `{"action":"triggered","data":{"event":{"event_id":"e1"}}}`,
};

/** Shopify: base64 over the body. */
const shopify: Sender = {
  ...sentrySender,
  name: "hmac as Shopify has it",
  scheme: { kind: "hmac", ...hmacConfig, header: "x-shopify-hmac-sha256", encoding: "base64" },
  needed: ["x-shopify-hmac-sha256"],
  proof: "x-shopify-hmac-sha256",
  sign: async (secret, body) => ({
    "x-shopify-hmac-sha256": createHmac("sha256", secret).update(body).digest("base64"),
  }),
};

/** Everything that the generic scheme can be told. */
const elaborate: Sender = {
  name: "hmac with everything",
  scheme: {
    kind: "hmac",
    ...hmacConfig,
    header: "x-sig",
    prefix: "sha512=",
    algorithm: "sha512",
    secret_encoding: "hex",
    signed: "v2:{id}:{timestamp}:{body}",
    timestamp_header: "x-time",
    timestamp_unit: "ms",
    tolerance_ms: 10_000,
    id_header: "x-id",
    event_pointer: "/meta/a~1b/0",
  },
  secrets: ["00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"],
  needed: ["x-sig", "x-time", "x-id"],
  proof: "x-sig",
  toleranceMs: 10_000,
  sign: async (secret, body, atMs, id = "id-1") => ({
    "x-sig": `sha512=${createHmac("sha512", Buffer.from(secret, "hex")).update(`v2:${id}:${atMs}:${body}`).digest("hex")}`,
    "x-time": String(atMs),
    "x-id": id,
  }),
  body: () => `{"meta":{"a/b":["made"]}}`,
};

/** Providers that sign. */
export const SENDERS: Sender[] = [
  standardOf("webhook"),
  standardOf("svix"),
  githubSender,
  slackSender,
  stripeSender,
  linearSender,
  sentrySender,
  shopify,
  elaborate,
];

export const [standardSender] = SENDERS as [Sender, ...Sender[]];
