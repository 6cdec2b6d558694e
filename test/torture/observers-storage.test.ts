import { describe, expect, it } from "vitest";
import { checkRunRows } from "../../bench/torture/observers/storage/consistency.ts";
import { foldLog } from "../../bench/torture/observers/storage/fold.ts";
import { judge } from "../../bench/torture/observers/storage/judge.ts";
import type { Stored, StoredRun } from "../../bench/torture/observers/storage/stored.ts";
import { dueAtMs } from "../../src/domain/clocks.ts";
import type { Command } from "../../src/domain/command.ts";
import type { Commit } from "../../src/domain/commit.ts";
import type { Task } from "../../src/protocol/task.ts";
import { commitHash, initialHash, type LogRow } from "../../src/run/chain.ts";
import { rowOf } from "../../src/run/storage/task-row.ts";
import { aContext, aRow, aRun, batch, committed, memoryRun, NOW } from "../support/builders.ts";

const quiet = { outages: [], jumps: [] };
const sha256 = "ab".repeat(32);
const hourMs = 3_600_000;

type Mutable<T> =
  T extends ReadonlyMap<infer K, infer V>
    ? Map<K, V>
    : T extends readonly (infer U)[]
      ? Mutable<U>[]
      : T extends object
        ? { -readonly [K in keyof T]: Mutable<T[K]> }
        : T;

/** The commands of a run with something of every kind: a lease, a clock, edges, a fact, a lock. */
const commands: Command[] = [
  batch(
    aRow({ id: "held", task_type: "held" }),
    aRow({ id: "clocked", task_type: "clocked", clocks: { finish_within_ms: hourMs } }),
    aRow({ id: "waits", depends_on_task_ids: ["held", "clocked"] }),
  ),
  { op: "claim_task", agent_id: "ann", filter: { task_type: "held" }, lease_ms: 30_000 } as Command,
  { op: "patch_blackboard", patch_op: "add_fact", payload: { id: "f", ts_ms: 1, text: "so" } } as Command,
];

/** The rows that an engine leaves of these commands, each under an idempotency key. */
function storedRun(): Mutable<StoredRun> {
  const memory = memoryRun();
  const initial = JSON.stringify(aRun());
  const rows: LogRow[] = [];
  let prev_hash = initialHash(aRun(), []);
  const append = ({ event, patch }: Commit, command_id: string | null, receipt: string | null): void => {
    const texts = { event: JSON.stringify(event), patch: patch && JSON.stringify(patch) };
    const row = { seq: event.seq, prev_hash, command_id, receipt, ...texts };
    rows.push(row);
    prev_hash = commitHash(row);
  };
  const context = aContext();
  for (const [index, command] of commands.entries()) {
    const commits = committed(command, memory, context);
    for (const [at, commit] of commits.entries()) {
      const receipt = JSON.stringify({ op: command.op, fingerprint: null, commits: commits.length });
      append(commit, at === 0 ? `c${index}` : null, at === 0 ? receipt : null);
    }
  }
  const lastSeq = rows.length;
  const folded = foldLog(initial, rows, new Set([lastSeq]));
  const tasks = [...folded.tasks.values()].map((task, index) => taskRow(task, index + 1));
  return {
    alarmMs: NOW + 1_000,
    scheduledMs: NOW + 1_000,
    run: {
      head: JSON.stringify(folded.heads.get(lastSeq)),
      head_seq: lastSeq,
      task_counts: JSON.stringify({ pending: 2, in_progress: 1, total: 3 }),
      initial,
      log_hash: prev_hash,
    },
    commits: rows,
    tasks,
    edges: [
      { dependency: "held", dependent: "waits" },
      { dependency: "clocked", dependent: "waits" },
    ],
    notes: [{ list: "facts", doc: folded.notes[0]?.replace(/^facts /, "") ?? "" }],
    artifacts: [],
    files: [],
    file_versions: [],
    effects: [...folded.effects].map((effect) => {
      const [kind = "", seq] = effect.split(" ");
      return { kind, seq: Number(seq) };
    }),
    checkpoints: [],
  };
}

