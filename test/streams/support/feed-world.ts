import fc from "fast-check";
import { expect } from "vitest";
import type { Tenant } from "../../../src/protocol/run.ts";
import { eventually } from "../../run/support/test-run.ts";
import {
  anyDisturbance,
  anyWork,
  type Disturbance,
  disturbFeed,
  recordsOf,
  retried,
  Subject,
  type Work,
} from "./scenario.ts";
import { type Asking, type LogRecord, SseReader } from "./sse-reader.ts";

/** A reader of many runs: how it asks, and which runs it must be shown. */
export interface FeedReader {
  name: string;
  reader: SseReader;
  /** Whether it names the runs it wants. */
  runIds: readonly string[] | null;
}

/** A run and where it has been. */
interface Member {
  subject: Subject;
  path: string;
  /** Where it was before, and up to which commit. */
  former: { path: string; uptoSeq: number }[];
}

/** One step of a history of many runs; numbers choose among what there is. */
export type FeedStep =
  | { do: "commit"; run: number; work: Work }
  | { do: "create" }
  | { do: "move"; run: number }
  | { do: "disturb run"; run: number; how: Disturbance }
  | { do: "disturb feed"; how: Disturbance }
  | { do: "settle" };

const index = fc.nat({ max: 99 });

export const anyFeedStep: fc.Arbitrary<FeedStep> = fc.oneof(
  { weight: 9, arbitrary: fc.record({ do: fc.constant("commit" as const), run: index, work: anyWork }) },
  { weight: 2, arbitrary: fc.constant<FeedStep>({ do: "create" }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("move" as const), run: index }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("disturb run" as const), run: index, how: anyDisturbance }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("disturb feed" as const), how: anyDisturbance }) },
  { weight: 1, arbitrary: fc.constant<FeedStep>({ do: "settle" }) },
);

export const anyCuts = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 900 }), fc.integer({ min: 900, max: 12_000 })),
  { maxLength: 8 },
);

const MAX_RUNS = 6;

/** Runs in two workspaces, and the readers of one of these, or of both. */
export class FeedWorld {
  readonly tenant: Tenant;
  readonly paths: readonly [string, string];
  /** The workspace that is read; null for the tenant's whole feed. */
  readonly scope: string | null;
  readonly members: Member[] = [];
  readonly readers: FeedReader[] = [];

  constructor(tenant: Tenant, paths: readonly [string, string], scope: string | null) {
    this.tenant = tenant;
    this.paths = paths;
    this.scope = scope;
  }

  async create(path: string = this.paths[0]): Promise<Subject> {
    const subject = await Subject.create(this.tenant, path);
    this.members.push({ subject, path, former: [] });
    return subject;
  }

  open(
    name: string,
    cuts: readonly number[],
    ask: (reader: SseReader) => Asking,
    options: { fetch?: (asking: Asking) => Promise<Response>; runIds?: readonly string[] } = {},
  ): void {
    const { fetch, runIds = null } = options;
    this.readers.push({ name, reader: new SseReader({ ask, cuts, ...(fetch && { fetch }) }), runIds });
  }

  async take(step: FeedStep): Promise<void> {
    switch (step.do) {
      case "commit":
        return this.#member(step.run).subject.commit(step.work);
      case "create":
        if (this.members.length < MAX_RUNS) await this.create(this.paths[this.members.length % 3 ? 0 : 1]);
        return;
      case "move":
        return this.#move(step.run);
      case "disturb run":
        return this.#member(step.run).subject.disturb(step.how);
      case "disturb feed":
        return disturbFeed(this.tenant, this.scope, step.how);
      case "settle":
        return this.settle();
    }
  }

  /** Waits until each reader has all it must have, and compares that with the logs. */
  async settle(): Promise<void> {
    for (const member of this.members) {
      const { subject } = member;
      const logs = { events: await subject.log("event"), patches: await subject.log("patch") };
      for (const { name, reader, runIds } of this.readers) {
        for (const [kind, log] of [
          ["context_run_event", logs.events],
          ["blackboard_patch", logs.patches],
        ] as const) {
          const what = `${name}: ${kind} of ${subject.id}`;
          const due = log.filter(({ seq }) => this.#mustShow(member, seq, runIds)).map(({ seq }) => seq);
          const had = (): LogRecord[] => recordsOf(reader.content, subject.id, kind);
          await reader
            .until(() => (had().at(-1)?.seq ?? 0) >= (due.at(-1) ?? 0), 15_000)
            .catch((error: unknown) => {
              throw new Error(`${what} up to ${due.at(-1)}: ${String(error)}`);
            });
          const seqs = new Set(had().map(({ seq }) => seq));
          const text = `${what}: ${[...seqs]}; ${reader.describe()}`;
          // In order and once; of a run that has been elsewhere there may be more than is due.
          expect(had(), text).toEqual(log.filter(({ seq }) => seqs.has(seq)));
          expect(
            due.filter((seq) => !seqs.has(seq)),
            text,
          ).toEqual([]);
        }
      }
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.readers.map(({ reader }) => reader.stop()));
    await Promise.all(this.members.map(({ subject }) => subject.retire()));
  }

  /** Whether a reader must be shown a commit: it belongs to the workspace that the run was in then. */
  #mustShow({ subject, path, former }: Member, seq: number, runIds: readonly string[] | null): boolean {
    if (runIds !== null && !runIds.includes(subject.id)) return false;
    const at = former.find(({ uptoSeq }) => seq <= uptoSeq)?.path ?? path;
    return this.scope === null || this.scope === at;
  }

  #member(run: number): Member {
    const member = this.members[run % this.members.length];
    if (member === undefined) throw new Error("there is no run");
    return member;
  }

  /** The readers have first what was committed before. */
  async #move(run: number): Promise<void> {
    const member = this.#member(run);
    if (this.readers.some(({ runIds }) => runIds?.includes(member.subject.id))) return;
    await this.settle();
    const { subject } = member;
    const from = member.path;
    const to = from === this.paths[0] ? this.paths[1] : this.paths[0];
    const uptoSeq = await retried(() => subject.lastSeq());
    await eventually(
      async () => {
        await subject.moveTo(to);
        const overview = await retried(() => subject.client.readOverview());
        return overview.ok && overview.value.workspace.canonical_path === to;
      },
      Boolean,
      5_000,
    );
    member.former.push({ path: from, uptoSeq });
    member.path = to;
  }
}

/** Asks for the rest of a stream on `/v1`, with the id of the last frame. */
export function askNative(query: string): (reader: SseReader) => Asking {
  return ({ lastId }) => ({
    path: `/v1/events/stream${query}`,
    ...(lastId !== null && { headers: { "last-event-id": lastId } }),
  });
}

/** Asks for the rest of a stream on `/context`, with a cursor made of what the frames have shown. */
export function askContext(query: string): (reader: SseReader) => Asking {
  return ({ content }) => {
    const cursor = { events: {} as Record<string, number>, patches: {} as Record<string, number> };
    for (const { kind, run_id, seq } of content) {
      if (run_id === undefined || seq === undefined) continue;
      cursor[kind === "blackboard_patch" ? "patches" : "events"][run_id] = seq;
    }
    const text = btoa(JSON.stringify(cursor)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
    return { path: `/context/runs/events/stream${query}&cursor=${text}` };
  };
}
