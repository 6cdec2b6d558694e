import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startLocalRuntime } from "./local-runtime.ts";
import { reasonOf, StartError } from "./start-error.ts";

/** Rows, as the platform bills them. */
interface Rows {
  written: number;
  read: number;
}

/** What an operation may cost, at any size of the run; for a batch, per task. */
const budgets = {
  append: { written: 2, read: 10 },
  claim: { written: 5, read: 20 },
  "claim, by task type": { written: 5, read: 20 },
  "claim, by workflow": { written: 5, read: 20 },
  heartbeat: { written: 3, read: 10 },
  "complete, no dependents": { written: 5, read: 20 },
  "create, per task of a batch": { written: 4, read: 10 },
  "create with 2 edges, per task of a batch": { written: 4 + 2, read: 10 + 2 },
} satisfies Record<string, Rows>;
type Operation = keyof typeof budgets;

const rounds = 5;
const batch = 50;
const taskTypes = 5;
const workflows = 10;

/** The members of an answer that the next request needs. */
interface Answer {
  run?: { run_id: string };
  task?: { id: string } | null;
  lease?: { token: string } | null;
}

/** A run on a server, and what its operations cost at most so far. */
class Meter {
  readonly worst = new Map<string, Rows>();
  readonly #url: string;
  readonly #token: string;
  #keys = 0;

  constructor(url: string, token: string) {
    this.#url = url;
    this.#token = token;
  }

