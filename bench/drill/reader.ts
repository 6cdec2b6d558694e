import { type Api, NoAnswer } from "./api.ts";
import { asObject, stringAt } from "./fields.ts";
import { type Journal, noteLatency } from "./journal.ts";
import { type Patience, sendUntilAnswered } from "./patience.ts";

/** The most a list gives at once: the fewest requests. */
const pageLimit = 1000;

/** Reads of one server, each repeated while the server is away. All throw when they are refused, or never answered. */
export class Reader {
  readonly #api: Api;
  readonly #journal: Journal;
  readonly #patience: Patience;

  constructor(api: Api, journal: Journal, patience: Patience) {
    this.#api = api;
    this.#journal = journal;
    this.#patience = patience;
  }

  /** The body of an answer. */
  async get(path: string): Promise<unknown> {
    const answer = await sendUntilAnswered(this.#api, { method: "GET", path }, this.#patience);
    if (answer.status !== 200) {
      throw new Error(`GET ${path} was answered ${answer.status}: ${JSON.stringify(answer.body)}`);
    }
    noteLatency(this.#journal, path.includes("/replay") ? "replay" : "read", answer.elapsedMs);
    return answer.body;
  }

  /** All rows of a list, each cut down to what is needed: whole rows of a large plan would fill the memory. */
  async rows<T>(path: string, member: string, read: (row: unknown) => T): Promise<T[]> {
    const separator = path.includes("?") ? "&" : "?";
    const rows: T[] = [];
    let cursor: string | undefined;
    do {
      const from = cursor === undefined ? "" : `&cursor=${encodeURIComponent(cursor)}`;
      const body = await this.get(`${path}${separator}limit=${pageLimit}${from}`);
      const page = asObject(body)?.[member];
      if (!Array.isArray(page)) throw new Error(`GET ${path} has no ${member}`);
      for (const row of page) rows.push(read(row));
      cursor = stringAt(body, "next_cursor");
    } while (cursor !== undefined);
    return rows;
  }

  /** The same as `get`, or undefined where nothing comes of it: for what is only looked at now and then. */
  async glance(path: string): Promise<unknown> {
    try {
      const answer = await this.#api.send({ method: "GET", path });
      return answer.status === 200 ? answer.body : undefined;
    } catch (error) {
      if (error instanceof NoAnswer) return undefined;
      throw error;
    }
  }
}
