import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Commit } from "../../src/domain/commit.ts";
import type { MemoryRun } from "../../src/domain/memory.ts";
import type { MutatedFile } from "../../src/domain/mutations.ts";
import { limitExceeded } from "../../src/domain/refusals.ts";
import { BLOCKED, isEligible } from "../../src/domain/rollback.ts";
import type { PlannedStep } from "../../src/domain/rollback-plan.ts";
import type { EventRecord } from "../../src/protocol/event.ts";
import type { FileChange } from "../../src/protocol/file-version.ts";
import { RUN_STATUSES } from "../../src/protocol/status.ts";
import { aFile, aMutation, anEvent, aRollback, contentsOf, fakeHash, storedStep } from "../support/audit.ts";
import { aContext, accepted, aRow, batch, committed, memoryRun, refused } from "../support/builders.ts";

/** Counts ids on through the whole file, so that no two events have the same. */
const CONTEXT = aContext();

/** Puts a content to a path, as an upload does; null removes it. */
function put(run: MemoryRun, path: string, content: string | null): void {
  const seq = run.head().run.last_event_seq + 1;
  const sha256 = content === null ? null : fakeHash(content);
  const files: FileChange[] = [{ path, sha256, bytes: content?.length ?? 0, content_type: "text/plain" }];
  const type = content === null ? "context.artifact.removed" : "context.artifact.added";
  const event = anEvent({ seq, type, status: run.head().run.status, payload: { files } });
  run.apply({ event, patch: null } satisfies Commit);
}

/** Appends a client's mutation record of these files and gives back its step. */
function record(run: MemoryRun, files: MutatedFile[]): PlannedStep {
  const mutation = aMutation(files);
  const [commit] = committed(
    {
      op: "append_event",
      type: "mutation_checkpoint_recorded",
      status: "paused",
      payload: { record: mutation },
    },
    run,
    CONTEXT,
  );
  if (commit === undefined) throw new Error("an append makes a commit");
  return storedStep(commit.event, mutation);
}

/** What a rollback's event says; applies it. */
function rolledBack(run: MemoryRun, ...args: Parameters<typeof aRollback>): EventRecord & { payload: Told } {
  const [commit] = committed(aRollback(...args), run, CONTEXT);
  return commit?.event as EventRecord & { payload: Told };
}

interface Told {
  reason?: string;
  missing_event_ids?: string[] | null;
  conflicting_paths?: string[];
  files?: FileChange[];
}

/** A deleted file: undoing that needs nothing to be there. */
const deleted = (path: string, content = "x") =>
  aFile({ path, existed_after: false, rollback_snapshot: { status: "inline_text", content } });

