import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { commitHash, initialHash, type LogRow } from "../../src/run/chain.ts";
import { submit } from "../../src/run/run-client.ts";
import { type Verification, verifyLog } from "../../src/run/verify-log.ts";
import { bucket, bytesOf, keysOf, longRun, SMALL, sealAll } from "./support/sealing.ts";
import {
  accepted,
  checkpointed,
  evict,
  http,
  inStorage,
  newTestRun,
  note,
  overviewOf,
  PROPERTY_TIMEOUT_MS,
  rowsOf,
  type TestRun,
  useTestClock,
  wholeRun,
} from "./support/test-run.ts";

function verified(run: TestRun, query = ""): Promise<Verification & { next: string | null }> {
  return http("GET", `/v1/runs/${run.id}/verify${query}`);
}

/** The rows that lie in the table. */
function storedRows(run: TestRun): Promise<LogRow[]> {
  const columns = "seq, prev_hash, command_id, receipt, event, patch";
  return rowsOf<LogRow & Record<string, SqlStorageValue>>(run, `SELECT ${columns} FROM commits ORDER BY seq`);
}

type Column = "event" | "patch" | "command_id" | "receipt" | "prev_hash";
const COLUMNS: readonly Column[] = ["event", "patch", "command_id", "receipt", "prev_hash"];

/** Puts another character in the place of one of a row's; returns how to put it back. */
async function damageRow(
  run: TestRun,
  row: LogRow,
  column: Column,
  at: number,
  char: string,
): Promise<() => Promise<void>> {
  const text = row[column] ?? "";
  const place = at % text.length;
  const other = text[place] === char ? "~" : char;
  const set = (value: string) =>
    inStorage(run, (sql) => {
      sql.exec(`UPDATE commits SET ${column} = ? WHERE seq = ?`, value, row.seq);
    });
  await set(text.slice(0, place) + other + text.slice(place + 1));
  return () => set(text);
}

describe("the chain of the log", () => {
  useTestClock();

  it("design: each row bears the hash of the one before, the first that of what the run began with", async () => {
    const run = await newTestRun();
    const { tasks: _tasks, ...initial } = await wholeRun(run);
    expect(await overviewOf(run)).toMatchObject({ log_hash: initialHash(initial, []) });
    for (let index = 0; index < 3; index += 1)
      await accepted(run, note(index, "running"), `command-${index}`);
    let hash = initialHash(initial, []);
    for (const row of await storedRows(run)) {
      expect(row.prev_hash).toBe(hash);
      hash = commitHash(row);
    }
    expect((await overviewOf(run)).log_hash).toBe(hash);
    await evict(run);
    expect((await overviewOf(run)).log_hash).toBe(hash);
  });

  it("design: a command that is undone leaves the chain as it was", async () => {
    const run = await newTestRun();
    await accepted(run, note(null, "running"));
    const { log_hash } = await overviewOf(run);
    const huge = {
      op: "append_event",
      type: "note",
      status: "running",
      payload: "x".repeat(300_000),
    } as const;
    expect(await submit(run.client, { command: huge })).toMatchObject({ ok: false });
    expect((await overviewOf(run)).log_hash).toBe(log_hash);
    await accepted(run, note(null, "running"));
    expect(await verified(run)).toMatchObject({ ok: true, verified_upto_seq: 2 });
  });

  it("design: a row that was changed while the object slept is not vouched for by what comes after", async () => {
    const run = await longRun(5);
    await sealAll(run, { ...SMALL, keep: 99 });
    await inStorage(run, (sql) =>
      sql.exec("UPDATE commits SET event = replace(event, 'fact 5', 'fake 5') WHERE seq = 5"),
    );
    await evict(run);
    await accepted(run, note(null, "running"));
    await sealAll(run, { ...SMALL, keep: 99 });
    expect(await verified(run)).toMatchObject({ ok: false, first_bad: { seq: 5 }, verified_upto_seq: 4 });
  });
});

