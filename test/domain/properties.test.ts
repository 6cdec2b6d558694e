import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isTerminal } from "../../src/domain/run.ts";
import type { EventRecord } from "../../src/protocol/event.ts";
import type { Run } from "../../src/protocol/run.ts";
import type { Task } from "../../src/protocol/task.ts";
import { aRun, maskToken } from "../support/builders.ts";
import { anySteps, type Step, stepsWithoutPut } from "../support/commands.ts";
import { commitsOf, type Executed, type Execution, execute } from "../support/execute.ts";

/** Holds for every list of commands, at its end and after each command. */
function always(
  steps: fc.Arbitrary<Step[]>,
  holds: { atEnd?: (execution: Execution) => void; afterEach?: (executed: Executed) => void },
): void {
  fc.assert(
    fc.property(steps, (list) => {
      const execution = execute(list);
      for (const executed of execution.history) holds.afterEach?.(executed);
      holds.atEnd?.(execution);
    }),
    { numRuns: 150 },
  );
}

const isTaskEvent = (event: EventRecord) => event.type.startsWith("context.task.");
const taskOf = (event: EventRecord) => (event.payload as { task: Task }).task;
const byId = (run: Run) => new Map(run.tasks.map((task) => [task.id, task]));

describe("counters and records", () => {
  it("I1 I3 I4 I5 seqs are contiguous from 1, event.revision is seq + 1, patches go with their events", () => {
    always(anySteps, {
      atEnd: ({ engine }) => {
        for (const [index, { event, patch }] of engine.commits().entries()) {
          expect(event.seq).toBe(index + 1);
          expect(event.revision).toBe(event.seq + 1);
          expect(event.run_id).toBe("r");
          const isClients = event.origin === "client";
          const isBoardEvent = ["context.blackboard.patched", "context.artifact.added"].includes(event.type);
          expect(patch !== null).toBe(!isClients && (isTaskEvent(event) || isBoardEvent));
          if (patch === null) continue;
          expect(patch).toMatchObject({
            seq: event.seq,
            source_event_seq: event.seq,
            ts_ms: event.ts_ms,
            run_id: "r",
          });
        }
        const ids = engine
          .commits()
          .flatMap(({ event, patch }) => [event.event_id, patch?.patch_id ?? event.seq]);
        expect(new Set(ids).size).toBe(ids.length);
      },
    });
  });

  it("I2 I6 I7 I8 the run counts its commits, the board its patches; both hold the same tasks", () => {
    always(anySteps, {
      afterEach: (executed) => {
        const { before, after } = executed;
        const commits = commitsOf(executed);
        expect(after.run.revision).toBe(before.run.revision + commits.length);
        expect(after.run.last_event_seq).toBe(after.run.revision - 1);
        expect(after.run.updated_at_ms).toBe(commits.at(-1)?.event.ts_ms ?? before.run.updated_at_ms);
        const lastPatch = commits.findLast(({ patch }) => patch !== null)?.patch;
        expect(after.blackboard.revision).toBe(lastPatch?.seq ?? before.blackboard.revision);
        expect(after.blackboard.tasks).toEqual(after.run.tasks);
      },
    });
  });

  it("I8 D107 time never goes back, and is the clock's whenever that is ahead", () => {
    always(anySteps, {
      afterEach: (executed) => {
        const { before, after, clockMs } = executed;
        expect(after.run.updated_at_ms).toBeGreaterThanOrEqual(before.run.updated_at_ms);
        for (const { event } of commitsOf(executed)) {
          expect(event.ts_ms).toBe(Math.max(before.run.updated_at_ms, clockMs));
        }
      },
    });
  });

  it("I16 the last event tells the status of the run", () => {
    always(anySteps, {
      afterEach: (executed) => {
        const last = commitsOf(executed).at(-1);
        if (last !== undefined) expect(executed.after.run.status).toBe(last.event.run_status);
      },
    });
  });

  it("I19 D02 the tenant and the id are never a client's to change", () => {
    always(anySteps, {
      afterEach: ({ after }) => {
        const { run_id, tenant_context } = aRun();
        expect(after.run).toMatchObject({ run_id, tenant_context });
      },
    });
  });

  it("D65 D66 a run has ended_at_ms exactly when it is over", () => {
    always(anySteps, {
      afterEach: ({ after: { run } }) => {
        expect(run.ended_at_ms !== undefined, run.status).toBe(isTerminal(run.status));
      },
    });
  });
});

