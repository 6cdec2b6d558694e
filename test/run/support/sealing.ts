import { env } from "cloudflare:workers";
import { segmentPrefix } from "../../../src/identity/tenant.ts";
import type { SealBounds } from "../../../src/run/sealer.ts";
import { accepted, inObject, newTestRun, note, rowsOf, TENANT, type TestRun } from "./test-run.ts";

/** The bucket that tests are given. */
export function bucket(): R2Bucket {
  if (env.ARTIFACTS === undefined) throw new Error("there is no bucket");
  return env.ARTIFACTS;
}

/** Bounds by which a few commits are sealed already. */
export const SMALL: SealBounds = { keep: 2, commits: 3, length: 8 * 1024 * 1024 };

/** Saves the head, so that all commits may be sealed, and seals what these bounds allow. Returns up to which seq. */
export async function sealAll(run: TestRun, bounds: SealBounds = SMALL): Promise<number> {
  await inObject(run, (object) => object.sweep());
  for (;;) {
    const segment = await inObject(run, (object) => object.seal(bounds));
    if (segment === null) break;
  }
  return sealedSeq(run);
}

/** Up to which seq a run is sealed. */
export async function sealedSeq(run: TestRun): Promise<number> {
  const [found] = await rowsOf<{ seq: number | null }>(run, "SELECT max(upto_seq) AS seq FROM segments");
  return found?.seq ?? 0;
}

/** The keys of a run's objects in R2. */
export async function keysOf(run: TestRun): Promise<string[]> {
  const { objects } = await bucket().list({ prefix: segmentPrefix(TENANT, run.id) });
  return objects.map(({ key }) => key);
}

/** A run with so many commits of all kinds, some with a command id. */
export async function longRun(commits: number): Promise<TestRun> {
  const run = await newTestRun();
  for (let seq = 1; seq <= commits; seq += 1) {
    const text = `fact ${seq} \u2028 \u{1F600}`;
    if (seq % 3 === 0) {
      const payload = { id: `n${seq}`, ts_ms: seq, text };
      await accepted(run, { op: "patch_blackboard", patch_op: "add_fact", payload }, `command-${seq}`);
    } else {
      await accepted(run, note({ text }, "running"), seq % 2 === 0 ? `command-${seq}` : undefined);
    }
  }
  return run;
}

/** What an object in R2 holds. */
export async function bytesOf(key: string): Promise<Uint8Array> {
  const object = await bucket().get(key);
  return new Uint8Array((await object?.arrayBuffer()) ?? new ArrayBuffer(0));
}
