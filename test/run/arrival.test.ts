import { runInDurableObject } from "cloudflare:test";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { newHead } from "../../src/domain/head.ts";
import { MemoryRun } from "../../src/domain/memory.ts";
import { memoryStateLines } from "../../src/domain/state-lines.ts";
import { LOCAL_TENANT } from "../../src/identity/tenant.ts";
import type { Blackboard } from "../../src/protocol/blackboard.ts";
import type { Run, RunHeader } from "../../src/protocol/run.ts";
import { commitHash, initialHash } from "../../src/run/chain.ts";
import type { RunObject } from "../../src/run/run-object.ts";
import { stateDigest } from "../../src/run/state-digest.ts";
import { EXPORT_1 } from "./fixtures/export-1.ndjson.ts";
import {
  arrive,
  bytesOf,
  type CommitLine,
  endOf,
  exported,
  fill,
  linesIn,
  sealed,
  streamOf,
} from "./support/moving.ts";
import {
  accepted,
  claimed,
  draftOf,
  everything,
  evict,
  http,
  listed,
  newTestRun,
  note,
  objectOf,
  overviewOf,
  PROPERTY_TIMEOUT_MS,
  replayOf,
  rowsOf,
  type TestRun,
  wholeRun,
} from "./support/test-run.ts";

let origin: TestRun;
let text: string;

beforeAll(async () => {
  origin = await newTestRun({ workspace: { workspace_id: "w", canonical_path: "/w", lease_epoch: 1 } });
  await fill(origin);
  text = await exported(origin);
});

/** What a client can read of a run, with another id in place of its own. */
async function readAs(run: TestRun, id: string): Promise<unknown> {
  const text = JSON.stringify(await everything(run)).replaceAll(run.id, id);
  return { ...JSON.parse(text), overview: { ...JSON.parse(text).overview, log_hash: expect.any(String) } };
}

async function isAbsent(run: TestRun): Promise<void> {
  expect(await run.client.readOverview()).toMatchObject({ ok: false, refusal: { code: "RUN_NOT_FOUND" } });
  expect(await rowsOf(run, "SELECT * FROM run")).toEqual([]);
}

