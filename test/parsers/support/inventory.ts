/** Source files by path, as text. */
export type Sources = ReadonlyMap<string, string>;

/** What reads a text, bytes or JSON: no parser does without one of these, unless it is made of others that have them. */
const READS: readonly RegExp[] = [
  /\bJSON\.parse\(/,
  /\batob\(/,
  /\bBuffer\.from\([^)]*"base64/,
  /\bdecodeURIComponent\(/,
  /\bnew URL(?:SearchParams)?\(/,
  /\bURL\.(?:canParse|parse)\(/,
  /\bNumber\.parse(?:Int|Float)\(/,
  /\bDate\.parse\(/,
  /\bnew (?:TextDecoder|RegExp)\(/,
  /\.(?:exec|match|matchAll|search|test|split|formData)\(/,
  /\.charCodeAt\(/,
  /\bheaders\.get\(/,
  /\b(?:z\.safeParse|readShape|fitting)\(/,
  /\bz\.(?:strictObject|looseObject|object|record|enum)\(/,
];

/** By its name, something that reads. */
const READER =
  /^(?:read|parse|decode|unpack|issues?[A-Z]|isValid|matches|wants|fault|declared|claimed|overlap)/;

interface Declaration {
  name: string;
  isExported: boolean;
  text: string;
}

const DECLARED = /^(export )?(?:default )?(?:async )?(?:abstract )?(?:function\*?|const|let|class) (\w+)/;

/** A file's declarations, each with its text up to the next one. */
function declarationsOf(source: string): Declaration[] {
  return withoutComments(source)
    .split(/^(?=(?:export )?(?:default )?(?:async )?(?:abstract )?(?:function|const|let|class)\b)/m)
    .flatMap((text) => {
      const [, exported, name] = DECLARED.exec(text) ?? [];
      return name === undefined ? [] : [{ name, isExported: exported !== undefined, text }];
    });
}

function withoutComments(text: string): string {
  return text.replace(
    /("(?:[^"\\\n]|\\.)*")|\/\*[\s\S]*?\*\/|(?<![:"\\])\/\/[^\n]*/g,
    (_, quoted?: string) => quoted ?? "",
  );
}

/**
 * The parsers of a source: what is exported and reads, itself or by way of something private of its file, as `path#name`. What is
 * private is reached through these and no other way.
 */
export function parsersIn(sources: Sources): string[] {
  return [...sources].flatMap(([path, source]) => {
    const declarations = declarationsOf(source);
    const reading = new Set(
      declarations
        .filter(({ name, text }) => READER.test(name) || READS.some((pattern) => pattern.test(text)))
        .map(({ name }) => name),
    );
    for (let before = -1; before !== reading.size; ) {
      before = reading.size;
      const inner = declarations.filter(({ name, isExported }) => !isExported && reading.has(name));
      for (const { name, text } of declarations) {
        if (inner.some((used) => new RegExp(`\\b${used.name}\\b`).test(text))) reading.add(name);
      }
    }
    return declarations
      .filter(({ name, isExported }) => isExported && reading.has(name))
      .map(({ name }) => `${path}#${name}`);
  });
}
