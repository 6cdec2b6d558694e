import { describe, expect, it } from "vitest";
import {
  addSix,
  type EventStream,
  newRunAt,
  note,
  openStream,
  type StreamOptions,
  summarise,
  workspaceAt,
} from "../stream-reader.ts";
import {
  addTasks,
  arrange,
  call,
  eventsOf,
  freshId,
  must,
  newRun,
  patchesOf,
  type RunRoutes,
  runOf,
} from "../support.ts";

const TENANT = '{"org_id":"local","workspace_id":"local","source":"local_implicit"}';

const freshPath = () => `/srv/${freshId()}`;

function pathOf(workspace: string, params: Record<string, string> = {}): string {
  return `/context/runs/events/stream?${new URLSearchParams({ workspace, ...params })}`;
}

const open = (workspace: string, params: Record<string, string> = {}, options: StreamOptions = {}) =>
  openStream(pathOf(workspace, params), options);

/** A record as a stream of many runs has it. */
interface Envelope {
  block: string;
  run_id: string;
  kind: "blackboard_patch" | "context_run_event";
  seq: number;
  ts_ms: number;
}

/** The envelopes of a run's log, byte by byte. */
async function envelopesOf(run: RunRoutes, workspace: string): Promise<Envelope[]> {
  const envelopes =
    (kind: Envelope["kind"]) =>
    (record: { seq: number; ts_ms: number }): Envelope => {
      const { seq, ts_ms } = record;
      const head = `"kind":"${kind}","run_id":"${run.id}","workspace":"${workspace}","seq":${seq},"ts_ms":${ts_ms}`;
      const block = `data: {${head},"payload":${JSON.stringify(record)},"tenantContext":${TENANT}}\n\n`;
      return { block, run_id: run.id, kind, seq, ts_ms };
    };
  return [
    ...(await eventsOf(run)).map(envelopes("context_run_event")),
    ...(await patchesOf(run)).map(envelopes("blackboard_patch")),
  ];
}

/** The envelopes of runs in the order of the backlog (02 §7.2). */
async function backlogOf(runs: RunRoutes[], workspace: string): Promise<Envelope[]> {
  const envelopes = await Promise.all(runs.map((run) => envelopesOf(run, workspace)));
  const byText = (a: string, b: string) => Number(a > b) - Number(a < b);
  return envelopes
    .flat()
    .sort(
      (a, b) => a.ts_ms - b.ts_ms || byText(a.run_id, b.run_id) || byText(a.kind, b.kind) || a.seq - b.seq,
    );
}

const blocksOf = (envelopes: Envelope[]) => envelopes.map(({ block }) => block);

/** Run ids that the first frame names. */
async function subscribed(stream: EventStream): Promise<string[]> {
  return (await stream.frame()).json.subscribed_run_ids;
}

const sortedIds = (...runs: RunRoutes[]) => runs.map(({ id }) => id).sort();

/** Proves that a stream has nothing before what is committed next: in a run that it shows, an event. */
async function nothingBefore(stream: EventStream, run: RunRoutes): Promise<void> {
  const event = await note(run, { type: "marker" });
  expect((await stream.frame()).json).toMatchObject({ run_id: run.id, payload: event });
}

/** A workspace of three runs with six commits each, made side by side. */
async function busyWorkspace(): Promise<{ path: string; runs: [RunRoutes, RunRoutes, RunRoutes] }> {
  const path = freshPath();
  const runs = [await newRunAt(path), await newRunAt(path), await newRunAt(path)] as [
    RunRoutes,
    RunRoutes,
    RunRoutes,
  ];
  await Promise.all(runs.map(addSix));
  return { path, runs };
}

