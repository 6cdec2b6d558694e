import type { BearerScheme } from "../../../protocol/hooks.ts";
import { readIdempotencyKey } from "../../../protocol/idempotency-key.ts";
import { keyOf, type Scheme } from "../scheme.ts";
import { named } from "./hmac.ts";

/** A token of this deployment with the scope `ingest`: for scripts. `Idempotency-Key` says which deliveries are one. */
export const bearer: Scheme<BearerScheme> = {
  async verify(_config, _secrets, _received, { hasCredential }) {
    return (await hasCredential()) ? null : "credential_wrong";
  },

  about(config, received) {
    const read = readIdempotencyKey(received.headers.get("idempotency-key"));
    return { ...named(config, received), key: read.ok ? keyOf(read.key) : null };
  },
};
