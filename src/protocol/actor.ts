/** Who acts: an e-mail address or the id of a user or service, as some other system has it. */
const ACTOR_PATTERN = /^[\x21-\x7e]{1,200}$/;

export const ACTOR_MESSAGE = "must be 1 to 200 visible ASCII characters, without blanks";

/** Whether `value` can be the id of an actor. */
export function isValidActor(value: string): boolean {
  return ACTOR_PATTERN.test(value);
}
