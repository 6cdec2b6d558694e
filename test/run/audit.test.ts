import { env, exports } from "cloudflare:workers";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { artifactStore } from "../../src/artifacts/store.ts";
import { NO_AUDIT, withEvent } from "../../src/domain/audit.ts";
import type { Command } from "../../src/domain/command.ts";
import { newHead } from "../../src/domain/head.ts";
import { MemoryRun } from "../../src/domain/memory.ts";
import { memoryStateLines } from "../../src/domain/state-lines.ts";
import { eventsAt } from "../../src/run/audit-events.ts";
import { type AuditPage, type AuditQuery, readAuditView } from "../../src/run/audit-views.ts";
import { evidencePackage } from "../../src/run/evidence.ts";
import { LogReader } from "../../src/run/log-reader.ts";
import { submit } from "../../src/run/run-client.ts";
import { RunState } from "../../src/run/run-state.ts";
import { Sql } from "../../src/run/storage/sql.ts";
import { aFile, aMutation, fakeHash } from "../support/audit.ts";
import { serve } from "../support/serve.ts";
import {
  accepted,
  claimed,
  creation,
  eventsOf,
  evict,
  http,
  inStorage,
  newTestRun,
  note,
  objectOf,
  PROPERTY_TIMEOUT_MS,
  replayOf,
  row,
  rowsOf,
  TENANT,
  type TestRun,
  useTestClock,
} from "./support/test-run.ts";

const RECORD = {
  session_id: "s",
  message_id: "m",
  tool: "read",
  phase: "outcome",
  status: "succeeded",
  args_summary: null,
};

const event = (type: string, payload: unknown): Command => ({
  op: "append_event",
  type,
  status: "paused",
  payload,
});
const ledger = (tool = "read") => event("tool_effect_recorded", { record: { ...RECORD, tool } });
/** A deleted file: undoing that needs nothing to be there. */
const deleted = (path: string) =>
  event("mutation_checkpoint_recorded", {
    record: aMutation([
      aFile({ path, existed_after: false, rollback_snapshot: { status: "inline_text", content: "x" } }),
    ]),
  });

/** What GET run shows beside the run, and all views. */
async function audited({ id }: TestRun): Promise<unknown> {
  const { run: _run, ...members } = await http<Record<string, unknown>>("GET", `/context/runs/${id}`);
  const views = ["/ledger", "", "/rollback-preview", "/rollback-history"].map((view, index) =>
    http("GET", `/context/runs/${id}${index === 0 ? view : `/checkpoints/mutations${view}`}`),
  );
  return { members, views: await Promise.all(views) };
}

function rolledBack({ id }: TestRun, event_ids: string[], body = {}, door = "/context", status = 200) {
  return http<{ applied: boolean; task_id: string }>(
    "POST",
    `${door}/runs/${id}/checkpoints/mutations/rollback-execute`,
    {
      body: { confirm: "rollback", policy_ack: "allow_rollback_execution", event_ids, ...body },
      status,
    },
  );
}

/** Appends a mutation and gives back the id of its event. */
async function mutated(run: TestRun, path: string): Promise<string> {
  const outcome = await accepted(run, deleted(path));
  if (outcome.op !== "append_event") throw new Error("an append was answered");
  return outcome.event.event_id;
}

/** The run's state as lines: from what is stored, and from its log. */
async function bothStates(run: TestRun): Promise<{ stored: string[]; replayed: string[] }> {
  return inStorage(run, (_sql, storage) => {
    const state = RunState.open(new Sql(storage));
    if (state === null) throw new Error("there is no run");
    const memory = new MemoryRun(newHead(state.row.initial));
    for (const commit of state.commits.range(0, state.commits.lastSeq())) memory.apply(commit);
    return { stored: [...state.texts.stateLines()], replayed: [...memoryStateLines(memory)] };
  });
}