describe("GET /context/runs/events/stream: bytes", () => {
  it("02§7 status and headers", async () => {
    const stream = await open(freshPath());
    expect(stream.status).toBe(200);
    expect(stream.headers.get("content-type")).toBe("text/event-stream");
    expect(stream.headers.get("cache-control")).toBe("no-cache");
  });

  it("02§7.2 a ready frame, the backlog by time, run, kind and seq, then what is committed", async () => {
    const { path, runs } = await busyWorkspace();
    const stream = await open(path);
    const ids = JSON.stringify(sortedIds(...runs));
    const ready = `{"kind":"ready","subscribed_run_ids":${ids},"timestamp_ms":\\d{13},"workspace":"${path}"}`;
    expect(await stream.block()).toMatch(new RegExp(`^data: ${ready.replace(/[[\]]/g, "\\$&")}\n\n$`));
    const expected = await backlogOf(runs, path);
    expect(expected).toHaveLength(27);
    expect(await stream.blocks(27)).toEqual(blocksOf(expected));
    const [run] = runs;
    await note(run);
    await summarise(run, "live");
    const live = (await envelopesOf(run, path)).filter(({ seq }) => seq > 6);
    const order = live.sort((a, b) => a.seq - b.seq || (a.kind === "context_run_event" ? -1 : 1));
    expect(await stream.blocks(3)).toEqual(blocksOf(order));
  });

  it("02§7 no id:, event: or retry: lines, whatever a reader asks for", async () => {
    const { path, runs } = await busyWorkspace();
    const params = { until: "terminal", types: "x", patches: "false", since_seq: "4" };
    const stream = await open(path, params, { headers: { "last-event-id": "1" } });
    await stream.block();
    expect(await stream.blocks(27)).toEqual(blocksOf(await backlogOf(runs, path)));
  });

  it("02§7.2 live, the event of a commit comes before its patch", async () => {
    const path = freshPath();
    const run = await newRunAt(path);
    const stream = await open(path);
    await stream.block();
    await addTasks(run, ...Array.from({ length: 5 }, (_, n) => ({ id: `t${n}` })));
    const frames = await stream.frames(10);
    expect(frames.map(({ json: { kind, seq } }) => [kind, seq])).toEqual(
      [1, 2, 3, 4, 5].flatMap((seq) => [
        ["context_run_event", seq],
        ["blackboard_patch", seq],
      ]),
    );
  });

  it("D91 every envelope has the same members, from the backlog and live", async () => {
    const path = freshPath();
    const run = await newRunAt(path);
    await summarise(run, "backlog");
    const stream = await open(path);
    await stream.block();
    const backlog = await stream.frames(2);
    await summarise(run, "live");
    for (const { json } of [...backlog, ...(await stream.frames(2))]) {
      expect(Object.keys(json)).toEqual([
        "kind",
        "run_id",
        "workspace",
        "seq",
        "ts_ms",
        "payload",
        "tenantContext",
      ]);
      expect(json.tenantContext).toEqual((await runOf(run)).tenant_context);
      expect([json.payload.seq, json.payload.ts_ms]).toEqual([json.seq, json.ts_ms]);
    }
  });
});

