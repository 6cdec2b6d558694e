import fc from "fast-check";
import type { Audit } from "../../src/domain/audit.ts";
import type { CommandOf } from "../../src/domain/command.ts";
import { countOf } from "../../src/domain/counts.ts";
import type { MutatedFile, MutationRecord } from "../../src/domain/mutations.ts";
import { type PlannedStep, plannedStep } from "../../src/domain/rollback-plan.ts";
import type { EventRecord } from "../../src/protocol/event.ts";
import type { FileVersion } from "../../src/protocol/file-version.ts";

/** A changed text file `a` with its prior content inline, some members changed. */
export function aFile(members: Partial<MutatedFile> = {}): MutatedFile {
  return {
    path: "a",
    resolved_path: "/srv/ws/a",
    existed_before: true,
    existed_after: true,
    changed: true,
    rollback_snapshot: { status: "inline_text", content: "before" },
    ...members,
  };
}

export function aMutation(files: MutatedFile[], members: Partial<MutationRecord> = {}): MutationRecord {
  return {
    session_id: "s",
    message_id: "m",
    tool: "edit",
    outcome: "succeeded",
    file_count: files.length,
    changed_file_count: files.filter(({ changed }) => changed).length,
    files,
    ...members,
  };
}

/** A file as a client may report it. */
const anyFile = fc.record({
  path: fc.constantFrom("a", "b/c", "../x"),
  existed_before: fc.boolean(),
  existed_after: fc.boolean(),
  changed: fc.boolean(),
  rollback_snapshot: fc.constantFrom(
    { status: "inline_text", content: "x" } as const,
    { status: "too_large", byte_count: 5 } as const,
    { status: "binary" } as const,
  ),
});

/** Mutation records as a client may report them. */
export const anyMutation: fc.Arbitrary<MutationRecord> = fc
  .record({
    files: fc.array(anyFile, { maxLength: 3 }),
    tool: fc.constantFrom("read", "write", "__proto__", "bash"),
    outcome: fc.constantFrom("succeeded" as const, "failed" as const),
  })
  .map(({ files, ...members }) => aMutation(files.map(aFile), members));

/** An event as the engine stores it, with these members. */
export function anEvent(members: Partial<EventRecord> & { seq: number; type: string }): EventRecord {
  return {
    event_id: `evt-${members.seq}`,
    run_id: "r",
    ts_ms: 1_000 + members.seq,
    status: "paused",
    run_status: "paused",
    revision: members.seq + 1,
    payload: null,
    ...members,
  };
}

/** Stands for a SHA-256: 64 hex digits, the same for the same text, different for texts that tests use. */
export function fakeHash(text: string): string {
  return [...text]
    .reduce((hash, char) => hash + (char.codePointAt(0) ?? 0).toString(16), "")
    .padStart(64, "0")
    .slice(-64);
}

/** The step of a record, its inline contents stored, as the door makes it. */
export function storedStep(event: EventRecord, record: MutationRecord): PlannedStep {
  const step = plannedStep(event, record);
  if (step === null) throw new Error("the record has nothing to undo");
  const operations = step.operations.map(({ text, ...operation }) => ({
    ...operation,
    ...(text !== undefined && {
      content: { sha256: fakeHash(text), bytes: text.length, content_type: "text/plain" },
    }),
  }));
  return { ...step, operations };
}

/** A rollback of these steps, acknowledged, some members changed. */
export function aRollback(
  plan: PlannedStep[],
  members: Partial<CommandOf<"execute_rollback">> = {},
): CommandOf<"execute_rollback"> {
  return {
    op: "execute_rollback",
    event_ids: plan.map(({ event_id }) => event_id),
    policy_ack: "allow_rollback_execution",
    executor: "artifacts",
    plan,
    has_store: true,
    lost: [],
    ...members,
  };
}

/** What paths hold, by path: their hashes. */
export function contentsOf(files: FileVersion[]): Record<string, string | null> {
  return Object.fromEntries(files.map(({ path, sha256 }) => [path, sha256]));
}

/**
 * What the contract's views say of a log, in other words than the engine's: counted anew from all events.
 * @param events ascending.
 */
export function countedAnew(events: EventRecord[]) {
  const is = (type: string) => events.filter((event) => event.type === type);
  const recordOf = (event: EventRecord) =>
    (event.payload as { record?: Record<string, unknown> } | null)?.record;
  const ledger = is("tool_effect_recorded").filter((event) => typeof recordOf(event)?.tool === "string");
  const mutations = is("mutation_checkpoint_recorded").filter((event) =>
    Array.isArray(recordOf(event)?.files),
  );
  const attempts = events.filter(({ type }) => /^rollback_execution_(applied|blocked)$/.test(type));
  const last = (list: EventRecord[]) => ({
    last_seq: list.at(-1)?.seq ?? null,
    last_ts_ms: list.at(-1)?.ts_ms ?? null,
  });
  const count = (list: EventRecord[], word: (event: EventRecord) => unknown) => {
    const counts: Record<string, number> = {};
    for (const event of list) counts[String(word(event))] = countOf(counts, String(word(event))) + 1;
    return counts;
  };
  return {
    ledger: {
      record_count: ledger.length,
      by_status: count(ledger, (event) => recordOf(event)?.status),
      by_phase: count(ledger, (event) => recordOf(event)?.phase),
      by_tool: count(ledger, (event) => recordOf(event)?.tool),
      ...last(ledger),
    },
    mutations: {
      record_count: mutations.length,
      changed_file_count: mutations.reduce(
        (sum, event) => sum + Number(recordOf(event)?.changed_file_count),
        0,
      ),
      by_outcome: count(mutations, (event) => recordOf(event)?.outcome),
      by_tool: count(mutations, (event) => recordOf(event)?.tool),
      ...last(mutations),
    },
    history: {
      entry_count: attempts.length,
      by_outcome: count(attempts, ({ type }) => type.replace("rollback_execution_", "")),
      ...last(attempts),
    },
  } satisfies Partial<Record<keyof Audit, unknown>>;
}
