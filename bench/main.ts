import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Bench, Measure } from "./measure.ts";
import { measures } from "./measures.ts";
import { missCount, type Outcome, table, toJson } from "./report.ts";
import { benchServers } from "./servers.ts";

const usage = `Usage: npm run bench [-- options]

Measures Baton against the raw platform, in the same run, on this machine, on fresh storage.

  --only NAME[,NAME]   only these measures: ${measures.map(({ name }) => name).join(", ")}
  --json FILE          write everything measured to a file too
  --rounds N           counted rounds of each figure, 3 to 20 (5)
  --seconds S          how long each subject is loaded per round, 0.1 to 10 (1.5)
  --help

Exit status: 0 every bar was met, 1 one was missed or could not be measured, 2 wrong arguments.`;

/** The arguments cannot be used; the message says which, and what would do. */
class UsageError extends Error {
  override readonly name = "UsageError";
}

interface Arguments {
  measures: readonly Measure[];
  jsonFile: string | undefined;
  rounds: number;
  roundMs: number;
}

/** Null when help was asked for. @throws UsageError */
function readArguments(args: string[]): Arguments | null {
  const values = parse(args);
  if (values.help === true) return null;
  return {
    measures: values.only === undefined ? measures : measuresOf(values.only),
    jsonFile: values.json,
    rounds: readNumber("--rounds", values.rounds ?? "5", { min: 3, max: 20, whole: true }),
    roundMs: readNumber("--seconds", values.seconds ?? "1.5", { min: 0.1, max: 10, whole: false }) * 1000,
  };
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        only: { type: "string" },
        json: { type: "string" },
        rounds: { type: "string" },
        seconds: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    }).values;
  } catch (error) {
    throw new UsageError(messageOf(error));
  }
}

function measuresOf(text: string): Measure[] {
  const names = text.split(",");
  const twice = names.find((name, index) => names.indexOf(name) < index);
  if (twice !== undefined) throw new UsageError(`--only names "${twice}" more than once`);
  return names.map((name) => {
    const measure = measures.find((known) => known.name === name);
    if (measure !== undefined) return measure;
    throw new UsageError(`--only knows ${measures.map((known) => known.name).join(", ")}, not "${name}"`);
  });
}

function readNumber(name: string, text: string, rule: { min: number; max: number; whole: boolean }): number {
  const value = (rule.whole ? /^\d+$/ : /^\d+(\.\d+)?$/).test(text) ? Number(text) : Number.NaN;
  if (value >= rule.min && value <= rule.max) return value;
  const kind = rule.whole ? "a whole number" : "a number";
  throw new UsageError(`${name} must be ${kind} from ${rule.min} to ${rule.max}, not "${text}"`);
}

/** Finds out before minutes of measuring, and not after them. @throws UsageError */
async function checkWritable(jsonFile: string): Promise<void> {
  try {
    // Appending nothing: what an earlier run wrote stays until there is something new.
    await (await open(jsonFile, "a")).close();
  } catch (error) {
    throw new UsageError(`--json cannot be written: ${messageOf(error)}`);
  }
}

/** Runs the measures one after the other, printing each as it ends. A measure that fails does not end the others. */
async function runMeasures({ measures, rounds, roundMs }: Arguments): Promise<Outcome[]> {
  // Not the system's directory for temporary files: on many machines that is memory, where a flush is free.
  const servers = await benchServers(join(import.meta.dirname, "..", ".baton"));
  for (const [signal, status] of Object.entries({ SIGHUP: 129, SIGINT: 130, SIGTERM: 143 })) {
    process.once(signal, () => void servers.close().finally(() => process.exit(status)));
  }
  try {
    const outcomes: Outcome[] = [];
    for (const measure of measures) {
      const progress = (text: string) => console.error(`${measure.name}: ${text}`);
      const bench: Bench = { ...servers, rounds, roundMs, progress };
      const report = await measure.run(bench).catch((error: unknown) => ({ failed: messageOf(error) }));
      // The signal's handler ends the process. Until then nothing more is printed: it was not the measure that failed.
      if (servers.signal.aborted) await new Promise<never>(() => undefined);
      outcomes.push({ measure, report });
      console.log(table({ measure, report }));
    }
    return outcomes;
  } finally {
    await servers.close();
  }
}

async function main(): Promise<number> {
  const args = readArguments(process.argv.slice(2));
  if (args === null) {
    console.log(usage);
    return 0;
  }
  if (args.jsonFile !== undefined) await checkWritable(args.jsonFile);
  const outcomes = await runMeasures(args);
  if (args.jsonFile !== undefined) await writeFile(args.jsonFile, toJson(outcomes, args));
  const misses = missCount(outcomes);
  console.log(
    misses === 0 ? "No bar was missed." : `${misses} ${misses === 1 ? "bar was" : "bars were"} missed.`,
  );
  return misses === 0 ? 0 : 1;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

main().then(
  (status) => process.exit(status),
  (error: unknown) => {
    console.error(error instanceof UsageError ? `${error.message}\n\n${usage}` : error);
    process.exit(error instanceof UsageError ? 2 : 1);
  },
);
