import { existsSync, globSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import type { StrykerOptions, schema } from "@stryker-mutator/api/core";
import { commonTokens, declareFactoryPlugin, PluginKind, tokens } from "@stryker-mutator/api/plugin";
import type { Reporter } from "@stryker-mutator/api/report";
import { compare, entriesFor, type Judgement, readJudgements, summary, survivorsOf } from "./judgements.ts";

const JUDGED = "bench/mutation/judged";
const RULES = "src/domain";
const UNJUDGED = "coverage/mutation/unjudged.json";

/** Says of what is left whether somebody has judged it. The pass fails while there is anything that nobody has. */
class JudgedReporter implements Reporter {
  readonly #mutate: readonly string[];

  constructor(options: StrykerOptions) {
    this.#mutate = options.mutate;
  }

  onMutationTestReportReady({ files }: Readonly<schema.MutationTestResult>): void {
    try {
      this.#judge(files);
    } catch (error) {
      // Stryker would tell it, and end as if all were well.
      process.exitCode = 1;
      console.error(error instanceof Error ? error.message : error);
    }
  }

  #judge(files: schema.FileResultDictionary): void {
    const all = readAll();
    const { whole, parts } = scopeOf(this.#mutate);
    const survivors = [...whole, ...parts].flatMap((file) => {
      const reported = files[file];
      return reported === undefined ? [] : survivorsOf(file, reported);
    });
    const of = (names: Iterable<string>) => new Map([...names].map((file) => [file, all.get(file) ?? []]));
    const verdict = compare(survivors, of(whole), of(parts));
    console.log(summary(verdict));
    writeFileSync(UNJUDGED, `${JSON.stringify(entriesFor(verdict.unjudged), null, 2)}\n`);
    if (verdict.unjudged.length > 0) console.log(`The entries that would judge them: ${UNJUDGED}`);
    if (verdict.unjudged.length + verdict.stale.length > 0) process.exitCode = 1;
  }
}

/** By source file. */
function readAll(): Map<string, Judgement[]> {
  const names = existsSync(JUDGED) ? readdirSync(JUDGED).sort() : [];
  return new Map(
    names.map((name) => {
      const file = `${RULES}/${basename(name, ".json")}`;
      if (!existsSync(file)) throw new Error(`${JUDGED}/${name}: there is no ${file}`);
      return [file, readJudgements(`${JUDGED}/${name}`, readFileSync(`${JUDGED}/${name}`, "utf8"))];
    }),
  );
}

/** Which files are changed. The report has others too: what it knows of them from an earlier pass. */
function scopeOf(mutate: readonly string[]): { whole: Set<string>; parts: Set<string> } {
  const whole = new Set<string>();
  const parts = new Set<string>();
  for (const pattern of mutate) {
    const [, isNot, glob = "", range] = /^(!?)(.*?)(:\d.*)?$/.exec(pattern) ?? [];
    for (const file of globSync(glob)) {
      if (isNot === "!") whole.delete(file);
      else if (range === undefined) whole.add(file);
      else parts.add(file);
    }
  }
  return { whole, parts: parts.difference(whole) };
}

function judgedReporter(options: StrykerOptions): Reporter {
  return new JudgedReporter(options);
}
judgedReporter.inject = tokens(commonTokens.options);

export const strykerPlugins = [declareFactoryPlugin(PluginKind.Reporter, "judged", judgedReporter)];
