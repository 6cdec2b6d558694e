import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { BacklogKey } from "../../src/protocol/stream-cursor.ts";
import type { RecordsPage, RecordsQuery } from "../../src/run/reads.ts";
import type { RunClient } from "../../src/run/run-client.ts";
import type { Result } from "../../src/run/run-object.ts";
import { type BacklogPart, type BacklogRecord, backlog, isAfter } from "../../src/streams/backlog.ts";

const TENANT = { org_id: "local", workspace_id: "local", source: "local_implicit" as const };

/** A run's log in memory: of each commit its time, and whether it has a patch. */
interface Log {
  run_id: string;
  commits: { ts_ms: number; patchTsMs: number | null; length: number }[];
}

interface Row {
  seq: number;
  ts_ms: number;
  type: string;
  text: string;
}

function rowsOf({ run_id, commits }: Log, column: "event" | "patch"): Row[] {
  return commits.flatMap(({ ts_ms, patchTsMs, length }, index): Row[] => {
    const seq = index + 1;
    const text = `${run_id}:${column}:${seq}`.padEnd(length, ".");
    if (column === "event") return [{ seq, ts_ms, type: `type-${seq}`, text }];
    return patchTsMs === null ? [] : [{ seq, ts_ms: patchTsMs, type: "", text }];
  });
}

/** The part's rows: after a seq, up to a seq, of that the last so many. */
function inPart(log: Log, { column, afterSeq, uptoSeq, tail }: Omit<BacklogPart, "run_id">): Row[] {
  const rows = rowsOf(log, column).filter(({ seq }) => seq > afterSeq && seq <= uptoSeq);
  return tail === null ? rows : rows.slice(Math.max(0, rows.length - tail));
}

/** Reads a log as a run's object does, in pages of so many records at most. */
function readerOf(log: Log, pageSize: number, asked: RecordsQuery[]): RunClient {
  const readRecords = async (query: RecordsQuery): Promise<Result<RecordsPage>> => {
    asked.push(query);
    const rows = inPart(log, query);
    const page: Row[] = [];
    let length = 0;
    for (const row of rows.slice(0, pageSize)) {
      page.push(row);
      length += row.text.length;
      if (length > query.maxLength) break;
    }
    const isCut = page.length < rows.length;
    const records = page.map((row) => ({
      ...row,
      text: row.text.length > query.maxLength ? null : row.text,
    }));
    const nextAfterSeq = isCut ? (page.at(-1)?.seq ?? null) : null;
    return { ok: true, value: { workspace: "/srv/ws", tenant_context: TENANT, records, nextAfterSeq } };
  };
  return { readRecords } as unknown as RunClient;
}

const gone = {
  readRecords: async () => ({ ok: false, refusal: { code: "RUN_NOT_FOUND", error: "run not found" } }),
} as unknown as RunClient;

/** The backlog as the contract has it: everything, sorted. A run's time does not go back within a part (D90). */
function sorted(parts: readonly BacklogPart[], logs: ReadonlyMap<string, Log>): BacklogRecord[] {
  const records = parts.flatMap((part) => {
    const log = logs.get(part.run_id);
    let latestMs = 0;
    return (log === undefined ? [] : inPart(log, part)).map((row): BacklogRecord => {
      latestMs = Math.max(latestMs, row.ts_ms);
      return {
        ts_ms: latestMs,
        run_id: part.run_id,
        isPatch: part.column === "patch",
        seq: row.seq,
        recorded_ms: row.ts_ms,
        workspace: "/srv/ws",
        tenant_context: TENANT,
        type: row.type,
        text: row.text,
      };
    });
  });
  const kind = ({ isPatch }: BacklogRecord) => (isPatch ? "blackboard_patch" : "context_run_event");
  const byText = (a: string, b: string) => Number(a > b) - Number(a < b);
  return records.sort(
    (a, b) => a.ts_ms - b.ts_ms || byText(a.run_id, b.run_id) || byText(kind(a), kind(b)) || a.seq - b.seq,
  );
}

async function all(
  parts: readonly BacklogPart[],
  runOf: (runId: string) => RunClient,
): Promise<BacklogRecord[]> {
  const records: BacklogRecord[] = [];
  for await (const piece of backlog(parts, runOf)) {
    expect(piece).not.toHaveLength(0);
    records.push(...piece);
  }
  return records;
}

/** Few different times, so that many are the same; steps back, as clocks make them. */
const time = fc.integer({ min: 1_000, max: 1_006 });
const log = fc.array(
  fc.record({ ts_ms: time, patchTsMs: fc.option(time), length: fc.constantFrom(0, 0, 0, 100, 5_000) }),
  { maxLength: 12 },
);
const logs = fc
  .uniqueArray(fc.constantFrom("a", "b", "B", "a-1", "a.1", "r10", "r9"), { maxLength: 6 })
  .chain((ids) => fc.tuple(...ids.map((run_id) => log.map((commits): Log => ({ run_id, commits })))));

