import { globSync } from "node:fs";
import { registerHooks } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { INSTRUMENTER_CONSTANTS, type InstrumenterContext } from "@stryker-mutator/api/core";
import { declareFactoryPlugin, PluginKind } from "@stryker-mutator/api/plugin";
import {
  type DryRunResult,
  DryRunStatus,
  determineHitLimitReached,
  type MutantRunOptions,
  type MutantRunResult,
  MutantRunStatus,
  type TestResult,
  type TestRunner,
  TestStatus,
} from "@stryker-mutator/api/test-runner";
import { vi } from "vitest";
import { load, type SuiteTest } from "./suite.ts";

/** From the sandbox, which is the working directory: the tests that need neither the platform nor a server. */
const TEST_FILES = "test/domain/**/*.test.ts";

/** Tests of what a great deal costs, each of seconds: they would be run for every mutant that all else let pass. */
const TOO_LONG = [
  "a path that is written again and again costs each time the same",
  "more lines without a record than a file can have are a reason to refuse",
  "a run with more faults than can be listed is none",
  "a record with as many faults as fit into an event is none",
];

/** What is imported instead, by the names under which the tests and the rules import it. */
const STAND_INS: Readonly<Record<string, string>> = {
  vitest: new URL("./vitest.ts", import.meta.url).href,
  "fast-check": new URL("./fast-check.ts", import.meta.url).href,
  "../protocol/lazy.ts": new URL("./lazy.ts", import.meta.url).href,
};

registerHooks({
  resolve(specifier, context, next) {
    const url = STAND_INS[specifier];
    const isOurs = Object.values(STAND_INS).includes(context.parentURL ?? "");
    return url === undefined || isOurs ? next(specifier, context) : { url, shortCircuit: true };
  },
});

/** The mutated code looks here which mutant is on, and counts here what it runs. */
const namespace: InstrumenterContext = {};
Object.assign(globalThis, { [INSTRUMENTER_CONSTANTS.NAMESPACE]: namespace });

/**
 * Loads the tests once and runs them in this process, for each mutant those that cover it until one fails.
 *
 * Stryker's own runner for vitest starts vitest anew for each mutant, which takes a second or two: with the mutants of
 * `src/domain`, hours. The rules hold no state (what they keep of themselves is made anew, see lazy.ts), so nothing has to
 * be loaded again but for a mutant in what is computed while a file is loaded: for each of those, Stryker starts a process.
 */
class RepeatingRunner implements TestRunner {
  #tests: Promise<readonly SuiteTest[]> | undefined;

  capabilities() {
    return { reloadEnvironment: false };
  }

  async dryRun(): Promise<DryRunResult> {
    const results: TestResult[] = [];
    for (const test of await this.#load()) {
      namespace.currentTestId = test.id;
      results.push(await run(test));
    }
    delete namespace.currentTestId;
    const { static: atLoad = {}, perTest = {} } = namespace.mutantCoverage ?? {};
    // Stryker asks for a mutant's tests in the order of this table: the quick ones first.
    const byTime = results.toSorted((a, b) => a.timeSpentMs - b.timeSpentMs);
    const covered = byTime.flatMap(({ id }) =>
      perTest[id] === undefined ? [] : [[id, perTest[id]] as const],
    );
    return {
      status: DryRunStatus.Complete,
      tests: results,
      mutantCoverage: { static: atLoad, perTest: Object.fromEntries(covered) },
    };
  }

  async mutantRun(options: MutantRunOptions): Promise<MutantRunResult> {
    const { activeMutant, hitLimit, mutantActivation, testFilter } = options;
    if (mutantActivation === "static") namespace.activeMutant = activeMutant.id;
    let tests: readonly SuiteTest[];
    try {
      tests = await this.#load();
    } catch (error) {
      return {
        status: MutantRunStatus.Killed,
        killedBy: [],
        failureMessage: `not loaded: ${error}`,
        nrOfTests: 0,
      };
    }
    const chosen = testFilter === undefined ? tests : inOrderOf(testFilter, tests);
    Object.assign(namespace, { activeMutant: activeMutant.id, hitCount: 0, hitLimit });
    try {
      for (const [index, test] of chosen.entries()) {
        const result = await run(test);
        if (result.status !== TestStatus.Failed) continue;
        const timeout = determineHitLimitReached(namespace.hitCount, hitLimit);
        if (timeout !== undefined) return { status: MutantRunStatus.Timeout, reason: timeout.reason ?? "" };
        const { id, failureMessage } = result;
        return { status: MutantRunStatus.Killed, killedBy: [id], failureMessage, nrOfTests: index + 1 };
      }
      return { status: MutantRunStatus.Survived, nrOfTests: chosen.length };
    } finally {
      Object.assign(namespace, { activeMutant: undefined, hitLimit: undefined });
    }
  }

  #load(): Promise<readonly SuiteTest[]> {
    const files = globSync(TEST_FILES).sort();
    this.#tests ??= load(files, (file) => import(pathToFileURL(resolve(file)).href)).then((tests) =>
      withoutTooLong(tests),
    );
    return this.#tests;
  }
}

function withoutTooLong(tests: readonly SuiteTest[]): SuiteTest[] {
  const gone = TOO_LONG.filter((title) => !tests.some(({ name }) => name.endsWith(title)));
  if (gone.length > 0) throw new Error(`no test has this title any more: ${gone.join("; ")}`);
  return tests.filter(({ name }) => !TOO_LONG.some((title) => name.endsWith(title)));
}

function inOrderOf(ids: readonly string[], tests: readonly SuiteTest[]): SuiteTest[] {
  const byId = new Map(tests.map((test) => [test.id, test]));
  return ids.map((id) => {
    const test = byId.get(id);
    if (test === undefined) throw new Error(`no test ${id}`);
    return test;
  });
}

async function run(test: SuiteTest): Promise<TestResult> {
  const { id, name, fileName } = test;
  const startMs = performance.now();
  const result = () => ({ id, name, fileName: resolve(fileName), timeSpentMs: performance.now() - startMs });
  try {
    await test.run();
    return { ...result(), status: TestStatus.Success };
  } catch (error) {
    // Where a test fails, it does not come to the end that takes its spies back.
    vi.restoreAllMocks();
    return { ...result(), status: TestStatus.Failed, failureMessage: String(error) };
  }
}

export const strykerPlugins = [
  declareFactoryPlugin(PluginKind.TestRunner, "repeating", () => new RepeatingRunner()),
];
