import type { Measure } from "./measure.ts";
import { append } from "./measures/append.ts";
import { claims } from "./measures/claims.ts";

/** Every measure, in the order in which they run. */
export const measures: readonly Measure[] = [append, claims];
