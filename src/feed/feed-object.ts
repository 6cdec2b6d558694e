import { DurableObject } from "cloudflare:workers";
import type { Env } from "../env.ts";
import { type FeedScope, feedScope, runObjectName } from "../identity/tenant.ts";
import { Followers } from "../run/followers.ts";
import { runClient } from "../run/run-client.ts";
import { Sql } from "../run/storage/sql.ts";
import { joined, newerThan, packStretches, type Stretch, unpackStretches } from "../run/stretch.ts";
import { type FeedPlace, type FeedRow, Journal } from "./journal.ts";
import { askEach, type Present, rollCall } from "./roll-call.ts";
import { Seats } from "./seats.ts";

/** One message to the followers holds about so much, in UTF-16 units. */
const MAX_MESSAGE_LENGTH = 1024 * 1024;
/** Longer than a run keeps quiet, and than the directory takes to learn of a commit. */
const QUIET_KNOWN_MS = 120_000;

interface Arrival {
  stretch: Stretch;
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * Brings the logs of many runs into one order, and tells it to those who follow. Stores nothing before it is first
 * followed, and does nothing while nobody follows.
 *
 * Runs push what they commit. What a push does not connect to is read from the run first, so that the journal has no gap.
 * Pushes that arrive while a flush is pending share the next one.
 */
export class FeedObject extends DurableObject<Env> {
  readonly #sql: Sql;
  readonly #scope: FeedScope;
  readonly #followers: Followers;
  readonly #seats: Seats;
  #openJournal: Journal | null = null;
  #queue: Arrival[] = [];
  #isLeading = false;
  /** Whether every commit of the feed's runs is in the journal, or will be pushed. After waking nobody knows. */
  #isComplete = false;
  #completing: Promise<void> | null = null;
  /** How many are about to follow. */
  #opening = 0;
  /**
   * Runs that were told that nobody follows, and when (epoch ms), the oldest first: they keep quiet, and the directory may
   * not know yet why they pushed.
   */
  readonly #quiet = new Map<string, number>();

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#sql = new Sql(ctx.storage);
    this.#scope = feedScope(ctx.id.name ?? "");
    this.#followers = new Followers(ctx);
    this.#seats = new Seats(ctx);
  }

