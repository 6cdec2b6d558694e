import { describe, expect, it } from "vitest";
import type { CommandOf } from "../../src/domain/command.ts";
import { selectNextStep } from "../../src/domain/driver.ts";
import type { MemoryRun } from "../../src/domain/memory.ts";
import { isAbsolutePath, normalisePath } from "../../src/domain/workspace.ts";
import type { RunStatus, WorkStatus } from "../../src/protocol/status.ts";
import { accepted, aRun, aTask, committed, memoryRun, NOW, refused, stepsOf } from "../support/builders.ts";

const LIVE = ["queued", "planning", "running", "awaiting_approval", "paused", "blocked"] as const;
const OVER = ["failed", "completed", "cancelled"] as const;

/** Steps of a live run, then the chosen step, its status before, the target status, and the reason. */
const SELECTIONS: [Record<string, WorkStatus>, string | null, RunStatus, string][] = [
  [
    { a: "runnable", b: "in_progress", c: "in_progress" },
    null,
    "running",
    "step `b` is already in_progress; keep current execution focus",
  ],
  [
    { a: "pending", b: "runnable", c: "runnable" },
    "b",
    "running",
    "selected runnable step `b` as next execution target",
  ],
  [
    { a: "failed", b: "pending", c: "pending" },
    "b",
    "running",
    "no runnable step available; promoted pending step `b` for execution",
  ],
  [{ a: "done", b: "done" }, null, "completed", "all steps are done; marking run completed"],
  [
    { a: "done", b: "failed", c: "blocked" },
    null,
    "blocked",
    "one or more steps failed and no runnable work remains; run is blocked",
  ],
  [{ a: "done", b: "blocked" }, null, "blocked", "no actionable steps found; run remains blocked"],
  [{}, null, "blocked", "no actionable steps found; run remains blocked"],
];

describe("driver", () => {
  it.each(SELECTIONS)("03§6 steps %j: chooses %j, run %s, because %s", (statuses, stepId, target, why) => {
    const steps = stepsOf(statuses);
    for (const status of LIVE) {
      const selection = selectNextStep(aRun({ status, steps }));
      expect(selection.step?.step_id ?? null).toBe(stepId);
      expect(selection).toMatchObject({ status: target, why });
    }
  });

  it.each(OVER)("03§6 a run that is %s stays so, whatever its steps", (status) => {
    for (const [statuses] of SELECTIONS) {
      expect(selectNextStep(aRun({ status, steps: stepsOf(statuses) }))).toEqual({
        step: null,
        status,
        why: `run is terminal (\`"${status}"\`); no next step can be selected`,
      });
    }
  });

  it.each(SELECTIONS)(
    "03§3.1 meta_next_step_selected of steps %j: exact payload",
    (statuses, id, target, why) => {
      const run = memoryRun({ status: "paused", steps: stepsOf(statuses) }, [aTask()]);
      const before = run.run();
      const { outcome } = accepted({ op: "select_next_step", dry_run: false }, run);
      const [commit] = committed({ op: "select_next_step", dry_run: false }, run);
      expect(outcome).toEqual({
        op: "select_next_step",
        dry_run: false,
        selected_step_id: id,
        target_status: target,
        why_next_step: why,
        event: commit?.event,
      });
      const steps = stepsOf(id === null ? statuses : { ...statuses, [id]: "in_progress" });
      const after = {
        ...before,
        status: target,
        steps,
        why_next_step: why,
        ...(target === "completed" && { ended_at_ms: NOW }),
      };
      expect(commit?.patch).toBeNull();
      expect(commit?.event).toMatchObject({
        type: "meta_next_step_selected",
        status: target,
        run_status: target,
        payload: {
          why_next_step: why,
          selected_step_id: id,
          selected_step_previous_status: id === null ? null : statuses[id],
          driver: "context_driver_v1",
          steps,
          run: { ...after, tasks: [] },
        },
      });
      expect(Object.keys(commit?.event.payload ?? {}).length).toBe(6);
      expect(commit?.event.step_id).toBe(id ?? undefined);
      expect(run.run()).toEqual({ ...after, revision: 2, last_event_seq: 1, updated_at_ms: NOW });
    },
  );

  it("03§6 commits even on a terminal run, whose end stays", () => {
    const run = memoryRun({ status: "failed", ended_at_ms: 7, steps: stepsOf({ a: "runnable" }) });
    committed({ op: "select_next_step", dry_run: false }, run);
    expect(run.run()).toMatchObject({ status: "failed", ended_at_ms: 7, revision: 2 });
    expect(run.run().steps).toEqual(stepsOf({ a: "runnable" }));
  });

  it("03§6 a dry run only tells", () => {
    const run = memoryRun({ steps: stepsOf({ a: "pending" }) });
    expect(accepted({ op: "select_next_step", dry_run: true }, run)).toEqual({
      ok: true,
      commits: [],
      outcome: {
        op: "select_next_step",
        dry_run: true,
        selected_step_id: "a",
        target_status: "running",
        why_next_step: "no runnable step available; promoted pending step `a` for execution",
        event: null,
      },
    });
  });
});