describe("a run that arrives", () => {
  it("is the run that was exported, under another id, and does not drift", async () => {
    const run = objectOf();
    const arrived = await arrive(run, text);
    expect(arrived).toMatchObject({
      ok: true,
      value: { repeated: false, run: { run_id: run.id }, checks: { ...endOf(text), blobs: 0 } },
    });
    expect(await everything(origin)).toEqual(await readAs(run, origin.id));
    for (const query of ["", "?from_checkpoint=false"]) {
      expect((await replayOf(run, query)).drift).toMatchObject({ mismatch: false, compared: true });
    }
    expect(await listed(run)).toMatchObject({ run_id: run.id, status: "running" });
  });

  it("under its own id keeps every row to the byte, and goes on from there", async () => {
    const other = objectOf();
    const again = objectOf(other.id);
    expect((await arrive(other, text)).ok).toBe(true);
    const copy = await exported(other);
    const third = objectOf();
    expect((await arrive(third, copy)).ok).toBe(true);
    // Named back it is the first export, byte by byte, but for the digests, which say whose it is.
    const withoutSums = (of: string) =>
      of.replaceAll(/"(prev_hash|log_hash|state_sha256|sha256)":"[0-9a-f]{64}"/g, '"$1":""');
    const back = (await exported(third)).replaceAll(third.id, other.id);
    expect(withoutSums(back)).toBe(withoutSums(copy));
    await accepted(again, note("goes on"), "note-2");
    await accepted(again, { op: "requeue_stale" });
    expect((await replayOf(again)).drift.mismatch).toBe(false);
  });

  it("has its checkpoints, by name and by the call that made them", async () => {
    const run = objectOf();
    expect(await arrive(run, text)).toMatchObject({ value: { checks: { checkpoints: 1 } } });
    const heads = async (of: TestRun) => {
      const half = await of.client.readCheckpointHead("half");
      const middle = await of.client.readCheckpointHead("middle");
      return JSON.parse(JSON.stringify([half, middle]).replaceAll(of.id, "id"));
    };
    const [half, middle] = await heads(run);
    expect(half).toMatchObject({ ok: true, value: { seq: 8, name: "middle", automatic: false } });
    expect(middle).toEqual(half);
    const known = await origin.client.readCheckpointHead("half");
    expect(half.value).toMatchObject({ checkpoint_id: known.ok && known.value?.checkpoint_id });
    const call = { commandId: "checkpoint-1", fingerprint: "f" };
    const repeated = await run.client.createCheckpoint({ reason: "halfway", name: "half" }, call);
    expect(repeated).toMatchObject({ ok: true, value: { repeated: true, head: { run_id: run.id } } });
    expect((await replayOf(run, "?from_checkpoint=true")).drift).toMatchObject({ mismatch: false });
    await http("GET", `/v1/runs/${run.id}/state?at_seq=9`);
  });

  it("gives out work, proves leases and remembers commands", async () => {
    const run = objectOf();
    await arrive(run, text);
    await evict(run);
    const repeated = await run.client.submit({ command: note({}), commandId: "note-1", fingerprint: "f" });
    expect(JSON.parse(repeated.split("\n")[0] ?? "")).toMatchObject({ ok: true, repeat: { same: true } });
    const { id, token } = await claimed(run);
    await accepted(run, { op: "transition_task", task_id: id, action: "complete", lease_token: token });
    expect((await replayOf(run)).drift.mismatch).toBe(false);
  });

  it("holds no secret of the run that it was", async () => {
    const [row] = await rowsOf<{ lease_key: string }>(origin, "SELECT lease_key FROM run");
    const run = objectOf();
    await arrive(run, text);
    const [own] = await rowsOf<{ lease_key: string }>(run, "SELECT lease_key FROM run");
    expect(text).not.toContain(row?.lease_key);
    expect(own?.lease_key).not.toBe(row?.lease_key);
  });

  it("may have been exported by the first release that had exports", async () => {
    const run = objectOf();
    expect(await arrive(run, EXPORT_1)).toMatchObject({ ok: true, value: { checks: { checkpoints: 1 } } });
    expect((await replayOf(run, "?from_checkpoint=false")).drift).toMatchObject({ mismatch: false });
    const named = await run.client.readCheckpointHead("named");
    expect(named).toMatchObject({ ok: true, value: { seq: 7 } });
  });

  it("takes the place of nothing", async () => {
    const run = await newTestRun();
    expect(await arrive(run, text)).toMatchObject({ ok: false, refusal: { code: "CONTEXT_RUN_EXISTS" } });
    expect((await run.client.readOverview()).ok).toBe(true);
  });

  it("is brought once by a repeated command, and by no other under its id", async () => {
    const run = objectOf();
    const command = { command_id: "import-1", fingerprint: "asked", ofContent: true };
    expect(await arrive(run, text, { command })).toMatchObject({ ok: true, value: { repeated: false } });
    expect(await arrive(run, text, { command })).toMatchObject({ ok: true, value: { repeated: true } });
    const other = await exported(await newTestRun());
    const conflict = { ok: false, refusal: { code: "COMMAND_ID_CONFLICT" } };
    expect(await arrive(run, other, { command })).toMatchObject(conflict);
    const elsewhere = { ...command, fingerprint: "asked otherwise" };
    expect(await arrive(run, text, { command: elsewhere })).toMatchObject(conflict);
  });
});

