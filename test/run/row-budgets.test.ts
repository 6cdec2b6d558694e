import { beforeAll, describe, expect, it } from "vitest";
import type { Command, TaskRow } from "../../src/domain/command.ts";
import type { OutcomeOf } from "../../src/domain/outcome.ts";
import { DEFAULT_RETRY } from "../../src/protocol/task-life.ts";
import { submit } from "../../src/run/run-client.ts";
import type { RowCounts } from "../../src/run/storage/sql.ts";
import { creation, inObject, newTestRun, note, row, type TestRun } from "./support/test-run.ts";

const TYPES = ["k0", "k1", "k2", "k3", "k4"];
const WORKFLOWS = ["w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8", "w9"];
const BATCH = 10;

/** Operations with their budget (design §10): rows written and read, at most; for a batch, per task. */
const BUDGETS = {
  append: { written: 2, read: 10 },
  "append under a lease": { written: 2, read: 10 },
  claim: { written: 5, read: 20 },
  "claim by task type": { written: 5, read: 20 },
  "claim by workflow": { written: 5, read: 20 },
  "claim by task type and workflow": { written: 5, read: 20 },
  "claim of what there is none of": { written: 5, read: 20 },
  "claim of several, per task": { written: 3, read: 5 },
  heartbeat: { written: 3, read: 10 },
  "heartbeat with progress": { written: 2, read: 2 },
  "heartbeat that comes too soon": { written: 0, read: 2 },
  "fail, to be retried": { written: 3, read: 5 },
  "redrive of a dead letter": { written: 3, read: 5 },
  "redrive of many, per task": { written: 3, read: 8 },
  // It reads all dead letters.
  "preview of a redrive": { written: 0, read: BATCH + 3 },
  settings: { written: 1, read: 2 },
  complete: { written: 5, read: 20 },
  "create, per task": { written: 4, read: 10 },
  "create with a key each, per task": { written: 4 + 1, read: 10 },
  "create with two edges each, per task": { written: 4 + 2, read: 10 + 2 },
  "create in a chain, per task": { written: 4 + 1, read: 10 + 1 },
  "put an artifact": { written: 5, read: 10 },
  "put an artifact again": { written: 5, read: 10 },
  "remove an artifact": { written: 4, read: 10 },
} satisfies Record<string, RowCounts>;
type Operation = keyof typeof BUDGETS;

/** Those whose budget is without a key, which costs one row more. */
const EXACT: ReadonlySet<Operation> = new Set([
  "heartbeat with progress",
  "fail, to be retried",
  "redrive of a dead letter",
  "settings",
]);

/** What operations cost on one run: the most of several times each. */
class Meter {
  readonly worst = new Map<string, RowCounts>();
  readonly #run: TestRun;
  #keys = 0;

  constructor(run: TestRun) {
    this.#run = run;
  }

  async unmeasured(command: Command): Promise<void> {
    await this.done(command);
  }

