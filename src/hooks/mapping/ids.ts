import { sha256Hex } from "../../artifacts/sha256.ts";

/** Digits of a digest that an id carries: 128 bits. */
const DIGITS = 32;

/** The run that deliveries of this key are about. */
export function keyedRunId(hookId: string, runKey: string): string {
  return runId(["key", hookId, runKey]);
}

/** The run that one delivery stands for. */
export function deliveryRunId(hookId: string, deliveryId: string): string {
  return runId(["delivery", hookId, deliveryId]);
}

function runId(parts: string[]): string {
  const hex = sha256Hex(new TextEncoder().encode(JSON.stringify(parts)));
  return `hook-${hex.slice(0, DIGITS)}`;
}

/** Where a delivery's payload lies in its run's artifact space. */
export function payloadPath(deliveryId: string, contentType: string): string {
  return `webhooks/${deliveryId}.${/[/+]json\b/.test(contentType) ? "json" : "txt"}`;
}

/** The command ids of a delivery's steps; those of one hook and delivery are no other's. */
export function commandIds(hookId: string, deliveryId: string) {
  return {
    create: `${deliveryId}:create`,
    payload: `${deliveryId}:payload`,
    event: `${deliveryId}:event`,
    wake: `${deliveryId}:wake`,
    /** A task without an id of its own. */
    task: (index: number) => `${deliveryId}:task:${index}`,
    /** One with an id: whichever delivery gives it first makes the task. */
    namedTask: (id: string) => `${hookId}:task:${sha256Hex(new TextEncoder().encode(id)).slice(0, DIGITS)}`,
  };
}
