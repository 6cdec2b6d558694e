import { afterEach, describe, expect, it, vi } from "vitest";
import { TaskTable } from "../../src/run/storage/tasks.ts";
import {
  accepted,
  claimed,
  creation,
  evict,
  newTestRun,
  overviewOf,
  row,
  useTestClock,
} from "./support/test-run.ts";

describe("design: a wake costs what happened since the head was saved", () => {
  // Far from the real time, so that no alarm saves the head meanwhile.
  useTestClock();
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it("design: after heartbeats it does not count the board again; after a change of status it does", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("a"), row("b")));
    const task = await claimed(run, {});
    await run.client.sweep();
    await accepted(run, {
      op: "transition_task",
      task_id: task.id,
      action: "heartbeat",
      lease_token: task.token,
    });
    const count = vi.spyOn(TaskTable.prototype, "count");
    await evict(run);
    expect((await overviewOf(run)).task_counts).toMatchObject({ in_progress: 1, pending: 1, total: 2 });
    expect(count).not.toHaveBeenCalled();

    await accepted(run, creation(row("c")));
    await evict(run);
    expect((await overviewOf(run)).task_counts).toMatchObject({ pending: 2, total: 3 });
    expect(count).toHaveBeenCalledTimes(1);
  });
});