const probe = (
  current_path: string,
  members: Partial<CommandOf<"validate_workspace">> = {},
): CommandOf<"validate_workspace"> => ({
  op: "validate_workspace",
  phase: "start",
  current_path,
  ...members,
});

function withPath(canonical_path: string, status: RunStatus = "running", lease_epoch = 3): MemoryRun {
  return memoryRun({ status, workspace: { workspace_id: "w", canonical_path, lease_epoch } }, [aTask()]);
}

describe("workspace validation: a run without a path", () => {
  it.each([
    ["", 0, 1],
    ["  ", 0, 1],
    ["", 4, 4],
  ])("03§7 path %j, epoch %i: takes over what it is shown, epoch %i", (path, epoch, epochAfter) => {
    for (const status of [...LIVE, ...OVER]) {
      const run = withPath(path, status, epoch);
      const [commit] = committed(probe(" /srv/new/ ", { step_id: "s" }), run);
      const workspace = { workspace_id: "w", canonical_path: " /srv/new/ ", lease_epoch: epochAfter };
      expect(run.run().workspace).toEqual(workspace);
      expect(commit?.patch).toBeNull();
      expect(commit?.event).toMatchObject({
        type: "workspace_validated",
        status,
        run_status: status,
        step_id: "s",
      });
      expect(commit?.event.payload).toEqual({
        phase: "start",
        expected_path: " /srv/new/ ",
        actual_path: " /srv/new/ ",
        run: { ...aRun({ status, workspace }), tasks: [] },
      });
    }
  });

  it("03§7 a blank path cannot be adopted", () => {
    expect(refused(probe(" "), withPath(" "))).toMatchObject({
      code: "FIELD_INVALID",
      issues: [{ field: "current_path", rule: "non_blank" }],
    });
  });
});

