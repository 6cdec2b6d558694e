/// <reference types="vite/types/importMeta.d.ts" />
import { describe, expect, it } from "vitest";
import { parsersIn, type Sources } from "./support/inventory.ts";

const texts = (modules: Record<string, string>, root: string): Sources =>
  new Map(Object.entries(modules).map(([path, text]) => [path.replace(root, ""), text]));

const SOURCES = texts(
  import.meta.glob<string>("../../src/**/*.ts", { query: "?raw", import: "default", eager: true }),
  "../../src/",
);
const TESTS = texts(
  import.meta.glob<string>(["../**/*.test.ts", "!./completeness.test.ts"], {
    query: "?raw",
    import: "default",
    eager: true,
  }),
  "../",
);

/**
 * Parsers without a property of their own, and why that is right. One that reads something from outside and is in no test with a
 * property has no place here: write the property.
 */
const REASONS: Record<string, string[]> = {
  "Reads what the engine itself has written: rows, objects, messages between its own objects.": [
    "directory/deliveries.ts#findDelivery",
    "directory/deliveries.ts#listDeliveries",
    "directory/deliveries.ts#claimDelivery",
    "directory/departures.ts#readRetention",
    "directory/followed-runs.ts#activeSubscriptions",
    "directory/hooks.ts#findHook",
    "directory/hooks.ts#findHookByPublicId",
    "directory/hooks.ts#listHooks",
    "directory/maintenance.ts#readCursor",
    "directory/revocations.ts#revokedSet",
    "directory/runs.ts#listRuns",
    "directory/subscriptions.ts#findSubscription",
    "directory/subscriptions.ts#listSubscriptions",
    "directory/tokens.ts#findToken",
    "directory/tokens.ts#listTokens",
    "artifacts/uploads.ts#Uploads",
    "domain/outcome.ts#claimedOutcome",
    "history/checkpoint-json.ts#contractMembers",
    "hooks/in/payloads.ts#readBody",
    "hooks/out/deliver.ts#takeTurn",
    "hooks/out/record.ts#DeliveryRecord",
    "hooks/out/settings.ts#readSettings",
    "moving/export.ts#exportText",
    "run/chain-walk.ts#ChainWalk",
    "run/checkpoint-content.ts#openContent",
    "run/checkpoint-content.ts#readSoundContent",
    "run/checkpoint-keeper.ts#CheckpointKeeper",
    "run/claimers.ts#Claimers",
    "run/file-reads.ts#readFiles",
    "run/file-reads.ts#readVersions",
    "run/history-reads.ts#readCheckpoints",
    "run/history-reads.ts#readBase",
    "run/log-reader.ts#commitOf",
    "run/reads.ts#readLog",
    "run/reads.ts#readStretch",
    "run/reads.ts#stretchOf",
    "run/reads.ts#readWhole",
    "run/reads.ts#readTasks",
    "run/reads.ts#readTask",
    "run/reads.ts#readRecords",
    "run/replay-report.ts#replayReport",
    "run/rollback-plan-read.ts#readRollbackPlan",
    "run/state-digest.ts#StateHash",
    "run/storage/checkpoints.ts#CheckpointTable",
    "run/storage/files.ts#FileTables",
    "run/storage/genesis.ts#GenesisTable",
    "run/storage/move-calls.ts#MoveCallTable",
    "run/storage/parts.ts#inParts",
    "run/storage/run-row.ts#RunRowTable",
    "run/storage/segments.ts#SegmentTable",
    "run/storage/task-index.ts#isTaskIndexSound",
    "run/storage/tasks.ts#TaskTable",
    "run/tombstone.ts#readTombstone",
    "run/why.ts#readWhy",
    "run/why.ts#readByReadiness",
    "streams/feed-source.ts#FeedSource",
  ],
  "Hands bytes, headers, paths and queries to readers that have properties; whole requests are for the fuzz.":
    [
      "http/authenticate.ts#authenticate",
      "http/body.ts#readBytes",
      "http/content-headers.ts#afterBody",
      "http/file-commit.ts#conditionOf",
      "http/file-commit.ts#leaseTokenOf",
      "http/idempotency.ts#keyOf",
      "http/idempotency.ts#fingerprintOf",
      "http/resources/artifacts.ts#putArtifact",
      "http/resources/artifacts.ts#getArtifact",
      "http/resources/artifacts.ts#listArtifacts",
      "http/resources/batch.ts#runCommands",
      "http/resources/log.ts#listEventsContext",
      "http/resources/log.ts#listEventsNative",
      "http/resources/log.ts#listPatchesContext",
      "http/resources/log.ts#listPatchesNative",
      "http/resources/moving.ts#importRun",
      "http/resources/moving.ts#deleteRunNative",
      "http/resources/reference.ts#importReference",
      "http/resources/runs.ts#listRunsContext",
      "http/resources/runs.ts#expectedRevision",
      "http/resources/streams.ts#streamRunNative",
      "http/resources/streams.ts#streamFeedContext",
      "http/resources/streams.ts#streamFeedNative",
      "http/resources/tasks.ts#creation",
      "http/resources/uploads.ts#putUploadPart",
      "http/resources/waits.ts#waitFor",
      "http/server.ts#serve",
      "http/stream-answer.ts#streamAnswer",
      "hooks/in/receive.ts#receive",
      "hooks/out/send.ts#send",
      "artifacts/receive.ts#receive",
    ],
  "A scheme of webhooks: tried with any headers over any body, by verify() and about(), in hooks/in/schemes.test.ts.":
    [
      "hooks/in/schemes/bearer.ts#bearer",
      "hooks/in/schemes/github.ts#github",
      "hooks/in/schemes/hmac.ts#named",
      "hooks/in/schemes/linear.ts#linear",
      "hooks/in/schemes/slack.ts#slack",
      "hooks/in/schemes/standard.ts#standard",
      "hooks/in/schemes/stripe.ts#stripe",
    ],
  "Read of events' payloads by withEvent(), which domain/audit.test.ts gives any payload.": [
    "domain/ledger.ts#ledgerRecordOf",
    "domain/mutations.ts#mutationRecordOf",
  ],
  "A part of another that has a property: nativeBodies(), issuersOf(), readStateLines(), readLines(), contentHeaders().":
    [
      "protocol/schema.ts#recordOf",
      "protocol/task-life-shapes.ts#taskLifeShapes",
      "identity/issuers.ts#ExternalIssuer",
      "domain/state-lines.ts#StateReader",
      "domain/reference-records.ts#parsed",
      "http/safe-content.ts#downloadHeaders",
    ],
  "Holds a text against one pattern and takes all others for something else; or splits what has been checked.":
    [
      "domain/decide-replace.ts#decideReplace",
      "domain/decide-rollback.ts#decideRollback",
      "directory/subscriptions.ts#insertSubscription",
      "directory/subscriptions.ts#updateSubscription",
      "http/file-commit.ts#putAnswer",
      "http/platform-fault.ts#passingFault",
    ],
  "Reads an answer of its own, or makes an id of a digest.": [
    "http/problem.ts#nativeProblem",
    "http/request-log.ts#logRequest",
    "http/resources/runs.ts#generatedId",
  ],
};