describe("refusals and repeats", () => {
  it("I13 a refusal changes nothing but what was stale before", () => {
    always(anySteps, {
      afterEach: ({ answer, before, after, command }) => {
        if (answer.ok) return;
        if (command.op !== "claim_task") expect(answer.requeued).toEqual([]);
        if (answer.requeued.length === 0) expect(after).toEqual(before);
      },
    });
  });

  it("I15 04§5 a used command id makes no commit, whatever the command", () => {
    const used = new Set<string>();
    fc.assert(
      fc.property(anySteps, (list) => {
        used.clear();
        for (const { answer, commandId, before, after, command } of execute(list).history) {
          const isUsed = commandId !== undefined && used.has(commandId);
          expect(answer.ok && answer.isRepeat).toBe(isUsed);
          if (isUsed) expect(after).toEqual(before);
          if (!answer.ok || answer.commits.length === 0) continue;
          if (commandId !== undefined) used.add(commandId);
          if (command.op === "create_tasks") {
            for (const { event } of answer.commits)
              if (event.command_id !== undefined) used.add(event.command_id);
          }
        }
      }),
      { numRuns: 150 },
    );
  });

  it("D38 D40 the same command under its id is answered from the log exactly as the first time", () => {
    let repeats = 0;
    always(anySteps, {
      afterEach: ({ answer, repeats: first, before, after }) => {
        if (first === null || !first.answer.ok) return;
        repeats += 1;
        expect(answer).toEqual({ ...first.answer, isRepeat: true, requeued: [], commits: [] });
        expect(after).toEqual(before);
      },
    });
    expect(repeats).toBeGreaterThan(30);
  });

  it("D42 no command id stands on two commits", () => {
    always(anySteps, {
      atEnd: ({ engine }) => {
        const ids = engine.commits().flatMap(({ event }) => event.command_id ?? []);
        expect(new Set(ids).size).toBe(ids.length);
      },
    });
  });
});

