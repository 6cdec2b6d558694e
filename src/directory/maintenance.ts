/** The place where a cron duty stopped; null when it reached the end, or never ran. */
export async function readCursor<T>(db: D1Database, duty: string): Promise<T | null> {
  const row = await db
    .prepare("SELECT cursor FROM maintenance WHERE duty = ?")
    .bind(duty)
    .first<{ cursor: string }>();
  return row === null ? null : (JSON.parse(row.cursor) as T | null);
}

/** Keeps the place where a cron duty stopped, for its next tick. */
export async function writeCursor(
  db: D1Database,
  duty: string,
  cursor: unknown,
  nowMs: number,
): Promise<void> {
  await db
    .prepare(
      `INSERT INTO maintenance (duty, cursor, updated_at_ms) VALUES (?, ?, ?)
       ON CONFLICT (duty) DO UPDATE SET cursor = excluded.cursor, updated_at_ms = excluded.updated_at_ms`,
    )
    .bind(duty, JSON.stringify(cursor), nowMs)
    .run();
}