  /** Sends a request that must be accepted, with or without an idempotency key. */
  async post(path: string, body: unknown, withKey = false): Promise<{ answer: Answer; rows: Rows }> {
    this.#keys += 1;
    const response = await fetch(this.#url + path, {
      method: "POST",
      headers: {
        authorization: `Bearer ${this.#token}`,
        "content-type": "application/json",
        ...(withKey && { "idempotency-key": `key-${this.#keys}` }),
      },
      body: JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
    const rows = {
      written: Number(response.headers.get("baton-rows-written") ?? Number.NaN),
      read: Number(response.headers.get("baton-rows-read") ?? Number.NaN),
    };
    return { answer: JSON.parse(text) as Answer, rows };
  }

  /** The same, and notes what it cost; `tasks` shares the price among the tasks of a batch. */
  async measure(
    operation: Operation,
    path: string,
    body: unknown,
    withKey: boolean,
    tasks = 1,
  ): Promise<Answer> {
    const { answer, rows } = await this.post(path, body, withKey);
    const name = nameOf(operation, withKey);
    const worst = this.worst.get(name) ?? { written: 0, read: 0 };
    this.worst.set(name, {
      // The key of a batch is one row for all its tasks.
      written: Math.max(worst.written, (rows.written - (withKey && tasks > 1 ? 1 : 0)) / tasks),
      read: Math.max(worst.read, rows.read / tasks),
    });
    return answer;
  }
}

function nameOf(operation: Operation, withKey: boolean): string {
  return withKey ? `${operation}, with a key` : operation;
}

/** Fills a run with ready tasks over all task types and workflows; gives back the run's path. */
async function fill(meter: Meter, taskCount: number): Promise<string> {
  const { answer } = await meter.post("/v1/runs", { objective: "count rows" });
  const path = `/v1/runs/${answer.run?.run_id}`;
  for (let start = 0; start < taskCount; start += 500) {
    const tasks = Array.from({ length: Math.min(500, taskCount - start) }, (_, index) => ({
      id: `t${start + index}`,
      task_type: `type-${(start + index) % taskTypes}`,
      workflow_id: `flow-${Math.floor((start + index) / taskTypes) % workflows}`,
      priority: index % 7,
    }));
    await meter.post(`${path}/tasks`, { tasks });
  }
  const goals = Array.from({ length: batch + 1 }, (_, index) => ({
    id: `goal-${index}`,
    task_type: "goal",
    status: "blocked",
  }));
  await meter.post(`${path}/tasks`, { tasks: goals });
  // The first claim after a wake learns which task types and workflows there are.
  await meter.post(`${path}/tasks/claim`, { agent_id: "first", task_type: "none" });
  return path;
}

/** Measures every operation once. `name` makes the ids of this round. */
async function measureRound(meter: Meter, path: string, withKey: boolean, name: string): Promise<void> {
  await meter.measure("append", `${path}/events`, { type: "note", status: "queued", payload: {} }, withKey);
  const filters: [Operation, Record<string, string>][] = [
    ["claim, by task type", { task_type: "type-2" }],
    ["claim, by workflow", { workflow_id: "flow-1" }],
    ["claim", {}],
  ];
  for (const [operation, filter] of filters) {
    // Each claim finds a task of its own on top, and ends it, so that the run keeps its size.
    const id = `${name}-${operation.replaceAll(/\W+/g, "-")}`;
    await meter.post(`${path}/tasks`, {
      tasks: [{ id, task_type: "type-2", workflow_id: "flow-1", priority: 9 }],
    });
    const claim = { agent_id: "agent", ...filter };
    const { task, lease } = await meter.measure(operation, `${path}/tasks/claim`, claim, withKey);
    if (task?.id !== id) throw new Error(`claimed ${task?.id}, not ${id}`);
    const transition = `${path}/tasks/${id}/transition`;
    const proof = { lease_token: lease?.token };
    await meter.measure("heartbeat", transition, { action: "heartbeat", ...proof }, withKey);
    await meter.measure("complete, no dependents", transition, { action: "complete", ...proof }, withKey);
  }
  const rows = (kind: string, edges: (index: number) => string[]) => ({
    tasks: Array.from({ length: batch }, (_, index) => ({
      id: `${name}-${kind}-${index}`,
      task_type: "type-0",
      workflow_id: "flow-0",
      depends_on_task_ids: edges(index),
    })),
  });
  const plain = rows("plain", () => []);
  await meter.measure("create, per task of a batch", `${path}/tasks`, plain, withKey, batch);
  const edged = rows("edged", (index) => [`goal-${index}`, `goal-${index + 1}`]);
  await meter.measure("create with 2 edges, per task of a batch", `${path}/tasks`, edged, withKey, batch);
}

/** Prints what was measured; true when it all stays within its budget. */
function report(worst: ReadonlyMap<string, Rows>, taskCount: number): boolean {
  const shown = (count: number) => String(Math.round(count * 100) / 100);
  const lines = (Object.keys(budgets) as Operation[]).flatMap((operation) =>
    [false, true].map((withKey) => {
      const name = nameOf(operation, withKey);
      const rows = worst.get(name) ?? { written: Number.NaN, read: Number.NaN };
      const budget = budgets[operation];
      const isWithin = rows.written <= budget.written && rows.read <= budget.read;
      return { name, rows, budget, isWithin };
    }),
  );
  console.log(`\nRows per operation, in a run of ${taskCount} tasks: measured / budget\n`);
  console.log(`${"operation".padEnd(54)}${"written".padStart(12)}${"read".padStart(12)}`);
  for (const { name, rows, budget, isWithin } of lines) {
    const written = `${shown(rows.written)} / ${budget.written}`;
    const read = `${shown(rows.read)} / ${budget.read}`;
    console.log(`${name.padEnd(54)}${written.padStart(12)}${read.padStart(12)}${isWithin ? "" : "  over"}`);
  }
  return lines.every((line) => line.isWithin);
}

function taskCountOf(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || count < 1 || count > 150_000) {
    throw new StartError(`--tasks must be a whole number from 1 to 150000, not "${text}"`);
  }
  return count;
}

/**
 * `npm run rows`: prints how many storage rows each operation writes and reads on a fresh local server, beside its budget.
 * `--tasks N`: how many tasks the run has (default 1,000). Exits with 1 when a budget is exceeded.
 */
async function main(): Promise<void> {
  const { values } = parseArgs({ options: { tasks: { type: "string", default: "1000" } } });
  const taskCount = taskCountOf(values.tasks);
  const stateDir = await mkdtemp(join(tmpdir(), "baton-rows-"));
  try {
    const runtime = await startLocalRuntime({ port: 0, stateDir });
    try {
      const meter = new Meter(runtime.url, runtime.token);
      const path = await fill(meter, taskCount);
      for (let round = 0; round < rounds; round += 1) {
        await measureRound(meter, path, false, `r${round}`);
        await measureRound(meter, path, true, `k${round}`);
      }
      if (!report(meter.worst, taskCount)) process.exitCode = 1;
    } finally {
      await runtime.close();
    }
  } finally {
    await rm(stateDir, { recursive: true, force: true });
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof StartError ? `The rows were not counted: ${reasonOf(error)}` : error);
  process.exit(1);
});