describe("a run that begins with a state", () => {
  /** The state of the origin, as the beginning of another run. */
  async function beginning(run: TestRun): Promise<{ lines: object[]; state: string[]; initial: RunHeader }> {
    const { run: whole, blackboard } = (await everything(origin)) as { run: Run; blackboard: Blackboard };
    const { tasks, ...header } = whole;
    const initial = { ...header, run_id: run.id, revision: 1, last_event_seq: 0 };
    const memory = new MemoryRun(newHead(initial), tasks, blackboard);
    const state = [...memoryStateLines(memory)];
    const genesis = state.map((line) => ({ genesis: JSON.parse(line) as object }));
    const header1 = { baton_export: 1, run_id: run.id, initial, created_command: null, last_event_seq: 0 };
    return { lines: [header1, ...genesis], state, initial };
  }

  it("has it from the beginning, and replays from there", async () => {
    const run = objectOf();
    const { lines, state, initial } = await beginning(run);
    const genesis = lines
      .slice(1)
      .map((line) => `${JSON.stringify((line as { genesis: object }).genesis)}\n`);
    const log_hash = initialHash(initial, genesis);
    const text = sealed(lines, { log_hash, state_sha256: stateDigest(state) });
    expect(await arrive(run, text)).toMatchObject({ ok: true, value: { checks: { commits: 0 } } });
    expect((await wholeRun(run)).tasks).toEqual((await wholeRun(origin)).tasks);
    await evict(run);
    await accepted(run, note("first"), "note-1");
    expect((await overviewOf(run)).last_event_seq).toBe(1);
    const moved = objectOf();
    expect((await arrive(moved, await exported(run))).ok).toBe(true);
    expect((await wholeRun(moved)).tasks).toEqual((await wholeRun(origin)).tasks);
  });

  it("is refused when the state is another's, or not the one that was told", async () => {
    const run = objectOf();
    const { lines, state, initial } = await beginning(run);
    const [header, head, ...rest] = lines;
    const log_hash = initialHash(initial, []);
    const other = { ...initial, run_id: "other" };
    const { genesis } = head as { genesis: { head: { audit: object } } };
    const audited = (ledger: unknown) => ({
      head: { ...genesis.head, audit: { ...genesis.head.audit, ledger } },
    });
    for (const [bad, rule] of [
      [[header, ...rest], "order"],
      [[header, head, head, ...rest], "order"],
      [[{ ...header, initial: other }, head, ...rest], "same_run"],
      [[{ ...header, initial: { ...initial, objective: "other" } }, head, ...rest], "same_run"],
      [[header, { genesis: audited("a history") }, ...rest], "no_audit"],
      [[header, { genesis: audited(undefined) }, ...rest], "no_audit"],
      [[header, { genesis: { head: { ...genesis.head, locks: [{}] } } }, ...rest], "never"],
      [[header, { genesis: { head: { ...genesis.head, halt: {} } } }, ...rest], "never"],
      [[header, head], "verified"],
    ] as [object[], string][]) {
      const refused = await arrive(run, sealed(bad, { log_hash, state_sha256: stateDigest(state) }));
      expect(refused).toMatchObject({ ok: false, refusal: { issues: [{ rule }] } });
    }
    await isAbsent(run);
  });
});

describe("an arrival that breaks off", () => {
  it("leaves no run, wherever it does; the next attempt and a create find nothing in their way", async () => {
    const bytes = bytesOf(text);
    for (let at = 0; at <= bytes.length; at += 997) {
      const run = objectOf();
      expect(await arrive(run, bytes.slice(0, at), { fails: true, chunk: 500 })).toMatchObject({
        ok: false,
        refusal: { code: "IMPORT_INVALID", issues: [{ rule: "complete" }] },
      });
      await isAbsent(run);
      if (at % 2 === 0) expect((await arrive(run, text)).ok).toBe(true);
      else
        expect(
          (await run.client.create({ tenant: LOCAL_TENANT, draft: draftOf(run.id), command: null })).ok,
        ).toBe(true);
      expect((await replayOf(run)).drift.mismatch).toBe(false);
    }
  });

  it("is given up when another begins", async () => {
    const run = objectOf();
    const gate = Promise.withResolvers<void>();
    const bytes = bytesOf(text);
    let isFirst = true;
    const slow = new ReadableStream({
      type: "bytes",
      async pull(controller) {
        if (!isFirst) await gate.promise;
        controller.enqueue(bytes.slice(isFirst ? 0 : 2_000, isFirst ? 2_000 : bytes.length));
        if (!isFirst) controller.close();
        isFirst = false;
      },
    });
    const first = run.client.arrive(slow, { tenant: LOCAL_TENANT, run_id: run.id, command: null });
    expect((await arrive(run, text)).ok).toBe(true);
    gate.resolve();
    expect(await first).toMatchObject({ ok: false, refusal: { issues: [{ rule: "superseded" }] } });
    expect((await replayOf(run)).drift.mismatch).toBe(false);
  });
});

