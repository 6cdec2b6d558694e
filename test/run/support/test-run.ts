import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { afterEach, beforeEach, expect, vi } from "vitest";
import type { AnyCommand, Command, CommandOf, CommandOp, TaskRow } from "../../../src/domain/command.ts";
import type { Commit } from "../../../src/domain/commit.ts";
import type { Drift } from "../../../src/domain/drift.ts";
import type { OutcomeOf } from "../../../src/domain/outcome.ts";
import type { RunDraft } from "../../../src/domain/run.ts";
import { LOCAL_TENANT, runObjectName, tenantKey } from "../../../src/identity/tenant.ts";
import type { Blackboard, PatchRecord } from "../../../src/protocol/blackboard.ts";
import type { Checkpoint } from "../../../src/protocol/checkpoint.ts";
import type { EventRecord } from "../../../src/protocol/event.ts";
import type { Run, RunSummary, TaskCounts } from "../../../src/protocol/run.ts";
import type { Answer } from "../../../src/run/engine.ts";
import type { RunOverview } from "../../../src/run/reads.ts";
import { type RunClient, runClient, submit } from "../../../src/run/run-client.ts";
import type { RunObject } from "../../../src/run/run-object.ts";

/** The directory key of the tenant that test runs belong to. */
export const TENANT = tenantKey(LOCAL_TENANT);

/** How long a property may take on a busy machine. */
export const PROPERTY_TIMEOUT_MS = 30_000;

/** A run of a test's own, and the ways to its object. */
export interface TestRun {
  id: string;
  stub: DurableObjectStub<RunObject>;
  client: RunClient;
}

/** The object of a run that may not exist yet. */
export function objectOf(id: string = crypto.randomUUID()): TestRun {
  const name = runObjectName(TENANT, id);
  return { id, stub: env.RUNS.getByName(name), client: runClient(env.RUNS, name) };
}

/** What a run of that id is created from. */
export function draftOf(id: string, fields: Partial<RunDraft> = {}): RunDraft {
  return {
    run_id: id,
    objective: "test the engine",
    run_type: "interactive",
    workspace: { workspace_id: "", canonical_path: "", lease_epoch: 0 },
    mcp_servers: [],
    ...fields,
  };
}

/** Creates a run under a fresh id. */
export async function newTestRun(fields: Partial<RunDraft> = {}): Promise<TestRun> {
  const run = objectOf();
  const created = await run.client.create({
    tenant: LOCAL_TENANT,
    draft: draftOf(run.id, fields),
    command: null,
  });
  expect(created.ok).toBe(true);
  return run;
}

/** A row of a task batch; free-form, without dependencies, unless said otherwise. */
export function row(id: string, fields: Partial<TaskRow> = {}): TaskRow {
  return {
    id,
    task_type: "custom",
    payload: null,
    depends_on_task_ids: [],
    decision_ids: [],
    artifact_ids: [],
    ...fields,
  };
}

/** The command that adds these tasks. */
export function creation(...tasks: TaskRow[]): CommandOf<"create_tasks"> {
  return { op: "create_tasks", tasks, replace_existing: false };
}

/** A plain event; its status is the run's afterwards. */
export function note(payload: unknown = null, status: CommandOf<"append_event">["status"] = "running") {
  return { op: "append_event", type: "note", status, payload } satisfies Command;
}

/** An answer that must be an accepted command's, and none of a repeat. */
export function outcomeOf<Op extends CommandOp>(op: Op, answer: Answer): OutcomeOf<Op> {
  expect(answer).toMatchObject({ ok: true, repeat: null, outcome: { op } });
  return (answer as Extract<Answer, { ok: true }>).outcome as OutcomeOf<Op>;
}

/** Submits a command that must be accepted. */
export async function accepted<C extends AnyCommand>(
  run: TestRun,
  command: C,
  commandId?: string,
): Promise<OutcomeOf<C["op"]>> {
  return outcomeOf<C["op"]>(command.op, await submit(run.client, { command, commandId, fingerprint: "f" }));
}

/** Claims the next task, which must be there. */
export async function claimed(
  run: TestRun,
  fields: Partial<CommandOf<"claim_task">> = {},
): Promise<{ id: string; token: string; expiresAtMs: number }> {
  const { task, lease } = await accepted(run, { op: "claim_task", agent_id: "agent", ...fields });
  if (task === null || lease === null) throw new Error("nothing was claimable");
  return { id: task.id, token: lease.token, expiresAtMs: lease.expires_at_ms };
}

/** Takes the object out of memory, whether or not it is there; it wakes at its next call. */
export async function evict({ client, stub }: TestRun): Promise<void> {
  await client.readOverview();
  await evictDurableObject(stub);
}

/** Runs code in the object: what it calls there at once arrives at once. */
export function inObject<R>(run: TestRun, body: (object: RunObject) => R | Promise<R>): Promise<R> {
  return runInDurableObject(run.stub, (object: RunObject) => body(object));
}

/** Runs code with the object's storage, inside the object. */
export function inStorage<R>(
  run: TestRun,
  body: (sql: SqlStorage, storage: DurableObjectStorage) => R | Promise<R>,
): Promise<R> {
  return runInDurableObject(run.stub, (_object: RunObject, state) => body(state.storage.sql, state.storage));
}

