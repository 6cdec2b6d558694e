/** Bytes `start` to `end`, both included. */
export interface ByteRange {
  start: number;
  end: number;
}

/**
 * Reads a `Range` header (RFC 9110, section 14.2) for a representation of `bytes` bytes. Null where the whole is to be sent: no
 * header, another unit, several ranges, or one that is malformed. `"unsatisfiable"` where the range has no byte of it.
 */
export function readByteRange(header: string | null, bytes: number): ByteRange | "unsatisfiable" | null {
  const [, first, last] = /^bytes=\s*([0-9]*)-([0-9]*)\s*$/i.exec(header?.trim() ?? "") ?? [];
  if (first === undefined || last === undefined || (first === "" && last === "")) return null;
  if (first === "") {
    const length = Math.min(Number(last), bytes);
    return length === 0 ? "unsatisfiable" : { start: bytes - length, end: bytes - 1 };
  }
  const start = Number(first);
  const end = last === "" ? bytes - 1 : Number(last);
  if (last !== "" && end < start) return null;
  return start >= bytes ? "unsatisfiable" : { start, end: Math.min(end, bytes - 1) };
}
