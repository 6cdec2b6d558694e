import type { PackedAnswer } from "./packed-answer.ts";
import type { ClaimSubmission } from "./parked-claims.ts";

/** What goes over the socket of a parked claim, both ways: texts, whose first character says what they are. */

/** What the claimer says: what it waits for, with the place it had before its socket broke; later, that it waits no more. */
export type ClaimerWord = { park: ClaimSubmission; place: number | null } | "leave";

/** What the object says: the claim's place; its answer, which is the last word; that claiming failed, which is too. */
export type ObjectWord = { place: number } | { answer: PackedAnswer } | "failed";

/** The path of such a socket at the run's object. */
export const CLAIM_PATH = "/claim";

const LEAVE = "leave";
const PLACE = "P";
const ANSWER = "A";
const FAILED = "F";

export function writeClaimerWord(word: ClaimerWord): string {
  return word === "leave" ? LEAVE : JSON.stringify(word);
}

export function readClaimerWord(text: string): ClaimerWord {
  return text === LEAVE ? "leave" : (JSON.parse(text) as ClaimerWord);
}

export function writeObjectWord(word: ObjectWord): string {
  if (word === "failed") return FAILED;
  return "place" in word ? `${PLACE}${word.place}` : `${ANSWER}${word.answer}`;
}

export function readObjectWord(text: string): ObjectWord {
  const rest = text.slice(1);
  if (text.startsWith(PLACE)) return { place: Number(rest) };
  return text.startsWith(ANSWER) ? { answer: rest } : "failed";
}

/** A socket's attachment ends at 16,384 bytes, of which the platform takes a few for itself. */
export const MAX_PARKED_CLAIM_BYTES = 16_000;

/** What a claim takes up as it waits, in bytes. */
export function parkedBytes(submission: ClaimSubmission): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(submission));
}