describe("GET /context/runs/events/stream: which runs", () => {
  it("02§7.2 a workspace without runs is legal; D89 a run that is created later joins", async () => {
    const path = freshPath();
    const stream = await open(path);
    expect(await subscribed(stream)).toEqual([]);
    const run = await newRunAt(path);
    await note(run);
    await summarise(run, "live");
    const frames = await stream.frames(3);
    expect(frames.map(({ json: { run_id, kind, seq } }) => [run_id, kind, seq])).toEqual([
      [run.id, "context_run_event", 1],
      [run.id, "context_run_event", 2],
      [run.id, "blackboard_patch", 2],
    ]);
    expect(await subscribed(await open(path))).toEqual([run.id]);
  });

  it("02§7.2 run_ids: trimmed, without blanks and repetitions, sorted; none stands for all", async () => {
    const path = freshPath();
    const runs = [await newRunAt(path), await newRunAt(path), await newRunAt(path)];
    const [a = "", b = "", c = ""] = sortedIds(...runs);
    const lists: [string | null, string[]][] = [
      [null, [a, b, c]],
      ["", [a, b, c]],
      [" , ,", [a, b, c]],
      [a, [a]],
      [`${c},${a}`, [a, c]],
      [` ${c} ,, ${b}\t,\n${a},`, [a, b, c]],
      [`${b},${b}, ${b}`, [b]],
    ];
    for (const [run_ids, expected] of lists) {
      const stream = await open(path, run_ids === null ? {} : { run_ids });
      expect(await subscribed(stream), String(run_ids)).toEqual(expected);
    }
  });

  it("02§7.2 named runs are all there is, in the backlog and live; none joins them", async () => {
    const { path, runs } = await busyWorkspace();
    const [a, b, c] = runs;
    const stream = await open(path, { run_ids: `${a.id},${b.id}`, tail: "1" });
    expect(await subscribed(stream)).toEqual(sortedIds(a, b));
    const backlog = await stream.frames(4);
    expect(new Set(backlog.map(({ json }) => json.run_id))).toEqual(new Set([a.id, b.id]));
    await note(c);
    await note(await newRunAt(path));
    await nothingBefore(stream, b);
    await nothingBefore(stream, a);
  });

  it("02§8 trimmed, and without the slash at the end, paths are the same", async () => {
    const path = freshPath();
    const runs = [await newRunAt(path), await newRunAt(`${path}/`), await newRunAt(` ${path} `)];
    for (const run of runs) await note(run);
    for (const workspace of [path, `${path}/`, ` ${path}// `, `\t${path}\n`]) {
      const stream = await open(workspace);
      const ready = await stream.frame();
      expect(ready.json).toMatchObject({ workspace: path, subscribed_run_ids: sortedIds(...runs) });
      // In the backlog it is the path that was asked for.
      for (const { json } of await stream.frames(3)) expect(json.workspace).toBe(path);
    }
  });

  it("02§7.2 live, the workspace is the run's own path, trimmed", async () => {
    const path = freshPath();
    const run = await newRunAt(` ${path}/ `);
    const stream = await open(path);
    await stream.block();
    await note(run);
    expect((await stream.frame()).json.workspace).toBe(`${path}/`);
  });

  it("02§7.2 a run of another workspace, or of none, is not in it", async () => {
    const path = freshPath();
    const run = await newRunAt(path);
    const others = [await newRunAt(freshPath()), await newRunAt(`${path}/sub`), await newRun()];
    const stream = await open(path);
    expect(await subscribed(stream)).toEqual([run.id]);
    for (const other of others) await note(other);
    await nothingBefore(stream, run);
  });

  it("02§7.2 D89 a run that moves out of the workspace is told of no more, one that moves in is", async () => {
    const path = freshPath();
    const [stays, leaves] = [await newRunAt(path), await newRunAt(path)];
    const comes = await newRunAt(freshPath());
    await note(comes);
    const stream = await open(path);
    await stream.block();
    await arrange(leaves, { workspace: workspaceAt(freshPath()) });
    await note(leaves);
    await nothingBefore(stream, stays);
    await arrange(comes, { workspace: workspaceAt(path) });
    const moved = await note(comes, { type: "moved" });
    const seen: number[] = [];
    for (let seq = 0; seq < moved.seq; seq = seen.at(-1) ?? 0) {
      const { json } = await stream.frame();
      expect(json.run_id).toBe(comes.id);
      seen.push(json.seq);
    }
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    await nothingBefore(stream, stays);
  });

  it("D87 D89 what is committed while streams open, by old and new runs, is in each once, in order", async () => {
    const path = freshPath();
    const runs = [await newRunAt(path), await newRunAt(path)];
    const appending = (async () => {
      runs.push(await newRunAt(path));
      await Promise.all(
        runs.map(async (run) => {
          for (let n = 0; n < 12; n += 1) await (n % 3 === 0 ? summarise(run, `${n}`) : note(run));
        }),
      );
    })();
    const reading = Array.from({ length: 6 }, async () => {
      const stream = await open(path);
      return (await stream.blocks(1 + 3 * 16)).slice(1);
    });
    await appending;
    const expected = blocksOf(await backlogOf(runs, path));
    for (const blocks of await Promise.all(reading)) {
      expect([...blocks].sort()).toEqual([...expected].sort());
      for (const run of runs) {
        const ofKind = (kind: string) =>
          blocks.filter((block) => block.startsWith(`data: {"kind":"${kind}","run_id":"${run.id}"`));
        const inLog = (await envelopesOf(run, path)).sort((a, b) => a.seq - b.seq);
        for (const kind of ["context_run_event", "blackboard_patch"]) {
          expect(ofKind(kind)).toEqual(blocksOf(inLog.filter((envelope) => envelope.kind === kind)));
        }
      }
    }
  });

  it("02§7.2 readers of one workspace see one order", async () => {
    const path = freshPath();
    const runs = await Promise.all(Array.from({ length: 4 }, () => newRunAt(path)));
    const streams = await Promise.all(Array.from({ length: 3 }, () => open(path)));
    for (const stream of streams) await stream.block();
    await Promise.all(runs.map(addSix));
    const [first = [], ...others] = await Promise.all(streams.map((stream) => stream.blocks(4 * 9)));
    expect(new Set(first).size).toBe(4 * 9);
    for (const other of others) expect(other).toEqual(first);
  });
});