describe("U1 the audit of a run in its object", () => {
  useTestClock();

  it(
    "is that of its log, by random histories, also after a wake; the index holds what views need; no drift",
    async () => {
      const step = fc.oneof(
        fc.constantFrom<Command>(ledger("a"), ledger("b"), note(), event("plan_approved", null)),
        fc.constantFrom<Command>(
          event("tool_effect_recorded", { record: 1 }),
          event("rollback_execution_blocked", { reason: "r" }),
          event("rollback_execution_applied", { steps: [{ seq: 1 }] }),
          event("tool_routing_decision", { offered_tools: ["x"] }),
        ),
        fc.constantFrom("a", "b").map(deleted),
        fc.constant("roll back" as const),
        fc.constant("evict" as const),
      );
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 15 }), async (steps) => {
          const run = await newTestRun();
          for (const one of steps) {
            if (one === "evict") await evict(run);
            else if (one !== "roll back") await accepted(run, one);
            else {
              const events = await eventsOf(run);
              const ids = events
                .filter(({ type }) => type.startsWith("mutation"))
                .map(({ event_id }) => event_id);
              await rolledBack(run, ids.length === 0 ? ["none"] : ids);
            }
          }
          const events = await eventsOf(run);
          const { stored, replayed } = await bothStates(run);
          expect(stored).toEqual(replayed);
          const effects = await rowsOf(
            run,
            "SELECT kind, seq, event_id, applied_seq FROM effects ORDER BY seq",
          );
          const applied = new Map(
            events.flatMap((one) => withEvent(NO_AUDIT, one).applied.map((seq) => [seq, one.seq] as const)),
          );
          expect(effects).toEqual(
            events.flatMap((one) => {
              const { effect } = withEvent(NO_AUDIT, one);
              return effect === null ? [] : [{ ...effect, applied_seq: applied.get(one.seq) ?? null }];
            }),
          );
          expect((await replayOf(run)).drift.mismatch).toBe(false);
        }),
        { numRuns: 15 },
      );
    },
    PROPERTY_TIMEOUT_MS,
  );

  it("a refused rollback leaves nothing behind", async () => {
    const run = await newTestRun();
    const id = await mutated(run, "../outside");
    const before = await audited(run);
    await rolledBack(run, [id], {}, "/context", 400);
    expect(await audited(run)).toEqual(before);
    expect(await rowsOf(run, "SELECT seq FROM effects")).toHaveLength(1);
  });

  it("an agent's rollback outlives a wake between request and end", async () => {
    const run = await newTestRun();
    const id = await mutated(run, "a");
    const { task_id } = await rolledBack(run, [id], { executor: "agent" }, "/v1", 202);
    await evict(run);
    const { token } = await claimed(run);
    await evict(run);
    await accepted(run, { op: "transition_task", task_id, action: "complete", lease_token: token });
    const events = await eventsOf(run);
    expect(events.slice(-2).map(({ type, seq }) => [type, seq])).toEqual([
      ["context.task.completed", 5],
      ["rollback_execution_applied", 6],
    ]);
    const { stored, replayed } = await bothStates(run);
    expect(stored).toEqual(replayed);
  });
});

describe("a run that moves", () => {
  it("takes its audit along: totals, views, marks, and what an agent is at", async () => {
    const run = await newTestRun();
    await accepted(run, ledger());
    const [one, two] = [await mutated(run, "a"), await mutated(run, "b")];
    const first = await rolledBack(run, [one], { executor: "agent" }, "/v1", 202);
    const { token: firstToken } = await claimed(run);
    const completion = { op: "transition_task", action: "complete" } as const;
    await accepted(run, { ...completion, task_id: first.task_id, lease_token: firstToken });
    const { task_id } = await rolledBack(run, [two], { executor: "agent" }, "/v1", 202);
    const headers = { "x-agent-token": "test-token", "content-type": "application/x-ndjson" };
    const url = `http://baton.test/v1/runs`;
    const exported = await exports.default.fetch(new Request(`${url}/${run.id}/export`, { headers }));
    const copy = objectOf();
    const body = await exported.arrayBuffer();
    const imported = await exports.default.fetch(
      new Request(`${url}/import?run_id=${copy.id}`, { method: "POST", headers, body }),
    );
    expect(imported.status, await imported.text()).toBe(201);
    expect(await audited(copy)).toEqual(await audited(run));
    const { token } = await claimed(copy);
    await accepted(copy, { ...completion, task_id, lease_token: token });
    expect((await eventsOf(copy)).at(-1)?.type).toBe("rollback_execution_applied");
  });
});