describe("tasks and leases", () => {
  it("I11 I20 every task event raises task_rev by exactly 1, a creation starts at 1; places in the list stay", () => {
    always(stepsWithoutPut, {
      afterEach: (executed) => {
        const tasks = byId(executed.before.run);
        const order = [...tasks.keys()];
        for (const { event, patch } of commitsOf(executed)) {
          if (!isTaskEvent(event) || patch === null) continue;
          const task = taskOf(event);
          const isNew = event.type === "context.task.created";
          expect(task.task_rev).toBe(isNew ? 1 : (tasks.get(task.id)?.task_rev ?? Number.NaN) + 1);
          expect(patch.payload).toMatchObject({ task_rev: task.task_rev });
          expect(task.updated_ts).toBe(event.ts_ms);
          if (!tasks.has(task.id)) order.push(task.id);
          tasks.set(task.id, task);
        }
        expect(executed.after.run.tasks).toEqual(order.map((id) => tasks.get(id)));
      },
    });
  });

  it("I12 a task is claimed only while nobody has it, and one claim takes one task", () => {
    let claims = 0;
    always(stepsWithoutPut, {
      atEnd: ({ engine }) => {
        const heldBy = new Map<string, string>();
        for (const { event } of engine.commits()) {
          if (!isTaskEvent(event) || event.origin === "client") continue;
          const task = taskOf(event);
          if (event.type === "context.task.claimed") {
            claims += 1;
            expect(heldBy.get(task.id), `${task.id} at seq ${event.seq}`).toBeUndefined();
          }
          if (task.lease_owner === undefined) heldBy.delete(task.id);
          else heldBy.set(task.id, task.lease_owner);
        }
      },
      afterEach: ({ command, answer }) => {
        if (command.op === "claim_task" && answer.ok) expect(answer.commits.length).toBeLessThanOrEqual(1);
      },
    });
    expect(claims).toBeGreaterThan(30);
  });

  it("04§4 a claim takes a task that waits, is due, and whose dependencies are all done", () => {
    always(anySteps, {
      afterEach: ({ answer, before, command }) => {
        if (!answer.ok || answer.outcome?.op !== "claim_task" || answer.isRepeat) return;
        const { task } = answer.outcome;
        if (task === null || command.op !== "claim_task") return;
        const tasks = byId(before.run);
        for (const { event } of answer.requeued) tasks.set(taskOf(event).id, taskOf(event));
        const was = tasks.get(task.id);
        expect(["pending", "runnable"]).toContain(was?.status);
        expect(was?.next_retry_at_ms ?? 0).toBeLessThanOrEqual(task.updated_ts);
        for (const id of task.depends_on_task_ids) expect(tasks.get(id)?.status).toBe("done");
        if (command.task_type !== undefined) expect(task.task_type).toBe(command.task_type);
        if (command.workflow_id !== undefined) expect(task.workflow_id).toBe(command.workflow_id);
      },
    });
  });

  it("D49 dependencies never form a cycle", () => {
    always(anySteps, {
      atEnd: ({ history }) => {
        const tasks = byId(history.at(-1)?.after.run ?? { ...aRun(), tasks: [] });
        for (let left = tasks.size; left > 0; left = tasks.size) {
          for (const task of tasks.values()) {
            if (!task.depends_on_task_ids.some((id) => tasks.has(id))) tasks.delete(task.id);
          }
          expect(tasks.size).toBeLessThan(left);
        }
      },
    });
  });

  it("D56 D57 only work in progress or blocked holds a token, and every token was given by a claim", () => {
    always(stepsWithoutPut, {
      afterEach: ({ after }) => {
        for (const task of after.run.tasks) {
          if (task.lease_token === undefined) continue;
          expect(["in_progress", "blocked"]).toContain(task.status);
          expect(task.lease_token).toMatch(/^sha256:[0-9a-f]{32}$/);
        }
      },
    });
  });

  it("claims: what is written under a lease, strictly, was written while that lease was out, and says so", () => {
    always(anySteps, {
      afterEach: ({ command, answer, before, clockMs }) => {
        const commits = answer.ok ? answer.commits : [];
        const isProof = command.op === "transition_task" || command.op === "append_event";
        if (!isProof || commits.length === 0) return;
        const proven = command.strict === true && command.lease_token !== undefined;
        const task = byId(before.run).get(command.task_id ?? "");
        const under = { task_id: task?.id, agent_id: task?.lease_owner ?? "", fence: task?.fence ?? null };
        for (const { event } of commits) expect(event.under).toEqual(proven ? under : undefined);
        if (!proven) return;
        expect(task?.lease_token).toBe(maskToken(command.lease_token ?? ""));
        const nowMs = Math.max(before.run.updated_at_ms, clockMs);
        expect(task?.lease_expires_at_ms ?? Number.POSITIVE_INFINITY).toBeGreaterThan(nowMs);
      },
    });
  });

  it("claims: each claim of a task has a greater fence than the one before", () => {
    always(anySteps, {
      atEnd: ({ engine }) => {
        const last = new Map<string, number>();
        for (const { event } of engine.commits()) {
          if (event.type !== "context.task.claimed") continue;
          const { id, fence = 0 } = taskOf(event);
          expect(fence).toBeGreaterThan(last.get(id) ?? 0);
          last.set(id, fence);
        }
      },
    });
  });

  it("D05 no lease token stands in clear in any commit or in the state", () => {
    let given = 0;
    always(anySteps, {
      atEnd: ({ engine, tokens }) => {
        given += tokens.length;
        const everything = JSON.stringify([engine.commits(), engine.snapshot()]);
        expect(everything).not.toMatch(/"lease-/);
        for (const token of tokens) expect(everything).not.toContain(token);
      },
    });
    expect(given).toBeGreaterThan(30);
  });

  it("claims: a task's fences only grow, whatever becomes of it, and each attempt has its own", () => {
    let attempts = 0;
    always(anySteps, {
      atEnd: ({ engine, history }) => {
        const fences = new Map<string, number>();
        for (const { event } of engine.commits()) {
          if (event.type !== "context.task.claimed" || event.origin === "client") continue;
          const { id, fence = 0 } = taskOf(event);
          expect(fence).toBe(event.seq);
          expect(fence).toBeGreaterThan(fences.get(id) ?? 0);
          fences.set(id, fence);
        }
        for (const task of history.at(-1)?.after.run.tasks ?? []) {
          const told = [...(task.attempts ?? []).map(({ fence }) => fence), task.fence ?? Infinity];
          attempts += told.length - 1;
          expect(told).toEqual([...new Set(told)].sort((a, b) => a - b));
        }
      },
    });
    expect(attempts).toBeGreaterThan(30);
  });

  it("claims: what says how a task ended, or who holds it, is there only while that is so", () => {
    let letters = 0;
    always(anySteps, {
      afterEach: ({ after }) => {
        for (const task of after.run.tasks) {
          const { status, dead_letter, failure, fence, claimed_at_ms, progress, lease_token } = task;
          letters += dead_letter === true ? 1 : 0;
          if (dead_letter !== undefined || failure !== undefined) expect(status).toBe("failed");
          if (dead_letter !== undefined) expect(failure).toBeDefined();
          if (progress !== undefined) expect(["in_progress", "blocked"]).toContain(status);
          expect(claimed_at_ms === undefined).toBe(fence === undefined);
          if (fence !== undefined) expect(lease_token).toBeDefined();
        }
      },
    });
    expect(letters).toBeGreaterThan(0);
  });

  it("claims: under a policy nothing is claimed once its attempts are used up", () => {
    let claims = 0;
    always(stepsWithoutPut, {
      atEnd: ({ history }) => {
        // Who puts a failed task back by name, as the contract has it, asks no policy: its tasks are left out.
        const retried = new Set<string>();
        for (const { answer, command } of history) {
          if (
            command.op === "transition_task" &&
            ["retry", "status"].includes(command.action.trim().toLowerCase())
          ) {
            retried.add(command.task_id);
          }
          if (!answer.ok || answer.outcome?.op !== "claim_task") continue;
          const { task } = answer.outcome;
          if (task?.retry === undefined || retried.has(task.id)) continue;
          claims += 1;
          expect(task.attempt).toBeLessThan(Math.max(1, task.max_attempts));
        }
      },
    });
    expect(claims).toBeGreaterThan(0);
  });
});
