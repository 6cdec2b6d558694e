import { normalisePath } from "../domain/workspace.ts";
import { type FeedScope, feedObjectName, tenantKey } from "../identity/tenant.ts";
import type { RunHeader } from "../protocol/run.ts";
import { type FeedInbox, FeedLink } from "./feed-link.ts";
import type { Followers } from "./followers.ts";
import { readWhole } from "./reads.ts";
import type { RunState } from "./run-state.ts";
import { packStretches, type Stretch } from "./stretch.ts";

/** The feeds' objects, by name. */
export interface Feeds {
  getByName(name: string): FeedInbox;
}

/**
 * Tells what was committed to those who follow the run, and to the feeds it belongs to: its tenant's and, if it has a path,
 * its workspace's. A run that moves to another workspace is told to that one's feed from then on.
 */
export class Publisher {
  readonly #followers: Followers;
  readonly #feeds: Feeds;
  readonly #state: RunState;
  readonly #onOwed: () => void;
  #path: string;
  #links: FeedLink[];

  /** @param onOwed see FeedLink. */
  constructor(followers: Followers, feeds: Feeds, state: RunState, nowMs: number, onOwed: () => void) {
    this.#followers = followers;
    this.#feeds = feeds;
    this.#state = state;
    this.#onOwed = onOwed;
    const { run } = state.head();
    const durableSeq = run.last_event_seq;
    // What the directory does not know the feeds may not know either.
    const takenSeq = Math.max(0, state.directorySeq());
    this.#path = pathOf(run);
    this.#links = scopesOf(run).map((scope) => this.#link(scope, { takenSeq, durableSeq }));
    if (takenSeq < durableSeq) for (const link of this.#links) link.owe(nowMs);
  }

  /** When the alarm must see to the feeds, epoch ms, or null. */
  dueAtMs(): number | null {
    const moments = this.#links.map((link) => link.dueAtMs()).filter((moment) => moment !== null);
    return moments.length === 0 ? null : Math.min(...moments);
  }

  /** Up to where no feed is owed anything. */
  settledSeq(): number {
    return Math.min(...this.#links.map((link) => link.settledSeq()));
  }

  /** Something was committed, and is about to become durable. */
  committed(nowMs: number): void {
    for (const link of this.#links) link.committed(nowMs);
  }

  /** What was committed after `afterSeq` has become durable. */
  published(afterSeq: number, nowMs: number): void {
    const { run } = this.#state.head();
    if (pathOf(run) !== this.#path) this.#move(run, afterSeq);
    const uptoSeq = run.last_event_seq;
    let known: Stretch | null = null;
    // Read at most once, and not at all while nobody follows.
    const fresh = (): Stretch => {
      known ??= readWhole(this.#state, afterSeq, uptoSeq);
      return known;
    };
    this.#followers.tell(() => packStretches([fresh()]));
    for (const link of this.#links) link.published(uptoSeq, fresh, nowMs);
  }

  /** The feeds are followed again, or about to be: whatever is committed from now on is pushed. */
  resume(): void {
    for (const link of this.#links) link.resume();
  }

  /** For the alarm. */
  pushDue(nowMs: number): void {
    for (const link of this.#links) link.pushDue(nowMs);
  }

  #move(run: RunHeader, seq: number): void {
    this.#path = pathOf(run);
    const [tenant] = this.#links;
    const [, workspace] = scopesOf(run);
    const moved = workspace && this.#link(workspace, { takenSeq: seq, durableSeq: seq });
    this.#links = [tenant, moved].filter((link) => link !== undefined);
  }

  #link(scope: FeedScope, from: { takenSeq: number; durableSeq: number }): FeedLink {
    const name = feedObjectName(scope);
    return new FeedLink(() => this.#feeds.getByName(name), this.#state, from, this.#onOwed);
  }
}

function pathOf(run: RunHeader): string {
  return normalisePath(run.workspace.canonical_path);
}

/** First the tenant's, then the workspace's. */
function scopesOf(run: RunHeader): FeedScope[] {
  const tenant = tenantKey(run.tenant_context);
  const path = pathOf(run);
  return path === ""
    ? [{ tenant, workspace: null }]
    : [
        { tenant, workspace: null },
        { tenant, workspace: path },
      ];
}
