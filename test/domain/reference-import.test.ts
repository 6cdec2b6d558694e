import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { newHead } from "../../src/domain/head.ts";
import { MemoryRun } from "../../src/domain/memory.ts";
import {
  type Converted,
  convertReference,
  type ReferenceFiles,
  ReferenceUnreadable,
} from "../../src/domain/reference-import.ts";
import { readLines } from "../../src/domain/reference-records.ts";
import { LOCAL_TENANT } from "../../src/identity/tenant.ts";

const RUN_ID = "reference-run";
const TOKEN = "lease-00000000-0000-4000-8000-000000000000";
let ids = 0;

const convert = (files: Partial<ReferenceFiles>): Converted =>
  convertReference(
    { run_state: null, events: null, blackboard: null, blackboard_patches: null, checkpoints: [], ...files },
    {
      tenant: LOCAL_TENANT,
      run_id: null,
      nowMs: 10_000,
      newId: () => `${++ids}`,
      maskToken: () => "sha256:masked",
    },
  );

/** A small model of the reference engine: what it writes to the files of a run. */
class ReferenceRun {
  readonly events: Record<string, unknown>[] = [];
  readonly patches: Record<string, unknown>[] = [];
  readonly facts: Record<string, unknown>[] = [];
  state: Record<string, unknown> = {
    run_id: RUN_ID,
    run_type: "interactive",
    status: "queued",
    objective: "o",
    workspace: { workspace_id: "", canonical_path: "", lease_epoch: 0 },
    steps: [],
    tasks: [],
    why_next_step: null,
    revision: 1,
    last_event_seq: 0,
    created_at_ms: 1,
    updated_at_ms: 1,
  };

  #event(type: string, status: string, payload: unknown, extra: Record<string, unknown> = {}): number {
    const seq = this.events.length + 1;
    const revision = seq + 1;
    this.events.push({
      event_id: `evt-${seq}`,
      run_id: RUN_ID,
      seq,
      ts_ms: seq,
      type,
      status,
      revision,
      payload,
      ...extra,
    });
    this.state = { ...this.state, revision, last_event_seq: seq, updated_at_ms: seq };
    return seq;
  }

  #patch(seq: number, op: string, payload: unknown): void {
    const ids = { patch_id: `bbp-${seq}`, run_id: RUN_ID, seq, source_event_seq: seq };
    this.patches.push({ ...ids, ts_ms: seq, op, payload });
  }

  status(status: string): void {
    this.#event("noted", status, { text: "t" });
    this.state = { ...this.state, status };
  }

  fact(text: string): void {
    const fact = { id: `f-${this.events.length}`, ts_ms: 1, text };
    const seq = this.#event("context.blackboard.patched", String(this.state.status), {
      op: "add_fact",
      payload: fact,
    });
    this.#patch(seq, "add_fact", fact);
    this.facts.push(fact);
  }

  task(id: string, status: string): void {
    const seq = this.events.length + 1;
    const leased = status === "in_progress";
    const lease = leased ? { lease_owner: "a", lease_token: TOKEN, lease_expires_at_ms: 5_000 } : {};
    const task = { id, task_type: "custom", status, task_rev: seq, created_ts: 1, updated_ts: seq, ...lease };
    this.#event(
      "context.task.created",
      String(this.state.status),
      { task_id: id, task },
      { step_id: id, task_id: id },
    );
    this.#patch(seq, "add_task", task);
    const others = (this.state.tasks as { id: string }[]).filter((one) => one.id !== id);
    const before = (this.state.tasks as { id: string }[]).findIndex((one) => one.id === id);
    const tasks: unknown[] = [...others];
    tasks.splice(before === -1 ? others.length : before, 0, task);
    this.state = { ...this.state, tasks };
  }

  files(): Required<ReferenceFiles> {
    const lines = (records: unknown[]) => records.map((record) => `${JSON.stringify(record)}\n`).join("");
    return {
      run_state: JSON.stringify(this.state),
      events: lines(this.events),
      blackboard: JSON.stringify({ facts: this.facts, revision: this.patches.at(-1)?.seq ?? 0 }),
      blackboard_patches: lines(this.patches),
      checkpoints: [],
    };
  }
}

type Step = ["status", string] | ["fact", string] | ["task", string, string];

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.tuple(fc.constant("status" as const), fc.constantFrom("running", "paused", "failed", "completed")),
    fc.tuple(fc.constant("fact" as const), fc.string()),
    fc.tuple(
      fc.constant("task" as const),
      fc.constantFrom("a", "b", "c"),
      fc.constantFrom("pending", "in_progress", "done", "blocked"),
    ),
  ),
  { minLength: 1, maxLength: 20 },
);

