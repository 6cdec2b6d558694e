import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import type { Commit } from "../../src/domain/commit.ts";
import type { MemoryRun } from "../../src/domain/memory.ts";
import type { MutatedFile, MutationRecord } from "../../src/domain/mutations.ts";
import { limitExceeded } from "../../src/domain/refusals.ts";
import { BLOCKED, isEligible } from "../../src/domain/rollback.ts";
import { type PlannedStep, plannedStep } from "../../src/domain/rollback-plan.ts";
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

/** Appends a client's mutation record of these files and gives back its step, its contents stored. */
function record(run: MemoryRun, files: MutatedFile[]): PlannedStep {
  const mutation = aMutation(files);
  return storedStep(recorded(run, mutation), mutation);
}

/** The same, its contents in it as an agent needs them. */
function planned(run: MemoryRun, files: MutatedFile[]): PlannedStep {
  const mutation = aMutation(files);
  const step = plannedStep(recorded(run, mutation), mutation);
  if (step === null) throw new Error("the record has nothing to undo");
  return step;
}

function recorded(run: MemoryRun, mutation: MutationRecord): EventRecord {
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
  return commit.event;
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

/** A content as the door stores it. */
const contentOf = (text: string) => ({
  sha256: fakeHash(text),
  bytes: text.length,
  content_type: "text/plain",
});

describe("06§9 what a blocked rollback tells", () => {
  const toldOf = (run: MemoryRun, ...args: Parameters<typeof aRollback>) => rolledBack(run, ...args).payload;

  it("the answer is the event", () => {
    const { commits, outcome } = accepted(aRollback([]), memoryRun(), CONTEXT);
    expect(outcome).toEqual({ op: "execute_rollback", event: commits[0]?.event });
  });

  it("names the steps that were not found, in order, and not those that were", () => {
    const run = memoryRun({ status: "paused" });
    const good = record(run, [deleted("good")]);
    const event_ids = ["z", good.event_id, " a "];
    expect(toldOf(run, [good], { event_ids })).toEqual({
      reason: BLOCKED.notFound,
      selected_event_ids: event_ids,
      missing_event_ids: ["a", "z"],
    });
  });

  it("names the paths whose contents are lost, each once", () => {
    const run = memoryRun({ status: "paused" });
    const steps = [
      record(run, [deleted("a", "lost"), deleted("b", "kept"), deleted("c", "lost")]),
      record(run, [deleted("a", "lost"), aFile({ path: "d", existed_before: false })]),
    ];
    expect(toldOf(run, steps, { lost: [fakeHash("lost"), fakeHash("other")] })).toEqual({
      reason: BLOCKED.snapshotLost,
      selected_event_ids: steps.map(({ event_id }) => event_id),
      missing_event_ids: null,
      conflicting_paths: ["a", "c"],
    });
  });

  it("names the paths that are not as they were left, each once; those that cannot be compared only where none differs", () => {
    const run = memoryRun({ status: "paused" });
    for (const path of ["a", "b", "c"]) put(run, path, "now");
    const [now, then] = [fakeHash("now"), fakeHash("then")];
    const same = aFile({ path: "a", after_hash: now });
    const bare = aFile({ path: "b" });
    const differing = aFile({ path: "c", after_hash: then });
    const steps = [record(run, [bare, differing]), record(run, [same, bare, differing])];
    const told = { selected_event_ids: steps.map(({ event_id }) => event_id), missing_event_ids: null };
    expect(toldOf(run, steps)).toEqual({ ...told, reason: BLOCKED.differs, conflicting_paths: ["c"] });
    const others = [record(run, [bare]), record(run, [same, bare])];
    expect(toldOf(run, others)).toMatchObject({ reason: BLOCKED.notComparable, conflicting_paths: ["b"] });
  });
});

describe("D74 whether a path is as its record left it", () => {
  const HASH = fakeHash("now");
  const edit = { existed_before: true, existed_after: true };
  const creation = { existed_before: false, existed_after: true };
  const deletion = { existed_before: true, existed_after: false };

  it.each<[string, string | null, Partial<MutatedFile>, string | null]>([
    ["an edit, still there", "now", { ...edit, after_hash: HASH }, null],
    ["its hash with the prefix", "now", { ...edit, after_hash: `sha256:${HASH}` }, null],
    ["its hash in capitals", "now", { ...edit, after_hash: `SHA256:${HASH.toUpperCase()}` }, null],
    ["its hash between blanks", "now", { ...edit, after_hash: ` ${HASH}\n` }, null],
    ["an edit of what was changed since", "new", { ...edit, after_hash: HASH }, BLOCKED.differs],
    ["an edit of what is gone", null, { ...edit, after_hash: HASH }, BLOCKED.differs],
    ["an edit of what is gone, without a hash", null, edit, BLOCKED.differs],
    ["no hash", "now", edit, BLOCKED.notComparable],
    ["an empty one", "now", { ...edit, after_hash: "" }, BLOCKED.notComparable],
    ["another kind of hash", "now", { ...edit, after_hash: `md5:${HASH}` }, BLOCKED.notComparable],
    ["a hash with more after it", "now", { ...edit, after_hash: `${HASH}0` }, BLOCKED.notComparable],
    ["a hash with more before it", "now", { ...edit, after_hash: `0${HASH}` }, BLOCKED.notComparable],
    ["a hash cut short", "now", { ...edit, after_hash: HASH.slice(1) }, BLOCKED.notComparable],
    ["a creation, still there", "now", { ...creation, after_hash: HASH }, null],
    ["a creation of what was changed since", "new", { ...creation, after_hash: HASH }, BLOCKED.differs],
    ["a creation without a hash", "now", creation, BLOCKED.notComparable],
    ["a creation of what is gone already", null, { ...creation, after_hash: HASH }, null],
    ["a deletion, still gone", null, deletion, null],
    ["a deletion of what is back", "now", deletion, BLOCKED.differs],
    ["a deletion of what is back as it was", "before", deletion, BLOCKED.differs],
  ])("%s", (_, holds, members, reason) => {
    const run = memoryRun({ status: "paused" });
    if (holds !== null) put(run, "f", holds);
    const { type, payload } = rolledBack(run, [record(run, [aFile({ path: "f", ...members })])]);
    const ended = reason === null ? "applied" : "blocked";
    expect(type).toBe(`rollback_execution_${ended}`);
    expect(payload.reason).toBe(reason ?? undefined);
    expect(payload.conflicting_paths).toEqual(reason === null ? undefined : ["f"]);
  });
});

describe("06§9 an applied rollback", () => {
  it("tells what it did, newest step first, and which files that left different", () => {
    const run = memoryRun({ status: "paused" });
    put(run, "edited", "now");
    put(run, "new", "now");
    put(run, "there and back", "one");
    const first = record(run, [
      aFile({ path: "edited", after_hash: fakeHash("now") }),
      aFile({ path: "new", existed_before: false, after_hash: fakeHash("now") }),
      aFile({
        path: "there and back",
        after_hash: fakeHash("two"),
        rollback_snapshot: { status: "inline_text", content: "one" },
      }),
    ]);
    const other = record(run, [deleted("not selected")]);
    const last = record(run, [
      aFile({
        path: "there and back",
        after_hash: fakeHash("one"),
        rollback_snapshot: { status: "inline_text", content: "two" },
      }),
      deleted("gone", "text"),
      aFile({ path: "gone already", existed_before: false }),
    ]);
    const event_ids = [first.event_id, ` ${last.event_id}`];
    const event = rolledBack(run, [first, other, last], { event_ids });
    const restored = (path: string) => ({ path, action: "restore_previous_contents", kind: "write_file" });
    const removed = (path: string) => ({ path, action: "delete_created_file", kind: "delete_file" });
    const recreated = (path: string) => ({ path, action: "recreate_deleted_file", kind: "write_file" });
    const { seq, event_id, tool } = last;
    expect(event).toMatchObject({
      type: "rollback_execution_applied",
      status: "paused",
      step_id: "session-run",
    });
    expect(event.payload).toEqual({
      workspace_root: "/srv/ws",
      selected_event_ids: event_ids,
      applied_step_count: 2,
      applied_operation_count: 6,
      applied_by_action: {
        restore_previous_contents: 3,
        delete_created_file: 2,
        recreate_deleted_file: 1,
      },
      steps: [
        {
          ...{ seq, event_id, tool, operation_count: 3 },
          operations: [restored("there and back"), recreated("gone"), removed("gone already")],
        },
        {
          ...{ seq: first.seq, event_id: first.event_id, tool, operation_count: 3 },
          operations: [restored("edited"), removed("new"), restored("there and back")],
        },
      ],
      files: expect.any(Array),
    });
    expect(event.payload.files?.toSorted((a, b) => (a.path < b.path ? -1 : 1))).toEqual([
      { path: "edited", ...contentOf("before") },
      { path: "gone", ...contentOf("text") },
      { path: "new", sha256: null, bytes: 0, content_type: "" },
    ]);
    expect(run.appliedSeq(other.seq)).toBeNull();
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
    expect(run.task(task_id), "it is tried once, by no policy").not.toHaveProperty("retry");
    expect(run.appliedSeq(step.seq)).toBeNull();
  });

  it("06§9 the task has the contents to write, and where those lie that are stored", () => {
    const run = memoryRun({ status: "paused" });
    const stored = { sha256: fakeHash("s"), byte_count: 9, content_type: "image/png", version: 4 };
    const step = planned(run, [
      aFile({ path: "text", after_hash: "sha256:x" }),
      aFile({ path: "picture", rollback_snapshot: { status: "stored", ...stored } }),
      aFile({ path: "new", existed_before: false }),
    ]);
    const [made] = committed(aRollback([step], { executor: "agent" }), run, CONTEXT);
    const { byte_count: bytes, ...artifact } = stored;
    expect(run.task(made?.event.task_id ?? "")).toMatchObject({
      task_type: "context.rollback",
      depends_on_task_ids: [],
      decision_ids: [],
      artifact_ids: [],
    });
    expect(run.task(made?.event.task_id ?? "")?.payload).toEqual({
      workspace_root: "/srv/ws",
      steps: [
        {
          ...{ seq: step.seq, event_id: step.event_id, tool: "edit" },
          operations: [
            {
              path: "text",
              action: "restore_previous_contents",
              kind: "write_file",
              content: "before",
              expected: { exists: true, hash: "sha256:x" },
            },
            {
              path: "picture",
              action: "restore_previous_contents",
              kind: "write_file",
              artifact: { ...artifact, bytes },
              expected: { exists: true, hash: null },
            },
            {
              path: "new",
              action: "delete_created_file",
              kind: "delete_file",
              expected: { exists: true, hash: null },
            },
          ],
        },
      ],
    });
  });

  it("12: a content that the record promises and does not have is refused, for either executor", () => {
    const run = memoryRun({ status: "paused" });
    const empty = planned(run, [aFile({ rollback_snapshot: { status: "inline_text" } })]);
    const none = planned(run, [aFile({ rollback_snapshot: { status: "inline_text", content: "" } })]);
    for (const executor of ["agent", "artifacts"] as const) {
      expect(refused(aRollback([none, empty], { executor }), run)).toMatchObject({
        code: "FIELD_INVALID",
        issues: [{ field: "event_ids", rule: "content" }],
      });
    }
    expect(committed(aRollback([none], { executor: "agent" }), run, CONTEXT)).toHaveLength(2);
  });

  it("11: a step that an agent is at is blocked, also with others and by itself", () => {
    const run = memoryRun({ status: "paused" });
    const [one, two, three] = ["1", "2", "3"].map((path) => record(run, [deleted(path)]));
    if (one === undefined || two === undefined || three === undefined) throw new Error("there are three");
    committed(aRollback([one, two], { executor: "agent" }), run, CONTEXT);
    for (const steps of [[one], [two], [three, one]]) {
      expect(rolledBack(run, steps).payload.reason).toBe(BLOCKED.alreadyRequested);
    }
    expect(rolledBack(run, [three]).type).toBe("rollback_execution_applied");
  });

  it("16 rollbacks can be with agents at a time", () => {
    const run = memoryRun({ status: "paused" });
    const ask = (step: PlannedStep) => aRollback([step], { executor: "agent" });
    const steps = Array.from({ length: 17 }, (_, index) => record(run, [deleted(`${index}`)]));
    const [over, ...others] = steps.toReversed() as [PlannedStep, ...PlannedStep[]];
    for (const step of others) committed(ask(step), run, CONTEXT);
    expect(refused(ask(over), run)).toMatchObject({
      code: "LIMIT_EXCEEDED",
      limit_name: "open_rollback_tasks",
      limit: 16,
      actual: 17,
    });
    // The artifact space needs no agent.
    expect(rolledBack(run, [over]).type).toBe("rollback_execution_applied");
  });

  it("its task is one of the 200,000 that a run takes", () => {
    const run = memoryRun({ status: "paused" });
    const ask = aRollback([record(run, [deleted("f")])], { executor: "agent" });
    const held = vi.spyOn(run, "taskCount").mockReturnValue(199_999);
    expect(accepted(ask, run, CONTEXT).commits).toHaveLength(2);
    held.mockReturnValue(200_000);
    expect(refused(ask, run)).toMatchObject({ limit_name: "tasks_per_run", limit: 200_000, actual: 200_001 });
  });

  // Of each there are two steps: what one has alone is within the bounds.
  it.each<[string, number, number, string | null]>([
    ["long texts under short names", 1, 120_000, null],
    ["longer texts than a task's payload takes", 1, 140_000, "task_payload_bytes"],
    ["more names than are remembered of each", 50, 1, "rollback_bytes"],
  ])("what is asked for has a bound: %s", (_, files, length, limit_name) => {
    const run = memoryRun({ status: "paused" });
    const segment = "n".repeat(files * 4);
    const paths = Array.from({ length: files }, (_, index) => `${index}/${segment}/${segment}`);
    const contents = paths.map((path) => deleted(path, "x".repeat(length)));
    const steps = [planned(run, contents), planned(run, contents)];
    const ask = (chosen: PlannedStep[]) => aRollback(chosen, { executor: "agent" });
    for (const step of steps) expect(accepted(ask([step]), run, CONTEXT).commits).toHaveLength(2);
    if (limit_name === null) expect(accepted(ask(steps), run, CONTEXT).commits).toHaveLength(2);
    else expect(refused(ask(steps), run)).toMatchObject({ code: "LIMIT_EXCEEDED", limit_name });
  });

  it.each<[string, object, string]>([
    ["the task's error", { error: " no \n" }, "no"],
    ["where it has none, that it failed", {}, "the rollback task failed"],
    ["where it is blank, that it failed", { error: " " }, "the rollback task failed"],
  ])("06§9 the reason of a failed one is %s", (_, members, reason) => {
    const { run, step, task_id } = requested();
    const commits = move(run, task_id, "fail", { ...members, ...claimed(run, task_id) });
    expect(commits.map(({ event }) => event.type)).toEqual([
      "context.task.failed",
      "rollback_execution_blocked",
    ]);
    expect(commits[1]?.event).toMatchObject({ status: "paused", step_id: "session-run" });
    expect(commits[1]?.event.payload).toEqual({
      reason,
      selected_event_ids: [step.event_id],
      missing_event_ids: null,
      task_id,
    });
  });

  it("06§9 what a completed one did is what was asked for, without files of the artifact space", () => {
    const { run, step, request, task_id } = requested();
    const applied = (request[1]?.event.payload as { applied?: object } | undefined)?.applied;
    const commits = move(run, task_id, "complete", claimed(run, task_id));
    expect(commits[1]?.event).toMatchObject({ status: "paused", step_id: "session-run" });
    expect(commits[1]?.event.payload).toEqual({ ...applied, task_id });
    expect(applied).toMatchObject({ selected_event_ids: [step.event_id], applied_step_count: 1 });
    expect(run.files()).toEqual([]);
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
