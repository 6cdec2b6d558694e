import { mixedTask, newRun } from "../baton.ts";
import type { Figure, Measure, Target } from "../measure.ts";

/** Storage rows, as the platform bills them. */
interface Rows {
  written: number;
  read: number;
}

/** What an operation may cost, at any size of the run; for a batch, per task. */
const budgets = {
  append: { written: 2, read: 10 },
  // An append, and the row by which the ledger finds it.
  "append a ledger record": { written: 3, read: 10 },
  "keep an artifact": { written: 5, read: 10 },
  claim: { written: 5, read: 20 },
  "claim, by task type": { written: 5, read: 20 },
  "claim, by workflow": { written: 5, read: 20 },
  "claim, many in a row": { written: 5, read: 20 },
  heartbeat: { written: 3, read: 10 },
  "complete, no dependents": { written: 5, read: 20 },
  "create, per task of a batch": { written: 4, read: 10 },
  "create with 2 edges, per task of a batch": { written: 4 + 2, read: 10 + 2 },
} satisfies Record<string, Rows>;
type Operation = keyof typeof budgets;
const operations = Object.keys(budgets) as Operation[];

/** Tasks of the runs that are measured. */
const sizes = [1_000, 10_000];
const batch = 50;
/** So many in a row that what is kept in memory of a lane of tasks is used up, and read anew. */
const inARow = 12;

/** Rows that every operation writes and reads, against its budget. */
export const rows: Measure = {
  name: "rows",
  title: "Storage rows written and read by one operation, against its budget",
  async run(bench) {
    const baton = await bench.baton();
    const found = new Map<string, Rows[]>();
    for (const size of sizes) {
      bench.progress(`a run of ${size} tasks`);
      const path = await busyRun(baton, size);
      for (let round = 0; round < bench.rounds; round += 1) {
        for (const withKey of [false, true]) {
          const meter = new Meter(baton, withKey);
          await measureRound(meter, path, `${withKey ? "k" : "r"}${round}`);
          for (const [operation, worst] of meter.worst) {
            const name = nameOf(operation, withKey);
            found.set(name, [...(found.get(name) ?? []), worst]);
          }
        }
      }
    }
    return {
      figures: operations.flatMap((operation) =>
        [false, true].flatMap((withKey) => {
          const name = nameOf(operation, withKey);
          return figuresOf(name, found.get(name) ?? [], budgets[operation]);
        }),
      ),
      notes: [
        `The rounds are on runs of ${sizes.map((size) => size.toLocaleString("en")).join(" and of ")} tasks; a budget must hold in each.`,
        "The one row of a batch's key is not counted with its tasks.",
      ],
    };
  },
};

function nameOf(operation: Operation, withKey: boolean): string {
  return withKey ? `${operation}, with a key` : operation;
}

function figuresOf(name: string, rounds: Rows[], budget: Rows): Figure[] {
  return (["written", "read"] as const).map((kind) => ({
    name: `${name}: ${kind}`,
    unit: "rows",
    rounds: rounds.map((cost) => cost[kind]),
    bar: { neverOver: budget[kind] },
  }));
}

/** The members of an answer that the next request needs. */
interface Answer {
  task?: { id: string } | null;
  lease?: { token: string } | null;
}

/** Sends requests, with or without an idempotency key, and keeps what each operation cost at most. */
class Meter {
  readonly worst = new Map<Operation, Rows>();
  readonly #baton: Target;
  readonly #withKey: boolean;

  constructor(baton: Target, withKey: boolean) {
    this.#baton = baton;
    this.#withKey = withKey;
  }

