import type { Sql } from "./sql.ts";

/** What makes a row count. */
interface BusyColumns {
  concurrency_key: string;
  busy: number;
}

/**
 * How many tasks take places of each concurrency key, kept in memory over the `busy_keys` index.
 *
 * N1 It agrees with the table. Whoever changes a row tells it, and whoever undoes a transaction calls `forget`.
 */
export class BusyKeys {
  readonly #sql: Sql;
  /** Null until first asked for: most runs have no keys. */
  #counts: Map<string, number> | null = null;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  count(key: string): number {
    this.#counts ??= this.#read();
    return this.#counts.get(key) ?? 0;
  }

  /** A row takes the place of another, or of none. */
  changed(before: BusyColumns | null, after: BusyColumns): void {
    if (this.#counts === null) return;
    if (before?.busy === after.busy && before.concurrency_key === after.concurrency_key) return;
    if (before?.busy === 1) this.#add(this.#counts, before.concurrency_key, -1);
    if (after.busy === 1) this.#add(this.#counts, after.concurrency_key, 1);
  }

  forget(): void {
    this.#counts = null;
  }

  #add(counts: Map<string, number>, key: string, by: number): void {
    const count = (counts.get(key) ?? 0) + by;
    if (count === 0) counts.delete(key);
    else counts.set(key, count);
  }

  #read(): Map<string, number> {
    const rows = this.#sql.all<{ key: string; count: number }>(
      `SELECT concurrency_key AS key, count(*) AS count FROM tasks INDEXED BY busy_keys
       WHERE busy = 1 GROUP BY concurrency_key`,
    );
    return new Map(rows.map(({ key, count }) => [key, count]));
  }
}
