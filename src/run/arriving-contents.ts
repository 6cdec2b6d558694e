import { sha256Hex } from "../artifacts/sha256.ts";
import { type ExportLine, MAX_INLINE_BLOB_BYTES } from "../protocol/export-format.ts";
import { ArrivalFault, StoreMissing } from "./arrival-fault.ts";

/** The contents that a run refers to, as the artifact store has them. */
export interface ContentKeeper {
  keep(holder: string, content: Uint8Array): Promise<{ sha256: string }>;
  hold(holder: string, sha256: string[]): Promise<string[]>;
  /** Notes that the holder has by now what was held for it. */
  confirm(holder: string, sha256: null): Promise<void>;
}

/** A content that an export names, with what of it has come inline. */
interface Blob {
  sha256: string;
  bytes: number;
  parts: Uint8Array[];
  length: number;
  line: number;
}

/** The contents that arrive with a run, or are there already. At most one is in memory. */
export class ArrivingContents {
  readonly #keeper: ContentKeeper | null;
  readonly #holder: string;
  readonly #named = new Set<string>();
  #blob: Blob | null = null;
  #inline = 0;

  /** @param keeper null when the deployment has no bucket: then a run without contents can arrive. */
  constructor(keeper: ContentKeeper | null, holder: string) {
    this.#keeper = keeper;
    this.#holder = holder;
  }

  /** How many have come inline. */
  inline(): number {
    return this.#inline;
  }

  /** A content is named; its parts follow, if it is inline. */
  begin(line: number, blob: NonNullable<ExportLine["blob"]>): void {
    this.#blob = { ...blob, parts: [], length: 0, line };
    this.#named.add(blob.sha256);
  }

  /** @throws ArrivalFault */
  addPart(number: number, base64: string): void {
    const blob = this.#blob;
    if (blob === null) throw new ArrivalFault(number, "blob_part", "order", "belongs to no blob");
    const part = Buffer.from(base64, "base64");
    if (part.toString("base64") !== base64)
      throw new ArrivalFault(number, "blob_part", "base64", "is not base64 as this format writes it");
    blob.parts.push(part);
    blob.length += part.length;
    if (blob.length > MAX_INLINE_BLOB_BYTES || blob.length > blob.bytes) {
      const limit = Math.min(MAX_INLINE_BLOB_BYTES, blob.bytes);
      throw new ArrivalFault(number, "blob_part", "max_bytes", "the content is too long", { limit });
    }
  }

  /** Keeps the content whose parts have come, if there is one. @throws ArrivalFault, StoreMissing */
  async close(): Promise<void> {
    const blob = this.#blob;
    this.#blob = null;
    if (blob === null || (blob.parts.length === 0 && blob.bytes > 0)) return;
    const content = Buffer.concat(blob.parts);
    const digest = sha256Hex(content);
    if (content.length !== blob.bytes || digest !== blob.sha256) {
      throw new ArrivalFault(blob.line, "blob", "digest", "the parts are not the content of this digest");
    }
    await this.#store().keep(this.#holder, content);
    this.#inline += 1;
  }

  /**
   * Makes sure of these contents, and of those that were named. Returns how many they are.
   * @throws ArrivalFault naming those that are nowhere, StoreMissing
   */
  async hold(line: number, hashes: Iterable<string>): Promise<number> {
    for (const sha256 of hashes) this.#named.add(sha256);
    if (this.#named.size === 0) return 0;
    const missing = await this.#store().hold(this.#holder, [...this.#named]);
    if (missing.length === 0) return this.#named.size;
    const told = missing.slice(0, 20).join(", ");
    const more = missing.length > 20 ? ` and ${missing.length - 20} more` : "";
    const message = `contents that are neither inline nor stored here: ${told}${more}`;
    throw new ArrivalFault(line, "", "content_missing", message);
  }

  #store(): ContentKeeper {
    if (this.#keeper === null) throw new StoreMissing();
    return this.#keeper;
  }
}
