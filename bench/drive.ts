/** What a closed loop did. */
export interface Driven {
  /** Finished steps per second. */
  perSecond: number;
  steps: number;
}

/**
 * Keeps every worker busy for a time, in a closed loop: each starts its next step when its last one has ended.
 * A step that fails ends the whole loop with its error.
 */
export async function drive<W>(
  workers: readonly W[],
  durationMs: number,
  step: (worker: W, index: number) => Promise<void>,
): Promise<Driven> {
  const startedMs = performance.now();
  const endMs = startedMs + durationMs;
  let steps = 0;
  const loops = workers.map(async (worker, index) => {
    while (performance.now() < endMs) {
      await step(worker, index);
      steps += 1;
    }
  });
  await Promise.all(loops);
  return { perSecond: (steps * 1000) / (performance.now() - startedMs), steps };
}

/**
 * Runs every subject once per round, so that a machine whose speed drifts is unfair to none. One round comes first
 * that is not counted: it warms up what compiles and caches.
 *
 * @returns by name, one result per counted round; results of equal index are of the same round.
 */
export async function interleave<R, Name extends string>(
  rounds: number,
  subjects: Readonly<Record<Name, () => Promise<R>>>,
): Promise<Record<Name, R[]>> {
  const names = Object.keys(subjects) as Name[];
  const results = Object.fromEntries(names.map((name) => [name, [] as R[]])) as Record<Name, R[]>;
  for (let round = -1; round < rounds; round += 1) {
    for (const name of names) {
      const result = await subjects[name]();
      if (round >= 0) results[name].push(result);
    }
  }
  return results;
}