  /**
   * Follows the feed over a WebSocket. It is told the rows of the journal as they are added, with their commits
   * (run/stretch.ts), and now and then where the journal is (`FeedPlace`), for the first time when the journal is
   * complete. Nothing is read from the socket.
   *
   * Or takes a seat of the tenant's streams (seats.ts): `/seat?limit=`.
   */
  override async fetch(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/seat") return this.#seats.take(Number(searchParams.get("limit")));
    // From now on pushes are taken; what the roll call finds and what they bring is all before the place that is told.
    this.#opening += 1;
    try {
      if (!this.#isComplete) await this.#complete();
    } finally {
      this.#opening -= 1;
    }
    const { socket, response } = this.#followers.accept();
    socket.send(JSON.stringify(this.#journal().place()));
    return response;
  }

  /** Streams of the tenant's tokens that are open. */
  async seatsTaken(): Promise<number> {
    return this.#seats.count();
  }

  /** See FeedInbox of run/feed-link.ts. */
  async push(packed: string): Promise<boolean> {
    const stretches = unpackStretches(packed);
    if (this.#opening === 0 && this.#followers.count() === 0) {
      this.#isComplete = false;
      for (const { run_id } of stretches) this.#hush(run_id, Date.now());
      return false;
    }
    for (const stretch of stretches) await this.#take(await this.#connected(stretch));
    return true;
  }

  /** Makes runs known that a reader names: it may be the first to be interested in them. */
  async enroll(runIds: readonly string[]): Promise<void> {
    const journal = this.#journal();
    const unknown = runIds.filter((runId) => journal.headOf(runId) === null);
    // Before the first roll call all that there is is the past, and the call will find it.
    if (journal.completeAtMs() > 0) this.#learn(await askEach(this.env, this.#scope, unknown));
  }

  /** Rows after a place, in order. */
  async readRows(afterPos: number, limit: number): Promise<FeedRow[]> {
    return this.#journal().rows(afterPos, limit);
  }

  /** Where each run of the feed was at a place: by run id. */
  async headsAt(pos: number): Promise<Map<string, number>> {
    return this.#journal().headsAt(pos);
  }

  #journal(): Journal {
    this.#openJournal ??= new Journal(this.#sql, () => crypto.randomUUID().slice(0, 8));
    return this.#openJournal;
  }

  /** The stretch, with what lies between the journal and it. */
  async #connected(stretch: Stretch): Promise<Stretch> {
    const known = this.#knownSeq(stretch);
    if (stretch.after_seq <= known) return stretch;
    const gap = { afterSeq: known, uptoSeq: stretch.after_seq, withPatches: true };
    const run = runClient(this.env.RUNS, runObjectName(this.#scope.tenant, stretch.run_id));
    const answer = await run.readStretch(gap);
    const missing = answer.ok ? unpackStretches(answer.value)[0] : undefined;
    if (missing?.upto_seq === stretch.after_seq) return joined(missing, stretch);
    // Too much for one piece: the followers read it themselves, as fast as each of them can.
    return { ...stretch, after_seq: known, commits: null };
  }

  /** Up to where the feed has a run. What the run committed before it came to the workspace is no part of that one's feed. */
  #knownSeq({ run_id, workspace_since_seq }: Pick<Stretch, "run_id" | "workspace_since_seq">): number {
    const head = this.#journal().headOf(run_id) ?? 0;
    return this.#scope.workspace === null ? head : Math.max(head, workspace_since_seq);
  }

  /** Remembers that a run keeps quiet, and forgets those that no longer do. */
  #hush(runId: string, nowMs: number): void {
    this.#quiet.delete(runId);
    this.#quiet.set(runId, nowMs);
    for (const [oldest, sinceMs] of this.#quiet) {
      if (sinceMs > nowMs - QUIET_KNOWN_MS) break;
      this.#quiet.delete(oldest);
    }
  }

  #take(stretch: Stretch): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#queue.push({ stretch, resolve, reject });
    if (!this.#isLeading) void this.#lead();
    return promise;
  }

  async #lead(): Promise<void> {
    this.#isLeading = true;
    while (this.#queue.length > 0) {
      const group = this.#queue.splice(0);
      try {
        const added = this.#sql.transaction(() => group.flatMap(({ stretch }) => this.#add(stretch)));
        await this.ctx.storage.sync();
        this.#tell(added);
        for (const { resolve } of group) resolve();
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
    }
    this.#isLeading = false;
  }

  /** Adds what the journal does not have of it. */
  #add(stretch: Stretch): Stretch[] {
    const known = this.#knownSeq(stretch);
    const news = newerThan(stretch, known);
    if (news.upto_seq <= known) return [];
    if (news.after_seq !== known) throw new Error(`the journal of ${news.run_id} ends at ${known}`);
    return [{ ...news, pos: this.#journal().append(news.run_id, known, news.upto_seq) }];
  }

  #tell(added: Stretch[]): void {
    let message: Stretch[] = [];
    let length = 0;
    for (const stretch of added) {
      message.push(stretch);
      for (const { event, patch } of stretch.commits ?? []) length += event.length + (patch?.length ?? 0);
      if (length < MAX_MESSAGE_LENGTH) continue;
      this.#followers.tell(() => packStretches(message));
      message = [];
      length = 0;
    }
    if (message.length > 0) this.#followers.tell(() => packStretches(message));
  }

  /** Learns what the feed's runs have committed while they were not heard. */
  async #complete(): Promise<void> {
    this.#completing ??= this.#callRoll().finally(() => {
      this.#completing = null;
    });
    await this.#completing;
  }

  async #callRoll(): Promise<void> {
    const startedAtMs = Date.now();
    const journal = this.#journal();
    const completeAtMs = journal.completeAtMs();
    const headOf = (runId: string): number | null => journal.headOf(runId);
    const quiet = [...this.#quiet.keys()];
    const present = await askEach(this.env, this.#scope, quiet);
    this.#learn(present);
    let { missing } = present;
    for await (const page of rollCall(this.env, this.#scope, completeAtMs, startedAtMs, headOf)) {
      this.#learn(page);
      missing += page.missing;
    }
    this.#isComplete = missing === 0;
    if (missing === 0) for (const runId of quiet) this.#quiet.delete(runId);
    // At the first call, one that could not be asked stays unknown: all that it has is news when it is heard of.
    if (missing === 0 || completeAtMs === 0) journal.setCompleteAt(startedAtMs);
  }

  /** Takes in where runs are. At the first roll call that is the past; later, what the journal does not have is news. */
  #learn({ runs }: Present): void {
    const journal = this.#journal();
    const before = journal.place().pos;
    const isFirst = journal.completeAtMs() === 0;
    this.#sql.transaction(() => {
      for (const [run_id, { last_event_seq, workspace_since_seq }] of runs) {
        const known = this.#knownSeq({ run_id, workspace_since_seq });
        const isPast = isFirst && journal.headOf(run_id) === null;
        if (isPast || known >= last_event_seq) journal.know(run_id, last_event_seq);
        else journal.append(run_id, known, last_event_seq);
      }
    });
    const place: FeedPlace = journal.place();
    if (place.pos > before) this.#followers.tell(() => JSON.stringify(place));
  }
}
