import { describe, expect, it } from "vitest";
import type { Task } from "../../src/protocol/task.ts";
import {
  accepted,
  claimed,
  creation,
  newTestRun,
  row,
  type TestRun,
  useTestClock,
  wholeRun,
} from "./support/test-run.ts";

const clock = useTestClock();

/** Puts members of tasks, by id, onto the board as it is. Retry times can be set in no other way. */
async function putMembers(run: TestRun, members: Record<string, Partial<Task>>): Promise<void> {
  const whole = await wholeRun(run);
  const tasks = whole.tasks.map((task) => ({ ...task, ...members[task.id] }));
  await accepted(run, { op: "replace_run", run: { ...whole, tasks } });
}

async function claimedId(run: TestRun): Promise<string | null> {
  return (await accepted(run, { op: "claim_task", agent_id: "agent" })).task?.id ?? null;
}

describe("contract 04 §4: a task is not handed out before its retry time", () => {
  it("the time of the next one is learned from the table, and the one after it from there again", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("soon"), row("later")));
    const now = clock.nowMs();
    await putMembers(run, {
      soon: { next_retry_at_ms: now + 1_000 },
      later: { next_retry_at_ms: now + 2_000 },
    });
    expect(await claimedId(run)).toBeNull();
    clock.advance(999);
    expect(await claimedId(run)).toBeNull();
    clock.advance(1);
    expect(await claimedId(run)).toBe("soon");
    clock.advance(999);
    expect(await claimedId(run)).toBeNull();
    clock.advance(1);
    expect(await claimedId(run)).toBe("later");
  });

  it("a task that is unblocked before its retry time waits for it, and no longer", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("first"), row("second", { depends_on_task_ids: ["first"] })));
    await putMembers(run, { second: { next_retry_at_ms: clock.nowMs() + 1_000 } });
    // The claim learns that nothing is delayed: the task is blocked, which is another thing.
    const { id, token } = await claimed(run);
    expect(id).toBe("first");
    await accepted(run, { op: "transition_task", task_id: id, action: "complete", lease_token: token });
    expect(await claimedId(run)).toBeNull();
    clock.advance(1_000);
    expect(await claimedId(run)).toBe("second");
  });
});
