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
  /** Those of workspaces that the run has left, until they have what it committed there. */
  #leaving: { link: FeedLink; lastSeq: number }[] = [];

  /** @param onOwed see FeedLink. */
  constructor(followers: Followers, feeds: Feeds, state: RunState, nowMs: number, onOwed: () => void) {
    this.#followers = followers;
    this.#feeds = feeds;
    this.#state = state;
    this.#onOwed = onOwed;
    const { run, workspace_since_seq: sinceSeq } = state.head();
    const durableSeq = run.last_event_seq;
    // What the directory does not know the feeds may not know either.
    const takenSeq = Math.max(0, state.directorySeq());
    this.#path = pathOf(run);
    this.#links = scopesOf(run).map((scope) => this.#link(scope, { takenSeq, durableSeq, sinceSeq }));
    if (takenSeq < durableSeq) for (const link of this.#links) link.owe(nowMs);
  }

  /** When the alarm must see to the feeds, epoch ms, or null. */
  dueAtMs(): number | null {
    const moments = this.#allLinks()
      .map((link) => link.dueAtMs())
      .filter((moment) => moment !== null);
    return moments.length === 0 ? null : Math.min(...moments);
  }

  /** Up to where no feed is owed anything. */
  settledSeq(): number {
    return Math.min(...this.#allLinks().map((link) => link.settledSeq()));
  }

  /** Something was committed, and is about to become durable. */
  committed(nowMs: number): void {
    for (const link of this.#links) link.committed(nowMs);
  }

  /** What was committed after `afterSeq` has become durable. */
  published(afterSeq: number, nowMs: number): void {
    const { run } = this.#state.head();
    if (pathOf(run) !== this.#path) this.#move(run, nowMs);
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

  /** The run is about to go: its followers are told by a closed socket, and find it gone when they come back. */
  close(): void {
    for (const link of this.#allLinks()) link.close();
    this.#followers.dismiss();
  }

  /** The feeds are followed again, or about to be: whatever is committed from now on is pushed. */
  resume(): void {
    for (const link of this.#links) link.resume();
  }

  /** For the alarm. */
  pushDue(nowMs: number): void {
    for (const link of this.#allLinks()) link.pushDue(nowMs);
  }

  /** Turns to the feed of another workspace. The one before gets what was committed until then. */
  #move(run: RunHeader, nowMs: number): void {
    this.#path = pathOf(run);
    const { workspace_since_seq: lastSeq } = this.#state.head();
    const [tenant, left] = this.#links;
    const [, scope] = scopesOf(run);
    if (left !== undefined) {
      this.#leaving.push({ link: left, lastSeq });
      left.published(lastSeq, () => readWhole(this.#state, lastSeq, lastSeq), nowMs);
    }
    const from = { takenSeq: lastSeq, durableSeq: lastSeq, sinceSeq: lastSeq };
    const entered = scope && this.#link(scope, from);
    this.#links = [tenant, entered].filter((link) => link !== undefined);
  }

  #allLinks(): FeedLink[] {
    this.#leaving = this.#leaving.filter(({ link, lastSeq }) => link.settledSeq() < lastSeq);
    return [...this.#links, ...this.#leaving.map(({ link }) => link)];
  }

  #link(scope: FeedScope, from: { takenSeq: number; durableSeq: number; sinceSeq: number }): FeedLink {
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
