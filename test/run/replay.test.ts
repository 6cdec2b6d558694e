import { runDurableObjectAlarm } from "cloudflare:test";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Drift } from "../../src/domain/drift.ts";
import { newHead } from "../../src/domain/head.ts";
import { MemoryRun } from "../../src/domain/memory.ts";
import { claimsOf } from "../../src/domain/outcome.ts";
import { submit } from "../../src/run/run-client.ts";
import { commandOf, histories } from "./support/commands.ts";
import {
  accepted,
  checkpointed,
  claimed,
  commitsOf,
  creation,
  digestsOf,
  everything,
  evict,
  http,
  inStorage,
  newTestRun,
  note,
  overviewOf,
  PROPERTY_TIMEOUT_MS,
  replayOf,
  row,
  rowsOf,
  type TestRun,
  useTestClock,
  wholeBlackboard,
  wholeRun,
} from "./support/test-run.ts";

const NO_DRIFT: Drift = {
  mismatch: false,
  status_mismatch: false,
  why_next_step_mismatch: false,
  step_count_mismatch: false,
  blackboard_revision_mismatch: false,
  blackboard_task_count_mismatch: false,
  blackboard_task_status_mismatch: false,
  revision_mismatch: false,
  content_mismatch: false,
  index_mismatch: false,
  compared: true,
};

/** A run with tasks, steps, notes and a reason for its next step; everything it stores is saved. */
async function storedRun(clock: { advance(ms: number): void }): Promise<TestRun> {
  const run = await newTestRun();
  await accepted(run, creation(row("a", { payload: { n: 1 } }), row("b"), row("c")));
  await claimed(run, { lease_ms: 300_000 });
  await accepted(run, {
    op: "sync_todos",
    todos: [{ id: "s1", content: "one" }],
    replace: true,
    source_session_id: null,
    source_run_id: null,
  });
  await accepted(run, {
    op: "patch_blackboard",
    patch_op: "add_fact",
    payload: { id: "n", ts_ms: 1, text: "t" },
  });
  await accepted(run, { op: "patch_blackboard", patch_op: "set_rolling_summary", payload: "so far" });
  clock.advance(1_000);
  await overviewOf(run);
  expect(await runDurableObjectAlarm(run.stub)).toBe(true);
  return run;
}

/** Damage that no view shows: only claims would notice. */
const INDEX_ONLY: Partial<Drift> = { index_mismatch: true, content_mismatch: false };