describe("GET /context/runs/events/stream: tail", () => {
  it("02§7.2 tail holds for each run, and for its events and patches apart; 0 counts as 1", async () => {
    const { path, runs } = await busyWorkspace();
    const all = await backlogOf(runs, path);
    const tails: [string, number, number][] = [
      ["0", 1, 1],
      ["1", 1, 1],
      ["2", 2, 2],
      ["4", 4, 3],
      ["6", 6, 3],
      ["4000000", 6, 3],
    ];
    for (const [tail, events, patches] of tails) {
      const isIn = ({ kind, seq }: Envelope) =>
        kind === "context_run_event" ? seq > 6 - events : seq > 6 - 2 * patches;
      const expected = blocksOf(all.filter(isIn));
      expect(expected).toHaveLength(3 * (events + patches));
      const stream = await open(path, { tail });
      await stream.block();
      expect(await stream.blocks(expected.length), tail).toEqual(expected);
    }
    const stream = await open(path, { tail: "1" });
    await stream.blocks(1 + 6);
    for (const run of runs) await nothingBefore(stream, run);
  });

  it("02§7.2 no more than 2000 of each kind on many runs, as many as there are on one", async () => {
    const path = freshPath();
    const run = await newRunAt(path);
    for (const batch of [0, 1, 2, 3, 4]) {
      const rows = Array.from({ length: 410 }, (_, n) => ({ id: `t-${batch}-${n}` }));
      expect(await addTasks(run, ...rows)).toHaveLength(410);
    }
    for (const tail of ["2000", "2049", "9007199254740991"]) {
      const many = await open(path, { tail });
      await many.block();
      const frames = await many.frames(4000);
      for (const kind of ["context_run_event", "blackboard_patch"]) {
        const seqs = frames.filter(({ json }) => json.kind === kind).map(({ json }) => json.seq);
        expect([seqs.length, seqs[0], seqs.at(-1)], tail).toEqual([2000, 51, 2050]);
      }
    }
    const one = await openStream(`/context/runs/${run.id}/events/stream?tail=2040`);
    await one.block();
    const seqs = (await one.frames(2040)).map(({ json }) => json.properties.seq);
    expect(seqs).toEqual(Array.from({ length: 2040 }, (_, n) => 11 + n));
  });
});