describe("an arrival that is complete", () => {
  /** Holds up the flush of the last rows. */
  async function whileLastRowsAreFlushed(run: TestRun, meanwhile: (object: RunObject) => Promise<unknown>) {
    return runInDurableObject(run.stub, async (object: RunObject, { storage }) => {
      const stored = Promise.withResolvers<void>();
      const released = Promise.withResolvers<void>();
      const sync = storage.sync.bind(storage);
      storage.sync = async () => {
        await sync();
        const tables = storage.sql.exec("SELECT name FROM sqlite_master WHERE name = 'run'").toArray();
        if (tables.length === 0 || storage.sql.exec("SELECT only_row FROM run").toArray().length === 0)
          return;
        stored.resolve();
        await released.promise;
      };
      const arrived = object.arrive(streamOf(bytesOf(text)), {
        tenant: LOCAL_TENANT,
        run_id: run.id,
        command: null,
      });
      await stored.promise;
      const other = meanwhile(object);
      await scheduler.wait(0);
      released.resolve();
      return [await arrived, await other] as const;
    });
  }

  it("is the run from then on: what comes before it is flushed takes the place of nothing", async () => {
    const exists = { ok: false, refusal: { code: "CONTEXT_RUN_EXISTS" } };
    const rivals: ((run: TestRun) => (object: RunObject) => Promise<unknown>)[] = [
      (run) => (object) => object.create({ tenant: LOCAL_TENANT, draft: draftOf(run.id), command: null }),
      (run) => (object) =>
        object.arrive(streamOf(bytesOf(text)), { tenant: LOCAL_TENANT, run_id: run.id, command: null }),
    ];
    for (const rival of rivals) {
      const run = objectOf();
      const [arrived, other] = await whileLastRowsAreFlushed(run, rival(run));
      expect(arrived).toMatchObject({ ok: true, value: { run: { run_id: run.id } } });
      expect(other).toMatchObject(exists);
      await evict(run);
      expect(await everything(origin)).toEqual(await readAs(run, origin.id));
    }
  });

  it("can be deleted before it is flushed", async () => {
    const run = objectOf();
    const [, erased] = await whileLastRowsAreFlushed(run, (object) =>
      object.erase({ created_at_ms: null, expected_revision: null }),
    );
    expect(erased).toEqual({ ok: true, value: null });
    await evict(run);
    expect(await run.client.readOverview()).toMatchObject({ refusal: { code: "RUN_NOT_FOUND" } });
    expect(await rowsOf(run, "SELECT * FROM commits")).toEqual([]);
  });
});

