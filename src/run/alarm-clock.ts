/** The platform knows no alarm later than 2189; what a client's copy of a run says may be due after that. */
const LATEST_MS = Date.UTC(2189, 0);

/** Arms an object's one physical alarm, and remembers for when, because arming costs a row. */
export class AlarmClock {
  readonly #storage: DurableObjectStorage;
  #armedAtMs: number | null = null;

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage;
  }

  /** Learns what was armed before the object woke. */
  async load(): Promise<void> {
    this.#armedAtMs = await this.#storage.getAlarm();
  }

  /** Must be called when the alarm fires: it is then no longer set. */
  fired(): void {
    this.#armedAtMs = null;
  }

  /**
   * Arms the alarm for a moment (epoch ms) unless it is set for that moment or an earlier one: an alarm that fires
   * early is harmless. Called in the same turn as the commit that needs it, it becomes durable with it.
   */
  armFor(momentMs: number | null): void {
    if (momentMs === null || (this.#armedAtMs !== null && this.#armedAtMs <= momentMs)) return;
    this.#armedAtMs = Math.min(momentMs, LATEST_MS);
    void this.#storage.setAlarm(this.#armedAtMs);
  }
}
