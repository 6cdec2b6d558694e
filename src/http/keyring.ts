import type { Env } from "../env.ts";
import { type Keyring, keyringOf } from "../identity/keyring.ts";
import { RequestRefused } from "./problem.ts";

/** The deployment's keys. @throws RequestRefused when it is not set up to have any */
export function keyringFor(env: Env): Keyring {
  if (!env.BATON_TOKEN) {
    throw new RequestRefused({ code: "SETUP_REQUIRED", error: "this deployment has no token" });
  }
  const keyring = keyringOf(env);
  if (keyring !== null) return keyring;
  throw new RequestRefused({
    code: "KEYS_REQUIRED",
    error:
      "the deployment's secrets are too short to sign tokens or keep secrets with: set BATON_KEYS (32+ characters)",
  });
}
