/** Why a change that no pure test notices may stay: docs/testing.md says what each means. */
export const KINDS = ["same", "slower", "unreachable", "server", "open"] as const;
export type Kind = (typeof KINDS)[number];

/** What a text of a mutant is cut to, wherever it is told. */
const MAX_TEXT_LENGTH = 100;

/** What `bench/mutation/judged/<file>.ts.json` is a list of: the changes of one line that are left for one reason. */
export interface Judgement {
  /** The source line on which the change starts, trimmed. It stands for every line of the file that reads the same. */
  code: string;
  /** What is replaced, and what by. */
  mutants: [original: string, replacement: string][];
  /** `<kind>: <reason>`. */
  why: string;
}

/** As much of Stryker's report as is read here. */
export interface ReportedFile {
  source: string;
  mutants: readonly {
    status: string;
    location: { start: Place; end: Place };
    replacement?: string | undefined;
  }[];
}

/** Both from 1. */
interface Place {
  line: number;
  column: number;
}

/** A change that no test noticed. */
export interface Survivor {
  file: string;
  line: number;
  code: string;
  original: string;
  replacement: string;
}

export interface Verdict {
  left: number;
  /** How many of those left were judged to be of each kind. */
  judged: Record<Kind, number>;
  unjudged: Survivor[];
  /** Judgements of changes that are noticed by now, or are there no more. */
  stale: Pick<Survivor, "file" | "code" | "original" | "replacement">[];
}

/** The changes of a file that have survived or were never reached, by their place. */
export function survivorsOf(file: string, { source, mutants }: ReportedFile): Survivor[] {
  const lines = source.split("\n");
  const left = mutants.filter(({ status }) => status === "Survived" || status === "NoCoverage");
  const byPlace = left.toSorted(
    ({ location: a }, { location: b }) => a.start.line - b.start.line || a.start.column - b.start.column,
  );
  return byPlace.map(({ location: { start, end }, replacement = "" }) => ({
    file,
    line: start.line,
    code: lines[start.line - 1]?.trim() ?? "",
    original: told(between(lines, start, end)),
    replacement: told(replacement),
  }));
}

function between(lines: readonly string[], start: Place, end: Place): string {
  const spanned = lines.slice(start.line - 1, end.line);
  // The end first: the start may be on the same line.
  spanned.push((spanned.pop() ?? "").slice(0, end.column - 1));
  spanned.unshift((spanned.shift() ?? "").slice(start.column - 1));
  return spanned.join("\n");
}

function told(text: string): string {
  return text.replace(/\s+/g, " ").slice(0, MAX_TEXT_LENGTH);
}

/**
 * The judgements in the text of a file.
 * @param name is told in the error.
 * @throws Error if the text is no list of judgements, or judges a change twice.
 */
export function readJudgements(name: string, text: string): Judgement[] {
  const fault = (what: string) => new Error(`${name}: ${what}`);
  let entries: unknown;
  try {
    entries = JSON.parse(text);
  } catch (error) {
    throw fault(`is no JSON: ${error}`);
  }
  if (!Array.isArray(entries)) throw fault("is no list");
  const seen = new Set<string>();
  return entries.map((entry: unknown, index) => {
    const { code, mutants, why, ...others } = (entry ?? {}) as Partial<Judgement>;
    const at = (what: string) => fault(`entry ${index + 1}: ${what}`);
    if (typeof code !== "string" || code === "") throw at("has no `code`");
    if (!Array.isArray(mutants) || mutants.length === 0) throw at("has no `mutants`");
    if (!mutants.every(isPair)) throw at("has a mutant that is not [original, replacement]");
    if (kindOf(why) === null) throw at(`\`why\` must be "<kind>: <reason>" with one of ${KINDS.join(", ")}`);
    const [unknown] = Object.keys(others);
    if (unknown !== undefined) throw at(`has \`${unknown}\`, which means nothing`);
    for (const [original, replacement] of mutants) {
      const key = keyOf({ code, original, replacement });
      if (seen.has(key)) throw at(`judges ${original} → ${replacement} again`);
      seen.add(key);
    }
    return { code, mutants, why: why as string };
  });
}

function isPair(value: unknown): value is [string, string] {
  return Array.isArray(value) && value.length === 2 && value.every((text) => typeof text === "string");
}

function kindOf(why: unknown): Kind | null {
  if (typeof why !== "string") return null;
  return KINDS.find((kind) => why.startsWith(`${kind}: `) && why.length > kind.length + 2) ?? null;
}

function keyOf({ code, original, replacement }: Pick<Survivor, "code" | "original" | "replacement">): string {
  return JSON.stringify([code, original, replacement]);
}

/**
 * Holds what was left against what was judged.
 * @param judged by source file: of those that were changed as a whole. Judgements of others cannot be told to be stale.
 * @param partly as `judged`, of files of which a part only was changed.
 */
export function compare(
  survivors: readonly Survivor[],
  judged: ReadonlyMap<string, readonly Judgement[]>,
  partly: ReadonlyMap<string, readonly Judgement[]> = new Map(),
): Verdict {
  const verdict: Verdict = {
    left: survivors.length,
    judged: { same: 0, slower: 0, unreachable: 0, server: 0, open: 0 },
    unjudged: [],
    stale: [],
  };
  const known = new Map<string, Kind>();
  const unused = new Map<string, Verdict["stale"][number]>();
  for (const judgements of [judged, partly]) {
    for (const [file, entries] of judgements) {
      for (const { code, mutants, why } of entries) {
        for (const [original, replacement] of mutants) {
          const one = { file, code, original, replacement };
          known.set(file + keyOf(one), kindOf(why) as Kind);
          if (judgements === judged) unused.set(file + keyOf(one), one);
        }
      }
    }
  }
  for (const survivor of survivors) {
    const key = survivor.file + keyOf(survivor);
    const kind = known.get(key);
    if (kind === undefined) verdict.unjudged.push(survivor);
    else verdict.judged[kind] += 1;
    unused.delete(key);
  }
  verdict.stale.push(...unused.values());
  return verdict;
}

/** What the pass prints of it. */
export function summary({ left, judged, unjudged, stale }: Verdict): string {
  const kinds = KINDS.map((kind) => `${kind} ${judged[kind]}`).join(", ");
  const lines = [`Left: ${left}. Judged: ${left - unjudged.length} (${kinds}).`];
  if (unjudged.length > 0) lines.push(`Judged by nobody: ${unjudged.length}`);
  for (const { file, line, original, replacement } of unjudged) {
    lines.push(`  ${file}:${line}  ${original} → ${replacement}`);
  }
  if (stale.length > 0) lines.push(`Judged, but not left: ${stale.length}`);
  for (const { file, code, original, replacement } of stale) {
    lines.push(`  ${file}: ${code}`, `    ${original} → ${replacement}`);
  }
  return lines.join("\n");
}

/** The entries that would judge them, by source file, with the reason left to be told. */
export function entriesFor(unjudged: readonly Survivor[]): Record<string, Judgement[]> {
  const files: Record<string, Map<string, Map<string, [string, string]>>> = {};
  for (const { file, code, original, replacement } of unjudged) {
    files[file] ??= new Map();
    const mutants = files[file].get(code) ?? new Map<string, [string, string]>();
    files[file].set(code, mutants.set(JSON.stringify([original, replacement]), [original, replacement]));
  }
  return Object.fromEntries(
    Object.entries(files).map(([file, lines]) => [
      file,
      [...lines].map(([code, mutants]) => ({ code, mutants: [...mutants.values()], why: "" })),
    ]),
  );
}
