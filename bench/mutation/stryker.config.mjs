/**
 * `npm run mutate`: what docs/testing.md tells of. Options of Stryker can be added: `-- --mutate src/domain/locks.ts`.
 *
 * @type {import("@stryker-mutator/api/core").PartialStrykerOptions}
 */
export default {
  mutate: ["src/domain/**/*.ts"],
  plugins: ["./bench/mutation/runner.ts", "./bench/mutation/judged.ts"],
  testRunner: "repeating",
  coverageAnalysis: "perTest",
  mutator: {
    // A text is a word of a union, which the compiler would refuse as "", or a message for a person. That the right word
    // is in the right place is told by the other mutants: they change the branch that it stands in.
    excludedMutations: ["StringLiteral"],
  },
  // What the copy that is changed needs: no more.
  ignorePatterns: ["/*", "!/src", "!/test", "!/package.json", "!/tsconfig.json"],
  tempDirName: "coverage/mutation/sandbox",
  // Stryker would read it with a compiler that TypeScript 7 no longer has.
  tsconfigFile: "none",
  incremental: true,
  incrementalFile: "coverage/mutation/incremental.json",
  reporters: ["clear-text", "html", "json", "judged"],
  clearTextReporter: { reportMutants: false, reportTests: false, allowEmojis: false },
  htmlReporter: { fileName: "coverage/mutation/report.html" },
  jsonReporter: { fileName: "coverage/mutation/report.json" },
  concurrency: 1,
};