/** All rows of a query on the object's storage. */
export function rowsOf<Row extends Record<string, SqlStorageValue>>(
  run: TestRun,
  query: string,
  ...bindings: SqlStorageValue[]
): Promise<Row[]> {
  return inStorage(run, (sql) => sql.exec<Row>(query, ...bindings).toArray());
}

/** One request to the Worker, which must be answered with this status. */
export async function http<T>(
  method: string,
  path: string,
  options: { body?: unknown; headers?: Record<string, string>; status?: number } = {},
): Promise<T> {
  const { body, headers, status = 200 } = options;
  const response = await exports.default.fetch(
    new Request(`http://baton.test${path}`, {
      method,
      headers: { "x-agent-token": "test-token", "content-type": "application/json", ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    }),
  );
  const text = await response.text();
  expect(response.status, text).toBe(status);
  return JSON.parse(text) as T;
}

/** The whole run as it is now. */
export async function wholeRun({ id }: TestRun): Promise<Run> {
  return (await http<{ run: Run }>("GET", `/context/runs/${id}`)).run;
}

/** The run without its tasks, with what is counted of them. */
export async function overviewOf({ id }: TestRun): Promise<RunOverview> {
  return (await http<{ run: RunOverview }>("GET", `/v1/runs/${id}`)).run;
}

/** The whole blackboard as it is now. */
export async function wholeBlackboard({ id }: TestRun): Promise<Blackboard> {
  return (await http<{ blackboard: Blackboard }>("GET", `/context/runs/${id}/blackboard`)).blackboard;
}

/** Events after a seq, ascending. */
export async function eventsOf({ id }: TestRun, sinceSeq = 0): Promise<EventRecord[]> {
  const path = `/context/runs/${id}/events?since_seq=${sinceSeq}`;
  return (await http<{ events: EventRecord[] }>("GET", path)).events;
}

/** Commits after a seq, ascending. */
export async function commitsOf(run: TestRun, sinceSeq = 0): Promise<Commit[]> {
  const path = `/context/runs/${run.id}/blackboard/patches?since_seq=${sinceSeq}`;
  const { patches } = await http<{ patches: PatchRecord[] }>("GET", path);
  const patchOf = new Map(patches.map((patch) => [patch.seq, patch]));
  const events = await eventsOf(run, sinceSeq);
  return events.map((event) => ({ event, patch: patchOf.get(event.seq) ?? null }));
}

/** The directory's row of the run; null when it has none. */
export async function listed({
  id,
}: TestRun): Promise<(RunSummary & { lease_due_at_ms: number | null }) | null> {
  const row = await env.DIRECTORY.prepare("SELECT * FROM runs WHERE tenant = ? AND run_id = ?")
    .bind(TENANT, id)
    .first<RunSummary & { lease_due_at_ms: number | null; task_counts: string }>();
  return row === null ? null : { ...row, task_counts: JSON.parse(row.task_counts) as TaskCounts };
}

/** Everything a client can read of a run. */
export async function everything(run: TestRun): Promise<unknown> {
  return {
    run: await wholeRun(run),
    overview: await overviewOf(run),
    blackboard: await wholeBlackboard(run),
    commits: await commitsOf(run),
  };
}

/** What a replay found. */
export interface Replay {
  from_checkpoint: boolean;
  checkpoint_seq: number | null;
  events_applied: number;
  blackboard_patches_applied: number;
  replay: Run;
  replay_blackboard: Blackboard;
  persisted: Run;
  persisted_blackboard: Blackboard;
  drift: Drift;
}

/** Recomputes a run from its log. `query`: `upto_seq`, `from_checkpoint`. */
export function replayOf({ id }: TestRun, query = ""): Promise<Replay> {
  return http("GET", `/context/runs/${id}/replay${query}`);
}

/** The digests of the two states that a replay compares. */
export interface ReplayDigests {
  replay_state_sha256: string | null;
  persisted_state_sha256: string;
}

/** What only `/v1` tells of a replay. */
export function digestsOf({ id }: TestRun): Promise<ReplayDigests> {
  return http("GET", `/v1/runs/${id}/replay`);
}

/** Stores a checkpoint of this moment and gives it back whole. */
export async function checkpointed({ id }: TestRun, reason = "test"): Promise<Checkpoint> {
  const path = `/context/runs/${id}/checkpoints`;
  return (await http<{ checkpoint: Checkpoint }>("POST", path, { body: { reason } })).checkpoint;
}

/** Asks again until it is so, at most for so many milliseconds of real time. */
export async function eventually<T>(
  ask: () => Promise<T>,
  isSo: (value: T) => boolean,
  withinMs: number,
): Promise<T> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const value = await ask();
    if (isSo(value)) return value;
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${JSON.stringify(value)}`);
    await scheduler.wait(10);
  }
}

/** A clock that a test turns. */
export interface TestClock {
  nowMs(): number;
  /** Negative to turn it back. */
  advance(ms: number): void;
}

/**
 * Gives every test of the file a clock of its own, which stands still. It starts in the year 2100: alarms keep real time,
 * so none that a test arms fires by itself.
 */
export function useTestClock(): TestClock {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["Date"], now: Date.UTC(2100, 0, 1) });
  });
  afterEach(() => {
    vi.useRealTimers();
  });
  return {
    nowMs: () => Date.now(),
    advance: (ms) => {
      vi.setSystemTime(Date.now() + ms);
    },
  };
}