describe("GET /v1/runs/{id}/verify", () => {
  useTestClock();

  it("design: a log that is what was committed", async () => {
    const run = await longRun(12);
    await checkpointed(run);
    const { log_hash } = await overviewOf(run);
    const whole = {
      ok: true,
      verified_from_seq: 1,
      verified_upto_seq: 12,
      chained_from_seq: 1,
      log_hash,
      first_bad: null,
      next_cursor: null,
      next: null,
    };
    expect(await verified(run)).toEqual(whole);
    expect(await sealAll(run)).toBe(9);
    expect(await verified(run)).toEqual(whole);
    await evict(run);
    expect(await verified(run)).toEqual(whole);
    const rows = (await run.client.readCommits({ afterSeq: 0, uptoSeq: 12, maxLength: 1e6 })) as unknown;
    expect(rows).toMatchObject({ ok: true });
    for (const from of [1, 2, 3, 9, 10, 12]) {
      for (const upto of [from, 12, 99]) {
        expect(await verified(run, `?from_seq=${from}&upto_seq=${upto}`)).toMatchObject({
          ok: true,
          verified_from_seq: from,
          verified_upto_seq: Math.min(upto, 12),
          log_hash: upto >= 12 ? log_hash : expect.stringMatching(/^[0-9a-f]{64}$/),
        });
      }
    }
  });

  it("design: a run without commits", async () => {
    const run = await newTestRun();
    const { log_hash } = await overviewOf(run);
    expect(await verified(run)).toMatchObject({
      ok: true,
      verified_upto_seq: 0,
      chained_from_seq: null,
      log_hash,
    });
  });

  it.each([
    ["from_seq=0", "QUERY_INVALID"],
    ["from_seq=x", "QUERY_INVALID"],
    ["from_seq=3&upto_seq=2", "QUERY_INVALID"],
    ["upto_seq=0", "QUERY_INVALID"],
    ["cursor=MA", "CURSOR_INVALID"],
    ["from_seq=99", "FIELD_INVALID"],
  ])("v1 verify?%s: 400 %s", async (query, code) => {
    const run = await longRun(3);
    expect(await http("GET", `/v1/runs/${run.id}/verify?${query}`, { status: 400 })).toMatchObject({ code });
  });

  it("v1 verify: 404 RUN_NOT_FOUND, and no route on /context", async () => {
    const id = crypto.randomUUID();
    expect(await http("GET", `/v1/runs/${id}/verify`, { status: 404 })).toMatchObject({
      code: "RUN_NOT_FOUND",
    });
    expect(await http("GET", `/context/runs/${id}/verify`, { status: 404 })).toMatchObject({
      code: "ROUTE_NOT_FOUND",
    });
  });

  it.each([
    ["commits", { commits: 4, length: 1e9 }],
    ["length", { commits: 1e9, length: 10 }],
  ])("design: a log too long for one request is verified in several, bounded by %s", async (_by, bounds) => {
    const run = await longRun(12);
    await sealAll(run);
    const { log_hash } = await overviewOf(run);
    let from: number | null = 1;
    let requests = 0;
    for (; from !== null; requests += 1) {
      const answer = await verifyLog(run.client, from, null, bounds);
      if (!answer.ok) throw new Error(answer.refusal.error);
      expect(answer.value).toMatchObject({ ok: true, verified_from_seq: from });
      from = answer.value.next_seq;
      if (from === null) expect(answer.value).toMatchObject({ verified_upto_seq: 12, log_hash });
    }
    expect(requests).toBeGreaterThan(1);
  });

  it("design: rows of older releases are not chained, and the chain begins where they end", async () => {
    const run = await longRun(3);
    await inStorage(run, (sql) => {
      sql.exec("UPDATE commits SET prev_hash = NULL");
      sql.exec("UPDATE run SET log_hash = NULL");
    });
    await evict(run);
    for (let index = 0; index < 4; index += 1) await accepted(run, note(index, "running"));
    const { log_hash } = await overviewOf(run);
    expect(await verified(run)).toMatchObject({
      ok: true,
      verified_upto_seq: 7,
      chained_from_seq: 4,
      log_hash,
    });
    expect(await verified(run, "?upto_seq=2")).toMatchObject({ ok: true, chained_from_seq: null });
    expect(await verified(run, "?from_seq=6")).toMatchObject({ ok: true, chained_from_seq: 6 });
    await sealAll(run);
    expect(await verified(run)).toMatchObject({
      ok: true,
      verified_upto_seq: 7,
      chained_from_seq: 4,
      log_hash,
    });
    const [key = ""] = await keysOf(run);
    const bytes = await bytesOf(key);
    await bucket().put(
      key,
      new TextEncoder().encode(new TextDecoder().decode(bytes).replace("fact 2", "fake 2")),
    );
    expect(await verified(run)).toMatchObject({ ok: false, first_bad: { seq: 1 } });
  });

  it(
    "design: any character of any row that is changed is found, and the row is named",
    async () => {
      const run = await longRun(8);
      await sealAll(run, { ...SMALL, keep: 6, commits: 2 });
      const rows = await storedRows(run);
      await fc.assert(
        fc.asyncProperty(
          fc.constantFrom(...rows),
          fc.constantFrom(...COLUMNS),
          fc.nat(2_000),
          fc.constantFrom("0", "a", "x", " ", '"', "\\", "\n", "\u00e9"),
          async (row, column, at, char) => {
            fc.pre(row[column] !== null);
            const mend = await damageRow(run, row, column, at, char);
            const found = await verified(run);
            await mend();
            expect(found).toMatchObject({
              ok: false,
              first_bad: { seq: row.seq },
              verified_upto_seq: row.seq - 1,
            });
          },
        ),
        { numRuns: 100, seed: 5, endOnFailure: true },
      );
      expect(await verified(run)).toMatchObject({ ok: true });
    },
    2 * PROPERTY_TIMEOUT_MS,
  );

  it(
    "design: any byte of a segment that is changed is found, and the commit is named",
    async () => {
      const run = await longRun(12);
      await sealAll(run, { ...SMALL, commits: 5 });
      const keys = await keysOf(run);
      await fc.assert(
        fc.asyncProperty(
          fc.constantFrom(...keys),
          fc.nat(),
          fc.integer({ min: 1, max: 255 }),
          async (key, place, change) => {
            const bytes = await bytesOf(key);
            const at = place % bytes.length;
            const before = bytes.subarray(0, at).filter((byte) => byte === 10).length;
            const seq = Number(/\/(\d+)-\d+-[^/]*$/.exec(key)?.[1]) + before;
            await bucket().put(key, bytes.with(at, (bytes[at] ?? 0) ^ change));
            const found = await verified(run);
            await bucket().put(key, bytes);
            expect(found).toMatchObject({ ok: false, first_bad: { seq } });
          },
        ),
        { numRuns: 100, seed: 6, endOnFailure: true },
      );
      expect(await verified(run)).toMatchObject({ ok: true });
    },
    2 * PROPERTY_TIMEOUT_MS,
  );

  it.each([1, 4, 5, 8])("design: commit %s that is deleted, or takes the place of another", async (seq) => {
    const run = await longRun(8);
    const rows = await storedRows(run);
    const restore = () =>
      inStorage(run, (sql) => {
        sql.exec("DELETE FROM commits");
        for (const { seq: at, prev_hash, command_id, receipt, event, patch } of rows) {
          sql.exec(
            "INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?)",
            at,
            command_id,
            receipt,
            event,
            patch,
            prev_hash,
          );
        }
      });
    await inStorage(run, (sql) => sql.exec("DELETE FROM commits WHERE seq = ?", seq));
    expect(await verified(run)).toMatchObject({ ok: false, first_bad: { seq, reason: "is missing" } });
    await restore();
    const other = seq === 8 ? 7 : seq + 1;
    await inStorage(run, (sql) => {
      for (const [from, to] of [
        [seq, 99],
        [other, seq],
        [99, other],
      ]) {
        sql.exec("UPDATE commits SET seq = ? WHERE seq = ?", to, from);
      }
    });
    expect(await verified(run)).toMatchObject({ ok: false, first_bad: { seq: Math.min(seq, other) } });
    await restore();
    expect(await verified(run)).toMatchObject({ ok: true });
    // Room is made for a commit that was never made; those after it are renumbered with their events.
    await inStorage(run, (sql) => {
      sql.exec("UPDATE commits SET command_id = NULL");
      for (let at = rows.length; at >= seq; at -= 1) {
        sql.exec(
          `UPDATE commits SET seq = ?1 + 1, event = json_set(event, '$.seq', ?1 + 1), patch = iif(patch IS NULL, NULL,
           json_set(patch, '$.seq', ?1 + 1, '$.source_event_seq', ?1 + 1)) WHERE seq = ?1`,
          at,
        );
      }
      const { event = "" } = rows[seq - 1] ?? {};
      sql.exec(
        "INSERT INTO commits (seq, event, prev_hash) VALUES (?, ?, ?)",
        seq,
        event,
        rows[seq - 1]?.prev_hash ?? null,
      );
    });
    expect(await verified(run)).toMatchObject({ ok: false });
  });

  it.each([
    [1, 8],
    [1, 2],
    [3, 4],
    [4, 6],
    [7, 8],
  ])("design: of commits %s to %s, all of which were changed, the first is named", async (from, upto) => {
    const run = await longRun(8);
    await inStorage(run, (sql) =>
      sql.exec(
        "UPDATE commits SET event = replace(event, '\"type\"', '\"TYPE\"') WHERE seq BETWEEN ? AND ?",
        from,
        upto,
      ),
    );
    expect(await verified(run)).toMatchObject({
      ok: false,
      first_bad: { seq: from },
      verified_upto_seq: from - 1,
    });
  });

  it("design: a commit is not found good because the one after it cannot be read", async () => {
    const run = await longRun(8);
    await inStorage(run, (sql) => {
      sql.exec("UPDATE commits SET event = replace(event, '\"type\"', '\"TYPE\"') WHERE seq = 4");
      sql.exec("UPDATE commits SET event = 'no JSON' WHERE seq = 5");
    });
    expect(await verified(run)).toMatchObject({ ok: false, first_bad: { seq: 4 }, verified_upto_seq: 3 });
    await inStorage(run, (sql) => sql.exec("UPDATE commits SET event = '', prev_hash = NULL WHERE seq = 5"));
    expect(await verified(run)).toMatchObject({ ok: false, first_bad: { seq: 4 }, verified_upto_seq: 3 });
  });

  it("design: a commit after the last one that the run knows of", async () => {
    const run = await longRun(4);
    await inStorage(run, (sql) => {
      sql.exec(
        "INSERT INTO commits (seq, event, prev_hash) SELECT 5, json_set(event, '$.seq', 5), 'x' FROM commits WHERE seq = 4",
      );
    });
    expect(await verified(run)).toMatchObject({
      ok: false,
      first_bad: { seq: 5, reason: "is not known to the run" },
    });
  });

  it("design: a chain that was made anew does not have the hashes that the saved head and a segment remember", async () => {
    const run = await longRun(9);
    await sealAll(run, { ...SMALL, keep: 6 });
    const rows = await storedRows(run);
    await inStorage(run, (sql) => {
      let hash = rows[0]?.prev_hash ?? "";
      for (const row of rows) {
        const event = row.event.replace("fact 5", "fake 5");
        sql.exec("UPDATE commits SET event = ?, prev_hash = ? WHERE seq = ?", event, hash, row.seq);
        hash = commitHash({ ...row, event, prev_hash: hash });
      }
    });
    await evict(run);
    const [saved] = await rowsOf<{ head_seq: number }>(run, "SELECT head_seq FROM run");
    expect(await verified(run)).toMatchObject({ ok: false, first_bad: { seq: saved?.head_seq } });
  });

  it("design: what the run began with is under the chain too", async () => {
    const run = await longRun(3);
    await sealAll(run, { ...SMALL, keep: 99 });
    await inStorage(run, (sql) =>
      sql.exec("UPDATE run SET initial = json_set(initial, '$.objective', 'another')"),
    );
    await evict(run);
    expect(await verified(run)).toMatchObject({ ok: false, first_bad: { seq: 0 } });
  });

  it("design: a segment that is missing is named by its first commit", async () => {
    const run = await longRun(12);
    await sealAll(run);
    await bucket().delete((await keysOf(run)).filter((key) => key.includes("/4-6-")));
    expect(await verified(run)).toMatchObject({ ok: false, first_bad: { seq: 4 }, verified_upto_seq: 3 });
    expect(await verified(run, "?from_seq=8")).toMatchObject({ ok: true });
  });
});
