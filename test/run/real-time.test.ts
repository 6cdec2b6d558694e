import { describe, expect, it } from "vitest";
import {
  accepted,
  claimed,
  creation,
  eventually,
  inStorage,
  listed,
  newTestRun,
  note,
  row,
  rowsOf,
} from "./support/test-run.ts";

describe.concurrent("design: alarms by the real clock", () => {
  it("design: a stale lease is requeued within a second of its expiry, without any request", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("a")));
    const { expiresAtMs } = await claimed(run, { lease_ms: 5_000 });
    const stored = () =>
      rowsOf<{ ts_ms: number }>(
        run,
        "SELECT event ->> 'ts_ms' AS ts_ms FROM commits WHERE event ->> 'type' = 'context.task.stale_requeued'",
      );
    const [requeued] = await eventually(stored, (rows) => rows.length > 0, 7_000);
    expect(requeued?.ts_ms).toBeGreaterThanOrEqual(expiresAtMs);
    expect(requeued?.ts_ms).toBeLessThan(expiresAtMs + 1_000);
  }, 15_000);

  it("design: the directory follows a commit within about a second, without any request", async () => {
    const run = await newTestRun();
    await accepted(run, note(null, "queued"));
    await eventually(
      () => listed(run),
      (summary) => summary?.last_event_seq === 1,
      3_000,
    );
    expect(await inStorage(run, (_sql, storage) => storage.getAlarm())).toBeNull();
  });
});
