import type { Env } from "../env.ts";

/** Secrets shorter than this could be guessed by trying, from a token or ciphertext that they made. */
export const MIN_KEY_LENGTH = 32;

/** What a key is for: keys of different purposes have nothing in common. */
export type KeyPurpose = "tokens" | "secrets";

/** A key of a purpose. */
export interface PurposeKey {
  /** Tells which of the ring's secrets it comes from, and nothing about it: 16 hex digits. */
  kid: string;
  key: CryptoKey;
}

const encoder = new TextEncoder();
/** A text is opened as it was sealed, with a byte order mark if it begins with one. */
const decoder = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true });

/**
 * The deployment's keys, made from its secrets: BATON_KEYS (separated by blanks), else BATON_TOKEN. The first signs and
 * seals; all of them verify and open, so that a key is replaced by putting another in front of it.
 */
export class Keyring {
  readonly #secrets: readonly string[];
  readonly #made = new Map<KeyPurpose, Promise<PurposeKey[]>>();

  constructor(secrets: readonly string[]) {
    this.#secrets = secrets;
  }

  /** The keys of a purpose, the one to use for new things first. Tokens: HMAC-SHA-256; secrets: AES-GCM, 256 bits. */
  keys(purpose: KeyPurpose): Promise<PurposeKey[]> {
    let keys = this.#made.get(purpose);
    if (keys === undefined) {
      keys = Promise.all(this.#secrets.map((secret) => deriveKey(secret, purpose)));
      this.#made.set(purpose, keys);
    }
    return keys;
  }

  /**
   * Encrypts a text for storage.
   * @param bound what it belongs to: it opens only under the same. Binds it to its row.
   */
  async seal(text: string, bound: string): Promise<string> {
    const [first] = await this.keys("secrets");
    if (first === undefined) throw new Error("the keyring is empty");
    const iv = crypto.getRandomValues(new Uint8Array(12));
    const algorithm = { name: "AES-GCM", iv, additionalData: encoder.encode(bound) };
    const sealed = await crypto.subtle.encrypt(algorithm, first.key, encoder.encode(text));
    return [first.kid, toBase64(iv), toBase64(new Uint8Array(sealed))].join(".");
  }

  /** The text that was sealed; null when no key of the ring opens it, or it was changed or belongs to something else. */
  async open(sealed: string, bound: string): Promise<string | null> {
    const [kid, iv = "", content = ""] = sealed.split(".");
    const found = (await this.keys("secrets")).find((key) => key.kid === kid);
    if (found === undefined) return null;
    try {
      const algorithm = { name: "AES-GCM", iv: fromBase64(iv), additionalData: encoder.encode(bound) };
      return decoder.decode(await crypto.subtle.decrypt(algorithm, found.key, fromBase64(content)));
    } catch {
      return null;
    }
  }
}

/** Rings by the text of their secrets: a key is derived once in the life of an isolate. */
const rings = new Map<string, Keyring>();

/** The deployment's keyring; null when its secrets are too short to keep anything. */
export function keyringOf(env: Env): Keyring | null {
  const text = env.BATON_KEYS?.trim() || env.BATON_TOKEN || "";
  const known = rings.get(text);
  if (known !== undefined) return known;
  const secrets = text.split(/\s+/);
  if (secrets.some((secret) => secret.length < MIN_KEY_LENGTH)) return null;
  const ring = new Keyring(secrets);
  rings.set(text, ring);
  return ring;
}

/** HKDF with SHA-256 (RFC 5869): the info names the purpose. */
async function deriveKey(secret: string, purpose: KeyPurpose): Promise<PurposeKey> {
  const material = await crypto.subtle.importKey("raw", encoder.encode(secret), "HKDF", false, [
    "deriveKey",
    "deriveBits",
  ]);
  const hkdf = (info: string) => ({
    name: "HKDF",
    hash: "SHA-256",
    salt: new Uint8Array(),
    info: encoder.encode(`baton/${info}/1`),
  });
  const id = new Uint8Array(await crypto.subtle.deriveBits(hkdf("key-id"), material, 64));
  const kid = [...id].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const [algorithm, usages]: [SubtleCryptoDeriveKeyAlgorithm, string[]] =
    purpose === "tokens"
      ? [{ name: "HMAC", hash: "SHA-256", length: 256 } as never, ["sign", "verify"]]
      : [{ name: "AES-GCM", length: 256 } as never, ["encrypt", "decrypt"]];
  const key = await crypto.subtle.deriveKey(hkdf(purpose), material, algorithm, false, usages);
  return { kid, key };
}

function toBase64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
