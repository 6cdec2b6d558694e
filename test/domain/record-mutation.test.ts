import { describe, expect, it } from "vitest";
import type { CommandOf } from "../../src/domain/command.ts";
import { mutationRecordOf } from "../../src/domain/mutations.ts";
import type { EventRecord } from "../../src/protocol/event.ts";
import type { FileVersion } from "../../src/protocol/file-version.ts";
import { accepted, memoryRun, refused } from "../support/builders.ts";

type Told = CommandOf<"record_mutation">["files"];

const A = "a".repeat(64);
const B = "b".repeat(64);
const text = { bytes: 1, content_type: "text/plain" };

/** `p` was written, written anew, removed, and written as it was at first; `q` was written once. */
const VERSIONS: FileVersion[] = [
  { path: "p", version: 1, ts_ms: 1, sha256: A, ...text },
  { path: "p", version: 2, ts_ms: 1, sha256: B, ...text },
  { path: "p", version: 3, ts_ms: 1, sha256: null, bytes: 0, content_type: "" },
  { path: "p", version: 4, ts_ms: 1, sha256: A, ...text },
  { path: "q", version: 5, ts_ms: 1, sha256: A, ...text },
];

function arranged() {
  const run = memoryRun({ status: "paused" });
  for (const file of VERSIONS) run.restore({ file });
  return run;
}

const command = (files: Told): CommandOf<"record_mutation"> => ({
  op: "record_mutation",
  session_id: "s",
  message_id: "m",
  tool: "write",
  outcome: "succeeded",
  files,
});
const p = (before_version: number | null, after_version: number | null, path = "p") => ({
  path,
  before_version,
  after_version,
});

/** The event that a mutation makes. */
function recorded(file: Told[number]): EventRecord {
  const [commit] = accepted(command([file]), arranged()).commits;
  if (commit === undefined) throw new Error("a mutation makes a commit");
  return commit.event;
}

/** What the record tells of a content that was there. */
const held = (letter: string) => ({
  status: "stored",
  sha256: letter,
  byte_count: 1,
  content_type: "text/plain",
});

describe("a mutation of the artifact space", () => {
  it.each<[string, Told[number], object]>([
    [
      "a new path",
      p(null, 1),
      {
        existed_before: false,
        existed_after: true,
        changed: true,
        rollback_snapshot: { status: "not_needed" },
      },
    ],
    [
      "a change",
      p(1, 2),
      {
        existed_before: true,
        existed_after: true,
        changed: true,
        before_hash: `sha256:${A}`,
        after_hash: `sha256:${B}`,
        rollback_snapshot: { ...held(A), version: 1 },
      },
    ],
    [
      "a removal",
      p(2, 3),
      { existed_before: true, existed_after: false, rollback_snapshot: { ...held(B), version: 2 } },
    ],
    ["a removal told as nothing", p(2, null), { existed_before: true, existed_after: false, changed: true }],
    ["what is there again", p(3, 4), { existed_before: false, existed_after: true, changed: true }],
    ["the same content", p(1, 4), { existed_before: true, existed_after: true, changed: false }],
    ["the same version", p(2, 2), { changed: false }],
    ["nothing", p(null, 3), { existed_before: false, existed_after: false, changed: false }],
  ])("is told as what the paths held: %s", (_, file, expected) => {
    const event = recorded(file);
    expect(event).toMatchObject({
      type: "mutation_checkpoint_recorded",
      status: "paused",
      run_status: "paused",
    });
    const record = mutationRecordOf(event);
    expect(record?.files).toEqual([expect.objectContaining({ path: "p", resolved_path: "p", ...expected })]);
    const [told] = record?.files ?? [];
    expect(record).toMatchObject({ file_count: 1, changed_file_count: told?.changed ? 1 : 0 });
  });

  it.each<[string, Told, string, string]>([
    ["a path that is none", [p(null, null, "../p")], "files[0].path", ""],
    ["a path twice", [p(1, 2), p(2, 3)], "files[1].path", "unique"],
    ["an end before its start", [p(2, 1)], "files[0].after_version", "order"],
    [
      "a version that its path never had",
      [p(null, 5, "q"), p(5, null)],
      "files[1].before_version",
      "known_version",
    ],
    ["a version to come", [p(1, 6)], "files[0].after_version", "known_version"],
  ])("refuses %s, naming the field", (_, files, field, rule) => {
    const refusal = refused(command(files), arranged());
    expect(refusal).toMatchObject({ code: "FIELD_INVALID", issues: [{ field, ...(rule && { rule }) }] });
  });

  it("is refused where its record is larger than an event may be", () => {
    const files = (count: number) =>
      Array.from({ length: count }, (_, index) => p(null, null, `${index}/${"n".repeat(250)}`));
    // Each file names its path twice.
    expect(accepted(command(files(350)), arranged()).commits).toHaveLength(1);
    expect(refused(command(files(500)), arranged())).toMatchObject({
      code: "LIMIT_EXCEEDED",
      limit_name: "event_payload_bytes",
      limit: 262_144,
    });
  });

  it("D04 a content that is stored is the engine's word only: a client that claims one has told nothing", () => {
    const event = recorded(p(1, 2));
    expect(mutationRecordOf(event)).not.toBeNull();
    expect(mutationRecordOf({ ...event, origin: "client" })).toBeNull();
    expect(mutationRecordOf({ ...event, type: "note" })).toBeNull();
  });

  it.each([`${A}a`, `x${A}`, A.slice(1), A.toUpperCase().replace("A", "g")])(
    "D04 %j is no hash",
    (sha256) => {
      const event = JSON.parse(JSON.stringify(recorded(p(1, 2))).replaceAll(A, sha256));
      expect(mutationRecordOf(event)).toBeNull();
    },
  );
});
