import { type DeliveryKey, findPayload } from "../../directory/deliveries.ts";
import type { Env } from "../../env.ts";

/** A delivery's body, as it came; null when the delivery is not known. @throws Error when the body is lost. */
export async function readBody(env: Env, key: DeliveryKey): Promise<Uint8Array | null> {
  const stored = await findPayload(env.DIRECTORY, key);
  if (stored === null) return null;
  if ("bytes" in stored) return stored.bytes;
  const object = await env.ARTIFACTS?.get(stored.key);
  if (!object) throw new Error(`the body of ${key.delivery_id} is not in the bucket`);
  return new Uint8Array(await object.arrayBuffer());
}
