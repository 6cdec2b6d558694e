import { isSameSecret } from "../../../identity/credential.ts";
import type { SharedSecretScheme } from "../../../protocol/hooks.ts";
import type { Scheme } from "../scheme.ts";
import { singleHeader } from "../signature.ts";
import { named } from "./hmac.ts";

/** A secret in a header: proves who sends, and nothing about what or when. Weak; for senders that cannot sign. */
export const sharedSecret: Scheme<SharedSecretScheme> = {
  async verify(config, secrets, { headers }) {
    if (secrets.length === 0) return "secret_missing";
    const header = singleHeader(headers, config.header);
    if (!header.ok) return header.failure;
    if (!header.value.startsWith(config.prefix)) return "header_malformed";
    const sent = header.value.slice(config.prefix.length);
    // All of them, whichever it is.
    const matches = secrets.filter((secret) => isSameSecret(sent, secret));
    return matches.length > 0 ? null : "credential_wrong";
  },

  about: (config, received) => named(config, received),
};
