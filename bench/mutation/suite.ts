/** One test of the suite. Its function may run any number of times. */
export interface SuiteTest {
  /** Unique: the file, the names of the groups, its own, and for a row of a table the row's number. */
  readonly id: string;
  readonly name: string;
  readonly fileName: string;
  run(): unknown;
}

type Body = (...row: never[]) => unknown;

const tests: SuiteTest[] = [];
const groups: string[] = [];
let fileName = "";

/** Imports the test files, one after the other, and gives the tests that they define, in order. */
export async function load(files: readonly string[], importFile: (file: string) => Promise<unknown>) {
  for (const file of files) {
    fileName = file;
    await importFile(file);
  }
  return tests;
}

function group(name: string, define: () => void): void {
  groups.push(name);
  define();
  groups.pop();
}

function test(name: string, body: () => unknown): void {
  const full = [...groups, name].join(" > ");
  tests.push({ id: `${fileName}#${full}`, name: full, fileName, run: body });
}

/** As vitest's `each`: rows that are all arrays give the arguments, otherwise each row is the one argument. */
function each(define: (name: string, body: () => void) => void) {
  return (rows: readonly unknown[]) => (name: string, body: Body) => {
    const isTable = rows.every((row) => Array.isArray(row));
    for (const [index, row] of rows.entries()) {
      const args = (isTable ? row : [row]) as never[];
      define(`${name} (row ${index + 1})`, () => body(...args));
    }
  };
}

/** What stands in for vitest's functions of these names. What the tests use beyond it fails at once. */
export const describe = Object.assign(group, { each: each(group) });
export const it = Object.assign(test, { each: each(test) });