/** Whether a test with a property takes this parser from its file. */
function isTried(parser: string, tests: Sources): boolean {
  const [path = "", name = ""] = parser.split("#");
  const taken = new RegExp(`import [^;]*\\b${name}\\b[^;]* from "[./]*/src/${path.replaceAll(".", "\\.")}"`);
  return [...tests.values()].some((text) => /\bfc\.(?:p|asyncP)roperty\(/.test(text) && taken.test(text));
}

describe("every parser has a property", () => {
  const parsers = parsersIn(SOURCES);
  const excused = Object.values(REASONS).flat();

  it("or a reason why it needs none", () => {
    expect(parsers.length).toBeGreaterThan(100);
    expect(parsers.filter((parser) => !isTried(parser, TESTS) && !excused.includes(parser))).toEqual([]);
  });

  it("and no reason that has had its day", () => {
    expect(excused.filter((parser) => !parsers.includes(parser) || isTried(parser, TESTS))).toEqual([]);
    expect(new Set(excused).size).toBe(excused.length);
  });
});

describe("what counts as a parser", () => {
  const found = (source: string) => parsersIn(new Map([["a.ts", source]]));

  it.each([
    ["export function take(text: string) {\n  return JSON.parse(text);\n}\n", ["a.ts#take"]],
    ["export const take = (text: string) =>\n  text.split(',');\n", ["a.ts#take"]],
    ["export class Taker {\n  take = (text: string) => new URL(text);\n}\n", ["a.ts#Taker"]],
    ["export function readIt() {\n  return 1;\n}\n", ["a.ts#readIt"]],
    [
      "export async function* take() {\n  yield inner();\n}\n\nfunction inner() {\n  return /a/.test('a');\n}\n",
      ["a.ts#take"],
    ],
    ["const PATTERN = /a/;\nfunction inner() {\n  return atob('');\n}\n", []],
    ["// JSON.parse(text)\nexport function add() {\n  return 1;\n}\n", []],
    ["export function add(a: number, b: number) {\n  return a + b;\n}\n", []],
  ])("%j has %j", (source, parsers) => {
    expect(found(source)).toEqual(parsers);
  });

  it("one that no test takes from its file is not tried", () => {
    const test = 'import { readIt } from "../../src/a.ts";\nfc.property(';
    expect(isTried("a.ts#readIt", new Map([["t", test]]))).toBe(true);
    expect(isTried("b.ts#readIt", new Map([["t", test]]))).toBe(false);
    expect(isTried("a.ts#readOther", new Map([["t", test]]))).toBe(false);
    expect(isTried("a.ts#readIt", new Map([["t", test.replace("fc.", "")]]))).toBe(false);
  });
});