describe("heads of older releases", () => {
  useTestClock();

  /** Makes the storage look as an older release left it: no audit in the head, no index. */
  function aged(run: TestRun): Promise<void> {
    return inStorage(run, (sql) => {
      sql.exec("UPDATE run SET head = json_remove(head, '$.audit')");
      sql.exec("DELETE FROM effects");
    });
  }

  it.each([0, 2, 99])(
    "get their audit once, on waking, %i commits after the head was saved",
    async (unsaved) => {
      const run = await newTestRun();
      await accepted(run, ledger("a"));
      const id = await mutated(run, "a");
      await mutated(run, "b");
      await rolledBack(run, [id]);
      if (unsaved < 99) await run.client.sweep();
      for (let index = 0; index < unsaved; index += 1) await accepted(run, ledger("late"));
      const before = await audited(run);
      await aged(run);
      await evict(run);
      expect(await audited(run)).toEqual(before);
      const { stored, replayed } = await bothStates(run);
      expect(stored).toEqual(replayed);
      // It is stored now: the next wake finds it.
      const [row] = await rowsOf<{ audit: string | null }>(
        run,
        "SELECT json_extract(head, '$.audit') AS audit FROM run",
      );
      expect(row?.audit).not.toBeNull();
      await evict(run);
      expect(await audited(run)).toEqual(before);
    },
  );

  it("a damaged row does not keep the run from waking", async () => {
    const run = await newTestRun();
    await accepted(run, ledger("a"));
    await accepted(run, ledger("b"));
    await run.client.sweep();
    await aged(run);
    await inStorage(run, (sql) => sql.exec("UPDATE commits SET event = '{' WHERE seq = 1"));
    await evict(run);
    const { ledger_summary } = await http<{ ledger_summary: object }>("GET", `/context/runs/${run.id}`);
    expect(ledger_summary).toMatchObject({ record_count: 1, by_tool: { b: 1 } });
  });
});

describe("what audits cost", () => {
  async function written(run: TestRun, command: Command): Promise<number> {
    const answer = await submit(run.client, { command });
    if (!answer.ok) throw new Error(JSON.stringify(answer));
    return answer.rows.written;
  }

  it("budget: a ledger event is one row more than an ordinary one, a mutation one more for its id", async () => {
    const run = await newTestRun();
    const ordinary = await written(run, note());
    expect(ordinary).toBe(1);
    expect(await written(run, ledger())).toBe(ordinary + 1);
    expect(await written(run, event("tool_effect_recorded", { record: 1 }))).toBe(ordinary);
    expect(await written(run, deleted("a"))).toBe(ordinary + 2);
  });

  it("budget: a view reads what it shows, not what lies between", async () => {
    const run = await newTestRun();
    await accepted(run, deleted("a"));
    for (let index = 0; index < 300; index += 1) await accepted(run, index % 2 === 0 ? note() : ledger());
    await accepted(run, deleted("b"));
    const query = { view: "preview", sinceSeq: 0, tail: null, limit: null, cursorSeq: null } as const;
    const read = (asked: AuditQuery): Promise<{ page: AuditPage; rows: number }> =>
      inStorage(run, async (_sql, storage) => {
        const sql = new Sql(storage);
        const state = RunState.open(sql);
        if (state === null) throw new Error("there is no run");
        const before = sql.counts().read;
        const page = await readAuditView(
          { state, log: new LogReader(state.commits, state.segments, null) },
          asked,
        );
        return { page, rows: sql.counts().read - before };
      });
    const preview = await read(query);
    expect(JSON.parse(`{${preview.page.members}}`).step_count).toBe(2);
    expect(preview.rows).toBeLessThan(20);
    const paged = await read({ ...query, view: "ledger", limit: 5, cursorSeq: 100 });
    expect(JSON.parse(`{${paged.page.members}}`).records).toHaveLength(5);
    const tail = await read({ ...query, view: "ledger", tail: 3 });
    expect(JSON.parse(`{${tail.page.members}}`).records).toHaveLength(1);
    expect(tail.rows).toBeLessThan(10);
  });

  it("budget: evidence reads of tasks who had them, and no notes: none of their payloads", async () => {
    const run = await newTestRun();
    const payload = { text: "x".repeat(1_000) };
    for (let index = 0; index < 30; index += 1) {
      await accepted(run, {
        op: "patch_blackboard",
        patch_op: "add_fact",
        payload: { id: `f${index}`, ts_ms: 1, ...payload },
      });
    }
    await accepted(run, creation(row("a", { payload }), row("b")));
    const read = await inStorage(run, async (_sql, storage) => {
      const sql = new Sql(storage);
      const state = RunState.open(sql);
      if (state === null) throw new Error("there is no run");
      const before = sql.counts().read;
      await evidencePackage({ state, log: new LogReader(state.commits, state.segments, null) });
      return sql.counts().read - before;
    });
    expect(read).toBeLessThan(20);
  });
});

