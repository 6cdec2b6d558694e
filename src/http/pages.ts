import { DEFAULT_PAGE, MAX_PAGE } from "../protocol/limits.ts";
import type { Call } from "./call.ts";
import { RequestRefused } from "./problem.ts";

/** Where a page goes on: an opaque string for clients, and the URL that asks for it. */
export interface PageLinks {
  next_cursor: string | null;
  next: string | null;
}

/** The page size a request asks for, clamped to 1..1000; 100 when it does not say (contract 02 §2.2). */
export function pageLimit(limit: number | undefined): number {
  return Math.min(MAX_PAGE, Math.max(1, limit ?? DEFAULT_PAGE));
}

/** The links of a page that ends at `position`, or at the end of the list when that is null. */
export function pageLinks(call: Call, position: unknown): PageLinks {
  if (position === null) return { next_cursor: null, next: null };
  const cursor = btoa(JSON.stringify(position)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const url = new URL(call.url);
  url.searchParams.delete("since_seq");
  url.searchParams.set("cursor", cursor);
  return { next_cursor: cursor, next: `${url.pathname}${url.search}` };
}

/**
 * The position that a cursor stands for, checked by `isPosition`; null when the request has none.
 * @throws RequestRefused `CURSOR_INVALID`
 */
export function readCursor<T>(
  cursor: string | undefined,
  isPosition: (value: unknown) => value is T,
): T | null {
  if (cursor === undefined) return null;
  try {
    const position: unknown = JSON.parse(atob(cursor.replace(/-/g, "+").replace(/_/g, "/")));
    if (isPosition(position)) return position;
  } catch {
    // Not base64 or not JSON: refused below like any other cursor that is not ours.
  }
  throw new RequestRefused({ code: "CURSOR_INVALID", error: "cursor was not made by this list" });
}

/** A cursor position that is a sequence number or a list position. */
export function isWholeNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
