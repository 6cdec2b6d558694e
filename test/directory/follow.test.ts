import { runDurableObjectAlarm } from "cloudflare:test";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { RunSummary } from "../../src/protocol/run.ts";
import { submit } from "../../src/run/run-client.ts";
import {
  accepted,
  creation,
  eventually,
  evict,
  http,
  inObject,
  listed,
  newTestRun,
  note,
  PROPERTY_TIMEOUT_MS,
  row,
  type TestRun,
  useTestClock,
  wholeRun,
} from "../run/support/test-run.ts";

/** The earliest end of a lease that can go stale; null when none is out. */
async function earliestExpiry(run: TestRun): Promise<number | null> {
  const { tasks } = await wholeRun(run);
  const expiries = tasks.flatMap((task) =>
    task.status === "in_progress" ? (task.lease_expires_at_ms ?? []) : [],
  );
  return expiries.length === 0 ? null : Math.min(...expiries);
}

describe("design: the directory follows its runs", () => {
  const clock = useTestClock();

  it("design: a run is listed as soon as it was created", async () => {
    const source_client = `client-${crypto.randomUUID()}`;
    const ids: string[] = [];
    for (let index = 0; index < 5; index += 1) {
      const { run } = await http<{ run: { run_id: string } }>("POST", "/v1/runs", {
        body: { objective: "o", source_client },
        status: 201,
      });
      ids.push(run.run_id);
      const { runs } = await http<{ runs: RunSummary[] }>("GET", `/v1/runs?source=${source_client}`);
      expect(runs.map((listing) => listing.run_id).sort()).toEqual([...ids].sort());
    }
  });

  it("design: a status change is listed at once, before any alarm", async () => {
    const run = await newTestRun();
    for (const status of ["running", "paused", "completed"] as const) {
      await accepted(run, note(null, status));
      // No alarm fires by itself here: what is listed was flushed by the commit.
      await eventually(
        () => listed(run),
        (summary) => summary?.status === status,
        2_000,
      );
    }
  });

  it("design: of many status changes at once the last is listed", async () => {
    const run = await newTestRun();
    await inObject(run, (object) =>
      Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          object.submit({ command: note(index, index % 2 === 0 ? "running" : "paused") }),
        ),
      ),
    );
    await accepted(run, note(null, "blocked"));
    await eventually(
      () => listed(run),
      (summary) => summary?.status === "blocked" && summary.last_event_seq === 51,
      2_000,
    );
  });

  it(
    "design: lease_due_at_ms is never later than the earliest end of a lease, once the directory was told",
    async () => {
      const act = fc.oneof(
        fc.record({ do: fc.constant("claim" as const), lease_ms: fc.constantFrom(5_000, 20_000, 90_000) }),
        fc.record({
          do: fc.constant("heartbeat" as const),
          pick: fc.nat(9),
          lease_ms: fc.constantFrom(5_000, 20_000, 90_000),
        }),
        fc.record({ do: fc.constant("complete" as const), pick: fc.nat(9) }),
        fc.record({ do: fc.constant("clock" as const), ms: fc.constantFrom(500, 4_000, 30_000) }),
        fc.constant({ do: "wake" as const }),
      );
      await fc.assert(
        fc.asyncProperty(fc.array(act, { minLength: 5, maxLength: 15 }), async (acts) => {
          const run = await newTestRun();
          await accepted(run, creation(...Array.from({ length: 6 }, (_, index) => row(`t${index}`))));
          const tokens = new Map<string, string>();
          const transition = (pick: number, action: string, lease_ms?: number) => {
            const [task_id, lease_token] = [...tokens][pick % Math.max(tokens.size, 1)] ?? ["t0", undefined];
            // Refused when the lease is lost by now, which is fine.
            return submit(run.client, {
              command: { op: "transition_task", task_id, action, lease_token, lease_ms },
            });
          };
          for (const step of acts) {
            if (step.do === "clock") clock.advance(step.ms);
            if (step.do === "wake") await evict(run);
            if (step.do === "heartbeat") await transition(step.pick, "heartbeat", step.lease_ms);
            if (step.do === "complete") await transition(step.pick, "complete");
            if (step.do === "claim") {
              const { task, lease } = await accepted(run, {
                op: "claim_task",
                agent_id: "agent",
                lease_ms: step.lease_ms,
              });
              if (task !== null && lease !== null) tokens.set(task.id, lease.token);
            }
            clock.advance(1_000);
            await wholeRun(run);
            await runDurableObjectAlarm(run.stub);
            const earliest = await earliestExpiry(run);
            const due = (await listed(run))?.lease_due_at_ms ?? Number.POSITIVE_INFINITY;
            if (earliest !== null) expect(due).toBeLessThanOrEqual(earliest);
          }
        }),
        { numRuns: 12, seed: 3 },
      );
    },
    PROPERTY_TIMEOUT_MS,
  );
});
