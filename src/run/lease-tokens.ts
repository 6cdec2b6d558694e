import { createHash, createHmac, randomBytes } from "node:crypto";

/** A fresh secret for a run's lease tokens: 256 bits, hex. */
export function newLeaseKey(): string {
  return randomBytes(32).toString("hex");
}

/** The fingerprint that stands for a token wherever it is stored or shown: `sha256:<32 hex digits>`. */
export function maskToken(token: string): string {
  return `sha256:${createHash("sha256").update(token).digest("hex").slice(0, 32)}`;
}

const MAX_MASKS = 500;
const MAX_TOKEN_LENGTH = 100;

/**
 * Lease tokens are derived, not stored: the token of a claim is a keyed hash of its event id, so a repeated claim gets
 * the same one and the storage never holds it. The key never leaves the object.
 */
export class LeaseTokens {
  readonly #key: string;
  /** Fingerprints by token, oldest first: a lease is proved again and again. */
  readonly #masks = new Map<string, string>();

  /** @param key secret of this run, hex. */
  constructor(key: string) {
    this.#key = key;
  }

  /** `lease-<uuid v4>`, 122 bits of the hash (contract 01 §2). */
  leaseToken(claimEventId: string): string {
    const bytes = createHmac("sha256", this.#key).update(claimEventId).digest().subarray(0, 16);
    bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x40, 6);
    bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
    const hex = bytes.toString("hex");
    const uuid = [
      hex.slice(0, 8),
      hex.slice(8, 12),
      hex.slice(12, 16),
      hex.slice(16, 20),
      hex.slice(20),
    ].join("-");
    return `lease-${uuid}`;
  }

  /** The same as the function of that name. */
  maskToken(token: string): string {
    const known = this.#masks.get(token);
    if (known !== undefined) return known;
    const mask = maskToken(token);
    // A token of a request can be of any length.
    if (token.length <= MAX_TOKEN_LENGTH) this.#masks.set(token, mask);
    const [oldest] = this.#masks.keys();
    if (this.#masks.size > MAX_MASKS && oldest !== undefined) this.#masks.delete(oldest);
    return mask;
  }
}