describe("I14: replay and drift", () => {
  const clock = useTestClock();

  it(
    "I14: healthy random histories have no drift, from the start and from a checkpoint",
    async () => {
      await fc.assert(
        fc.asyncProperty(histories({ maxSteps: 20, backwards: true }), async (steps) => {
          const run = await newTestRun();
          const { tasks: _tasks, ...header } = await wholeRun(run);
          const memory = new MemoryRun(newHead(header));
          const tokens = new Map<string, string>();
          let seq = 0;
          for (const [index, step] of steps.entries()) {
            if (step.do === "clock") clock.advance(step.ms);
            if (step.do === "wake") await evict(run);
            if (step.do === "submit") {
              const command = structuredClone(commandOf(step.plan, memory, tokens, Date.now()));
              const { commandId } = step;
              const answer = await submit(run.client, { command, commandId, fingerprint: "f" });
              for (const { task, lease } of answer.ok ? claimsOf(answer.outcome) : []) {
                tokens.set(task.id, lease?.token ?? "");
              }
              const commits = await commitsOf(run, seq);
              for (const commit of commits) memory.apply(commit);
              seq += commits.length;
            }
            if (index === Math.floor(steps.length / 2)) await checkpointed(run);
          }
          const full = await replayOf(run, "?from_checkpoint=false");
          const tail = await replayOf(run);
          expect(full.drift).toEqual(NO_DRIFT);
          expect(tail.drift).toEqual(NO_DRIFT);
          expect(tail.replay).toEqual(full.replay);
          expect(tail.replay_blackboard).toEqual(full.replay_blackboard);
          expect(full.events_applied).toBe(seq);
          expect(tail.events_applied).toBe(seq - (tail.checkpoint_seq ?? 0));
          expect(full.persisted).toEqual(await wholeRun(run));
          expect(full.persisted_blackboard).toEqual(await wholeBlackboard(run));
        }),
        { numRuns: 10, seed: 4 },
      );
    },
    PROPERTY_TIMEOUT_MS,
  );

  it.each<[string, string, Partial<Drift>]>([
    [
      "the status",
      "UPDATE run SET head = json_set(head, '$.run.status', 'failed')",
      { status_mismatch: true },
    ],
    [
      "the reason for the next step",
      "UPDATE run SET head = json_set(head, '$.run.why_next_step', 'no reason')",
      { why_next_step_mismatch: true },
    ],
    [
      "the steps",
      "UPDATE run SET head = json_set(head, '$.run.steps', json('[]'))",
      { step_count_mismatch: true },
    ],
    [
      "a step's title",
      "UPDATE run SET head = json_set(head, '$.run.steps[0].title', 'other')",
      { content_mismatch: true, step_count_mismatch: false },
    ],
    [
      "the run's revision",
      "UPDATE run SET head = json_set(head, '$.run.revision', 999)",
      { revision_mismatch: true },
    ],
    [
      "the blackboard's revision",
      "UPDATE run SET head = json_set(head, '$.blackboard_revision', 1)",
      { blackboard_revision_mismatch: true },
    ],
    [
      "a summary",
      "UPDATE run SET head = json_set(head, '$.summaries.rolling', 'other')",
      { content_mismatch: true, blackboard_revision_mismatch: false },
    ],
    [
      "the run's objective",
      "UPDATE run SET head = json_set(head, '$.run.objective', 'other')",
      { content_mismatch: true },
    ],
    ["a deleted task", "DELETE FROM tasks WHERE id = 'b'", { blackboard_task_count_mismatch: true }],
    [
      "a task of nowhere",
      `INSERT INTO tasks (id, task_type, workflow_id, priority, created_ts, status, open_dependencies, doc)
       SELECT 'z', task_type, workflow_id, priority, created_ts, status, open_dependencies,
         json_set(doc, '$.id', 'z') FROM tasks WHERE id = 'b'`,
      { blackboard_task_count_mismatch: true },
    ],
    [
      "a task's status",
      "UPDATE tasks SET doc = json_set(doc, '$.status', 'done') WHERE id = 'b'",
      { blackboard_task_status_mismatch: true, blackboard_task_count_mismatch: false },
    ],
    [
      "a task that stands for another",
      "UPDATE tasks SET id = 'x', doc = json_set(doc, '$.id', 'x') WHERE id = 'b'",
      { blackboard_task_status_mismatch: true, blackboard_task_count_mismatch: false },
    ],
    [
      "a task's payload",
      "UPDATE tasks SET doc = json_set(doc, '$.payload.n', 2) WHERE id = 'a'",
      { content_mismatch: true, blackboard_task_status_mismatch: false },
    ],
    [
      "a task's lease",
      "UPDATE tasks SET doc = json_set(doc, '$.lease_owner', 'thief') WHERE id = 'a'",
      { content_mismatch: true },
    ],
    [
      "the order of the tasks",
      "UPDATE tasks SET pos = pos + 10 WHERE id = 'a'",
      { content_mismatch: true, blackboard_task_count_mismatch: false },
    ],
    ["a deleted note", "DELETE FROM notes", { content_mismatch: true }],
    [
      "a note's text",
      "UPDATE notes SET doc = json_set(doc, '$.text', 'other')",
      { content_mismatch: true, blackboard_revision_mismatch: false },
    ],
    ["a note in another list", "UPDATE notes SET list = 'decisions'", { content_mismatch: true }],
    [
      "an artifact of nowhere",
      `INSERT INTO artifacts (doc) VALUES ('{"id":"p","ts_ms":1,"path":"/p","artifact_type":"file"}')`,
      { content_mismatch: true },
    ],
    [
      "an event",
      "UPDATE commits SET event = json_set(event, '$.payload.task.priority', 7) WHERE seq = 2",
      { content_mismatch: true },
    ],
    [
      "a file of nowhere",
      `INSERT INTO files VALUES ('p', '{"path":"p","sha256":"0","bytes":1,"content_type":"","version":1,"ts_ms":1}')`,
      { content_mismatch: false, state_mismatch: true },
    ],
    [
      "what no view shows",
      "UPDATE run SET head = json_set(head, '$.workspace_since_seq', 2)",
      { content_mismatch: false, state_mismatch: true },
    ],
    ["a task's place among the claimable", "UPDATE tasks SET queue = NULL WHERE id = 'b'", INDEX_ONLY],
    ["a task's priority for claims", "UPDATE tasks SET priority = 9 WHERE id = 'b'", INDEX_ONLY],
    ["the open dependencies of a task", "UPDATE tasks SET open_dependencies = 5 WHERE id = 'b'", INDEX_ONLY],
    ["an edge of nowhere", "INSERT INTO task_edges VALUES ('q', 'b')", INDEX_ONLY],
    ["the counters", "UPDATE run SET task_counts = json_set(task_counts, '$.done', 9)", INDEX_ONLY],
  ])("I14: damage of %s is drift", async (_what, damage, flags) => {
    const run = await storedRun(clock);
    expect((await replayOf(run)).drift).toEqual(NO_DRIFT);
    await inStorage(run, (sql) => sql.exec(damage).toArray());
    await evict(run);
    const { drift } = await replayOf(run);
    expect(drift).toMatchObject({ ...flags, mismatch: true, compared: true });
    // Whatever else differs, the digests do, unless the damage is in the indexes alone.
    expect(drift.state_mismatch).toBe(flags === INDEX_ONLY ? undefined : true);
    const { replay_state_sha256, persisted_state_sha256 } = await digestsOf(run);
    expect(replay_state_sha256 === persisted_state_sha256).toBe(flags === INDEX_ONLY);
  });

  it("I14: so is damage of what the log comes to for an audit, which the digests are not of", async () => {
    const run = await storedRun(clock);
    await inStorage(run, (sql) =>
      sql.exec("UPDATE run SET head = json_set(head, '$.audit.last_outcome', 'other')").toArray(),
    );
    await evict(run);
    const { drift } = await replayOf(run, "?from_checkpoint=false");
    expect(drift).toMatchObject({ content_mismatch: false, state_mismatch: true, mismatch: true });
    const { replay_state_sha256, persisted_state_sha256 } = await digestsOf(run);
    expect(replay_state_sha256).toBe(persisted_state_sha256);
  });

  it("I14: a replay tells what is stored and what the log says, side by side", async () => {
    const run = await storedRun(clock);
    await inStorage(run, (sql) =>
      sql.exec("UPDATE tasks SET doc = json_set(doc, '$.status', 'done') WHERE id = 'b'").toArray(),
    );
    await evict(run);
    const { replay, persisted, replay_blackboard, persisted_blackboard } = await replayOf(run);
    expect([replay.tasks[1]?.status, persisted.tasks[1]?.status]).toEqual(["pending", "done"]);
    expect([replay_blackboard.tasks[1]?.status, persisted_blackboard.tasks[1]?.status]).toEqual([
      "pending",
      "done",
    ]);
  });

  it("D84: a replay up to a seq tells the run as it was then, and compares nothing", async () => {
    const run = await newTestRun();
    const states = [await wholeRun(run)];
    for (const payload of [{ why_next_step: "one" }, { why_next_step: "two" }, { error: "three" }]) {
      clock.advance(10);
      await accepted(run, note(payload, "queued"));
      states.push(await wholeRun(run));
    }
    for (const [seq, state] of states.entries()) {
      const { replay, drift, events_applied } = await replayOf(run, `?upto_seq=${seq}`);
      expect(events_applied).toBe(seq);
      expect(replay).toEqual(state);
      expect(drift).toEqual(seq === 3 ? NO_DRIFT : { ...NO_DRIFT, compared: false });
    }
    expect((await replayOf(run, "?upto_seq=99")).drift).toEqual(NO_DRIFT);
  });

  it("D84: a checkpoint counts only from its own seq on, and the newest one that does not lie ahead", async () => {
    const run = await newTestRun();
    for (let seq = 1; seq <= 9; seq += 1) {
      await accepted(run, creation(row(`t${seq}`)));
      if (seq % 3 === 0) await checkpointed(run);
    }
    for (const [upto, from] of [
      [1, null],
      [2, null],
      [3, 3],
      [5, 3],
      [6, 6],
      [8, 6],
      [9, 9],
    ] as const) {
      const bounded = await replayOf(run, `?upto_seq=${upto}`);
      expect(bounded).toMatchObject({
        from_checkpoint: from !== null,
        checkpoint_seq: from,
        events_applied: upto - (from ?? 0),
        blackboard_patches_applied: upto - (from ?? 0),
      });
      expect(bounded.replay.tasks).toHaveLength(upto);
      const full = await replayOf(run, `?upto_seq=${upto}&from_checkpoint=false`);
      expect(full).toMatchObject({ from_checkpoint: false, checkpoint_seq: null, events_applied: upto });
      expect(bounded.replay).toEqual(full.replay);
      expect(bounded.replay_blackboard).toEqual(full.replay_blackboard);
    }
  });

  it("I14: a damaged checkpoint is drift, and the full replay still tells the truth", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("a")));
    await checkpointed(run);
    await accepted(run, note(null, "queued"));
    await inStorage(run, (sql) =>
      sql.exec("UPDATE checkpoint_parts SET text = replace(text, '\"pending\"', '\"failed\"')").toArray(),
    );
    expect((await replayOf(run)).drift).toMatchObject({
      mismatch: true,
      blackboard_task_status_mismatch: true,
    });
    expect((await replayOf(run, "?from_checkpoint=false")).drift).toEqual(NO_DRIFT);
  });

  it.each([
    ["is cut off", "UPDATE checkpoint_parts SET text = substr(text, 1, 100) WHERE seq = 2"],
    ["is gone", "DELETE FROM checkpoint_parts WHERE seq = 2"],
  ])("design: a checkpoint that %s is passed over for the one before", async (_what, damage) => {
    const run = await newTestRun();
    for (const id of ["a", "b"]) {
      await accepted(run, creation(row(id)));
      await checkpointed(run);
    }
    await inStorage(run, (sql) => sql.exec(damage).toArray());
    const replay = await replayOf(run);
    expect(replay).toMatchObject({ from_checkpoint: true, checkpoint_seq: 1, events_applied: 1 });
    expect(replay.drift).toEqual(NO_DRIFT);
  });

  it("design: a record that is no JSON is named, where a replay cannot go on", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("a"), row("b")));
    await inStorage(run, (sql) => sql.exec("UPDATE commits SET event = '{' WHERE seq = 2").toArray());
    const path = `/v1/runs/${run.id}/replay`;
    expect(await http("GET", path, { status: 500 })).toMatchObject({
      code: "LOG_DAMAGED",
      from_seq: 2,
      upto_seq: 2,
    });
  });

  it("design: a second checkpoint at the same seq takes the place of the first, parts and all", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("a")));
    await checkpointed(run, "first");
    const second = await checkpointed(run, "second");
    expect(await rowsOf(run, "SELECT seq FROM checkpoints")).toEqual([{ seq: 1 }]);
    expect(await rowsOf(run, "SELECT seq, member, part FROM checkpoint_parts")).toEqual([
      { seq: 1, member: "state", part: 0 },
    ]);
    expect(await http("GET", `/context/runs/${run.id}/checkpoints/latest`)).toEqual({ checkpoint: second });
  });

  it("design: replaying changes nothing", async () => {
    const run = await storedRun(clock);
    await checkpointed(run);
    const before = await everything(run);
    await replayOf(run);
    await replayOf(run, "?from_checkpoint=false&upto_seq=2");
    expect(await everything(run)).toEqual(before);
  });
});
