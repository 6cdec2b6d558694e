import { endOf } from "../directory/revocations.ts";
import { RevocationsUnknown } from "../identity/revoked-set.ts";
import { identityUnavailable, unauthorized } from "./authenticate.ts";
import type { Call } from "./call.ts";

/**
 * Why the credential that a call was accepted with counts no longer; null while it does. For what lasts longer than a
 * request: the root credential always counts.
 * @throws RevocationsUnknown
 */
export function endOfCredential({ env, principal, context }: Call): Promise<"expired" | "revoked" | null> {
  return endOf(env.DIRECTORY, principal, Date.now(), (reading) => context.waitUntil(reading));
}

/** Refuses what was waited for, where the credential has ended meanwhile. @throws RequestRefused */
export async function refuseEnded(call: Call): Promise<void> {
  try {
    const why = await endOfCredential(call);
    if (why !== null) throw unauthorized(why);
  } catch (error) {
    if (error instanceof RevocationsUnknown) throw identityUnavailable();
    throw error;
  }
}
