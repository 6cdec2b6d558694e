import type { Hook, SealedSecret } from "../../directory/hooks.ts";
import type { Keyring } from "../../identity/keyring.ts";

/** A fresh id: prefix, `_`, and 128 random bits in hex. */
export function newId(prefix: string): string {
  return `${prefix}_${crypto.randomUUID().replaceAll("-", "")}`;
}

/** What stands in a hook's URL: 256 random bits in hex. */
export function newPublicId(): string {
  return hexOf(crypto.getRandomValues(new Uint8Array(32)));
}

/** A fresh secret, as Standard Webhooks writes it: 32 random bytes. To other schemes it is a text like any other. */
export function newSecret(): string {
  return `whsec_${btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(32))))}`;
}

export function hexOf(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

type HookKey = Pick<Hook, "tenant" | "hook_id">;

/** What a secret is sealed to: in another row it does not open. */
function boundTo({ tenant, hook_id }: HookKey, secretId: string): string {
  return `hook/${tenant}/${hook_id}/${secretId}`;
}

/** A secret for storage, with an id of its own. */
export async function sealSecret(
  keyring: Keyring,
  hook: HookKey,
  secret: string,
  nowMs: number,
): Promise<SealedSecret> {
  const secret_id = newId("sec");
  const sealed = await keyring.seal(secret, boundTo(hook, secret_id));
  return { secret_id, sealed, created_at_ms: nowMs };
}

/** The hook's secrets, newest first; without those that the deployment's keys do not open any more. */
export async function openSecrets(keyring: Keyring, hook: Hook): Promise<string[]> {
  const opened = await Promise.all(
    hook.secrets.map(({ sealed, secret_id }) => keyring.open(sealed, boundTo(hook, secret_id))),
  );
  return opened.reverse().filter((secret) => secret !== null);
}