describe("an export that was damaged", () => {
  it(
    "is refused for any single byte that is changed, taken out or put in, and for any end that is missing",
    async () => {
      const bytes = bytesOf(text);
      const damage = fc.record({
        kind: fc.constantFrom("flip", "delete", "insert", "truncate"),
        at: fc.nat(bytes.length - 1),
        byte: fc.integer({ min: 1, max: 255 }),
      });
      const run = objectOf();
      await fc.assert(
        fc.asyncProperty(damage, async ({ kind, at, byte }) => {
          const head = bytes.slice(0, at);
          const tail = bytes.slice(at);
          const put = (...parts: (Uint8Array | number[])[]) =>
            Uint8Array.from(parts.flatMap((part) => [...part]));
          const damaged = {
            flip: () => put(head, [(bytes[at] ?? 0) ^ byte], tail.slice(1)),
            delete: () => put(head, tail.slice(1)),
            insert: () => put(head, [byte], tail),
            truncate: () => head,
          }[kind as "flip"]();
          const refused = await arrive(run, damaged);
          // A byte put in before an equal one, or after the end of a line, may give the same text.
          if (Buffer.compare(damaged, bytes) === 0) return;
          expect(refused).toMatchObject({ ok: false, refusal: { code: "IMPORT_INVALID" } });
        }),
        { numRuns: 150 },
      );
      await isAbsent(run);
    },
    PROPERTY_TIMEOUT_MS,
  );

  it("is refused when something follows its end, or it has none", async () => {
    const run = objectOf();
    const lines = text.trimEnd().split("\n");
    for (const bad of [
      "",
      "\n",
      `${text}\n`,
      `${text} `,
      `${text}{}\n`,
      text + text,
      `${lines.slice(0, -1).join("\n")}\n`,
      text.slice(0, -1),
      text.replace('{"end":{', '{"end": {'),
      `\uFEFF${text}`,
    ]) {
      expect(await arrive(run, bad)).toMatchObject({ ok: false, refusal: { code: "IMPORT_INVALID" } });
    }
    await isAbsent(run);
  });
});

