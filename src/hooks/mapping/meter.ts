import { MAX_MAPPED_BYTES, MAX_MAPPING_STEPS, MAX_OUTPUT_BYTES } from "../../protocol/limits.ts";

/** Why a mapping was cut off. */
export interface CrossedLimit {
  limit_name: string;
  limit: number;
}

/** Thrown where a mapping crosses a limit; planOf() turns it into the answer. */
export class MappingCutOff extends Error {
  readonly crossed: CrossedLimit;

  constructor(limitName: string, limit: number) {
    super(`${limitName} is limited to ${limit}`);
    this.crossed = { limit_name: limitName, limit };
  }
}

const utf8 = new TextEncoder();

/** Counts what mapping one delivery costs, and cuts it off where that is too much. */
export class Meter {
  #steps = 0;
  #filledBytes = 0;
  #bytes = 0;

  /** @throws MappingCutOff `mapping_steps` */
  step(count = 1): void {
    this.#steps += count;
    if (this.#steps > MAX_MAPPING_STEPS) throw new MappingCutOff("mapping_steps", MAX_MAPPING_STEPS);
  }

  /** Counts a text that is filled in, before it is. @throws MappingCutOff `output_bytes`, `mapped_bytes` */
  output(text: string): void {
    // A UTF-16 unit is at least one byte of UTF-8, so that a long text is refused without being measured.
    if (text.length > MAX_OUTPUT_BYTES) throw new MappingCutOff("output_bytes", MAX_OUTPUT_BYTES);
    const bytes = utf8.encode(text).length;
    if (bytes > MAX_OUTPUT_BYTES) throw new MappingCutOff("output_bytes", MAX_OUTPUT_BYTES);
    this.#filledBytes += bytes;
    if (this.#filledBytes > MAX_MAPPED_BYTES) throw new MappingCutOff("mapped_bytes", MAX_MAPPED_BYTES);
  }

  /** Counts a part of the result with all that is literal in it: `for_each` repeats that. @throws MappingCutOff `mapped_bytes` */
  result(part: unknown): void {
    this.#bytes += utf8.encode(JSON.stringify(part)).length;
    if (this.#bytes > MAX_MAPPED_BYTES) throw new MappingCutOff("mapped_bytes", MAX_MAPPED_BYTES);
  }
}