describe("GET /context/runs/events/stream: the cursor", () => {
  type Seqs = Record<string, unknown>;
  const base64url = (text: string) => Buffer.from(text, "utf8").toString("base64url");
  const cursorOf = (cursor: unknown) => base64url(JSON.stringify(cursor));
  const padded = (cursor: string) => cursor.padEnd(Math.ceil(cursor.length / 4) * 4, "=");

  it("02§7.3 the contract's own example", () => {
    expect(cursorOf({ events: { r: 3 } })).toBe("eyJldmVudHMiOnsiciI6M319");
  });

  it("02§7.3 events and patches go on apart; tail counts only where the cursor has no seq", async () => {
    const { path, runs } = await busyWorkspace();
    const [a, b, c] = runs;
    const all = await backlogOf(runs, path);
    const cursors: [{ events?: Seqs; patches?: Seqs }, number | null, (envelope: Envelope) => boolean][] = [
      [{}, null, () => true],
      [{ events: {}, patches: {} }, null, () => true],
      [
        { events: { [a.id]: 3 } },
        null,
        (e) => e.run_id !== a.id || e.kind === "blackboard_patch" || e.seq > 3,
      ],
      [
        { patches: { [a.id]: 4 } },
        null,
        (e) => e.run_id !== a.id || e.kind !== "blackboard_patch" || e.seq > 4,
      ],
      [
        { events: { [a.id]: 6 }, patches: { [a.id]: 6, [b.id]: 2 } },
        null,
        (e) => (e.run_id === b.id ? e.kind !== "blackboard_patch" || e.seq > 2 : e.run_id !== a.id),
      ],
      [
        { events: { [a.id]: 1 } },
        1,
        (e) => e.seq === 6 || (e.run_id === a.id && e.kind !== "blackboard_patch" && e.seq > 1),
      ],
      [
        { events: { [a.id]: 0 } },
        1,
        (e) => e.seq === 6 || (e.run_id === a.id && e.kind !== "blackboard_patch"),
      ],
      [
        { events: { unknown: 9, [c.id]: 5 } },
        null,
        (e) => e.run_id !== c.id || e.kind === "blackboard_patch" || e.seq > 5,
      ],
      [
        Object.fromEntries(
          ["events", "patches"].map((kind) => [kind, Object.fromEntries(runs.map(({ id }) => [id, 6]))]),
        ),
        null,
        () => false,
      ],
    ];
    for (const [cursor, tail, isIn] of cursors) {
      const name = JSON.stringify([cursor, tail]);
      const stream = await open(path, {
        cursor: cursorOf(cursor),
        ...(tail !== null && { tail: `${tail}` }),
      });
      await stream.block();
      const expected = blocksOf(all.filter(isIn));
      expect(await stream.blocks(expected.length), name).toEqual(expected);
    }
    const seen = {
      events: { [a.id]: 6, [b.id]: 6, [c.id]: 6 },
      patches: { [a.id]: 6, [b.id]: 6, [c.id]: 6 },
    };
    const stream = await open(path, { cursor: cursorOf(seen) });
    await stream.block();
    for (const run of runs) await nothingBefore(stream, run);
  });

  it("02§7.3 padded, unpadded and surrounded by whitespace it is the same", async () => {
    const path = freshPath();
    const run = await newRunAt(path);
    for (const _ of [1, 2, 3]) await note(run);
    // One, two and no characters of padding.
    for (const more of ["", "x", "xx"]) {
      const cursor = cursorOf({ events: { [run.id]: 2 }, patches: { [more]: 1 } });
      for (const form of [cursor, padded(cursor), ` ${cursor}\t`, `\n${padded(cursor)} `]) {
        const stream = await open(path, { cursor: form });
        await stream.block();
        expect((await stream.frame()).json.seq, form).toBe(3);
      }
    }
  });

  it("02§7.3 D92 one that cannot be read counts as empty", async () => {
    const path = freshPath();
    const run = await newRunAt(path);
    for (const _ of [1, 2, 3]) await note(run);
    const seen = { events: { [run.id]: 2 } };
    const json = JSON.stringify(seen);
    const unreadable = [
      "",
      " ",
      "null",
      "%",
      "####",
      "A",
      cursorOf(seen).slice(1),
      cursorOf(seen).slice(0, -1),
      `${cursorOf(seen)}=`,
      `${cursorOf(seen)}====`,
      `=${cursorOf(seen)}`,
      `${cursorOf(seen).slice(0, 8)} ${cursorOf(seen).slice(8)}`,
      json,
      base64url(`${json}}`),
      base64url(`\ufeff${json}`),
      Buffer.from([...Buffer.from('{"events":{"'), 0xff, ...Buffer.from('":1}}')]).toString("base64url"),
      base64url("null"),
      base64url("[]"),
      base64url("3"),
      cursorOf({ events: null }),
      cursorOf({ events: [] }),
      cursorOf({ events: 3 }),
      cursorOf({ ...seen, patches: null }),
      cursorOf({ ...seen, patches: "x" }),
      ...["2", -1, 1.5, null, true, {}, []].flatMap((seq) => [
        cursorOf({ events: { [run.id]: seq } }),
        cursorOf({ events: { [run.id]: 2, other: seq } }),
        cursorOf({ ...seen, patches: { other: seq } }),
      ]),
    ];
    for (const cursor of unreadable) {
      const stream = await open(path, { cursor });
      await stream.block();
      expect(
        (await stream.frames(3)).map(({ json }) => json.seq),
        cursor,
      ).toEqual([1, 2, 3]);
      const last = await open(path, { cursor, tail: "1" });
      await last.block();
      expect((await last.frame()).json.seq, cursor).toBe(3);
    }
  });

  it("02§7.3 members that it does not know are ignored", async () => {
    const path = freshPath();
    const run = await newRunAt(path);
    for (const _ of [1, 2, 3]) await note(run);
    const stream = await open(path, { cursor: cursorOf({ v: 2, events: { [run.id]: 2 }, x: null }) });
    await stream.block();
    expect((await stream.frame()).json.seq).toBe(3);
  });

  it("02§7.3 a seq beyond the log: what is committed from then on comes", async () => {
    const path = freshPath();
    const run = await newRunAt(path);
    await summarise(run, "1");
    const cursor = cursorOf({ events: { [run.id]: 4_000_000 }, patches: { [run.id]: 4_000_000 } });
    const stream = await open(path, { cursor });
    await stream.block();
    await nothingBefore(stream, run);
  });

  it("02§7.3 a client that builds it frame by frame goes on wherever it stopped", async () => {
    const { path, runs } = await busyWorkspace();
    const whole = await open(path);
    await whole.block();
    const frames = await whole.frames(27);
    const cursor: { events: Record<string, number>; patches: Record<string, number> } = {
      events: {},
      patches: {},
    };
    for (const [index, { json }] of frames.entries()) {
      cursor[json.kind === "context_run_event" ? "events" : "patches"][json.run_id] = json.seq;
      const rest = await open(path, { cursor: cursorOf(cursor) });
      await rest.block();
      const wanted = frames.slice(index + 1);
      expect(await rest.frames(wanted.length)).toEqual(wanted);
    }
    const stream = await open(path, { cursor: cursorOf(cursor) });
    await stream.block();
    for (const run of runs) await nothingBefore(stream, run);
  });

  it("02§7.3 a reader that has what was just committed is not given it again", async () => {
    const path = freshPath();
    const run = await newRunAt(path);
    for (let seq = 1; seq <= 20; seq += 1) {
      await summarise(run, `${seq}`);
      const cursor = cursorOf({ events: { [run.id]: seq }, patches: { [run.id]: seq - 1 } });
      const stream = await open(path, { cursor });
      await stream.block();
      expect((await stream.frame()).json).toMatchObject({ kind: "blackboard_patch", seq });
    }
  });
});