function taskRow(task: Task, pos: number) {
  const openDependencies = task.depends_on_task_ids.length;
  return rowOf(
    task,
    JSON.stringify(task),
    pos,
    { openDependencies, dueAtMs: dueAtMs(task, false, NOW) },
    NOW,
  );
}

/** A closed server with that run and one subscription, all in order. */
function stored(): Mutable<Stored> {
  const run = storedRun();
  return {
    runs: [run],
    subscriptions: [
      {
        alarmMs: NOW + 5_000,
        scheduledMs: NOW + 5_000,
        name: "local/local/sub",
        paused_until_ms: 0,
        lines: [{ line_id: "live:r", due_at_ms: NOW + 5_000 }],
      },
    ],
    directory: {
      runs: [
        {
          tenant: "local/local",
          run_id: "r",
          last_event_seq: run.commits.length,
          lease_due_at_ms: NOW + 30_000,
        },
      ],
      subscriptions: [
        { tenant: "local/local", subscription_id: "sub", status: "active", created_at_ms: NOW },
      ],
      blobs: [{ tenant: "local/local", sha256, key: "k", bytes: 5 }],
      blob_holders: [{ tenant: "local/local", holder: "run:r", sha256 }],
    },
    bucket: [{ key: "k", size: 5, fileBytes: 5, sha256 }],
    integrity: new Map([["do/x.sqlite", "ok"]]),
  };
}

const rulesOf = (state: Mutable<Stored>, disturbances = quiet as Parameters<typeof judge>[1]) =>
  judge(state as Stored, disturbances, NOW).flatMap(({ violations }) => violations.map(({ rule }) => rule));

/** What damage to a state comes to. */
function damaged(damage: (run: Mutable<StoredRun>, state: Mutable<Stored>) => void): string[] {
  const state = stored();
  const [run] = state.runs;
  if (run === undefined) throw new Error("there is a run");
  damage(run, state);
  return rulesOf(state);
}

it("a state in order", () => {
  expect(rulesOf(stored())).toEqual([]);
  const examined = judge(stored() as Stored, quiet, NOW).map((finding) => finding.examined);
  // The lease and the clock, what is to be delivered; the commits; the row; no contents; one file.
  expect(examined).toEqual([3, storedRun().commits.length, 1, 0, 1]);
});

