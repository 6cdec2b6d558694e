import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { diff, type Moment, momentOf } from "../../src/domain/diff.ts";
import { newHead } from "../../src/domain/head.ts";
import { MemoryRun } from "../../src/domain/memory.ts";
import { claimsOf } from "../../src/domain/outcome.ts";
import { memoryStateLines } from "../../src/domain/state-lines.ts";
import type { Checkpoint } from "../../src/protocol/checkpoint.ts";
import { submit } from "../../src/run/run-client.ts";
import { stateDigest } from "../../src/run/state-digest.ts";
import { commandOf, histories } from "../run/support/commands.ts";
import {
  accepted,
  commitsOf,
  creation,
  evict,
  http,
  inStorage,
  newTestRun,
  note,
  PROPERTY_TIMEOUT_MS,
  row,
  type TestRun,
  useTestClock,
  wholeBlackboard,
  wholeRun,
} from "../run/support/test-run.ts";
import { BUCKET, checkpointIn, objectsOf, type Place, v1 } from "./support.ts";

/** A run as it was, by seq. */
interface Past {
  moment: Moment;
  sha256: string;
}

interface StateAnswer extends Moment {
  at_seq: number;
  checkpoint_seq: number | null;
  commits_applied: number;
  state_sha256: string;
}

const wired = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;

function pastOf(memory: MemoryRun): Past {
  return { moment: wired(momentOf(memory)), sha256: stateDigest(memoryStateLines(memory)) };
}

async function stateOf(run: TestRun, seq: number | null): Promise<StateAnswer> {
  const answer = await v1<StateAnswer>(run, "GET", `/state${seq === null ? "" : `?at_seq=${seq}`}`);
  expect(answer.status, JSON.stringify(answer.body)).toBe(200);
  return answer.body;
}

/** A run of so many commits, each a task, with checkpoints after some of them. */
async function runOfTasks(count: number, places: Record<number, Place>): Promise<TestRun> {
  const run = await newTestRun();
  for (let seq = 1; seq <= count; seq += 1) {
    await accepted(run, creation(row(`t${seq}`)));
    const place = places[seq];
    if (place !== undefined) await checkpointIn(run, place);
  }
  return run;
}

