import type { Received } from "./received.ts";

/**
 * Why a delivery was not believed. The sender is told none of it; the operator sees the last one on the hook.
 *
 * - `secret_missing`: the hook has no secret that the scheme could check with;
 * - `header_missing`, `header_duplicated`, `header_malformed`: of those that the scheme needs;
 * - `signature_mismatch`: no active secret made this signature over these bytes;
 * - `timestamp_stale`, `timestamp_future`: rightly signed, but not now;
 * - `timestamp_missing`: rightly signed, but nothing says when;
 * - `credential_wrong`: the token or shared secret is another one.
 */
export const FAILURES = [
  "secret_missing",
  "header_missing",
  "header_duplicated",
  "header_malformed",
  "signature_mismatch",
  "timestamp_stale",
  "timestamp_future",
  "timestamp_missing",
  "credential_wrong",
] as const;

export type Failure = (typeof FAILURES)[number];

/** What verifying needs beside the delivery. */
export interface Checks {
  nowMs: number;
  /** Whether the request carries a credential of this deployment that may deliver to this hook. */
  hasCredential(): Promise<boolean>;
}

/** A request by which a provider asks whether anyone is there. It makes no delivery. */
export type Handshake = { kind: "ping" } | { kind: "challenge"; challenge: string };

/** What a delivery says about itself. */
export interface About {
  /** The provider's id of the delivery, the same when it is sent again; null when it has none. */
  key: string | null;
  /** The provider's name of what happened; null when it does not say. */
  event: string | null;
  handshake: Handshake | null;
}

/** One way of proving where a delivery comes from. `Config` is what a hook says about it. */
export interface Scheme<Config> {
  /**
   * Whether the delivery is what a holder of one of the secrets has sent, and recently where the scheme can tell. Looks at
   * the bytes as they came.
   */
  verify(
    config: Config,
    secrets: readonly string[],
    received: Received,
    checks: Checks,
  ): Promise<Failure | null>;
  /** What a delivery, verified, says about itself. */
  about(config: Config, received: Received): About;
}

/** Ids of deliveries over this length, in UTF-16 units, are none: no provider has them. */
export const MAX_KEY_LENGTH = 255;

/**
 * A value as a delivery's id: a text that is not blank, or a whole number that JSON reads exactly; null for anything else. Of
 * larger numbers, different ones read alike, and one delivery would be taken for another.
 */
export function keyOf(value: unknown): string | null {
  const text = Number.isSafeInteger(value) ? String(value) : value;
  return typeof text === "string" && text.trim() !== "" && text.length <= MAX_KEY_LENGTH ? text : null;
}

/** A value as the name of an event: a text of a name's length; null for anything else. */
export function eventOf(value: unknown): string | null {
  return typeof value === "string" && value !== "" && value.length <= MAX_KEY_LENGTH ? value : null;
}
