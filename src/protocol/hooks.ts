import * as z from "zod/mini";
import { lazy } from "./lazy.ts";
import {
  DEFAULT_DELIVERY_BYTES,
  MAX_DELIVERY_BYTES,
  MAX_LABEL_LENGTH,
  MAX_TOLERANCE_MS,
  MIN_DELIVERY_BYTES,
  MIN_TOLERANCE_MS,
} from "./limits.ts";
import { maxLength, minLength } from "./schema.ts";

/** What a delivery has been through (docs/webhooks-in.md). */
export const DELIVERY_STATUSES = [
  "received",
  "processing",
  "mapped",
  "skipped",
  "mapping_failed",
  "failed",
] as const;

export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number];

/** What deliveries are known by: the sender's own id of each, or the digest of its body where it has none. */
export type KeyedBy = "delivery_id" | "body_digest";

/** Secrets shorter than this, in UTF-16 units, could be guessed by trying, from one signed delivery. */
export const MIN_SECRET_LENGTH = 16;
export const MAX_SECRET_LENGTH = 500;

/** Where a delivery says its id and what happened: in a header, or where a JSON pointer leads in the body. */
export interface Naming {
  id_header?: string | undefined;
  id_pointer?: string | undefined;
  event_header?: string | undefined;
  event_pointer?: string | undefined;
}

/** The bodies of requests about hooks. Unknown members are refused. */
export const hookBodies = lazy(() => {
  const header = z
    .string()
    .check(
      z.regex(/^[A-Za-z0-9-]{1,100}$/, "must be the name of a header: letters, digits and -"),
      z.toLowerCase(),
    );
  const pointer = z
    .string()
    .check(maxLength(200), z.regex(/^(\/[^/]*)+$/, "must be a JSON pointer, such as /data/id"));

  // What these bring is kept and shown: they must bring no credential.
  const telling = z.optional(
    header.check(
      z.regex(
        /^(?!((proxy-)?authorization|cookie|x-(agent|tandem)-token)$)/i,
        "must not be one of credentials",
      ),
    ),
  );
  const namesProof = (context: z.core.ParsePayload<Naming & { header: string }>) => {
    const { header: proof, ...names } = context.value;
    for (const name of ["id_header", "event_header"] as const) {
      if (names[name] !== proof) continue;
      const message = "must not be the header of the proof";
      const params = { rule: "not_the_proof" };
      context.issues.push({ code: "custom", input: context.value, path: [name], message, params });
    }
  };

  const naming = {
    id_header: telling,
    id_pointer: z.optional(pointer),
    event_header: telling,
    event_pointer: z.optional(pointer),
  };

  const plain = <const Kind extends string>(kind: Kind) => z.strictObject({ kind: z.literal(kind) });

  // A comma is what stands between repeated headers.
  const prefix = z._default(
    z.string().check(maxLength(50), z.regex(/^[ -+\--~]*$/, "must be of ASCII without a comma")),
    "",
  );

  const hmacScheme = z
    .strictObject({
      kind: z.literal("hmac"),
      /** Where the signature is, behind `prefix`. */
      header,
      prefix,
      encoding: z._default(z.enum(["hex", "base64"]), "hex"),
      algorithm: z._default(z.enum(["sha256", "sha512"]), "sha256"),
      /** What is signed: a text in which `{body}`, `{timestamp}` and `{id}` stand for what they name. */
      signed: z._default(z.string().check(maxLength(200)), "{body}"),
      /** How the bytes of a secret are written. */
      secret_encoding: z._default(z.enum(["utf8", "base64", "hex"]), "utf8"),
      timestamp_header: z.optional(header),
      timestamp_unit: z._default(z.enum(["s", "ms"]), "s"),
      tolerance_ms: z.optional(z.int().check(z.minimum(MIN_TOLERANCE_MS), z.maximum(MAX_TOLERANCE_MS))),
      ...naming,
    })
    .check(namesProof, (context) => {
      const { signed, timestamp_header, id_header } = context.value;
      const fault = (path: string, rule: string, message: string) =>
        context.issues.push({
          code: "custom",
          input: context.value,
          path: [path],
          message,
          params: { rule },
        });
      if (signed.split("{body}").length !== 2) fault("signed", "signs_body", "must have {body} in it once");
      // A time that is not signed proves nothing: whoever repeats the delivery would just say another.
      if (signed.includes("{timestamp}") !== (timestamp_header !== undefined)) {
        fault("timestamp_header", "signed_timestamp", "goes with {timestamp} in signed, and that with it");
      }
      if (signed.includes("{id}") && id_header === undefined) {
        fault("id_header", "required", "is needed for {id} in signed");
      }
    });

  const schemeConfig = z.discriminatedUnion("kind", [
    plain("standard"),
    plain("github"),
    plain("slack"),
    plain("stripe"),
    plain("linear"),
    hmacScheme,
    z.strictObject({ kind: z.literal("shared_secret"), header, prefix, ...naming }).check(namesProof),
    z.strictObject({
      kind: z.literal("bearer"),
      event_header: telling,
      event_pointer: z.optional(pointer),
    }),
  ]);

  const secret = z.string().check(minLength(MIN_SECRET_LENGTH), maxLength(MAX_SECRET_LENGTH));

  const fields = {
    name: z.string().check(minLength(1), maxLength(MAX_LABEL_LENGTH)),
    scheme: schemeConfig,
    /** Read by the schema of mappings (protocol/mapping.ts). */
    mapping: z.unknown(),
    enabled: z._default(z.boolean(), true),
    max_body_bytes: z._default(
      z.int().check(z.minimum(MIN_DELIVERY_BYTES), z.maximum(MAX_DELIVERY_BYTES)),
      DEFAULT_DELIVERY_BYTES,
    ),
  };

  return {
    create: z.strictObject({ ...fields, secret: z.optional(secret) }),
    put: z.strictObject(fields),
    addSecret: z.strictObject({ secret: z.optional(secret) }),
  };
});

type Bodies = ReturnType<typeof hookBodies>;
export type HookBody = z.output<Bodies["put"]>;

/** How a hook's deliveries prove where they come from. */
export type SchemeConfig = HookBody["scheme"];
export type HmacScheme = Extract<SchemeConfig, { kind: "hmac" }>;
export type SharedSecretScheme = Extract<SchemeConfig, { kind: "shared_secret" }>;
export type BearerScheme = Extract<SchemeConfig, { kind: "bearer" }>;
