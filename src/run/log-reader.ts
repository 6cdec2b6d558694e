import type { Commit } from "../domain/commit.ts";
import { MAX_PAGE_LENGTH } from "../protocol/limits.ts";
import type { LogRow } from "./chain.ts";
import type { CommitTable } from "./storage/commits.ts";

export type { LogRow } from "./chain.ts";

const MAX_PAGE_ROWS = 500;

/**
 * Reads a run's log wherever it lies. A page is read from one place at once, so that a reader that goes on page by page
 * sees each commit once, whatever happens between its pages.
 */
export class LogReader {
  readonly #commits: CommitTable;

  constructor(commits: CommitTable) {
    this.#commits = commits;
  }

  /**
   * Rows with `after < seq <= upto`, ascending, from the beginning: at least one if there is one, until `limit` or about
   * `maxLength` UTF-16 units. It may end earlier; only an empty page says that there are no more.
   */
  async page(
    after: number,
    upto: number,
    { limit = MAX_PAGE_ROWS, maxLength = MAX_PAGE_LENGTH }: { limit?: number; maxLength?: number } = {},
  ): Promise<LogRow[]> {
    return this.#commits.rows(after, upto, Math.min(limit, MAX_PAGE_ROWS), maxLength);
  }

  /** Commits with `after < seq <= upto`, ascending, read page by page. */
  async *commits(after: number, upto: number): AsyncGenerator<Commit> {
    for (let cursor = after; cursor < upto; ) {
      const rows = await this.page(cursor, upto);
      for (const { event, patch } of rows) {
        yield { event: JSON.parse(event), patch: patch === null ? null : JSON.parse(patch) };
      }
      const last = rows.at(-1);
      if (last === undefined) return;
      cursor = last.seq;
    }
  }
}