describe("06§9 the checks, each at its place", () => {
  /** A run with a good step, one that is only advice, one that was applied, and one on a changed path. */
  function arranged() {
    const run = memoryRun({ status: "paused" });
    put(run, "changed", "now");
    const done = record(run, [deleted("done")]);
    rolledBack(run, [done]);
    return {
      run,
      done,
      good: record(run, [deleted("good")]),
      advice: record(run, [aFile({ rollback_snapshot: { status: "binary" } })]),
      outside: record(run, [deleted("../x")]),
      differing: record(run, [aFile({ path: "changed", after_hash: fakeHash("then") })]),
    };
  }
  type Arranged = ReturnType<typeof arranged>;
  const none: Partial<Parameters<typeof aRollback>[1] & object> = {};

  // Each row fails its own check and all that come later.
  it.each<[string, (a: Arranged) => PlannedStep[], typeof none, string]>([
    [
      "acknowledgement before the ids",
      ({ advice }) => [advice],
      { policy_ack: undefined, event_ids: ["", ""] },
      BLOCKED.notAcknowledged,
    ],
    [
      "found before executable",
      ({ advice }) => [advice],
      { event_ids: ["nowhere"], has_store: false },
      BLOCKED.notFound,
    ],
    ["executable before the store", ({ advice }) => [advice], { has_store: false }, BLOCKED.advisory],
    ["the store before what was applied", ({ done }) => [done], { has_store: false }, BLOCKED.noStore],
    ["applied before the paths", ({ done, outside }) => [done, outside], {}, BLOCKED.alreadyApplied],
    [
      "lost contents before the comparison",
      ({ good, differing }) => [good, differing],
      { lost: [fakeHash("x")] },
      BLOCKED.snapshotLost,
    ],
    ["the comparison", ({ good, differing }) => [good, differing], {}, BLOCKED.differs],
  ])("%s", (_, select, members, reason) => {
    const a = arranged();
    const before = a.run.files();
    const event = rolledBack(a.run, select(a), members);
    expect(event).toMatchObject({ type: "rollback_execution_blocked", payload: { reason } });
    expect(a.run.files()).toEqual(before);
  });

  it("what is too large to bring along is refused only where nothing blocks it, and no id is malformed", () => {
    const { run } = arranged();
    const code = "LIMIT_EXCEEDED";
    const too_large = limitExceeded("rollback_length", 1, 2);
    const members = { too_large, event_ids: ["e"] };
    const unacknowledged = { ...members, policy_ack: undefined };
    expect(rolledBack(run, [], unacknowledged).payload.reason).toBe(BLOCKED.notAcknowledged);
    const running = memoryRun({ status: "running" });
    expect(rolledBack(running, [], members).payload.reason).toBe(BLOCKED.notEligible);
    expect(refused(aRollback([], { ...members, event_ids: [""] }), run).code).toBe("FIELD_INVALID");
    expect(refused(aRollback([], members), run).code).toBe(code);
  });

  it("06§9.1 without a store nothing is applied, and the reason says so", () => {
    const { run, good } = arranged();
    expect(rolledBack(run, [good], { has_store: false }).payload.reason).toBe(
      "no workspace file store is configured",
    );
  });

  it.each<[string, (a: Arranged) => PlannedStep[], typeof none, string]>([
    ["a blank id", ({ good }) => [good], { event_ids: [" "] }, "non_blank"],
    ["an id twice", ({ good }) => [good], { event_ids: ["e", "e "] }, "unique"],
    ["a path outside", ({ good, outside }) => [good, outside], {}, "segments"],
  ])("%s is refused", (_, select, members, rule) => {
    const a = arranged();
    expect(refused(aRollback(select(a), members), a.run)).toMatchObject({
      code: "FIELD_INVALID",
      issues: [{ rule }],
    });
  });

  it("D73 declares the run's status, whatever it is, and leaves the run as it is", () => {
    for (const status of RUN_STATUSES) {
      const run = memoryRun({ status, ended_at_ms: 5 });
      const { status: declared, payload } = rolledBack(run, []);
      expect(declared).toBe(status);
      expect(payload.reason).toBe(isEligible(status) ? undefined : BLOCKED.notEligible);
      const { revision: _r, last_event_seq: _s, updated_at_ms: _u, ...after } = run.head().run;
      expect(after).toMatchObject({ status, steps: [] });
      if (["failed", "completed", "cancelled"].includes(status)) expect(after.ended_at_ms).toBe(5);
    }
  });
});

/** One thing that happens to the space. `honest`: whether it is recorded as it was. */
interface Happening {
  path: string;
  to: string | null;
  told: "honest" | "no hash" | "not at all";
}

const happening: fc.Arbitrary<Happening> = fc.record({
  path: fc.constantFrom("a", "b", "c/d"),
  to: fc.option(fc.constantFrom("1", "2", "3")),
  told: fc.oneof(
    { weight: 6, arbitrary: fc.constant("honest" as const) },
    fc.constantFrom("no hash" as const, "not at all" as const),
  ),
});

interface Undoing {
  path: string;
  before: string | null;
  after: string | null;
  hasHash: boolean;
}

