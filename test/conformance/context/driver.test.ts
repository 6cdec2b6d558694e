import { describe, expect, it } from "vitest";
import {
  addTasks,
  arrange,
  everything,
  freshId,
  lastEvent,
  must,
  newRun,
  raw,
  routes,
  runOf,
  TERMINAL,
} from "../support.ts";

/** Steps s1, s2, … with these statuses. */
const steps = (...statuses: string[]) =>
  statuses.map((status, n) => ({ step_id: `s${n + 1}`, title: `Step ${n + 1}`, status }));

interface Row {
  rule: string;
  status: string;
  steps: string[];
  selected: string | null;
  previous: string | null;
  target: string;
  why: string;
}

const BLOCKED = "no actionable steps found; run remains blocked";
const table: Row[] = [
  ...TERMINAL.map((status) => ({
    rule: `1 terminal ${status}`,
    status,
    steps: ["runnable"],
    selected: null,
    previous: null,
    target: status,
    why: `run is terminal (\`"${status}"\`); no next step can be selected`,
  })),
  {
    rule: "2 in progress",
    status: "queued",
    steps: ["runnable", "in_progress", "in_progress"],
    selected: null,
    previous: null,
    target: "running",
    why: "step `s2` is already in_progress; keep current execution focus",
  },
  {
    rule: "3 runnable",
    status: "planning",
    steps: ["pending", "runnable", "runnable"],
    selected: "s2",
    previous: "runnable",
    target: "running",
    why: "selected runnable step `s2` as next execution target",
  },
  {
    rule: "4 pending",
    status: "running",
    steps: ["done", "failed", "pending", "pending"],
    selected: "s3",
    previous: "pending",
    target: "running",
    why: "no runnable step available; promoted pending step `s3` for execution",
  },
  {
    rule: "5 all done",
    status: "running",
    steps: ["done", "done"],
    selected: null,
    previous: null,
    target: "completed",
    why: "all steps are done; marking run completed",
  },
  {
    rule: "6 failed",
    status: "running",
    steps: ["done", "failed", "blocked"],
    selected: null,
    previous: null,
    target: "blocked",
    why: "one or more steps failed and no runnable work remains; run is blocked",
  },
  {
    rule: "7 blocked",
    status: "running",
    steps: ["blocked"],
    selected: null,
    previous: null,
    target: "blocked",
    why: BLOCKED,
  },
  {
    rule: "7 no steps",
    status: "queued",
    steps: [],
    selected: null,
    previous: null,
    target: "blocked",
    why: BLOCKED,
  },
  ...["paused", "awaiting_approval"].map((status) => ({
    rule: `3 ${status}`,
    status,
    steps: ["runnable"],
    selected: "s1",
    previous: "runnable",
    target: "running",
    why: "selected runnable step `s1` as next execution target",
  })),
];

describe("POST …/driver/next", () => {
  it.each(table)("03§6 rule $rule", async (row) => {
    const run = await newRun();
    const before = await arrange(run, {
      status: row.status,
      steps: steps(...row.steps),
      why_next_step: "old",
    });
    const body = must(await run.post("/driver/next", { dry_run: false }));
    const event = await lastEvent(run);
    const after = {
      ...before,
      status: row.target,
      why_next_step: row.why,
      steps: before.steps.map((step) =>
        step.step_id === row.selected ? { ...step, status: "in_progress" } : step,
      ),
      revision: before.revision + 1,
      last_event_seq: before.last_event_seq + 1,
      updated_at_ms: event.ts_ms,
      ...(row.target === "completed" && row.status !== "completed" ? { ended_at_ms: event.ts_ms } : {}),
    };
    expect(body).toEqual({
      ok: true,
      dry_run: false,
      run_id: run.id,
      selected_step_id: row.selected,
      target_status: row.target,
      why_next_step: row.why,
      run: after,
    });
    expect(await runOf(run)).toEqual(after);
    expect(event).toEqual({
      event_id: expect.stringMatching(/^evt-/),
      run_id: run.id,
      seq: after.last_event_seq,
      ts_ms: expect.any(Number),
      type: "meta_next_step_selected",
      status: row.target,
      run_status: row.target,
      revision: after.revision,
      ...(row.selected === null ? {} : { step_id: row.selected }),
      payload: {
        why_next_step: row.why,
        selected_step_id: row.selected,
        selected_step_previous_status: row.previous,
        driver: "context_driver_v1",
        steps: after.steps,
        run: expect.objectContaining({
          run_id: run.id,
          status: row.target,
          steps: after.steps,
          tasks: [],
          revision: before.revision,
        }),
      },
    });
  });

  it.each(table)("03§6 dry run of rule $rule stores nothing", async (row) => {
    const run = await newRun();
    await arrange(run, { status: row.status, steps: steps(...row.steps) });
    const before = await everything(run);
    expect(must(await run.post("/driver/next", { dry_run: true }))).toEqual({
      ok: true,
      dry_run: true,
      run_id: run.id,
      selected_step_id: row.selected,
      target_status: row.target,
      why_next_step: row.why,
      run: before.run,
    });
    expect(await everything(run)).toEqual(before);
  });

  it("D67 each call commits, even when nothing changes", async () => {
    const run = await newRun();
    for (const revision of [2, 3, 4]) {
      expect(must(await run.post("/driver/next", {})).run.revision).toBe(revision);
    }
  });

  it("03§6 tasks are not considered and stay", async () => {
    const run = await newRun();
    await addTasks(run, { id: "t", status: "runnable" });
    const { tasks } = await runOf(run);
    expect(must(await run.post("/driver/next", {})).run).toMatchObject({ status: "blocked", tasks });
  });

  it("D101 an empty body is accepted, with or without a content type", async () => {
    const run = await newRun();
    expect(must(await run.post("/driver/next")).dry_run).toBe(false);
    expect(must(await run.post("/driver/next", raw(""))).dry_run).toBe(false);
    expect((await runOf(run)).revision).toBe(3);
  });

  it("01§8 404 for an unknown run, 422 for a wrong shape", async () => {
    expect((await routes(freshId()).post("/driver/next", {})).status).toBe(404);
    expect((await (await newRun()).post("/driver/next", { dry_run: "yes" })).status).toBe(422);
  });
});