describe("GET /context/runs/events/stream: refusals", () => {
  const bad = [
    "",
    "workspace",
    "workspace=",
    "workspace=%20%09",
    "workspace=srv/ws",
    "workspace=./srv",
    "workspace=~/srv",
    "workspace=%2Fa&workspace=%2Fa",
    "workspace=%2Fa&tail=",
    "workspace=%2Fa&tail=x",
    "workspace=%2Fa&tail=-1",
    "workspace=%2Fa&tail=1.5",
    "workspace=%2Fa&tail=1&tail=1",
    "workspace=%2Fa&cursor=a&cursor=a",
    "workspace=%2Fa&run_ids=a&run_ids=a",
  ];
  it.each(bad)("02§7.2 400 for the query %s", async (query) => {
    const answer = await call("GET", `/context/runs/events/stream?${query}`);
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ code: "QUERY_INVALID", error: expect.stringMatching(/./) });
  });

  it("02§7.2 D96 400 for a run that is unknown or not in the workspace, and says which", async () => {
    const path = freshPath();
    const run = await newRunAt(path);
    const strangers = [
      freshId(),
      (await newRunAt(freshPath())).id,
      (await newRunAt(`${path}/sub`)).id,
      (await newRun()).id,
      "not an id",
      "../x",
    ];
    for (const stranger of strangers) {
      for (const run_ids of [stranger, `${run.id},${stranger}`]) {
        const answer = await call("GET", pathOf(path, { run_ids }));
        expect(answer.status, run_ids).toBe(400);
        expect(answer.body.code).toBe("QUERY_INVALID");
        expect(answer.body.error).toContain(stranger);
      }
    }
  });

  it("02§8 a path with a drive letter is absolute", async () => {
    const path = `C:\\${freshId()}`;
    const run = await newRunAt(path);
    expect(await subscribed(await open(path))).toEqual([run.id]);
  });

  it("02§1.1 401 without a credential", async () => {
    const answer = await call("GET", pathOf(freshPath()), undefined, { "x-agent-token": null });
    expect(answer.status).toBe(401);
  });

  it.each(["POST", "PUT", "DELETE"])("02§1.3 405 for %s", async (method) => {
    const answer = await call(method, pathOf(freshPath()), {});
    expect(answer.status).toBe(405);
    expect(answer.headers.get("allow")?.split(", ").sort()).toEqual(["GET", "HEAD"]);
  });

  it("HEAD has the headers of GET and ends at once", async () => {
    const answer = await call("HEAD", pathOf(freshPath()));
    expect(answer.status).toBe(200);
    expect(answer.headers.get("content-type")).toBe("text/event-stream");
    expect(answer.text).toBe("");
    must(await call("HEAD", pathOf("relative")), 400);
  });
});
