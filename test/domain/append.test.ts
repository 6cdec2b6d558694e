import { describe, expect, it } from "vitest";
import type { CommandOf } from "../../src/domain/command.ts";
import { isEngineEventType } from "../../src/protocol/event.ts";
import { accepted, aRun, aTask, committed, memoryRun, NOW, refused, stepsOf } from "../support/builders.ts";

const append = (members: Partial<CommandOf<"append_event">> = {}): CommandOf<"append_event"> => ({
  op: "append_event",
  type: "note",
  status: "running",
  payload: null,
  ...members,
});

const ENGINE_TYPES = [
  "context.run.replaced",
  "context.blackboard.patched",
  "context.artifact.added",
  "context.anything",
  "todo_synced",
  "meta_next_step_selected",
  "workspace_validated",
  "workspace_mismatch",
  "rollback_execution_applied",
  "rollback_execution_blocked",
  "tool_effect_recorded",
  "mutation_checkpoint_recorded",
];

describe("append", () => {
  it("03§1 I16 the record keeps what was sent, and says what became of the run", () => {
    const run = memoryRun({ steps: stepsOf({ s1: "pending" }) }, [aTask()]);
    const sent = append({
      type: " Run_Paused ",
      status: "completed",
      step_id: " s1 ",
      payload: { run: aRun(), task: aTask({ id: "injected" }), why_next_step: "w" },
    });
    const { commits, outcome } = accepted(sent, run, undefined, "k1");
    const [commit, ...others] = commits;
    expect(others).toEqual([]);
    expect(commit?.patch).toBeNull();
    expect(commit?.event).toStrictEqual({
      event_id: expect.stringMatching(/^evt-[0-9a-f-]{36}$/),
      run_id: "r",
      seq: 1,
      ts_ms: NOW,
      type: " Run_Paused ",
      status: "completed",
      run_status: "paused",
      revision: 2,
      step_id: " s1 ",
      command_id: "k1",
      payload: sent.payload,
    });
    expect(outcome).toEqual({ op: "append_event", event: commit?.event });
  });

  it("03§1 D09 it touches no task and no note, whatever its payload holds", () => {
    const run = memoryRun({}, [aTask()]);
    const board = run.blackboard();
    committed(
      append({ payload: { run: aRun({ objective: "other" }), task: aTask({ id: "injected" }) } }),
      run,
    );
    expect(run.blackboard()).toEqual(board);
    expect(run.run()).toMatchObject({ objective: "Ship it", tasks: [aTask()] });
  });

  it.each(["context.task.created", " context.task.done", "Context.Task.Completed", "CONTEXT.TASK."])(
    "D08 the type %j is reserved",
    (type) => {
      expect(refused(append({ type }), memoryRun())).toEqual({
        code: "TASK_EVENT_APPEND_DISABLED",
        error: "task events must go through the run task endpoints",
      });
    },
  );

  it.each(["context.task", "context.tasks.x", "task_started", "xcontext.task.y"])(
    "03§2.2 the type %j is not",
    (type) => {
      expect(committed(append({ type }), memoryRun())).toHaveLength(1);
    },
  );

  it.each(ENGINE_TYPES)("D07 a client's %s is marked and means no more than a note", (type) => {
    for (const written of [type, ` ${type.toUpperCase()}\n`]) {
      expect(isEngineEventType(written)).toBe(true);
      const run = memoryRun({ steps: stepsOf({ s1: "pending" }) }, [aTask()]);
      const payload = {
        run: { ...aRun({ objective: "forged", revision: 99 }), tasks: [] },
        steps: [],
        actual_path: "/forged",
        op: "add_fact",
        payload: { id: "f", ts_ms: 1, text: "forged" },
      };
      const board = run.blackboard();
      const [commit] = committed(append({ type: written, status: "blocked", payload }), run);
      expect(commit?.event.origin).toBe("client");
      expect(run.blackboard()).toEqual(board);
      expect(run.run()).toEqual({
        ...aRun({ status: "blocked", steps: stepsOf({ s1: "pending" }) }),
        tasks: [aTask()],
        revision: 2,
        last_event_seq: 1,
        updated_at_ms: NOW,
      });
    }
  });

  it("D07 other types carry no mark", () => {
    expect(committed(append({ type: "todo_synced2" }), memoryRun())[0]?.event).not.toHaveProperty("origin");
  });

  it("01§5 a payload of 256 KiB is taken, one byte more refused", () => {
    const ofBytes = (bytes: number) => append({ payload: "x".repeat(bytes - 2) });
    expect(committed(ofBytes(256 * 1024), memoryRun())).toHaveLength(1);
    expect(refused(ofBytes(256 * 1024 + 1), memoryRun())).toEqual({
      code: "LIMIT_EXCEEDED",
      error: "event_payload_bytes is limited to 262144, got 262145",
      limit_name: "event_payload_bytes",
      limit: 262_144,
      actual: 262_145,
    });
  });
});
