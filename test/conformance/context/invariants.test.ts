import { beforeAll, describe, expect, it } from "vitest";
import {
  addTasks,
  arrange,
  type Blackboard,
  claim,
  type EventRecord,
  everything,
  must,
  newRun,
  type Patch,
  type Run,
  routes,
  runOf,
  type Task,
} from "../support.ts";

const run = await newRun({ objective: "Write the first part\nWrite the second part" });
/** What the run looked like after each accepted command, in order. */
const states: Run[] = [];
/** Every view before and after each refused request. */
const refusals: [string, unknown, unknown][] = [];
let events: EventRecord[] = [];
let patches: Patch[] = [];
let board: Blackboard;
let final: Run;

/** Runs a command that is accepted and remembers the state after it. */
async function accept<T>(command: Promise<T>): Promise<T> {
  const result = await command;
  states.push(await runOf(run));
  return result;
}

/** Runs a request that is refused and remembers everything before and after it. */
async function refuse(name: string, sub: string, body: unknown): Promise<void> {
  const before = await everything(run);
  const answer = await run.post(sub, body);
  expect(answer.status >= 400 || answer.body.ok === false, name).toBe(true);
  refusals.push([name, before, await everything(run)]);
}

/** One history with every kind of commit, repeats and refusals, read-only for the tests below. */
beforeAll(async () => {
  states.push(await runOf(run));
  await accept(run.post("/events", { type: "planning_started", status: "planning" }));
  await refuse("task event", "/events", { type: "context.task.done", status: "running" });
  await accept(run.post("/events", { type: "plan_approved", status: "running" }));
  await accept(addTasks(run, { id: "a", priority: 1 }));
  await accept(addTasks(run, { id: "b", depends_on_task_ids: ["a"], command_id: "make-b" }));
  await accept(run.post("/tasks", { tasks: [{ id: "b2", task_type: "t", command_id: "make-b" }] }));
  await refuse("bad row", "/tasks", { tasks: [{ id: "x", task_type: "t" }, { task_type: " " }] });
  const a = await accept(claim(run, { command_id: "claim-a" }));
  await accept(run.post("/tasks/claim", { agent_id: "agent-1", command_id: "claim-a" }));
  await refuse("no token", "/tasks/a/transition", { action: "complete" });
  await refuse("old revision", "/tasks/a/transition", { action: "complete", expected_task_rev: 1 });
  await accept(run.post("/tasks/a/transition", { action: "heartbeat", lease_token: a.lease_token }));
  await accept(
    run.post("/blackboard/patches", { op: "add_fact", payload: { id: "f", ts_ms: 1, text: "t" } }),
  );
  await refuse("misfit", "/blackboard/patches", { op: "add_fact", payload: {} });
  await refuse("task op", "/blackboard/patches", { op: "add_task", payload: {} });
  await accept(run.post("/tasks/a/transition", { action: "fail", lease_token: a.lease_token, error: "e" }));
  await accept(run.post("/tasks/a/transition", { action: "retry" }));
  await refuse("not allowed", "/tasks/a/transition", { action: "release" });
  await accept(
    run.post("/todos/sync", { todos: [{ id: "s", content: "c", status: "ready" }], replace: false }),
  );
  await accept(run.post("/driver/next", {}));
  await accept(run.post("/driver/next", { dry_run: true }));
  await accept(run.post("/lease/validate", { phase: "p", current_path: "/srv/ws" }));
  await accept(run.post("/lease/validate", { phase: "p", current_path: "/srv/other" }));
  const art = { id: "art", ts_ms: 1, path: "out.json", artifact_type: "report" };
  await accept(run.post("/blackboard/patches", { op: "add_artifact", payload: art }));
  const again = await accept(claim(run));
  await accept(run.post("/tasks/a/transition", { action: "complete", lease_token: again.lease_token }));
  await accept(arrange(run, { status: "running", why_next_step: "w" }));
  await accept(run.post("/checkpoints", { reason: "r" }));
  await accept(run.post("/events", { type: "run_completed", status: "completed" }));
  const all = (await everything(run)) as {
    run: Run;
    events: EventRecord[];
    patches: Patch[];
    blackboard: Blackboard;
  };
  ({ run: final, events, patches, blackboard: board } = all);
});

/** Whether an event type always comes with a patch. */
const patched = (type: string) => /^context\.(task\..*|blackboard\.patched|artifact\.added)$/.test(type);