  /** What came of a command that is not measured. */
  async done<C extends Command>(command: C): Promise<OutcomeOf<C["op"]>> {
    const answer = await submit(this.#run.client, { command });
    if (!answer.ok) throw new Error(JSON.stringify(answer));
    return answer.outcome as OutcomeOf<C["op"]>;
  }

  /** Submits a command, with an idempotency key of its own or none, and notes its price. */
  async submit<C extends Command>(
    operation: Operation,
    withKey: boolean,
    command: C,
    tasks = 1,
  ): Promise<OutcomeOf<C["op"]>> {
    const commandId = withKey ? `key-${++this.#keys}` : undefined;
    const answer = await submit(this.#run.client, { command, commandId, fingerprint: "f" });
    if (!answer.ok || answer.outcome === null) throw new Error(`${operation}: ${JSON.stringify(answer)}`);
    const name = nameOf(operation, withKey);
    const worst = this.worst.get(name) ?? { written: 0, read: 0 };
    this.worst.set(name, {
      // One key for the whole batch is not counted per task.
      written: Math.max(worst.written, Math.floor(answer.rows.written / tasks)),
      read: Math.max(worst.read, Math.ceil(answer.rows.read / tasks)),
    });
    return answer.outcome as OutcomeOf<C["op"]>;
  }
}

function nameOf(operation: Operation, withKey: boolean): string {
  return withKey ? `${operation}, with a key` : operation;
}

/** Ready tasks over all lanes of task type and workflow. */
function laneRow(index: number): TaskRow {
  return row(`t${index}`, {
    task_type: TYPES[index % TYPES.length] ?? "",
    workflow_id: WORKFLOWS[Math.floor(index / TYPES.length) % WORKFLOWS.length],
    priority: index % 7,
  });
}

/** Prices every operation on a run of that many tasks, in a worst case of several. */
async function measure(taskCount: number): Promise<Map<string, RowCounts>> {
  const run = await newTestRun();
  for (let start = 0; start < taskCount; start += 500) {
    const rows = Array.from({ length: Math.min(500, taskCount - start) }, (_, index) =>
      laneRow(start + index),
    );
    await inObject(run, (object) => object.submit({ command: creation(...rows) }));
  }
  const goals = Array.from({ length: BATCH + 1 }, (_, index) => row(`goal-${index}`, { status: "blocked" }));
  await submit(run.client, { command: creation(...goals) });
  // The first claim after a wake learns the lanes; the others are what is budgeted.
  await submit(run.client, { command: { op: "claim_task", agent_id: "first", task_type: "none" } });
  const meter = new Meter(run);
  for (const withKey of [false, true]) {
    for (let round = 0; round < 3; round += 1) {
      await meter.submit("append", withKey, note("x".repeat(1_000), "queued"));
      await measureTask(meter, withKey, `job-${withKey}-${round}`);
      await measureLife(meter, withKey, `life-${withKey}-${round}`);
      await measureCreation(meter, withKey, `${withKey}-${round}`);
      await measureArtifacts(meter, withKey, `${withKey}-${round}`);
    }
  }
  return meter.worst;
}

/** Claims in every way, and one task's life; what was claimed by a filter is given back, so that no lane runs dry. */
async function measureTask(meter: Meter, withKey: boolean, job: string): Promise<void> {
  const claim = { op: "claim_task", agent_id: "agent" } as const;
  const filtered: [Operation, { task_type?: string; workflow_id?: string }][] = [
    ["claim by task type", { task_type: "k2" }],
    ["claim by workflow", { workflow_id: "w1" }],
    ["claim by task type and workflow", { task_type: "k3", workflow_id: "w0" }],
  ];
  for (const [operation, filter] of filtered) {
    const { task, lease } = await meter.submit(operation, withKey, { ...claim, ...filter });
    await meter.unmeasured({
      op: "transition_task",
      task_id: task?.id ?? "",
      action: "release",
      lease_token: lease?.token,
    });
  }
  await meter.submit("claim of what there is none of", withKey, { ...claim, task_type: "none" });
  const many = Array.from({ length: BATCH }, (_, index) =>
    row(`${job}-${index}`, { task_type: `many-${job}` }),
  );
  await meter.unmeasured(creation(...many));
  const several = { ...claim, task_type: `many-${job}`, max: BATCH };
  const { claims } = await meter.submit("claim of several, per task", withKey, several, BATCH);
  expect(claims).toHaveLength(BATCH);
  await meter.unmeasured(creation(row(job, { priority: 9, task_type: "k1", workflow_id: "w1" })));
  const { task, lease } = await meter.submit("claim", withKey, claim);
  expect(task?.id).toBe(job);
  const transition = { op: "transition_task", task_id: job, lease_token: lease?.token } as const;
  const proof = { task_id: job, lease_token: lease?.token, strict: true } as const;
  await meter.submit("append under a lease", withKey, { ...note(null, "queued"), ...proof });
  await meter.submit("heartbeat", withKey, { ...transition, action: "heartbeat" });
  await meter.submit("complete", withKey, { ...transition, action: "complete" });
}

/** One task under a policy, from its claim to its redrive, beside a few dead letters; a heartbeat with a key is always recorded. */
async function measureLife(meter: Meter, withKey: boolean, job: string): Promise<void> {
  await meter.submit("settings", withKey, { op: "put_settings", settings: { grace_ms: 1 } });
  const task_type = job;
  const letters = Array.from({ length: BATCH }, (_, index) => `${job}-${index}`);
  const rows = letters.map((id) => row(id, { task_type, retry: DEFAULT_RETRY, max_attempts: 1 }));
  await meter.unmeasured(creation(...rows));
  for (const _ of letters) await failNext(meter, task_type);
  // It must not come back while claims are measured.
  const retry = { ...DEFAULT_RETRY, base_ms: 86_400_000, max_ms: 86_400_000 };
  await meter.unmeasured(creation(row(job, { task_type, retry })));
  const claim = { op: "claim_task", agent_id: "agent", task_type } as const;
  const { lease } = await meter.done(claim);
  const transition = {
    op: "transition_task",
    task_id: job,
    lease_token: lease?.token,
    strict: true,
  } as const;
  const beat = { ...transition, action: "heartbeat", progress: { percent: 1, note: "n" } } as const;
  await meter.submit("heartbeat with progress", withKey, beat);
  if (!withKey) await meter.submit("heartbeat that comes too soon", withKey, beat);
  await meter.submit("fail, to be retried", withKey, { ...transition, action: "fail" });
  const [first = ""] = letters;
  const many = { op: "redrive_tasks", task_types: [task_type], limit: 500 } as const;
  await meter.submit("preview of a redrive", withKey, { ...many, preview: true });
  await meter.submit("redrive of a dead letter", withKey, { op: "redrive_task", task_id: first });
  await meter.submit("redrive of many, per task", withKey, { ...many, preview: false }, BATCH - 1);
  for (const _ of letters) await failNext(meter, task_type, "complete");
}

async function failNext(meter: Meter, task_type: string, action = "fail"): Promise<void> {
  const { task, lease } = await meter.done({ op: "claim_task", agent_id: "agent", task_type });
  await meter.unmeasured({
    op: "transition_task",
    task_id: task?.id ?? "",
    action,
    lease_token: lease?.token,
  });
}

/** One path's life among others. */
async function measureArtifacts(meter: Meter, withKey: boolean, path: string): Promise<void> {
  const put = {
    op: "put_artifact",
    sha256: "a".repeat(64),
    bytes: 1,
    content_type: "text/plain",
    artifact: { artifact_type: "file" },
  } as const;
  for (let index = 0; index < 20; index += 1) await meter.unmeasured({ ...put, path: `${path}/${index}` });
  await meter.submit("put an artifact", withKey, { ...put, path });
  const expected = { sha256: [put.sha256] };
  await meter.submit("put an artifact again", withKey, { ...put, path, expected });
  await meter.submit("remove an artifact", withKey, { op: "remove_artifact", path });
}

async function measureCreation(meter: Meter, withKey: boolean, prefix: string): Promise<void> {
  const rows = (kind: string, fields: (index: number) => Partial<TaskRow>) =>
    creation(
      ...Array.from({ length: BATCH }, (_, index) =>
        row(`${prefix}-${kind}-${index}`, { task_type: "k0", workflow_id: "w0", ...fields(index) }),
      ),
    );
  await meter.submit(
    "create, per task",
    withKey,
    rows("plain", () => ({})),
    BATCH,
  );
  if (!withKey) {
    const keyed = rows("keyed", (index) => ({ command_id: `${prefix}-${index}` }));
    await meter.submit("create with a key each, per task", withKey, keyed, BATCH);
  }
  const edged = rows("edged", (index) => ({ depends_on_task_ids: [`goal-${index}`, `goal-${index + 1}`] }));
  await meter.submit("create with two edges each, per task", withKey, edged, BATCH);
  const chained = rows("chain", (index) => ({
    depends_on_task_ids: index === 0 ? [] : [`${prefix}-chain-${index - 1}`],
  }));
  await meter.submit("create in a chain, per task", withKey, chained, BATCH);
}

describe.each([10, 20_000])("budget: rows per operation in a run of %i tasks", (taskCount) => {
  let worst = new Map<string, RowCounts>();
  beforeAll(async () => {
    worst = await measure(taskCount);
  }, 60_000);

  const operations = Object.keys(BUDGETS) as Operation[];
  const cases = operations.flatMap((operation) => [
    { operation, withKey: false, title: nameOf(operation, false) },
    { operation, withKey: true, title: nameOf(operation, true) },
  ]);
  // Rows of a batch bring keys of their own, or the batch has one: never both.
  const keyless: Operation[] = ["create with a key each, per task", "heartbeat that comes too soon"];
  const possible = cases.filter(({ operation, withKey }) => !(withKey && keyless.includes(operation)));
  it.each(possible)("budget: $title", ({ operation, withKey }) => {
    const { written, read } = worst.get(nameOf(operation, withKey)) ?? { written: Infinity, read: Infinity };
    const budget = BUDGETS[operation].written + (withKey && EXACT.has(operation) ? 1 : 0);
    expect(written, "rows written").toBeLessThanOrEqual(budget);
    expect(read, "rows read").toBeLessThanOrEqual(BUDGETS[operation].read);
  });
});