/** The simplest thing that rolls back: contents by path, steps undone one after the other, nothing kept when one is not as told. */
function modelled(space: Map<string, string>, steps: Undoing[]): Map<string, string> | null {
  const next = new Map(space);
  for (const { path, before, after, hasHash } of steps) {
    const current = next.get(path) ?? null;
    const isGone = current === null && before === null;
    if (!isGone && current !== after) return null;
    if (!isGone && after !== null && !hasHash) return null;
    if (before === null) next.delete(path);
    else next.set(path, before);
  }
  return next;
}

describe("D25 D74 a rollback over random histories", () => {
  it("does all of it or nothing, newest first, and only to what is as it was left", () => {
    let applied = 0;
    fc.assert(
      fc.property(
        fc.array(happening, { minLength: 1, maxLength: 12 }),
        fc.array(fc.array(fc.nat(20), { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 3 }),
        (happenings, selections) => {
          const run = memoryRun({ status: "paused" });
          let space = new Map<string, string>();
          const steps: (Undoing & { step: PlannedStep; isApplied: boolean })[] = [];
          for (const { path, to, told } of happenings) {
            const before = space.get(path) ?? null;
            if (before === to) continue;
            put(run, path, to);
            if (to === null) space.delete(path);
            else space.set(path, to);
            if (told === "not at all") continue;
            const hasHash = told === "honest";
            const file = aFile({
              path,
              existed_before: before !== null,
              existed_after: to !== null,
              ...(to !== null && hasHash && { after_hash: `sha256:${fakeHash(to)}` }),
              rollback_snapshot:
                before === null ? { status: "not_needed" } : { status: "inline_text", content: before },
            });
            steps.push({ path, before, after: to, hasHash, step: record(run, [file]), isApplied: false });
          }
          for (const selection of selections) {
            const chosen = [...new Set(selection)].flatMap(
              (index) => steps[index % (steps.length || 1)] ?? [],
            );
            const unique = [...new Set(chosen)];
            if (unique.length === 0) continue;
            const newestFirst = unique.toSorted((a, b) => b.step.seq - a.step.seq);
            const expected = unique.some(({ isApplied }) => isApplied) ? null : modelled(space, newestFirst);
            const event = rolledBack(
              run,
              unique.map(({ step }) => step),
            );
            expect(event.type).toBe(
              expected === null ? "rollback_execution_blocked" : "rollback_execution_applied",
            );
            if (expected !== null) {
              applied += 1;
              space = expected;
              for (const one of unique) one.isApplied = true;
            }
            const hashes = [...space].map(([path, content]) => [path, fakeHash(content)]);
            expect(contentsOf(run.files())).toEqual(Object.fromEntries(hashes));
            for (const { step, isApplied } of steps) {
              expect(run.appliedSeq(step.seq) !== null).toBe(isApplied);
            }
          }
        },
      ),
      { numRuns: 300 },
    );
    // The histories are such that many rollbacks can be applied.
    expect(applied).toBeGreaterThan(30);
  });
});

describe("a rollback by an agent", () => {
  /** A run in which an agent was asked to undo one step, and the task that it was given for it. */
  function requested() {
    const run = memoryRun({ status: "paused" });
    const step = record(run, [deleted("f")]);
    const ask = () => committed(aRollback([step], { executor: "agent" }), run, CONTEXT);
    const request = ask();
    const task_id = request[0]?.event.task_id ?? "";
    return { run, step, ask, request, task_id };
  }
  const move = (run: MemoryRun, task_id: string, action: string, members: object = {}) =>
    committed({ op: "transition_task", task_id, action, ...members }, run, CONTEXT);
  const claimed = (run: MemoryRun, task_id: string) => {
    const claim = { op: "claim_task", agent_id: "ann" } as const;
    const { outcome, commits } = accepted(claim, run, CONTEXT);
    for (const commit of commits) run.apply(commit);
    if (outcome.op !== "claim_task" || outcome.task?.id !== task_id)
      throw new Error("the task was not given");
    return { lease_token: outcome.lease?.token };
  };

  it("06§9 is a task that tells what to do and what should be there, then the request that names it", () => {
    const { run, request, step, task_id } = requested();
    expect(request.map(({ event }) => event.type)).toEqual([
      "context.task.created",
      "rollback_execution_requested",
    ]);
    expect(run.task(task_id)).toMatchObject({
      max_attempts: 1,
      payload: {
        workspace_root: "/srv/ws",
        steps: [
          {
            seq: step.seq,
            event_id: step.event_id,
            tool: "edit",
            operations: [
              { path: "f", action: "recreate_deleted_file", kind: "write_file", expected: { exists: false } },
            ],
          },
        ],
      },
    });
    expect(run.appliedSeq(step.seq)).toBeNull();
  });

  it.each<[string, "applied" | "failed" | "open", (run: MemoryRun, id: string) => void]>([
    ["is completed", "applied", (run, id) => move(run, id, "complete", claimed(run, id))],
    [
      "is done by name",
      "applied",
      (run, id) => move(run, id, "status", { status: "done", ...claimed(run, id) }),
    ],
    ["fails", "failed", (run, id) => move(run, id, "fail", { error: " no ", ...claimed(run, id) })],
    [
      "is cancelled",
      "failed",
      (run, id) => committed({ op: "cancel_task", task_id: id, reason: "no" }, run, CONTEXT),
    ],
    ["is given back", "open", (run, id) => move(run, id, "release", claimed(run, id))],
    ["is set aside", "open", (run, id) => move(run, id, "status", { status: "blocked" })],
  ])("06§9 its task %s: the rollback is %s", (_, end, finish) => {
    const { run, step, ask, task_id } = requested();
    finish(run, task_id);
    const isApplied = run.appliedSeq(step.seq) !== null;
    expect(isApplied).toBe(end === "applied");
    expect(run.head().audit.requested).toHaveLength(end === "open" ? 1 : 0);
    // One that failed may be asked for again: none else.
    const again = ask().at(-1)?.event;
    const reason = (again?.payload as Told | undefined)?.reason;
    expect(again?.type).toBe(
      end === "failed" ? "rollback_execution_requested" : "rollback_execution_blocked",
    );
    if (end === "applied") expect(reason).toBe(BLOCKED.alreadyApplied);
    if (end === "open") expect(reason).toBe(BLOCKED.alreadyRequested);
    if (end === "applied") expect(run.appliedSeq(step.seq)).toBe(run.head().run.last_event_seq - 1);
  });

  it.each<[string, (run: MemoryRun, id: string) => void]>([
    ["another takes its place", (run, id) => committed(batch(aRow({ id, task_type: "free" })), run, CONTEXT)],
    ["the run is put back", (run) => committed({ op: "replace_run", run: run.run() }, run, CONTEXT)],
  ])("06§9 is withdrawn when %s: what becomes of that task tells nothing of the rollback", (_, act) => {
    const { run, step, task_id } = requested();
    act(run, task_id);
    expect(run.head().audit.requested).toEqual([]);
    expect(move(run, task_id, "complete", claimed(run, task_id))).toHaveLength(1);
    expect(run.appliedSeq(step.seq)).toBeNull();
  });

  it("06§9 other tasks have nothing to do with it", () => {
    const { run } = requested();
    committed(batch(aRow({ id: "other" })), run, CONTEXT);
    expect(committed({ op: "cancel_task", task_id: "other" }, run, CONTEXT)).toHaveLength(1);
    expect(run.head().audit.requested).toHaveLength(1);
  });

  it("06§9 a client's event of that name asks for nothing", () => {
    const { run, step, request } = requested();
    const payload = request[1]?.event.payload;
    const other = memoryRun({ status: "paused" });
    committed({ op: "append_event", type: "rollback_execution_requested", payload }, other, CONTEXT);
    expect(other.head().audit.requested).toEqual([]);
    expect(run.appliedSeq(step.seq)).toBeNull();
  });
});
