import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { forkOf } from "../../src/domain/fork.ts";
import { newHead } from "../../src/domain/head.ts";
import { MemoryRun } from "../../src/domain/memory.ts";
import { claimsOf } from "../../src/domain/outcome.ts";
import { memoryStateLines, readStateLines } from "../../src/domain/state-lines.ts";
import { MAX_RUN_HEADER_BYTES } from "../../src/protocol/limits.ts";
import type { RunHeader } from "../../src/protocol/run.ts";
import type { RunOverview } from "../../src/run/reads.ts";
import { submit } from "../../src/run/run-client.ts";
import { stateDigest } from "../../src/run/state-digest.ts";
import { commandOf, histories, type Step } from "../run/support/commands.ts";
import {
  accepted,
  claimed,
  commitsOf,
  creation,
  digestsOf,
  everything,
  evict,
  listed,
  newTestRun,
  note,
  objectOf,
  overviewOf,
  PROPERTY_TIMEOUT_MS,
  replayOf,
  row,
  type TestRun,
  useTestClock,
  wholeBlackboard,
  wholeRun,
} from "../run/support/test-run.ts";
import { checkpointIn, v1 } from "./support.ts";

/** Forks a run, which must be accepted. */
async function forked(run: TestRun, body: Record<string, unknown> = {}): Promise<TestRun> {
  const answer = await v1<{ run: RunOverview }>(run, "POST", "/fork", body);
  expect(answer.status, JSON.stringify(answer.body)).toBe(201);
  return objectOf(answer.body.run.run_id);
}

/** A run next to the same run in memory, through a random history. */
class Twins {
  readonly run: TestRun;
  readonly memory: MemoryRun;
  readonly #tokens = new Map<string, string>();
  #seq: number;

  constructor(run: TestRun, memory: MemoryRun) {
    this.run = run;
    this.memory = memory;
    this.#seq = memory.head().run.last_event_seq;
  }