describe("architecture.md, Time: whatever is due or pending has an alarm", () => {
  const noAlarm = { alarmMs: null, scheduledMs: null };

  it("a run without one", () => {
    expect(damaged((run) => Object.assign(run, noAlarm))).toEqual(["no_alarm", "no_alarm"]);
  });
  it("one that is too late for the lease, and not for the clock", () => {
    expect(damaged((run) => Object.assign(run, { alarmMs: NOW + 30_001, scheduledMs: NOW }))).toEqual([
      "late_alarm",
    ]);
    expect(damaged((run) => Object.assign(run, { alarmMs: NOW + 30_000, scheduledMs: NOW }))).toEqual([]);
  });
  it("one that the scheduler does not know, or later", () => {
    expect(damaged((run) => Object.assign(run, { scheduledMs: null }))).toEqual(["not_scheduled"]);
    expect(damaged((run) => Object.assign(run, { scheduledMs: NOW + 1_001 }))).toEqual(["not_scheduled"]);
  });
  it("a run that has nothing to do needs none", () => {
    expect(
      damaged((run, { directory }) => {
        Object.assign(run, noAlarm, { commits: [], tasks: [], edges: [], notes: [], effects: [] });
        run.run = {
          ...run.run,
          head: JSON.stringify(foldLog(run.run.initial, [], new Set()).heads.get(0)),
          head_seq: 0,
        };
        Object.assign(run.run, { task_counts: '{"total":0}', log_hash: null });
        Object.assign(directory.runs[0] ?? {}, { last_event_seq: 0, lease_due_at_ms: null });
      }),
    ).toEqual([]);
  });
  it("a run whose row is behind, or missing, even if nothing else is due", () => {
    const done = (run: Mutable<StoredRun>) => {
      Object.assign(run, noAlarm, { tasks: [] });
      return run;
    };
    const alarms = (change: (run: Mutable<StoredRun>, state: Mutable<Stored>) => void) =>
      damaged(change).filter((rule) => rule === "no_alarm");
    expect(alarms((run) => done(run))).toEqual([]);
    expect(
      alarms((run, { directory }) =>
        Object.assign(directory.runs[0] ?? {}, { last_event_seq: Number(done(run).commits.length) - 1 }),
      ),
    ).toEqual(["no_alarm"]);
    const unlisted = alarms((run, { directory }) => {
      done(run);
      directory.runs = [];
    });
    expect(unlisted).toEqual(["no_alarm"]);
  });
  it("a lock, and the grace of a halt with something to take back", () => {
    const head = (run: Mutable<StoredRun>, members: object): void => {
      const last = run.commits.at(-1);
      if (last === undefined) return;
      const event = { ...JSON.parse(last.event), ...members };
      last.event = JSON.stringify(event);
      Object.assign(run, { alarmMs: NOW + 2_000, scheduledMs: NOW });
      for (const task of run.tasks) task.due_at_ms = null;
    };
    const late = (members: object) =>
      damaged((run) => head(run, members)).filter((rule) => rule === "late_alarm");
    const lock = {
      lock_id: "l",
      agent_id: "a",
      fence: 9,
      resources: [],
      lease_token: "x",
      expires_at_ms: NOW + 1_500,
    };
    expect(late({ type: "context.lock.acquired", payload: { lock } })).toEqual(["late_alarm"]);
    const paused = { type: "pause", status: "paused", origin: "client", halt: { revoke_at_ms: NOW + 1_500 } };
    expect(late(paused)).toEqual(["late_alarm"]);
    expect(late({ ...paused, halt: { revoke_at_ms: NOW + 2_000 } })).toEqual([]);
  });
  it("an automatic checkpoint that is owed", () => {
    const logOf = (run: Mutable<StoredRun>) =>
      Array.from({ length: 10_000 }, (_, index) => ({ ...run.commits[0], seq: index + 1 }) as LogRow);
    const owes = (checkpoints: StoredRun["checkpoints"]) =>
      damaged((run, { directory }) => {
        Object.assign(run, noAlarm, { tasks: [], commits: logOf(run), checkpoints });
        Object.assign(directory.runs[0] ?? {}, { last_event_seq: 10_000 });
      }).filter((rule) => rule === "no_alarm");
    expect(owes([])).toEqual(["no_alarm"]);
    expect(owes([{ seq: 1, lines: 1, object_key: null }])).toEqual([]);
  });
  it("a subscription with something to deliver, while it is active", () => {
    const silent = (state: Mutable<Stored>) => Object.assign(state.subscriptions[0] ?? {}, noAlarm);
    expect(damaged((_, state) => void silent(state))).toEqual(["no_alarm"]);
    expect(
      damaged((_, state) => {
        silent(state);
        Object.assign(state.directory.subscriptions[0] ?? {}, { status: "disabled" });
      }),
    ).toEqual([]);
    expect(
      damaged((_, state) =>
        Object.assign(silent(state), { lines: [{ line_id: "live:r", due_at_ms: null }] }),
      ),
    ).toEqual([]);
    const later = { alarmMs: NOW + 30_001, scheduledMs: NOW };
    expect(damaged((_, state) => Object.assign(state.subscriptions[0] ?? {}, later))).toEqual(["late_alarm"]);
  });
  it("an alarm from before the clock was moved forward may be as much later, and no more", () => {
    const state = stored();
    Object.assign(state.runs[0] ?? {}, { alarmMs: NOW + 30_000, scheduledMs: NOW });
    const forward = { outages: [], jumps: [{ askedMs: NOW + 1, answeredMs: NOW + 2, byMs: 20_000 }] };
    expect(rulesOf(state, forward)).toEqual([]);
    const backward = { outages: [], jumps: [{ askedMs: NOW + 1, answeredMs: NOW + 2, byMs: -3_000 }] };
    Object.assign(state.runs[0] ?? {}, { alarmMs: NOW + 33_001 });
    expect(rulesOf(state, backward)).toEqual(["late_alarm"]);
  });
  it("a jump that was over before the run, or the subscription, was made excuses nothing", () => {
    const longAgo = { askedMs: NOW - 1_000_000, answeredMs: NOW - 999_999 };
    const forward = { outages: [], jumps: [{ ...longAgo, byMs: 20_000 }] };
    const set = (ofRun: number, ofSubscription: number) => {
      const state = stored();
      Object.assign(state.runs[0] ?? {}, { alarmMs: NOW + ofRun, scheduledMs: NOW });
      Object.assign(state.subscriptions[0] ?? {}, { alarmMs: NOW + ofSubscription, scheduledMs: NOW });
      return rulesOf(state, forward);
    };
    // By the server's clock the lease ends at NOW + 30,000 and the guard of a delivery at NOW + 50,000.
    expect(set(10_000, 30_000)).toEqual([]);
    expect(set(10_001, 30_000)).toEqual(["late_alarm"]);
    expect(set(10_000, 30_001)).toEqual(["late_alarm"]);
  });
});