describe("an export that was forged, with sums that fit", () => {
  /** The lines, changed, chained anew and sealed with sums that fit; the state's digest is as it was. */
  function forged(
    change: (lines: Record<string, unknown>[]) => Record<string, unknown>[],
    rechain = true,
  ): string {
    const lines = change(structuredClone(linesIn(text).slice(0, -1)));
    let hash: string | null = null;
    for (const line of lines as Partial<CommitLine>[]) {
      const { commit } = line;
      if (commit === undefined) continue;
      if (rechain && hash !== null) commit.prev_hash = hash;
      hash = commitHash({
        prev_hash: commit.prev_hash,
        command_id: commit.command_id,
        receipt: commit.receipt === null ? null : JSON.stringify(commit.receipt),
        event: JSON.stringify(commit.event),
        patch: commit.patch === null ? null : JSON.stringify(commit.patch),
      });
    }
    const { state_sha256 } = endOf(text);
    return sealed(lines, { log_hash: hash ?? "", state_sha256 });
  }
  const commitsIn = (lines: Record<string, unknown>[]) =>
    lines.filter((line) => "commit" in line) as CommitLine[];
  const edit =
    (at: number, change: (commit: CommitLine["commit"]) => void) => (lines: Record<string, unknown>[]) => {
      const line = commitsIn(lines).at(at);
      if (line !== undefined) change(line.commit);
      return lines;
    };

  it("arrives when nothing was forged", async () => {
    expect(
      (
        await arrive(
          objectOf(),
          forged((lines) => lines),
        )
      ).ok,
    ).toBe(true);
  });

  const rule = (name: string, rule: string, make: () => string) => {
    it(`is refused: ${name}`, async () => {
      const run = objectOf();
      const refused = await arrive(run, make());
      expect(refused).toMatchObject({
        ok: false,
        refusal: { code: "IMPORT_INVALID", issues: [{ rule, field: expect.stringMatching(/^line \d+/) }] },
      });
      await isAbsent(run);
    });
  };

  rule("a commit is missing", "contiguous", () => forged((lines) => lines.filter((_, index) => index !== 3)));
  rule("a commit comes twice", "contiguous", () =>
    forged((lines) => [...lines.slice(0, 4), ...structuredClone(lines.slice(3))]),
  );
  rule("two commits have changed places", "contiguous", () =>
    forged(([first, a, b, ...rest]) => [first, b, a, ...rest] as Record<string, unknown>[]),
  );
  rule("a commit does not connect", "chain", () =>
    forged(
      edit(2, (commit) => {
        commit.event.ts_ms += 1;
      }),
      false,
    ),
  );
  rule("an event is of another run", "same_run", () =>
    forged(
      edit(1, (commit) => {
        commit.event.run_id = "other";
      }),
    ),
  );
  rule("the commits lead to another state", "verified", () =>
    forged(
      edit(2, (commit) => {
        (commit.event.payload as { task: { task_type: string } }).task.task_type = "other";
      }),
    ),
  );
  rule("a task has no shape", "required", () =>
    forged(
      edit(0, (commit) => {
        commit.event.payload = { task: { id: "a" } };
      }),
    ),
  );
  const policy = { base_ms: 1, factor: 2, max_ms: 5, jitter: 0, non_retryable: [] };
  const lives: [string, object, string][] = [
    ["no whole number of ms", { clocks: { finish_within_ms: 0.5 } }, "int"],
    ["a time that no column holds", { clocks: { start_within_ms: 1e300 } }, "too_big"],
    ["a wait without end", { retry: { ...policy, base_ms: 1e300, max_ms: 1e300 } }, "too_big"],
    ["a wait that ends before it begins", { retry: { ...policy, jitter: 1e9 } }, "too_big"],
  ];
  for (const [name, life, broken] of lives) {
    rule(`a clock or policy computes ${name}`, broken, () =>
      forged(
        edit(0, (commit) => {
          Object.assign((commit.event.payload as { task: object }).task, life);
        }),
      ),
    );
  }
  rule("a halt has no time", "number", () =>
    forged(
      edit(-1, (commit) => {
        Object.assign(commit.event, { halt: { revoke_at_ms: "soon" } });
      }),
    ),
  );
  rule("a receipt tells of commits that are not there", "receipts", () =>
    forged(
      edit(-1, (commit) => {
        commit.command_id = "x";
        commit.receipt = { op: "append_event", fingerprint: null, commits: 9 };
      }),
    ),
  );
  rule("two commands have one id", "applicable", () =>
    forged((lines) => {
      const [first, second] = commitsIn(lines);
      if (first && second)
        Object.assign(second.commit, { command_id: first.commit.command_id, receipt: first.commit.receipt });
      return lines;
    }),
  );
  rule("a run takes the place of this one", "same_run", () =>
    forged(
      edit(-1, (commit) => {
        const { initial } = linesIn(text)[0] as { initial: { tenant_context: object } };
        const run = {
          ...initial,
          tenant_context: { ...initial.tenant_context, org_id: "foreign" },
          tasks: [],
        };
        Object.assign(commit.event, { type: "context.run.replaced", payload: { run } });
      }),
    ),
  );
  for (const [path, broken] of [
    ["../x", "segments"],
    ["/etc/passwd", "relative"],
    ["a\u0000b", "characters"],
  ] as const) {
    rule(`a file lies where no upload could put it: ${JSON.stringify(path)}`, broken, () =>
      forged(
        edit(-1, (commit) => {
          const files = [{ path, sha256: null, bytes: 0, content_type: "text/plain" }];
          Object.assign(commit.event, {
            type: "context.artifact.removed",
            origin: undefined,
            payload: { files },
          });
        }),
      ),
    );
  }
  rule("a record is larger than a row", "max_bytes", () =>
    forged(
      edit(-1, (commit) => {
        commit.event.payload = { text: "x".repeat(2_000_000) };
      }),
    ),
  );
  rule("a line is deeper than any request", "max_depth", () =>
    forged(
      edit(-1, (commit) => {
        commit.event.payload = JSON.parse(`${"[".repeat(200)}${"]".repeat(200)}`);
      }),
    ),
  );
  rule("lines are out of order", "order", () =>
    forged((lines) => [...lines, { genesis: { facts: { id: "f", ts_ms: 1, text: "t" } } }]),
  );
  rule("a part belongs to no content", "order", () => forged((lines) => [...lines, { blob_part: "AA==" }]));
});
