import { runInDurableObject } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { expect } from "vitest";
import type { CheckpointHead } from "../../src/protocol/checkpoint.ts";
import { type CheckpointBounds, CheckpointKeeper } from "../../src/run/checkpoint-keeper.ts";
import type { RunObject } from "../../src/run/run-object.ts";
import { RunState } from "../../src/run/run-state.ts";
import { Sql } from "../../src/run/storage/sql.ts";
import { inStorage, type TestRun, wholeBlackboard, wholeRun } from "../run/support/test-run.ts";

/** The bucket of the tests' deployment. */
export const BUCKET = bucketOf();

function bucketOf(): R2Bucket {
  if (env.ARTIFACTS === undefined) throw new Error("the tests need a bucket");
  return env.ARTIFACTS;
}

/** A keeper of checkpoints with a state of its own, over a run's storage. */
export interface Keeping {
  keeper: CheckpointKeeper;
  state: RunState;
  sql: Sql;
  storage: DurableObjectStorage;
  /** The object itself, with a keeper and a state of its own. */
  object: RunObject;
}

/** Runs code with a keeper of other bounds, or another bucket or none, in the run's object. */
export function withKeeper<R>(
  run: TestRun,
  bounds: Partial<CheckpointBounds>,
  bucket: R2Bucket | null,
  body: (keeping: Keeping) => R | Promise<R>,
): Promise<R> {
  return runInDurableObject(run.stub, (object: RunObject, ctx) => {
    const sql = new Sql(ctx.storage);
    const state = RunState.open(sql);
    if (state === null) throw new Error("there is no run");
    const all = { storedBytes: Number.MAX_SAFE_INTEGER, interval: Number.MAX_SAFE_INTEGER, ...bounds };
    return body({
      keeper: new CheckpointKeeper(sql, ctx.storage, state, bucket, all),
      state,
      sql,
      storage: ctx.storage,
      object,
    });
  });
}

/** Where a checkpoint's content is put. `old`: as the releases did that knew no lines. */
export type Place = "rows" | "r2" | "old";

/** Makes a checkpoint of this moment whose content lies there. */
export async function checkpointIn(run: TestRun, place: Place): Promise<void> {
  if (place === "old") {
    await oldCheckpoint(run);
    return;
  }
  const bounds = { storedBytes: place === "r2" ? 0 : Number.MAX_SAFE_INTEGER };
  const made = await withKeeper(run, bounds, BUCKET, ({ keeper }) => keeper.create({ reason: place }, null));
  expect(made.ok).toBe(true);
}

/** A checkpoint as older releases stored it. */
export async function oldCheckpoint(run: TestRun): Promise<void> {
  const whole = await wholeRun(run);
  const board = await wholeBlackboard(run);
  const seq = whole.last_event_seq;
  const head = {
    checkpoint_id: `cp-old-${seq}`,
    run_id: run.id,
    seq,
    ts_ms: whole.updated_at_ms,
    reason: "old",
  };
  await inStorage(run, (sql) => {
    sql.exec("DELETE FROM checkpoint_parts WHERE seq = ?", seq);
    sql.exec("INSERT OR REPLACE INTO checkpoints (seq, head) VALUES (?, ?)", seq, JSON.stringify(head));
    for (const [member, value] of [
      ["run_state", whole],
      ["blackboard", board],
    ] as const) {
      const text = JSON.stringify(value);
      const middle = Math.floor(text.length / 2);
      for (const [part, piece] of [text.slice(0, middle), text.slice(middle)].entries()) {
        sql.exec("INSERT INTO checkpoint_parts VALUES (?, ?, ?, ?)", seq, member, part, piece);
      }
    }
  });
}

/** Keys of the objects that the run's checkpoints have in R2. */
export async function objectsOf(run: TestRun): Promise<string[]> {
  const { objects } = await BUCKET.list({ prefix: `checkpoints/local/local/${run.id}/` });
  return objects.map(({ key }) => key);
}

/** Heads of the run's checkpoints as stored, by seq. */
export function headsOf(run: TestRun): Promise<CheckpointHead[]> {
  return inStorage(run, (sql) =>
    sql
      .exec<{ head: string }>("SELECT head FROM checkpoints ORDER BY seq")
      .toArray()
      .map(({ head }) => JSON.parse(head) as CheckpointHead),
  );
}

/** A request to `/v1` of the run: status and body. */
export async function v1<T = Record<string, unknown>>(
  run: Pick<TestRun, "id">,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<{ status: number; body: T; headers: Headers }> {
  const response = await exports.default.fetch(
    new Request(`http://baton.test/v1/runs/${run.id}${path}`, {
      method,
      headers: { "x-agent-token": "test-token", "content-type": "application/json", ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    }),
  );
  const text = await response.text();
  return { status: response.status, body: JSON.parse(text) as T, headers: response.headers };
}