describe("events that are no longer in the table", () => {
  it("are read by way of the log's reader, in the order that is asked for", async () => {
    const run = await newTestRun();
    for (let index = 0; index < 12; index += 1)
      await accepted(run, index % 3 === 0 ? note() : ledger(`t${index}`));
    await inStorage(run, async (sql, storage) => {
      const state = RunState.open(new Sql(storage));
      if (state === null) throw new Error("there is no run");
      const sealed = state.commits.rows(0, 8, 100, 1_000_000);
      sql.exec("DELETE FROM commits WHERE seq <= 8");
      // Two at a time, so that one page is never all of it.
      const page = async (after: number, upto: number) =>
        sealed.filter(({ seq }) => seq > after && seq <= upto).slice(0, 2);
      const source = { state, log: { page } as unknown as LogReader };
      for (const seqs of [
        [2, 3, 5, 6, 8, 9, 11, 12],
        [12, 11, 8, 3, 2],
        [1, 7],
        [99, 5],
      ]) {
        const found: number[] = [];
        for await (const { seq } of eventsAt(source, seqs)) found.push(seq);
        expect(found).toEqual(seqs.filter((seq) => seq < 99));
      }
    });
  });
});

describe("06§9.1 a deployment without a store", () => {
  it("shows everything, and blocks a rollback with a reason of its own; an agent can still be asked", async () => {
    const run = await newTestRun();
    const id = await mutated(run, "a");
    const { ARTIFACTS: _store, ...bare } = env;
    const post = async (door: string, members: object) => {
      const request = new Request(
        `http://baton.test/${door}/runs/${run.id}/checkpoints/mutations/rollback-execute`,
        {
          method: "POST",
          headers: { "x-agent-token": "test-token", "content-type": "application/json" },
          body: JSON.stringify({
            confirm: "rollback",
            policy_ack: "allow_rollback_execution",
            event_ids: [id],
            ...members,
          }),
        },
      );
      const response = await serve(request, bare);
      return { status: response.status, body: await response.json() };
    };
    expect(await post("context", {})).toEqual({
      status: 200,
      body: {
        applied: false,
        reason: "no workspace file store is configured",
        selected_event_ids: [id],
      },
    });
    expect(await post("v1", {})).toMatchObject({ status: 409, body: { code: "ROLLBACK_BLOCKED" } });
    expect(await post("v1", { executor: "agent" })).toMatchObject({ status: 202 });
  });
});

describe("contents that a rollback writes", () => {
  it("can be read from the store, and a stored snapshot that is gone blocks", async () => {
    const run = await newTestRun();
    const id = await mutated(run, "a");
    expect((await rolledBack(run, [id])).applied).toBe(true);
    const [file] = await rowsOf<{ doc: string }>(run, "SELECT doc FROM files");
    const { sha256 } = JSON.parse(file?.doc ?? "") as { sha256: string };
    const content = await artifactStore(env, TENANT)?.read(sha256);
    expect(await new Response(content?.body ?? null).text()).toBe("x");
    const outcome = await accepted(run, {
      op: "record_mutation",
      session_id: "s",
      message_id: "m",
      tool: "t",
      outcome: "succeeded",
      files: [{ path: "a", before_version: 2, after_version: null }],
    });
    // As if the content had been lost: the record names another hash, by the engine's own word.
    const lost = fakeHash("lost");
    await inStorage(run, (sql) =>
      sql.exec(
        "UPDATE commits SET event = json_set(event, '$.payload.record.files[0].rollback_snapshot.sha256', ?) WHERE seq = 3",
        lost,
      ),
    );
    expect(await rolledBack(run, [outcome.event.event_id])).toEqual({
      applied: false,
      reason: "stored prior contents of the selected rollback step are no longer available",
      selected_event_ids: [outcome.event.event_id],
      conflicting_paths: ["a"],
    });
  });
});
