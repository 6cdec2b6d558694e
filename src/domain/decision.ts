import type { Commit } from "./commit.ts";
import type { Outcome } from "./outcome.ts";
import type { Refusal } from "./refusals.ts";

/** What a command comes to: a refusal that changes nothing, or commits (perhaps none) with the outcome they make. */
export type Decision = { ok: true; commits: Commit[]; outcome: Outcome } | { ok: false; refusal: Refusal };