function reference(taken: Step[]): ReferenceRun {
  const run = new ReferenceRun();
  for (const [kind, first, second] of taken) {
    if (kind === "status") run.status(first);
    else if (kind === "fact") run.fact(first);
    else run.task(first, second ?? "pending");
  }
  return run;
}

/** Rules that hold whatever the files were. */
function isSound({ initial, rows, state }: Converted): void {
  expect(rows.map(({ event }) => event.seq)).toEqual(rows.map((_, index) => index + 1));
  const revisions = rows.map(({ event }) => event.revision);
  expect(revisions).toEqual([...new Set(revisions)].sort((a, b) => a - b));
  const replayed = new MemoryRun(newHead(initial));
  for (const row of rows) {
    replayed.apply(row);
    expect(row.event.run_status).toBe(replayed.head().run.status);
    expect(row.event.run_id).toBe(initial.run_id);
    if (row.patch !== null)
      expect(row.patch).toMatchObject({ seq: row.event.seq, source_event_seq: row.event.seq });
  }
  expect(replayed.run()).toEqual(state.run());
  expect(replayed.blackboard()).toEqual(state.blackboard());
  expect(state.run().tenant_context).toEqual(LOCAL_TENANT);
  expect(JSON.stringify([initial, rows, state.run()])).not.toContain(TOKEN);
  for (const task of state.run().tasks) expect(task.lease_token).toBeUndefined();
}

