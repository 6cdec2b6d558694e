import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Commit } from "../../src/domain/commit.ts";
import { driftBetween, NOT_COMPARED } from "../../src/domain/drift.ts";
import { evolve } from "../../src/domain/evolve.ts";
import { newHead } from "../../src/domain/head.ts";
import type { MemoryRun } from "../../src/domain/memory.ts";
import { fromCheckpoint } from "../../src/domain/replay.ts";
import type { Checkpoint } from "../../src/protocol/checkpoint.ts";
import type { EventRecord } from "../../src/protocol/event.ts";
import type { RunHeader } from "../../src/protocol/run.ts";
import type { RunStatus } from "../../src/protocol/status.ts";
import { aRun, aTask, memoryRun, NOW, stepsOf } from "../support/builders.ts";
import { anySteps } from "../support/commands.ts";
import { execute } from "../support/execute.ts";
import type { Snapshot } from "../support/memory-engine.ts";

function checkpointOf({ run, blackboard }: Snapshot): Checkpoint {
  const seq = run.last_event_seq;
  return { checkpoint_id: "cp-1", run_id: "r", seq, ts_ms: NOW, reason: "", run_state: run, blackboard };
}

/** A run with commits applied to it. */
function led(run: MemoryRun, commits: Iterable<Commit>): MemoryRun {
  for (const commit of commits) run.apply(commit);
  return run;
}

describe("replay is live", () => {
  it("06§3.5 the log over the run as created gives the stored run and board, and no drift", () => {
    fc.assert(
      fc.property(anySteps, (steps) => {
        const { engine } = execute(steps);
        const state = led(engine.initial(), engine.commits());
        const sides = { run: state.run(), blackboard: state.blackboard() };
        const stored = engine.snapshot();
        expect(sides).toStrictEqual(stored);
        const beside = { state_sha256: "a", audit: state.head().audit };
        expect(driftBetween({ ...sides, ...beside }, { ...stored, ...beside }, true)).toEqual({
          ...NOT_COMPARED,
          compared: true,
        });
      }),
      { numRuns: 150 },
    );
  });

  it("06§3.5 so does the rest of the log over a checkpoint of any moment", () => {
    fc.assert(
      fc.property(anySteps, fc.nat(), (steps, moment) => {
        const { engine, history } = execute(steps);
        const at = history[moment % Math.max(1, history.length)]?.after;
        if (at === undefined) return;
        const rest = engine.commits().filter(({ event }) => event.seq > at.run.last_event_seq);
        const state = led(fromCheckpoint(checkpointOf(at)), rest);
        expect({ run: state.run(), blackboard: state.blackboard() }).toStrictEqual(engine.snapshot());
      }),
      { numRuns: 150 },
    );
  });

  it("D82 the log up to any seq gives the run as it was then", () => {
    fc.assert(
      fc.property(anySteps, (steps) => {
        const { engine, history } = execute(steps);
        const state = engine.initial();
        let applied = 0;
        for (const { after } of history) {
          for (const commit of engine.commits().slice(applied, after.run.last_event_seq)) state.apply(commit);
          applied = after.run.last_event_seq;
          expect(state.run()).toEqual(after.run);
          expect(state.blackboard()).toEqual(after.blackboard);
        }
      }),
      { numRuns: 50 },
    );
  });
});

/** A commit of an event that no engine wrote today: imported, forged or damaged. */
function commitOf(event: Partial<EventRecord>, patch: Commit["patch"] = null): Commit {
  const base: EventRecord = {
    event_id: "evt-1",
    run_id: "r",
    seq: 1,
    ts_ms: NOW,
    type: "note",
    status: "running",
    run_status: "running",
    revision: 2,
    payload: null,
  };
  return { event: { ...base, ...event }, patch };
}

