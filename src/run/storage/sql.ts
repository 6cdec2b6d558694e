/** Rows an operation touched, as the platform bills them. */
export interface RowCounts {
  read: number;
  written: number;
}

export type Binding = string | number | null;

/**
 * An object's SQL storage with every row counted. Cursors are always drained: an unread one would fail the commit.
 * Booleans, dates and objects must be turned into text or numbers by the caller.
 */
export class Sql {
  readonly #storage: DurableObjectStorage;
  #read = 0;
  #written = 0;

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage;
  }

  all<Row extends Record<string, SqlStorageValue>>(query: string, ...bindings: Binding[]): Row[] {
    const cursor = this.#storage.sql.exec<Row>(query, ...bindings);
    const rows = cursor.toArray();
    this.#read += cursor.rowsRead;
    this.#written += cursor.rowsWritten;
    return rows;
  }

  /**
   * Rows until their texts together are longer than `maxLength` UTF-16 units; at least one, if there is one.
   * `isCut` tells whether more may follow.
   */
  upTo<Row extends Record<string, SqlStorageValue>>(
    maxLength: number,
    query: string,
    ...bindings: Binding[]
  ): { rows: Row[]; isCut: boolean } {
    const cursor = this.#storage.sql.exec<Row>(query, ...bindings);
    const rows: Row[] = [];
    let length = 0;
    for (const row of cursor) {
      rows.push(row);
      for (const value of Object.values(row)) length += typeof value === "string" ? value.length : 0;
      if (length > maxLength) break;
    }
    this.#read += cursor.rowsRead;
    return { rows, isCut: length > maxLength };
  }

  first<Row extends Record<string, SqlStorageValue>>(query: string, ...bindings: Binding[]): Row | null {
    return this.all<Row>(query, ...bindings)[0] ?? null;
  }

  run(query: string, ...bindings: Binding[]): void {
    this.all(query, ...bindings);
  }

  /** Runs `body` in one transaction, nested in the current one if there is one; a throw undoes just this part. */
  transaction<T>(body: () => T): T {
    return this.#storage.transactionSync(body);
  }

  /** Rows touched since the object woke; subtract two of these to price an operation. */
  counts(): RowCounts {
    return { read: this.#read, written: this.#written };
  }
}