describe("architecture.md: what a command commits is there as a whole", () => {
  it.each<[string, (run: Mutable<StoredRun>) => void, string[]]>([
    ["a commit missing in the middle", (run) => run.commits.splice(1, 1), ["gap"]],
    ["the last commit of a command missing", (run) => run.commits.splice(2), ["half_command"]],
    [
      "an event of another seq",
      (run) => edit(run, 0, (event) => ({ ...event, seq: 9 })),
      ["event_seq", "chain"],
    ],
    ["an event that was changed", (run) => edit(run, 0, (event) => ({ ...event, ts_ms: 1 })), ["chain"]],
    ["a patch without its half", (run) => assign(run.commits.at(-1), { patch: null }), ["patch"]],
    [
      "a patch of another event",
      (run) => assign(run.commits.at(-1), { patch: '{"seq":5,"source_event_seq":4}' }),
      ["patch"],
    ],
    ["a command id without receipt", (run) => assign(run.commits.at(-1), { receipt: null }), ["receipt"]],
    ["a task missing", (run) => run.tasks.splice(0, 1), ["counts", "counts", "tasks"]],
    [
      "a task too many",
      (run) => run.tasks.push({ ...at(run.tasks, 0), id: "x", pos: 9 }),
      ["counts", "counts", "tasks"],
    ],
    ["a task of before its last commit", (run) => assign(run.tasks[0], { doc: '{"id":"held"}' }), ["tasks"]],
    ["a task that no claim finds", (run) => assign(run.tasks[1], { queue: null }), ["task_columns"]],
    ["a lease that no alarm finds", (run) => assign(run.tasks[0], { queue: "ready" }), ["task_columns"]],
    [
      "a clock that is noted too late",
      (run) => assign(run.tasks[1], { due_at_ms: NOW + hourMs + 1 }),
      ["task_columns"],
    ],
    [
      "a task that waits for too little",
      (run) => assign(run.tasks[2], { open_dependencies: 1 }),
      ["task_columns"],
    ],
    ["an edge missing", (run) => run.edges.splice(0, 1), ["edges"]],
    ["an edge too many", (run) => run.edges.push({ dependency: "waits", dependent: "held" }), ["edges"]],
    ["a fact missing", (run) => run.notes.splice(0, 1), ["notes"]],
    ["an artifact that no commit added", (run) => run.artifacts.push({ doc: "{}" }), ["artifacts"]],
    ["an index row without its event", (run) => run.effects.push({ kind: "mutation", seq: 1 }), ["effects"]],
    ["a file without its version", (run) => run.files.push({ path: "a", doc: '{"path":"a"}' }), ["files"]],
    ["a head of another state", (run) => assign(run.run, { head: "{}" }), ["head"]],
    ["a head of a commit that is not there", (run) => assign(run.run, { head_seq: 99 }), ["head"]],
    ["another hash with the head", (run) => assign(run.run, { log_hash: "00" }), ["head"]],
    [
      "other counts with the head",
      (run) => assign(run.run, { task_counts: '{"pending":3,"in_progress":0,"total":3}' }),
      ["counts", "counts"],
    ],
  ])("%s", (_, damage, expected) => {
    const run = storedRun();
    damage(run);
    const found = checkRunRows(run as StoredRun, "r").map(({ rule }) => rule);
    expect(found).toEqual(expected);
  });
});