describe("what a commit means", () => {
  const head = newHead(aRun({ steps: stepsOf({ s1: "pending" }), why_next_step: "before" }));
  const engineTypes = [
    "context.task.created",
    "context.run.replaced",
    "todo_synced",
    "meta_next_step_selected",
    "workspace_validated",
    "workspace_mismatch",
    "context.blackboard.patched",
  ];
  const forged = {
    task: aTask(),
    run: { ...aRun({ objective: "x" }), tasks: [aTask()] },
    steps: [],
    op: "add_fact",
  };

  it.each(engineTypes)(
    "E1 D09 a client's %s follows the transition rules, its payload is not applied",
    (type) => {
      const { head: after, changes } = evolve(head, commitOf({ type, origin: "client", payload: forged }));
      expect(changes).toEqual([]);
      expect(after).toEqual({
        ...head,
        run: { ...head.run, status: "running", revision: 2, last_event_seq: 1, updated_at_ms: NOW },
      });
    },
  );

  it.each(engineTypes)("03§8 an engine's %s without its payload still replays and counts", (type) => {
    for (const payload of [null, {}]) {
      const { head: after, changes } = evolve(head, commitOf({ type, payload }));
      expect(changes).toEqual([]);
      expect(after.run).toMatchObject({ revision: 2, last_event_seq: 1, updated_at_ms: NOW });
      expect(after.run.objective).toBe("Ship it");
      expect(after.run.steps).toEqual(stepsOf({ s1: "pending" }));
    }
  });

  it("E2 D27 times are the event's", () => {
    const started = commitOf({ type: "session_run_started", ts_ms: 4_321 });
    expect(evolve(head, started).head.run).toMatchObject({ started_at_ms: 4_321, updated_at_ms: 4_321 });
    const cancelled = commitOf({ type: "run_cancelled", ts_ms: 4_321 });
    expect(evolve(head, cancelled).head.run.ended_at_ms).toBe(4_321);
  });

  it("03§8 counters and time never go back, whatever an imported event says", () => {
    const late = newHead(aRun({ revision: 9, last_event_seq: 8, updated_at_ms: 70_000 }));
    expect(evolve(late, commitOf({ seq: 3, revision: 4 })).head.run).toMatchObject({
      revision: 9,
      last_event_seq: 8,
      updated_at_ms: 70_000,
    });
  });

  it("03§8 the contract's example: a lone planning_started", () => {
    const run = memoryRun();
    run.apply(commitOf({ type: "planning_started", status: "planning" }));
    expect(run.run()).toMatchObject({ status: "awaiting_approval", last_event_seq: 1, revision: 2 });
    expect(run.run().steps).toHaveLength(3);
  });

  it("I7 03§8 a task event changes its task alone, whatever status it declares", () => {
    const run = memoryRun({ status: "queued" }, [aTask({ id: "a" }), aTask({ id: "b" })]);
    const task = aTask({ id: "a", status: "done", task_rev: 2 });
    run.apply(commitOf({ type: "context.task.completed", status: "failed", payload: { task } }));
    expect(run.run()).toMatchObject({ status: "queued", tasks: [task, aTask({ id: "b" })] });
  });

  it.each([
    "context.lock.acquired",
    "context.artifact.removed",
    "context.run.gap",
    "context.run.settings_set",
    "context.blackboard.patched",
  ])("03§8 an engine's %s leaves the run's status as it is, whatever it declares, and its tasks", (type) => {
    const patch = { op: "add_task", payload: aTask({ id: "z" }) } as unknown as Commit["patch"];
    const commit = commitOf({ type, status: "failed", payload: { run: forged.run } }, patch);
    const { head: after, changes } = evolve(head, commit);
    expect(after.run).toEqual({ ...head.run, revision: 2, last_event_seq: 1, updated_at_ms: NOW });
    expect(changes).toEqual([]);
  });

  it("05§2 a summary stands in the head alone", () => {
    const patch = { op: "set_rolling_summary", payload: "new" } as unknown as Commit["patch"];
    const { head: after, changes } = evolve(head, commitOf({ type: "context.blackboard.patched" }, patch));
    expect(after.summaries).toEqual({ rolling: "new", latest_context_pack: "" });
    expect(changes).toEqual([]);
  });

  it("06§9 what is told of rollbacks indexes the event, and changes no task or note", () => {
    const over = newHead(aRun({ status: "failed", ended_at_ms: 7 }));
    for (const before of [head, over]) {
      const report = commitOf({ type: "rollback_execution_blocked", status: "completed" });
      expect(evolve(before, report).changes).toEqual([
        { kind: "index_effect", effect: { kind: "rollback", seq: 1, event_id: null } },
      ]);
    }
  });

  it.each<[string, Partial<RunHeader>, RunStatus, number | undefined]>([
    ["was over, and stays so", { status: "completed", ended_at_ms: 7 }, "completed", 7],
    ["was over, and ends in another way", { status: "completed", ended_at_ms: 7 }, "failed", 7],
    ["was over, it is not known since when", { status: "completed" }, "completed", NOW],
    ["was under way, and is over", { status: "running" }, "completed", NOW],
    ["was over, and goes on", { status: "completed", ended_at_ms: 7 }, "running", undefined],
    ["goes on", { status: "running" }, "running", undefined],
  ])("D73 by another engine's report a run %s", (_, before, status, endedAtMs) => {
    for (const type of ["rollback_execution_applied", "mutation_checkpoint_recorded"]) {
      const { run } = evolve(newHead(aRun(before)), commitOf({ type, status })).head;
      expect([run.status, run.ended_at_ms]).toEqual([status, endedAtMs]);
    }
  });

  it("D70 the mismatch that paused a run is remembered while it is paused, and no longer", () => {
    const payload = { expected_path: "/srv/ws", phase: "start", actual_path: "/other" };
    const paused = evolve(head, commitOf({ type: "workspace_mismatch", status: "paused", payload })).head;
    const mismatch = { expected_path: "/srv/ws", phase: "start", current_path: "/other", step_id: null };
    expect(paused.last_mismatch).toEqual(mismatch);
    expect(evolve(paused, commitOf({ status: "paused" })).head.last_mismatch).toEqual(mismatch);
    expect(evolve(paused, commitOf({ type: "run_resumed", seq: 2 })).head.last_mismatch).toBeNull();
  });

  it("02§8 an event that leaves the workspace where it is moves no run", () => {
    const later = newHead(aRun({ last_event_seq: 4, revision: 5 }));
    for (const type of ["note", "context.lock.acquired", "workspace_mismatch"])
      expect(evolve(later, commitOf({ seq: 5, type })).head.workspace_since_seq).toBe(0);
  });

  it("design: a path that is written again and again costs each time the same", () => {
    const run = memoryRun();
    const file = { path: "p", sha256: "a".repeat(64), bytes: 1, content_type: "" };
    const seqs = 150_000;
    for (let seq = 1; seq <= seqs; seq += 1) {
      run.apply(commitOf({ seq, type: "context.artifact.added", payload: { files: [file] } }));
    }
    expect(run.files()).toMatchObject([{ path: "p", version: seqs }]);
    expect(run.fileVersion("p", 7)).toMatchObject({ version: 7 });
  });
});