describe("a run of the reference engine", () => {
  it("whose files are whole is taken over as it is, and its log is kept seq by seq", () => {
    fc.assert(
      fc.property(steps, (taken) => {
        const run = reference(taken);
        const converted = convert(run.files());
        isSound(converted);
        const { rows, state, report } = converted;
        expect(
          rows.slice(0, run.events.length).map(({ event }) => [event.event_id, event.seq, event.type]),
        ).toEqual(run.events.map(({ event_id, seq, type }) => [event_id, seq, type]));
        expect(rows.flatMap(({ patch }) => patch?.patch_id ?? []).slice(0, run.patches.length)).toEqual(
          run.patches.map(({ patch_id }) => patch_id),
        );
        expect(state.run().status).toBe(run.state.status);
        expect(state.run().tasks.map(({ id }) => id)).toEqual(
          (run.state.tasks as { id: string }[]).map(({ id }) => id),
        );
        expect(state.blackboard().facts).toEqual(run.facts);
        expect(report).toMatchObject({
          events: { unparsable: 0, missing: 0, renumbered: 0, duplicates: 0, out_of_order: 0 },
          patches: { unparsable: 0, without_event: 0 },
          blackboard: { doubled: 0, recovered: 0 },
        });
      }),
    );
  });

  it("whose files are damaged is taken over with every record that can be read, or refused for a reason", () => {
    const damage = fc.array(
      fc.record({
        file: fc.constantFrom("events", "blackboard_patches"),
        kind: fc.constantFrom("cut", "drop", "double", "swap", "garble", "join"),
        at: fc.nat(100),
      }),
      { maxLength: 5 },
    );
    fc.assert(
      fc.property(steps, damage, fc.boolean(), (taken, damages, isBoardLost) => {
        const run = reference(taken);
        const files: ReferenceFiles = { ...run.files(), ...(isBoardLost && { blackboard: "{torn" }) };
        for (const { file, kind, at } of damages) {
          const name = file as "events" | "blackboard_patches";
          files[name] = damaged(files[name] ?? "", kind, at);
        }
        const converted = convert(files);
        isSound(converted);
        const readable = new Set<string>();
        for (const line of (files.events ?? "").split("\n")) {
          const start = line.lastIndexOf('{"event_id"');
          try {
            readable.add((JSON.parse(line.slice(start)) as { event_id: string }).event_id);
          } catch {
            // Not readable.
          }
        }
        const taken2 = new Set(converted.rows.map(({ event }) => event.event_id));
        for (const id of readable) expect(taken2).toContain(id);
        expect(converted.state.run().status).toBe(run.state.status);
      }),
      { numRuns: 200 },
    );
  });

  function damaged(file: string, kind: string, at: number): string {
    const lines = file.split("\n").slice(0, -1);
    const index = lines.length === 0 ? 0 : at % lines.length;
    const line = lines[index];
    if (line === undefined) return file;
    switch (kind) {
      case "cut":
        return `${lines.slice(0, index).join("\n")}\n${line.slice(0, line.length / 2)}`;
      case "drop":
        return `${lines.toSpliced(index, 1).join("\n")}\n`;
      case "double":
        return `${lines.toSpliced(index, 0, line).join("\n")}\n`;
      case "swap":
        return `${[...lines.slice(index), ...lines.slice(0, index)].join("\n")}\n`;
      case "garble":
        return `${lines.with(index, line.replace(/[:,]/, "")).join("\n")}\n`;
      default:
        return `${lines
          .toSpliced(index, 0, line.slice(0, 10))
          .join("\n")
          .replace(`${line.slice(0, 10)}\n`, line.slice(0, 10))}\n`;
    }
  }

  const run = reference([
    ["task", "a", "pending"],
    ["fact", "one"],
    ["status", "running"],
    ["fact", "two"],
  ]);
  const files = run.files();
  const lines = (records: object[]) => records.map((record) => `${JSON.stringify(record)}\n`).join("");

  it("D22 torn lines are counted and named, and what stands behind one is not lost", () => {
    const [first = "", second = "", third = ""] = files.events?.split("\n") ?? [];
    const { report, rows } = convert({
      ...files,
      events: `${first}\n${second.slice(0, 20)}${third}\n{"event_id":"x`,
    });
    expect(report.events).toMatchObject({
      unparsable: 2,
      unparsable_lines: [2, 3],
      behind_torn: 1,
      torn_last_line: true,
      missing: 0,
    });
    expect(report.patches).toMatchObject({ without_event: 2 });
    expect(rows.map(({ event }) => event.event_id)).toContain("evt-3");
  });

  it("I1 missing seqs are filled, and records keep theirs", () => {
    const { report, rows } = convert({ ...files, events: lines(run.events.filter(({ seq }) => seq !== 3)) });
    expect(report.events.missing).toBe(1);
    expect(rows[2]?.event).toMatchObject({ type: "context.run.gap", payload: { missing_seq: 3 } });
    expect(rows[3]?.event.event_id).toBe("evt-4");
  });

  it("more missing seqs than can be filled are a reason to refuse", () => {
    const far = { ...run.events[0], seq: 1_000_000_000 };
    expect(() => convert({ ...files, events: lines([far]) })).toThrow(ReferenceUnreadable);
  });

  it("D22 what is read again to find what stands behind torn lines has an end", () => {
    const beginnings = '{"a":'.repeat(101);
    const timesRead = (file: string) => {
      const read = vi.fn(() => null);
      readLines(file, read);
      return read.mock.calls.length;
    };
    expect(timesRead(beginnings)).toBe(101);
    const long = `${beginnings}"${"x".repeat(1_000_000)}`;
    expect(timesRead(long)).toBeLessThan(40);
    expect(timesRead(`${long}\n${long}`)).toBeLessThan(41);
  });

  it("more lines without a record than a file can have are a reason to refuse", () => {
    expect(() => convert({ ...files, events: "{\n".repeat(100_001) })).toThrow(ReferenceUnreadable);
  });

  it("what is nested deeper than a run can hold is no record, and no run", () => {
    const deep = `${'{"a":'.repeat(20_000)}1${"}".repeat(20_000)}`;
    const [first = "", ...rest] = files.events?.split("\n") ?? [];
    const event = first.replace(/"payload":.*/, `"payload":${deep}}`);
    const { report } = convert({ ...files, events: [event, ...rest].join("\n") });
    expect(report.events).toMatchObject({ unparsable: 1, unparsable_lines: [1], missing: 0 });
    expect(() => convert({ ...files, run_state: `{"x":${deep}}` })).toThrow(ReferenceUnreadable);
  });

  it("a run with more faults than can be listed is none", () => {
    const run_state = JSON.stringify({ tasks: Array(100_000).fill({}) });
    expect(() => convert({ ...files, run_state })).toThrow(ReferenceUnreadable);
  });

  it("two records of one seq are both kept", () => {
    const other = { ...run.events[2], event_id: "evt-other" };
    const { report, rows } = convert({ ...files, events: lines([...run.events, other]) });
    expect(report.events).toMatchObject({ renumbered: 2, duplicates: 0, out_of_order: 1 });
    expect(rows.map(({ event }) => event.event_id)).toEqual(
      expect.arrayContaining(["evt-3", "evt-other", "evt-4"]),
    );
  });

  it("D26 what the reference engine has doubled on its blackboard comes once", () => {
    const facts = run.facts.flatMap((fact) => [fact, fact]);
    const { report, state } = convert({ ...files, blackboard: JSON.stringify({ facts, revision: 4 }) });
    expect(report.blackboard).toMatchObject({ doubled: 2, recovered: 0 });
    expect(state.blackboard().facts).toEqual(run.facts);
  });

  it("D19 what only the blackboard has becomes a patch", () => {
    const { report, state, rows } = convert({ ...files, blackboard_patches: lines(run.patches.slice(0, 2)) });
    expect(report.blackboard.recovered).toBe(1);
    expect(state.blackboard().facts).toEqual(run.facts);
    expect(rows.at(-1)).toMatchObject({ event: { payload: { recovered: true } }, patch: { op: "add_fact" } });
  });

  it("D09 a snapshot in a client's event changes nothing", () => {
    const forged = {
      tasks: [],
      ...run.state,
      status: "cancelled",
      run_id: "other",
      tenant_context: { org_id: "foreign" },
    };
    const event = { ...run.events[2], payload: { run: forged, task: { id: "forged" } } };
    const { state } = convert({ ...files, events: lines(run.events.with(2, event)) });
    expect(state.run()).toMatchObject({ run_id: RUN_ID, status: "running", tenant_context: LOCAL_TENANT });
    expect(state.task("forged")).toBeNull();
  });

  it("claims: what looks like a lock in it locks nothing", () => {
    const task = { id: "t", task_type: "x", status: "in_progress", created_ts: 1, updated_ts: 1 };
    const event = {
      event_id: "e",
      seq: 1,
      ts_ms: 1,
      type: "context.task.claimed",
      status: "running",
      revision: 2,
      payload: { task, lock: { lock_id: "l" } },
    };
    const files = {
      run_state: JSON.stringify(new ReferenceRun().state),
      events: `${JSON.stringify(event)}\n`,
    };
    expect(convert(files).state.head().locks).toBeUndefined();
  });

  it("D16 what was changed without an event is brought by a last commit", () => {
    const state = { ...run.state, steps: [{ step_id: "s", title: "t", status: "done" }], why_next_step: "w" };
    const converted = convert({ ...files, run_state: JSON.stringify(state) });
    expect(converted.report.run_state).toEqual({ behind_by: 0, disagrees: true });
    expect(converted.rows.at(-1)?.event.type).toBe("context.run.imported");
    expect(converted.state.run()).toMatchObject({ steps: state.steps, why_next_step: "w" });
    isSound(converted);
  });

  it("01§7 a snapshot that is behind its log is brought up to date", () => {
    const state = { ...run.state, status: "queued", last_event_seq: 2, revision: 3 };
    const converted = convert({ ...files, run_state: JSON.stringify(state) });
    expect(converted.report.run_state.behind_by).toBe(2);
    expect(converted.state.run().status).toBe("running");
  });

  it("D05 leases end, and no token is kept anywhere", () => {
    const leased = reference([
      ["task", "a", "in_progress"],
      ["task", "b", "blocked"],
    ]);
    const event = {
      ...leased.events[1],
      payload: { lease_token: TOKEN, deep: [{ lease_token: TOKEN }] },
      type: "own",
    };
    const converted = convert({ ...leased.files(), events: lines([leased.events[0] ?? {}, event]) });
    isSound(converted);
    expect(converted.report.leases).toEqual({ ended: 1, tokens_masked: expect.any(Number) });
    expect(converted.state.task("a")).toMatchObject({ status: "runnable", task_rev: 2 });
  });

  it("older spellings are understood", () => {
    const old = run.events.map(({ seq, revision: _revision, ...event }) => ({ ...event, event_seq: seq }));
    const patches = run.patches.map(({ source_event_seq: _source, ...patch }) => patch);
    const { status, objective, run_id, created_at_ms, updated_at_ms } = run.state;
    const least = { status, objective, run_id, created_at_ms, updated_at_ms };
    const converted = convert({
      ...files,
      run_state: JSON.stringify(least),
      events: lines(old),
      blackboard_patches: lines(patches),
    });
    isSound(converted);
    expect(converted.state.blackboard().facts).toEqual(run.facts);
    expect(converted.rows.slice(0, 4).map(({ event }) => event.event_id)).toEqual([
      "evt-1",
      "evt-2",
      "evt-3",
      "evt-4",
    ]);
  });

  it("without a readable run_state.json is refused", () => {
    for (const run_state of [null, "", "{torn", "[]", '{"run_id":"x"}']) {
      expect(() => convert({ ...files, run_state })).toThrow(ReferenceUnreadable);
    }
    const missing = { file: "run_state.json", rule: "required" };
    expect(() => convert({ ...files, run_state: null })).toThrow(expect.objectContaining(missing));
  });

  it("whose board is too large for one commit arrives in several", () => {
    const big = reference([["status", "running"]]);
    const tasks = Array.from({ length: 20 }, (_, index) => ({
      id: `t${index}`,
      task_type: "custom",
      status: "pending",
      payload: "x".repeat(200_000),
      created_ts: 1,
      updated_ts: 1,
    }));
    const converted = convert({ ...big.files(), run_state: JSON.stringify({ ...big.state, tasks }) });
    isSound(converted);
    expect(converted.state.run().tasks.map(({ id }) => id)).toEqual(tasks.map(({ id }) => id));
    const [, replaced, ...added] = converted.rows.map(({ event }) => event);
    expect(replaced?.payload).toMatchObject({ run: { tasks: [] } });
    expect(added.map(({ payload }) => payload)).toMatchObject(
      tasks.map(({ id }, index) => ({ task_id: id, patch_seq: index + 3 })),
    );
  });
});
