/**
 * One thing wrong with a request, precise enough to be mended without asking again. Answers carry these as
 * `issues[]`.
 *
 * - `field`: what is wrong: a query parameter's name, a header's name, or a path into the body
 *   (`tasks[3].payload.a`; the empty string is the whole body). It ends in `…` where it was cut.
 * - `rule`: the rule that is broken, a short snake_case word meant for programs (`unsigned_integer`).
 * - `message`: the same for people: one sentence without the offending value, which may be long or secret.
 * - `limit`: the bound that was crossed, present only where the rule has one; its unit is the rule's (characters
 *   for `max_length`, the greatest allowed value for `max`).
 * - `actual`: what was sent instead, in the unit of `limit`; present where a length crossed a limit of the engine.
 */
export interface Issue {
  field: string;
  rule: string;
  message: string;
  limit?: number;
  actual?: number;
}
