/** What the tests import as `fast-check`: properties with fewer examples, always the same ones, not shrunk. */
import fastCheck from "fast-check";

export * from "fast-check";

const MAX_RUNS = 40;

// A survivor must be one again tomorrow. Shrinking takes a hundred times as long as the failure that is enough here.
fastCheck.configureGlobal({ seed: 1, endOnFailure: true });

function assert<Ts>(property: fastCheck.IProperty<Ts>, parameters: fastCheck.Parameters<Ts> = {}): void {
  fastCheck.assert(property, { ...parameters, numRuns: Math.min(parameters.numRuns ?? 100, MAX_RUNS) });
}

export default { ...fastCheck, assert };