describe("workspace validation: a run with a path", () => {
  const same: [string, string][] = [
    ["/srv/ws", "/srv/ws"],
    ["/srv/ws", "/srv/ws/"],
    [" /srv/ws/ ", "/srv/ws"],
    ["/srv/ws", " /srv/ws//\n"],
    ["/", "//"],
  ];
  it.each(same)("D70 %j and %j are the same: no event", (path, shown) => {
    for (const status of [...LIVE, ...OVER]) {
      expect(accepted(probe(shown), withPath(path, status))).toEqual({
        ok: true,
        commits: [],
        outcome: { op: "validate_workspace", mismatch: null, run_status: status, event: null },
      });
    }
  });

  it.each(["/srv/WS", "/srv/ws2", "/srv", "/", "", "srv/ws", "/srv/./ws"])(
    "03§7 /srv/ws and %j differ",
    (shown) => {
      for (const status of LIVE) {
        const run = withPath("/srv/ws/", status);
        const { outcome } = accepted(probe(shown), run);
        const [commit] = committed(probe(shown), run);
        expect(outcome).toEqual({
          op: "validate_workspace",
          mismatch: { expected_path: "/srv/ws/", actual_path: shown },
          run_status: "paused",
          event: commit?.event,
        });
        expect(commit?.event).toMatchObject({
          type: "workspace_mismatch",
          status: "paused",
          run_status: "paused",
        });
        expect(commit?.event).not.toHaveProperty("step_id");
        expect(commit?.event.payload).toEqual({
          phase: "start",
          expected_path: "/srv/ws/",
          actual_path: shown,
          run: { ...withPath("/srv/ws/", "paused").run(), tasks: [] },
        });
        expect(run.run()).toMatchObject({ status: "paused", why_next_step: null });
      }
    },
  );

  it.each(OVER)("D70 a run that is %s is left alone", (status) => {
    expect(accepted(probe("/other"), withPath("/srv/ws", status))).toEqual({
      ok: true,
      commits: [],
      outcome: {
        op: "validate_workspace",
        mismatch: { expected_path: "/srv/ws", actual_path: "/other" },
        run_status: status,
        event: null,
      },
    });
  });

  it("D70 the same mismatch is not logged twice in a row", () => {
    const run = withPath("/srv/ws");
    expect(committed(probe("/other", { step_id: "s" }), run)).toHaveLength(1);
    expect(committed(probe("/other", { step_id: "s" }), run)).toHaveLength(0);
    expect(committed(probe("/srv/ws", { step_id: "s" }), run)).toHaveLength(0);
    expect(committed(probe("/other", { step_id: "s" }), run)).toHaveLength(0);
    expect(committed(probe("/other", { step_id: "s", phase: "end" }), run)).toHaveLength(1);
    expect(committed(probe("/other", { step_id: "s" }), run)).toHaveLength(1);
    expect(committed(probe("/other"), run)).toHaveLength(1);
    expect(committed(probe("/another"), run)).toHaveLength(1);
    committed({ op: "append_event", type: "run_resumed", status: "running", payload: null }, run);
    expect(committed(probe("/another"), run)).toHaveLength(1);
    expect(run.run().status).toBe("paused");
    const moved = {
      ...run.run(),
      workspace: { workspace_id: "w", canonical_path: "/moved", lease_epoch: 1 },
    };
    committed({ op: "replace_run", run: moved }, run);
    expect(committed(probe("/another"), run)).toHaveLength(1);
    expect(committed(probe("/another"), run)).toHaveLength(0);
  });
});

it("02§8 what was done in another workspace counts no more, from the commit that moved the run", () => {
  const run = memoryRun({ last_event_seq: 4, revision: 5 });
  const moveTo = (canonical_path: string) => {
    const { workspace } = run.run();
    committed({ op: "replace_run", run: { ...run.run(), workspace: { ...workspace, canonical_path } } }, run);
    return run.head().workspace_since_seq;
  };
  expect([" /srv/ws/ ", "/srv/ws", "/srv/else", "/srv/else/", "/srv/ws"].map(moveTo)).toEqual([
    0, 0, 6, 6, 8,
  ]);
});

it.each([
  ["/a/", "/a"],
  [" /a//\t", "/a"],
  ["/", "/"],
  ["///", "/"],
  [" / ", "/"],
  ["", ""],
  ["  ", ""],
  ["C:\\a", "C:\\a"],
  ["a", "a"],
])("02§8 %j is compared as %j", (path, normalised) => {
  expect(normalisePath(path)).toBe(normalised);
});

it.each([
  ["/", true],
  ["/srv/ws", true],
  ["C:\\ws", true],
  ["c:/ws", true],
  ["Z:\\", true],
  ["", false],
  ["ws", false],
  ["srv/ws", false],
  ["./C:/ws", false],
  ["C:", false],
  ["C:ws", false],
  ["CD:/ws", false],
  ["1:/ws", false],
])("02§8 whether %j is absolute: %s", (path, isAbsolute) => {
  expect(isAbsolutePath(path)).toBe(isAbsolute);
});