describe("the directory and the bucket have what runs need", () => {
  it.each<[string, (state: Mutable<Stored>) => void, string[]]>([
    [
      "a row without a run",
      ({ directory }) => directory.runs.push({ ...at(directory.runs, 0), run_id: "x" }),
      ["no_run"],
    ],
    ["a run without a row", ({ directory }) => directory.runs.splice(0, 1), ["unlisted"]],
    [
      "a row that is ahead of its run",
      ({ directory }) => assign(directory.runs[0], { last_event_seq: 99 }),
      ["ahead"],
    ],
    [
      "a row that has cron come too late",
      ({ directory }) => assign(directory.runs[0], { lease_due_at_ms: NOW + 30_001 }),
      ["swept_late"],
    ],
    [
      "a row that cron does not find",
      ({ directory }) => assign(directory.runs[0], { lease_due_at_ms: null }),
      ["swept_late"],
    ],
    [
      "a damaged file",
      ({ integrity }) => integrity.set("do/x.sqlite", "row 1 missing from index"),
      ["damaged"],
    ],
  ])("%s", (_, damage, expected) => {
    const state = stored();
    damage(state);
    expect(rulesOf(state)).toEqual(expected);
  });

  it.each<[string, (state: Mutable<Stored>) => void, string[]]>([
    ["the content", () => undefined, []],
    ["a content that the directory has forgotten", ({ directory }) => directory.blobs.pop(), ["no_blob"]],
    ["a content that nobody holds", ({ directory }) => directory.blob_holders.pop(), ["unheld"]],
    ["a content that is gone", ({ bucket }) => bucket.pop(), ["no_object"]],
    [
      "a content without a file",
      ({ bucket }) => assign(bucket[0], { fileBytes: undefined, sha256: undefined }),
      ["content"],
    ],
    ["other bytes", ({ bucket }) => assign(bucket[0], { sha256: "cd".repeat(32) }), ["content"]],
    ["fewer bytes", ({ bucket }) => assign(bucket[0], { fileBytes: 4 }), ["content"]],
  ])("a file of a run: %s", (_, damage, expected) => {
    const state = stored();
    const [run] = state.runs;
    run?.file_versions.push({ path: "a", version: 1, doc: JSON.stringify({ path: "a", sha256, bytes: 5 }) });
    damage(state);
    const contents = judge(state as Stored, quiet, NOW).find(({ name }) => name.includes("contents"));
    expect(contents?.violations.map(({ rule }) => rule)).toEqual(expected);
    expect(contents?.examined).toBe(1);
  });
});

function assign(target: object | undefined, members: object): void {
  if (target === undefined) throw new Error("nothing to damage");
  Object.assign(target, members);
}

function at<T>(list: readonly T[], index: number): T {
  const one = list[index];
  if (one === undefined) throw new Error("nothing there");
  return one;
}

function edit(run: Mutable<StoredRun>, index: number, change: (event: object) => object): void {
  const row = at(run.commits, index);
  row.event = JSON.stringify(change(JSON.parse(row.event)));
}