  /** Sends a request that must be accepted; `tasks` shares the price among the tasks of a batch. */
  async measure(operation: Operation, path: string, body: unknown, tasks = 1): Promise<Answer> {
    const { answer, cost } = await post(this.#baton, path, body, this.#withKey);
    const worst = this.worst.get(operation) ?? { written: 0, read: 0 };
    const keyOfBatch = this.#withKey && tasks > 1 ? 1 : 0;
    this.worst.set(operation, {
      written: Math.max(worst.written, (cost.written - keyOfBatch) / tasks),
      read: Math.max(worst.read, cost.read / tasks),
    });
    return answer;
  }

  /** Sends a request whose price is of no interest. */
  async prepare(path: string, body: unknown): Promise<void> {
    await post(this.#baton, path, body, false);
  }
}

/** @throws Error when the answer is not a success. A price that the answer does not tell is NaN. */
async function post(
  baton: Target,
  path: string,
  body: unknown,
  withKey: boolean,
): Promise<{ answer: Answer; cost: Rows }> {
  const response = await fetch(baton.url + path, {
    method: "POST",
    headers: {
      authorization: `Bearer ${baton.token}`,
      "content-type": "application/json",
      ...(withKey && { "idempotency-key": crypto.randomUUID() }),
    },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${path} was answered ${response.status}: ${text.slice(0, 500)}`);
  const count = (header: string) => Number(response.headers.get(header) ?? Number.NaN);
  const cost = { written: count("baton-rows-written"), read: count("baton-rows-read") };
  return { answer: JSON.parse(text) as Answer, cost };
}

/** A run of that many ready tasks, and goals that tasks can wait for; gives its path. */
async function busyRun(baton: Target, taskCount: number): Promise<string> {
  const path = await newRun(baton, "count rows", taskCount, mixedTask);
  const goals = Array.from({ length: batch + 1 }, (_, index) => ({
    id: `goal-${index}`,
    task_type: "goal",
    status: "blocked",
  }));
  await post(baton, `${path}/tasks`, { tasks: goals }, false);
  // The first claim after a wake learns which task types and workflows there are.
  await post(baton, `${path}/tasks/claim`, { agent_id: "first", task_type: "none" }, false);
  return path;
}

/** Measures every operation. `name` makes the ids of this round. */
async function measureRound(meter: Meter, path: string, name: string): Promise<void> {
  await meter.measure("append", `${path}/events`, { type: "note", status: "queued", payload: {} });
  const record = { session_id: "s", message_id: "m", tool: "edit", phase: "outcome", status: "succeeded" };
  await meter.measure("append a ledger record", `${path}/events`, {
    type: "tool_effect_recorded",
    status: "queued",
    payload: { record: { ...record, args_summary: null } },
  });
  await meter.measure("keep an artifact", `${path}/artifacts`, {
    artifact_type: "report",
    path: "reports/latest.json",
    content: { round: name },
  });
  const filters: [Operation, Record<string, string>][] = [
    ["claim, by task type", { task_type: "type-2" }],
    ["claim, by workflow", { workflow_id: "flow-1" }],
    ["claim", {}],
  ];
  for (const [operation, filter] of filters) {
    // Each claim finds a task of its own on top, and ends it, so that the run keeps its size.
    const id = `${name}-${operation.replaceAll(/\W+/g, "-")}`;
    await meter.prepare(`${path}/tasks`, {
      tasks: [{ id, task_type: "type-2", workflow_id: "flow-1", priority: 9 }],
    });
    const { task, lease } = await meter.measure(operation, `${path}/tasks/claim`, {
      agent_id: "agent",
      ...filter,
    });
    if (task?.id !== id) throw new Error(`claimed ${task?.id}, not ${id}`);
    const transition = `${path}/tasks/${id}/transition`;
    const proof = { lease_token: lease?.token };
    await meter.measure("heartbeat", transition, { action: "heartbeat", ...proof });
    await meter.measure("complete, no dependents", transition, { action: "complete", ...proof });
  }
  const taken: Answer[] = [];
  for (let index = 0; index < inARow; index += 1) {
    const body = { agent_id: "agent", task_type: "type-1", workflow_id: "flow-3" };
    taken.push(await meter.measure("claim, many in a row", `${path}/tasks/claim`, body));
  }
  for (const { task, lease } of taken) {
    const proof = { lease_token: lease?.token };
    await meter.prepare(`${path}/tasks/${task?.id}/transition`, { action: "release", ...proof });
  }
  const tasks = (kind: string, edges: (index: number) => string[]) => ({
    tasks: Array.from({ length: batch }, (_, index) => ({
      id: `${name}-${kind}-${index}`,
      task_type: "type-0",
      workflow_id: "flow-0",
      depends_on_task_ids: edges(index),
    })),
  });
  const plain = tasks("plain", () => []);
  await meter.measure("create, per task of a batch", `${path}/tasks`, plain, batch);
  const edged = tasks("edged", (index) => [`goal-${index}`, `goal-${index + 1}`]);
  await meter.measure("create with 2 edges, per task of a batch", `${path}/tasks`, edged, batch);
}
