/** The server's clock was set to another time. Times by the recorder's clock, ms. */
export interface ClockJump {
  /** Before the jump was asked for. */
  readonly atMs: number;
  /** When it was in force at the latest: after it was answered, or after the restart that brought it. */
  readonly doneMs: number;
  /** Later (more than 0), or earlier. */
  readonly byMs: number;
}