const window = fc.record({ afterSeq: fc.nat(6), head: fc.nat(14), tail: fc.option(fc.nat(5)) });

const situation = logs.chain((logs) =>
  fc.record({
    logs: fc.constant(new Map(logs.map((log) => [log.run_id, log]))),
    parts: fc
      .tuple(
        ...logs.flatMap(({ run_id }) =>
          (["event", "patch"] as const).map((column) =>
            fc.option(
              window.map(
                ({ afterSeq, head, tail }): BacklogPart => ({
                  run_id,
                  column,
                  afterSeq,
                  uptoSeq: head,
                  tail,
                }),
              ),
              { freq: 4 },
            ),
          ),
        ),
      )
      .map((parts) => parts.filter((part) => part !== null)),
    pageSize: fc.integer({ min: 1, max: 5 }),
    gone: fc.constantFrom(null, ...logs.map(({ run_id }) => run_id)),
  }),
);

describe("the backlog of a stream of many runs", () => {
  it("02§7.2 is everything in order, however it is paged; a run that is gone has none", async () => {
    await fc.assert(
      fc.asyncProperty(situation, async ({ logs, parts, pageSize, gone: goneId }) => {
        const runOf = (runId: string): RunClient => {
          const log = logs.get(runId);
          if (log === undefined) throw new Error(`nobody asked for ${runId}`);
          return runId === goneId ? gone : readerOf(log, pageSize, []);
        };
        const there = parts.filter(({ run_id }) => run_id !== goneId);
        expect(await all(parts, runOf)).toEqual(sorted(there, logs));
      }),
      { numRuns: 500 },
    );
  });

  it("D90 has each run's events, and its patches, in the order of their seqs, whatever the clock did", async () => {
    await fc.assert(
      fc.asyncProperty(situation, async ({ logs, parts, pageSize }) => {
        const runOf = (runId: string) => readerOf(logs.get(runId) as Log, pageSize, []);
        const records = await all(parts, runOf);
        for (const { run_id, column } of parts) {
          const isOfPart = (record: BacklogRecord) =>
            record.run_id === run_id && record.isPatch === (column === "patch");
          const seqs = records.filter(isOfPart).map(({ seq }) => seq);
          expect(seqs).toEqual([...seqs].sort((a, b) => a - b));
        }
      }),
    );
  });

  it("a reader that comes back finds its place: what comes after a record is what it has not seen", async () => {
    await fc.assert(
      fc.asyncProperty(situation, async ({ logs, parts, pageSize }) => {
        const runOf = (runId: string) => readerOf(logs.get(runId) as Log, pageSize, []);
        const records = await all(parts, runOf);
        for (const [index, { ts_ms, run_id, isPatch, seq }] of records.entries()) {
          const key: BacklogKey = { ts_ms, run_id, isPatch, seq };
          expect(records.filter((record) => isAfter(record, key))).toEqual(records.slice(index + 1));
        }
      }),
    );
  });

  it("D95 asks each run for a page at a time, and for none twice", async () => {
    const commits = Array.from({ length: 40 }, (_, n) => ({ ts_ms: 1_000 + n, patchTsMs: null, length: 10 }));
    const asked: RecordsQuery[] = [];
    const part: BacklogPart = { run_id: "a", column: "event", afterSeq: 5, uptoSeq: 35, tail: 20 };
    await all([part], () => readerOf({ run_id: "a", commits }, 8, asked));
    expect(asked.map(({ afterSeq, uptoSeq, tail }) => [afterSeq, uptoSeq, tail])).toEqual([
      [5, 35, 20],
      [23, 35, null],
      [31, 35, null],
    ]);
  });

  it("D95 what it holds at once is bounded, however many runs there are", async () => {
    const heldOf = async (runs: number) => {
      const asked: RecordsQuery[] = [];
      const parts = Array.from(
        { length: runs },
        (_, n): BacklogPart => ({ run_id: `r${n}`, column: "event", afterSeq: 0, uptoSeq: 1, tail: null }),
      );
      const commits = [{ ts_ms: 1_000, patchTsMs: null, length: 10 }];
      expect(await all(parts, (run_id) => readerOf({ run_id, commits }, 8, asked))).toHaveLength(runs);
      return asked.reduce((sum, { maxLength }) => sum + maxLength, 0);
    };
    for (const runs of [1, 10, 100, 1_000, 2_000]) expect(await heldOf(runs)).toBeLessThan(17 * 1024 * 1024);
  });

  it("nothing to read: nothing at all", async () => {
    const runOf = () => {
      throw new Error("nobody is asked");
    };
    expect(await all([], runOf)).toEqual([]);
  });
});