describe("invariants over a mixed history", () => {
  it("I1 event seqs are 1, 2, 3, … without gaps or repeats", () => {
    expect(events.map((event) => event.seq)).toEqual(events.map((_, n) => n + 1));
    expect(new Set(events.map((event) => event.event_id)).size).toBe(events.length);
  });

  it("I2 n commits leave revision 1 + n and last_event_seq n, at every step", () => {
    expect(final).toMatchObject({ revision: 1 + events.length, last_event_seq: events.length });
    for (const state of states) expect(state.revision).toBe(1 + state.last_event_seq);
  });

  it("I3 event.revision = event.seq + 1", () => {
    expect(events.map((event) => event.revision)).toEqual(events.map((event) => event.seq + 1));
  });

  it("I4 a patch has the seq of its event; patch seqs rise but are not contiguous", () => {
    for (const patch of patches) expect(patch.source_event_seq).toBe(patch.seq);
    const seqs = patches.map((patch) => patch.seq);
    expect(seqs).toEqual([...new Set(seqs)].sort((x, y) => x - y));
    expect(seqs.length).toBeLessThan(events.length);
  });

  it("I5 events that carry patches and patches correspond one to one", () => {
    const carrying = events.filter((event) => patched(event.type));
    expect(carrying.map((event) => event.seq)).toEqual(patches.map((patch) => patch.seq));
    for (const event of carrying) expect(event.payload?.patch_seq).toBe(event.seq);
    expect(carrying.map((event) => event.ts_ms)).toEqual(patches.map((patch) => patch.ts_ms));
  });

  it("I6 blackboard.revision is the seq of the last patch", () => {
    expect(board.revision).toBe(patches.at(-1)?.seq);
  });

  it("I7 blackboard.tasks is a copy of run.tasks", () => {
    expect(board.tasks).toEqual(final.tasks);
  });

  it("I8 updated_at_ms never decreases and is the last event's time", () => {
    const times = states.map((state) => state.updated_at_ms);
    expect(times).toEqual([...times].sort((x, y) => x - y));
    for (const state of states.slice(1))
      expect(state.updated_at_ms).toBe(events[state.last_event_seq - 1]?.ts_ms);
    const eventTimes = events.map((event) => event.ts_ms);
    expect(eventTimes).toEqual([...eventTimes].sort((x, y) => x - y));
  });

  it("I9 each commit's event, run, patch and blackboard were visible together", () => {
    for (const state of states.slice(1)) {
      const event = events[state.last_event_seq - 1];
      expect(event?.revision).toBe(state.revision);
      expect(event?.run_status).toBe(state.status);
    }
  });

  it("I10 concurrent commits of one run are serialised, another run is independent", async () => {
    const [busy, quiet] = [await newRun(), await newRun()];
    await Promise.all(
      Array.from({ length: 12 }, (_, n) => [
        busy.post("/events", { type: `note-${n}`, status: "running" }),
        busy.post("/blackboard/patches", { op: "set_rolling_summary", payload: `${n}` }),
        busy.post("/tasks", { tasks: [{ task_type: "t" }] }),
      ]).flat(),
    );
    const all = (await everything(busy)) as { run: Run; events: EventRecord[]; patches: Patch[] };
    expect(all.events.map((event) => event.seq)).toEqual(Array.from({ length: 36 }, (_, n) => n + 1));
    expect(all.patches).toHaveLength(24);
    expect(all.run).toMatchObject({ revision: 37, last_event_seq: 36 });
    expect(await runOf(quiet)).toMatchObject({ revision: 1, last_event_seq: 0 });
  });

  it("I11 task_rev starts at 1 and rises by one per accepted change", () => {
    for (const id of ["a", "b"]) {
      const revs = events
        .filter((event) => event.task_id === id)
        .map((event) => (event.payload?.task as Task | undefined)?.task_rev);
      expect(revs, id).toEqual(revs.map((_, n) => n + 1));
      expect(final.tasks.find((task) => task.id === id)?.task_rev).toBe(revs.length);
    }
  });

  it("I12 no task was held by two at once", () => {
    const claims = events.filter((event) => event.type === "context.task.claimed");
    expect(claims.map((event) => [event.task_id, event.payload?.task_rev])).toEqual([
      ["a", 2],
      ["a", 6],
    ]);
  });

  it("I13 a refused request changes nothing", () => {
    expect(refusals.length).toBeGreaterThan(5);
    for (const [name, before, after] of refusals) expect(after, name).toEqual(before);
  });

  it("I14 reading changes nothing", async () => {
    const before = await everything(run);
    for (const sub of [
      "",
      "/events?tail=1",
      "/blackboard",
      "/checkpoints/latest",
      "/replay",
      "/replay?upto_seq=3",
    ]) {
      must(await routes(run.id).get(sub));
    }
    expect(await everything(run)).toEqual(before);
  });

  it("I15 a repeated command id left one event", () => {
    for (const id of ["make-b", "claim-a"]) {
      expect(events.filter((event) => event.command_id === id)).toHaveLength(1);
    }
  });

  it("I16 the declared status and the resulting one may differ", () => {
    expect(events[0]).toMatchObject({ status: "planning", run_status: "awaiting_approval" });
  });

  it("I17 records are in ascending order and immutable", async () => {
    expect(must(await run.get("/events?since_seq=3&tail=4")).events).toEqual(events.slice(3).slice(-4));
    expect(must(await run.get("/blackboard/patches")).patches).toEqual(patches);
  });

  it("I18 each patch changed the blackboard once", () => {
    expect(board.facts).toEqual([{ id: "f", ts_ms: 1, text: "t" }]);
    expect(board.artifacts).toHaveLength(1);
  });

  it("I19 tenant_context never changed", () => {
    for (const state of states) expect(state.tenant_context).toEqual(states[0]?.tenant_context);
  });

  it("I20 steps and tasks stay in the order they were added", () => {
    expect(final.steps.map((step) => step.step_id)).toEqual(["step-1", "step-2", "s"]);
    expect(final.tasks.map((task) => task.id)).toEqual(["a", "b"]);
  });
});