  async take(step: Step, onCommit: () => void): Promise<void> {
    if (step.do === "wake") await evict(this.run);
    if (step.do !== "submit") return;
    const command = structuredClone(commandOf(step.plan, this.memory, this.#tokens, Date.now()));
    // The rows of a batch bring their own ids instead.
    const commandId = command.op === "create_tasks" ? undefined : step.commandId;
    const answer = await submit(this.run.client, { command, commandId, fingerprint: "f" });
    if (answer.ok && answer.outcome?.op === "claim_task" && answer.repeat === null) {
      const claims = claimsOf(answer.outcome);
      for (const { task, lease } of claims) this.#tokens.set(task.id, lease?.token ?? "");
      if (claims.length === 0) expect(this.memory.nextClaimable(command as never, Date.now())).toBeNull();
    }
    for (const commit of await commitsOf(this.run, this.#seq)) {
      this.memory.apply(commit);
      this.#seq = commit.event.seq;
      onCommit();
    }
  }

  async expectSame(): Promise<void> {
    expect(await wholeRun(this.run)).toEqual(JSON.parse(JSON.stringify(this.memory.run())));
    expect(await wholeBlackboard(this.run)).toEqual(JSON.parse(JSON.stringify(this.memory.blackboard())));
    expect((await replayOf(this.run)).drift).toMatchObject({ mismatch: false, compared: true });
    const digest = stateDigest(memoryStateLines(this.memory));
    expect(await digestsOf(this.run)).toMatchObject({
      replay_state_sha256: digest,
      persisted_state_sha256: digest,
    });
  }
}

async function headerOf(run: TestRun): Promise<RunHeader> {
  const { tasks: _tasks, ...header } = await wholeRun(run);
  return header;
}

describe("a fork", () => {
  const clock = useTestClock();

  it(
    "of every seq of random histories begins with that state, and goes on like a run that was brought there",
    async () => {
      await fc.assert(
        fc.asyncProperty(
          histories({ maxSteps: 10, backwards: true }),
          histories({ maxSteps: 10, backwards: false }),
          fc.nat(),
          async (before, after, at) => {
            const run = await newTestRun();
            const origin = new Twins(run, new MemoryRun(newHead(await headerOf(run))));
            const past = [[...memoryStateLines(origin.memory)]];
            for (const step of before) {
              if (step.do === "clock") clock.advance(step.ms);
              await origin.take(step, () => past.push([...memoryStateLines(origin.memory)]));
            }
            const untouched = await everything(run);
            for (const [seq, lines] of past.entries()) {
              const fork = await forked(run, { at_seq: seq });
              const header = await headerOf(fork);
              const state_sha256 = stateDigest(lines);
              expect(header.forked_from).toEqual({ run_id: run.id, seq, state_sha256 });
              const memory = forkOf(readStateLines(lines), {
                run_id: fork.id,
                origin: { run_id: run.id, seq, state_sha256 },
                nowMs: header.created_at_ms,
              });
              const genesis = stateDigest(memoryStateLines(memory));
              const twins = new Twins(fork, memory);
              await twins.expectSame();
              expect(await commitsOf(fork)).toEqual([]);
              if (seq === at % past.length) {
                for (const step of after) {
                  if (step.do === "clock") clock.advance(step.ms);
                  await twins.take(step, () => undefined);
                }
                await twins.expectSame();
                await evict(fork);
                await twins.expectSame();
              }
              const first = await v1<{ state_sha256: string }>(fork, "GET", "/state?at_seq=0");
              expect(first.body).toMatchObject({
                state_sha256: genesis,
                checkpoint_seq: null,
                commits_applied: 0,
              });
            }
            expect(await everything(run)).toEqual(untouched);
          },
        ),
        { numRuns: 6, seed: 7 },
      );
    },
    3 * PROPERTY_TIMEOUT_MS,
  );

  it("is made now where nothing else is asked, and listed at once; its log begins at 1", async () => {
    const run = await newTestRun({ objective: "old" });
    await accepted(run, creation(row("a"), row("b", { depends_on_task_ids: ["a"] })));
    await accepted(run, note({ error: "x" }, "running"));
    clock.advance(5_000);
    const fork = await forked(run, { objective: "new" });
    expect(await overviewOf(fork)).toMatchObject({
      objective: "new",
      status: "running",
      revision: 1,
      last_event_seq: 0,
      blackboard_revision: 0,
      created_at_ms: clock.nowMs(),
      forked_from: { run_id: run.id, seq: 3 },
      task_counts: { pending: 2, total: 2 },
    });
    expect(await listed(fork)).toMatchObject({
      objective: "new",
      last_event_seq: 0,
      task_counts: { total: 2 },
    });
    expect((await claimed(fork)).id).toBe("a");
    expect((await commitsOf(fork)).map(({ event }) => [event.seq, event.run_id])).toEqual([[1, fork.id]]);
    expect((await wholeBlackboard(fork)).revision).toBe(1);
    expect((await overviewOf(run)).objective).toBe("old");
  });

  it("gives out what was leased again, and knows no token of its origin", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("a"), row("b")));
    const held = await claimed(run, { lease_ms: 300_000 });
    const fork = await forked(run);
    const beat = { action: "heartbeat", lease_token: held.token };
    const path = `/tasks/${held.id}/transition`;
    expect((await v1(fork, "POST", path, beat)).body.code).toBe("TASK_LEASE_INVALID");
    const ids = [await claimed(fork), await claimed(fork)].map(({ id }) => id);
    expect(ids.toSorted()).toEqual(["a", "b"]);
    expect((await v1(fork, "POST", path, beat)).body.code).toBe("TASK_LEASE_INVALID");
    expect((await v1(run, "POST", path, beat)).status).toBe(200);
  });

  it("can be forked, checkpointed and seen as it was, its beginning included", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("a")));
    const fork = await forked(run);
    await accepted(fork, creation(row("b")));
    await checkpointIn(fork, "r2");
    await evict(fork);
    await accepted(fork, creation(row("c")));
    const child = await forked(fork, { at_seq: 1 });
    const grandchild = await forked(await forked(fork, { at_seq: 0 }));
    const ids = async (of: TestRun) => (await wholeRun(of)).tasks.map(({ id }) => id);
    expect(await ids(fork)).toEqual(["a", "b", "c"]);
    expect(await ids(child)).toEqual(["a", "b"]);
    expect(await ids(grandchild)).toEqual(["a"]);
    expect((await overviewOf(child)).forked_from).toMatchObject({ run_id: fork.id, seq: 1 });
    for (const [of, events] of [
      [fork, 2],
      [child, 0],
      [grandchild, 0],
    ] as const) {
      await evict(of);
      expect(await replayOf(of, "?from_checkpoint=false")).toMatchObject({
        events_applied: events,
        drift: { mismatch: false, compared: true },
      });
    }
    const { body } = await v1<{ diff: { tasks: { added: { id: string }[] } } }>(
      fork,
      "GET",
      "/diff?from=0&to=2",
    );
    expect(body.diff.tasks.added.map(({ id }) => id)).toEqual(["b", "c"]);
  });

  it("keeps saying where it comes from, whatever is put (like I19)", async () => {
    const run = await newTestRun();
    const fork = await forked(run);
    const { forked_from, ...whole } = await wholeRun(fork);
    for (const put of [whole, { ...whole, forked_from: { run_id: "other", seq: 9, state_sha256: "" } }]) {
      expect((await v1(fork, "PUT", "", put)).status).toBe(200);
      expect((await overviewOf(fork)).forked_from).toEqual(forked_from);
    }
    expect((await v1(run, "PUT", "", { ...(await wholeRun(run)), forked_from })).status).toBe(200);
    expect((await overviewOf(run)).forked_from).toBeUndefined();
  });

  it("is made once under one key, whatever has happened since", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("a")));
    const asked = { objective: "o", command_id: crypto.randomUUID() };
    const first = await v1<{ run: RunOverview }>(run, "POST", "/fork", asked);
    expect(first.status).toBe(201);
    expect(first.headers.get("location")).toBe(`/v1/runs/${first.body.run.run_id}`);
    await accepted(run, creation(row("b")));
    const again = await v1<{ run: RunOverview }>(run, "POST", "/fork", asked);
    expect([again.status, again.headers.get("idempotency-replayed")]).toEqual([201, "true"]);
    expect(again.body).toEqual(first.body);
    const other = await v1(run, "POST", "/fork", { ...asked, objective: "other" });
    expect([other.status, other.body.code]).toEqual([422, "COMMAND_ID_CONFLICT"]);
    const elsewhere = await v1(await newTestRun(), "POST", "/fork", asked);
    expect(elsewhere.body.code).toBe("COMMAND_ID_CONFLICT");
  });

  it("that is asked for several times at once is made once, and every answer says so", async () => {
    const run = await newTestRun();
    await accepted(run, creation(...["a", "b", "c"].map((id) => row(id))));
    const together = (bodies: Record<string, unknown>[]) =>
      Promise.all(bodies.map((body) => v1<{ run: RunOverview }>(run, "POST", "/fork", body)));
    const command_id = crypto.randomUUID();
    const repeats = await together([1, 2, 3, 4].map(() => ({ command_id })));
    expect(repeats.map(({ status }) => status)).toEqual([201, 201, 201, 201]);
    expect(new Set(repeats.map(({ body }) => body.run.run_id)).size).toBe(1);
    expect(repeats.filter(({ headers }) => headers.has("idempotency-replayed"))).toHaveLength(3);

    const run_id = crypto.randomUUID();
    const rivals = await together(["one", "two", "three"].map((objective) => ({ run_id, objective })));
    expect(rivals.map(({ status }) => status).toSorted()).toEqual([201, 409, 409]);
    const made = rivals.find(({ status }) => status === 201)?.body.run;
    expect(await overviewOf(objectOf(run_id))).toEqual(made);
  });

  it("of a large run arrives whole", async () => {
    const run = await newTestRun();
    const text = "x\u{1F680}ü".repeat(30_000);
    for (let batch = 0; batch < 5; batch += 1) {
      await accepted(run, creation(...[0, 1, 2, 3].map((n) => row(`t${batch}-${n}`, { payload: { text } }))));
    }
    const fork = await forked(run);
    await evict(fork);
    expect((await wholeRun(fork)).tasks).toEqual((await wholeRun(run)).tasks);
    expect((await replayOf(fork)).drift).toMatchObject({ mismatch: false, compared: true });
  });

  it.each<[Record<string, unknown>, number, string]>([
    [{ at_seq: 2 }, 404, "SEQ_UNKNOWN"],
    [{ at_seq: Number.MAX_SAFE_INTEGER }, 404, "SEQ_UNKNOWN"],
    [{ at_seq: -1 }, 422, "BODY_INVALID"],
    [{ at_seq: "1" }, 422, "BODY_INVALID"],
    [{ at_seq: 0.5 }, 422, "BODY_INVALID"],
    [{ seq: 1 }, 422, "BODY_INVALID"],
    [{ run_id: "a b" }, 400, "ID_INVALID"],
    [{ run_id: "" }, 400, "ID_INVALID"],
    [{ run_id: ".." }, 400, "ID_INVALID"],
    [{ run_id: "x".repeat(201) }, 400, "ID_INVALID"],
    [{ objective: "x".repeat(300_000) }, 413, "LIMIT_EXCEEDED"],
    [{ command_id: "x".repeat(201) }, 400, "ID_INVALID"],
  ])("of %j is refused", async (body, status, code) => {
    const run = await newTestRun();
    await accepted(run, note());
    const before = await everything(run);
    const answer = await v1(run, "POST", "/fork", body);
    expect([answer.status, answer.body.code]).toEqual([status, code]);
    expect(await everything(run)).toEqual(before);
  });

  it("is refused with the limit that it crosses where its header would be too large to be stored", async () => {
    const run = await newTestRun();
    const source_metadata = "x".repeat(MAX_RUN_HEADER_BYTES - 1_000);
    expect((await v1(run, "PUT", "", { ...(await wholeRun(run)), source_metadata })).status).toBe(200);
    const { status, body } = await v1(run, "POST", "/fork", { objective: "x".repeat(1_000) });
    expect([status, body.code]).toEqual([413, "LIMIT_EXCEEDED"]);
    expect(body).toMatchObject({ limit: MAX_RUN_HEADER_BYTES, limit_name: "run_header_bytes" });
    expect((await v1(run, "POST", "/fork", {})).status).toBe(201);
  });

  it("is refused under an id that is taken, its origin's included, and of a run that is not there", async () => {
    const run = await newTestRun();
    const other = await newTestRun();
    for (const run_id of [run.id, other.id]) {
      const before = await everything(objectOf(run_id));
      const answer = await v1(run, "POST", "/fork", { run_id });
      expect([answer.status, answer.body.code]).toEqual([409, "CONTEXT_RUN_EXISTS"]);
      expect(await everything(objectOf(run_id))).toEqual(before);
    }
    const run_id = crypto.randomUUID();
    const answer = await v1({ id: crypto.randomUUID() }, "POST", "/fork", { run_id });
    expect([answer.status, answer.body.code]).toEqual([404, "RUN_NOT_FOUND"]);
    expect((await v1({ id: run_id }, "GET", "")).status).toBe(404);
  });
});