describe("the state at a seq", () => {
  const clock = useTestClock();

  it(
    "is what a replay from the beginning gives, at every seq of random histories, through checkpoints wherever they lie",
    async () => {
      const places = fc.array(fc.tuple(fc.nat(), fc.constantFrom<Place>("rows", "r2", "old")), {
        maxLength: 6,
      });
      await fc.assert(
        fc.asyncProperty(histories({ maxSteps: 16, backwards: true }), places, async (steps, wanted) => {
          const run = await newTestRun();
          const { tasks: _tasks, ...header } = await wholeRun(run);
          const memory = new MemoryRun(newHead(header));
          const past: Past[] = [pastOf(memory)];
          const tokens = new Map<string, string>();
          const whole = new Set<number>();
          for (const [index, step] of steps.entries()) {
            if (step.do === "clock") clock.advance(step.ms);
            if (step.do === "wake") await evict(run);
            if (step.do === "submit") {
              const command = structuredClone(commandOf(step.plan, memory, tokens, Date.now()));
              const answer = await submit(run.client, {
                command,
                // The rows of a batch bring their own ids instead.
                commandId: command.op === "create_tasks" ? undefined : step.commandId,
                fingerprint: "f",
              });
              for (const { task, lease } of answer.ok ? claimsOf(answer.outcome) : []) {
                tokens.set(task.id, lease?.token ?? "");
              }
              for (const commit of await commitsOf(run, past.length - 1)) {
                memory.apply(commit);
                past.push(pastOf(memory));
              }
            }
            for (const [, place] of wanted.filter(([at]) => at % steps.length === index)) {
              await checkpointIn(run, place);
              if (place === "old") whole.delete(past.length - 1);
              else whole.add(past.length - 1);
            }
          }
          for (const [seq, { moment, sha256 }] of past.entries()) {
            const checkpoint = [...whole].filter((at) => at <= seq).toSorted((a, b) => b - a)[0] ?? null;
            expect(await stateOf(run, seq)).toEqual({
              ...moment,
              at_seq: seq,
              checkpoint_seq: checkpoint,
              commits_applied: seq - (checkpoint ?? 0),
              state_sha256: sha256,
            });
          }
          expect((await stateOf(run, null)).at_seq).toBe(past.length - 1);
          for (const [a, b] of [
            [0, past.length - 1],
            [past.length - 1, Math.floor(past.length / 2)],
            [Math.floor(past.length / 3), Math.floor(past.length / 2)],
          ] as const) {
            const { body } = await v1(run, "GET", `/diff?from=${a}&to=${b}`);
            const [from, to] = [past[a], past[b]];
            if (from === undefined || to === undefined) throw new Error("not of this past");
            expect(body).toEqual({
              from: { seq: a, state_sha256: from.sha256 },
              to: { seq: b, state_sha256: to.sha256 },
              diff: wired(diff(from.moment, to.moment)),
            });
          }
        }),
        { numRuns: 12, seed: 5 },
      );
    },
    2 * PROPERTY_TIMEOUT_MS,
  );

  it("leads an earlier state on for a diff, unless a checkpoint is nearer", async () => {
    const run = await runOfTasks(9, { 3: "rows", 6: "r2" });
    for (const [from, to] of [
      [4, 5],
      [4, 6],
      [4, 9],
      [0, 2],
      [9, 0],
      [6, 6],
    ] as const) {
      const { status, body } = await v1<{ diff: { tasks: { added: { id: string }[]; removed: string[] } } }>(
        run,
        "GET",
        `/diff?from=${from}&to=${to}`,
      );
      expect(status).toBe(200);
      const ids = Array.from(
        { length: Math.abs(to - from) },
        (_, index) => `t${Math.min(from, to) + index + 1}`,
      );
      expect(body.diff.tasks.added.map(({ id }) => id)).toEqual(from < to ? ids : []);
      expect(body.diff.tasks.removed).toEqual(from > to ? ids : []);
    }
  });

  it.each<[string, (run: TestRun) => Promise<unknown>]>([
    ["its object has gone", async (run) => BUCKET.delete(await objectsOf(run))],
    ["its object is another", async (run) => putAll(run, '{"head":{}}\n')],
    ["its object is cut off", async (run) => putAll(run, '{"head":')],
    ["its object is empty", async (run) => putAll(run, "")],
  ])("passes over a checkpoint when %s", async (_, damage) => {
    const run = await runOfTasks(6, { 2: "rows", 4: "r2", 5: "r2" });
    const before = await stateOf(run, 6);
    expect(before.checkpoint_seq).toBe(5);
    await damage(run);
    expect(await stateOf(run, 6)).toEqual({ ...before, checkpoint_seq: 2, commits_applied: 4 });
    await inStorage(run, (sql) => sql.exec("UPDATE checkpoint_parts SET text = replace(text, 't1', 't9')"));
    expect(await stateOf(run, 6)).toEqual({ ...before, checkpoint_seq: null, commits_applied: 6 });
  });

  it.each<[string, (run: TestRun) => Promise<unknown>]>([
    ["has gone", async (run) => BUCKET.delete(await objectsOf(run))],
    ["is another", async (run) => putAll(run, '{"head":{}}\n')],
    ["is cut off", async (run) => putAll(run, '{"head":')],
  ])("stands in for the content of a checkpoint whose object %s", async (_, damage) => {
    const run = await runOfTasks(5, { 5: "r2" });
    await damage(run);
    const { checkpoint } = await http<{ checkpoint: Checkpoint }>(
      "GET",
      `/context/runs/${run.id}/checkpoints/latest`,
    );
    expect(checkpoint.run_state).toEqual(await wholeRun(run));
    expect(checkpoint.blackboard).toEqual(await wholeBlackboard(run));
  });

  it("of a large run is streamed, from R2 as from rows", async () => {
    const run = await newTestRun();
    const text = "x\u{1F680}ü".repeat(30_000);
    for (let batch = 0; batch < 5; batch += 1) {
      await accepted(run, creation(...[0, 1, 2, 3].map((n) => row(`t${batch}-${n}`, { payload: { text } }))));
    }
    const stored = await wholeRun(run);
    const expected = { tasks: stored.tasks, objective: stored.objective };
    expect((await stateOf(run, 20)).run).toMatchObject(expected);
    await checkpointIn(run, "r2");
    await accepted(run, note());
    expect(await stateOf(run, 20)).toMatchObject({ checkpoint_seq: 20, commits_applied: 0, run: expected });
    expect((await stateOf(run, null)).run.tasks).toEqual(stored.tasks);
  });

  it.each([
    ["/state?at_seq=4", 404, "SEQ_UNKNOWN"],
    ["/state?at_seq=9007199254740991", 404, "SEQ_UNKNOWN"],
    ["/state?at_seq=9007199254740992", 400, "QUERY_INVALID"],
    ["/state?at_seq=-1", 400, "QUERY_INVALID"],
    ["/state?at_seq=x", 400, "QUERY_INVALID"],
    ["/state?at_seq=", 400, "QUERY_INVALID"],
    ["/state?at_seq=1&at_seq=2", 400, "QUERY_INVALID"],
    ["/diff?from=0&to=4", 404, "SEQ_UNKNOWN"],
    ["/diff?from=4&to=0", 404, "SEQ_UNKNOWN"],
    ["/diff?from=0", 400, "QUERY_INVALID"],
    ["/diff?to=0", 400, "QUERY_INVALID"],
    ["/diff?from=1.5&to=0", 400, "QUERY_INVALID"],
  ])("refuses %s", async (path, status, code) => {
    const run = await runOfTasks(3, {});
    const answer = await v1(run, "GET", path);
    expect([answer.status, answer.body.code]).toEqual([status, code]);
    if (code === "SEQ_UNKNOWN") {
      expect(answer.body).toMatchObject({ last_event_seq: 3, seq: expect.any(Number) });
    } else expect(answer.body.issues).toHaveLength(1);
  });

  it.each([
    ["is no JSON", "UPDATE commits SET event = '{' WHERE seq = 3", 3, 3],
    ["has a patch that is no JSON", "UPDATE commits SET patch = 'x' WHERE seq = 3", 3, 3],
    ["has gone", "DELETE FROM commits WHERE seq = 3", 3, 3],
    ["has gone, like those after it", "DELETE FROM commits WHERE seq >= 3", 3, 4],
  ])(
    "says which commit cannot be read when one %s; what lies before is told",
    async (_, damage, from, upto) => {
      const run = await runOfTasks(4, {});
      const before = await stateOf(run, 2);
      await inStorage(run, (sql) => sql.exec(damage).toArray());
      expect(await stateOf(run, 2)).toEqual(before);
      const answers = [
        await v1(run, "GET", "/state"),
        await v1(run, "GET", "/diff?from=4&to=0"),
        await v1(run, "POST", "/fork", {}),
      ];
      for (const { body } of answers) {
        expect(body).toMatchObject({ code: "LOG_DAMAGED", from_seq: from, upto_seq: upto });
      }
    },
  );

  it.each(["/state", "/diff?from=0&to=0"])("of no run is not found: %s", async (path) => {
    const answer = await v1({ id: crypto.randomUUID() }, "GET", path);
    expect([answer.status, answer.body.code]).toEqual([404, "RUN_NOT_FOUND"]);
  });
});

async function putAll(run: TestRun, text: string): Promise<void> {
  for (const key of await objectsOf(run)) await BUCKET.put(key, text);
}
