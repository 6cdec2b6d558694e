import { env } from "cloudflare:workers";
import fc from "fast-check";
import { expect, it } from "vitest";
import { runHolder } from "../../src/artifacts/keys.ts";
import { sha256Hex } from "../../src/artifacts/sha256.ts";
import { collectArtifacts } from "../../src/maintenance/collect-artifacts.ts";
import { submit } from "../../src/run/run-client.ts";
import { bucket } from "./support/store.ts";
import { put, putCommand, TestTenant } from "./support/tenant.ts";

const RUNS = ["a", "b"];
const PATHS = ["p", "q"];
const TEXTS = ["one", "two", "three"];

const one = <T>(values: readonly T[]) => fc.constantFrom(...values);
const where = { run: one(RUNS), path: one(PATHS), text: one(TEXTS) };

/** After which step of an upload everything stops. */
const CRASHES = ["opened", "written", "adopted", "committed"] as const;

const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("put" as const), ...where }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("crash" as const), ...where, after: one(CRASHES) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("remove" as const), run: one(RUNS), path: one(PATHS) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("release" as const), run: one(RUNS) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("hold" as const), run: one(RUNS), text: one(TEXTS) }) },
  { weight: 2, arbitrary: fc.constant({ do: "collect" as const }) },
  { weight: 2, arbitrary: fc.constant({ do: "day" as const }) },
  // Two uploads and a collection at once.
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("race" as const),
      first: fc.record(where),
      second: fc.record(where),
    }),
  },
);

const collect = () => collectArtifacts(env, Date.now());

/** The steps of an upload whose hash is not known before, up to one of them. */
async function crash(
  tenant: TestTenant,
  { run, path, text }: { run: string; path: string; text: string },
  after: (typeof CRASHES)[number],
): Promise<boolean> {
  const bytes = new TextEncoder().encode(text);
  const content = { sha256: sha256Hex(bytes), bytes: bytes.length };
  const object = await tenant.store.open();
  if (after === "opened") return false;
  await bucket().put(object.key, bytes);
  if (after === "written") return false;
  await tenant.store.adopt(runHolder(run), object, content);
  if (after === "adopted") return false;
  const answer = await submit(tenant.run(run), { command: putCommand(path, content) });
  expect(answer.ok).toBe(true);
  return true;
}

it("design: collection never takes what a run has, and in the end takes everything else", {
  timeout: 120_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), async (steps) => {
      const tenant = new TestTenant();
      let generation = 0;
      const name = (run: string) => `${run}-${generation}-${run}`;
      for (const run of RUNS) await tenant.newRun(name(run));
      /** By run, the texts of all its versions. */
      const had = new Map(RUNS.map((run) => [name(run), new Set<string>()]));
      const note = (run: string, text: string) => had.get(run)?.add(text);
      const checkReadable = async () => {
        const texts = new Set([...had.values()].flatMap((set) => [...set]));
        await tenant.expectReadable(
          [...texts].map((text) => ({ text, sha256: sha256Hex(new TextEncoder().encode(text)) })),
        );
      };
      const names = new Map(RUNS.map((run) => [run, name(run)]));
      const named = (run: string) => names.get(run) ?? "";

      for (const next of steps) {
        switch (next.do) {
          case "put":
            await put(tenant, named(next.run), next.path, next.text);
            note(named(next.run), next.text);
            break;
          case "crash":
            if (await crash(tenant, { ...next, run: named(next.run) }, next.after)) {
              note(named(next.run), next.text);
            }
            break;
          case "remove":
            await submit(tenant.run(named(next.run)), {
              command: { op: "remove_artifact", path: next.path },
            });
            break;
          case "release": {
            // The run is deleted; another one takes its place.
            await tenant.store.release(runHolder(named(next.run)));
            had.delete(named(next.run));
            generation += 1;
            names.set(next.run, name(next.run));
            await tenant.newRun(named(next.run));
            had.set(named(next.run), new Set());
            break;
          }
          case "hold": {
            const sha256 = sha256Hex(new TextEncoder().encode(next.text));
            const missing = await tenant.store.hold(runHolder(named(next.run)), [sha256]);
            const isThere = [...had.values()].some((set) => set.has(next.text));
            if (isThere) expect(missing).toEqual([]);
            break;
          }
          case "collect":
            await collect();
            break;
          case "day":
            await tenant.age();
            await collect();
            break;
          case "race": {
            await tenant.age();
            const { first, second } = next;
            await Promise.all([
              put(tenant, named(first.run), first.path, first.text),
              collect(),
              put(tenant, named(second.run), second.path, second.text),
              collect(),
            ]);
            note(named(first.run), first.text);
            note(named(second.run), second.text);
            break;
          }
        }
        await checkReadable();
      }

      for (let day = 0; day < 3; day += 1) {
        await tenant.age();
        await collect();
      }
      await checkReadable();
      const references = [...had].flatMap(([run, texts]) =>
        [...texts].map((text) => `${runHolder(run)} ${sha256Hex(new TextEncoder().encode(text))}`),
      );
      const contents = new Set([...had.values()].flatMap((set) => [...set])).size;
      expect(await tenant.leftovers()).toEqual({
        objects: contents,
        contents,
        loose: 0,
        held: references.sort(),
      });
    }),
    { numRuns: 15 },
  );
});
