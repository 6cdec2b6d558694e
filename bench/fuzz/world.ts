import type { Rng } from "../drill/rng.ts";
import { pickFrom } from "./values.ts";

/** Names of what ids are of, as paths and bodies have them. */
export type Kind =
  | "run_id"
  | "task_id"
  | "held_task"
  | "lock_id"
  | "upload_id"
  | "checkpoint"
  | "token_id"
  | "hook_id"
  | "public_id"
  | "secret_id"
  | "delivery_id"
  | "subscription_id"
  | "letter_id"
  | "lease_token"
  | "event_id"
  | "mutation_id"
  | "path"
  | "cursor"
  | "credential"
  | "sha256";

/** How many of each kind are remembered, the newest ones. */
const REMEMBERED = 30;
/** Runs that requests are about; older ones are left to what is still due in them. */
const RUNS_IN_USE = 6;
/** Runs, hooks, subscriptions, tasks and locks whose own ids and tokens are remembered. */
const OWNERS = 200;

/** What one lane knows of its tenant: the ids that answers have shown. */
export class World {
  readonly lane: number;
  /** The run whose requests are cut off: what is written there belongs to no request. */
  readonly cutRun: string;
  readonly #general = new Map<Kind, string[]>();
  /** By the run, hook or subscription that they belong to. */
  readonly #within = new Map<string, Map<Kind, string[]>>();
  #runs: string[] = [];
  /** An export and the files of the reference engine, to be imported. */
  exported = "";
  /** Secrets of hooks by their public ids. */
  readonly hooks = new Map<string, { kind: string; secret: string }>();

  constructor(lane: number) {
    this.lane = lane;
    this.cutRun = `cut-${lane}`;
  }

  get tenant(): string {
    return `fuzz-${this.lane}`;
  }

  runs(): readonly string[] {
    return this.#runs;
  }

  addRun(runId: string): void {
    if (runId === this.cutRun) return;
    this.#runs = [...this.#runs.filter((known) => known !== runId), runId].slice(-RUNS_IN_USE);
  }

  dropRun(runId: string): void {
    this.#runs = this.#runs.filter((known) => known !== runId);
    this.#within.delete(runId);
  }

  /** @param owner the run, hook or subscription that it belongs to, if it does */
  remember(kind: Kind, id: string, owner: string | null = null): void {
    if (id === "" || id.length > 400) return;
    for (const pools of [this.#general, ...(owner === null ? [] : [this.#poolsOf(owner)])]) {
      const pool = pools.get(kind) ?? [];
      pools.set(kind, [...pool.filter((known) => known !== id), id].slice(-REMEMBERED));
    }
  }

  /** One that is there, of its owner if that has one; undefined where none is known. */
  some(kind: Kind, rng: Rng, owner: string | null = null): string | undefined {
    if (kind === "run_id") return this.#runs.length === 0 ? undefined : pickFrom(rng, this.#runs);
    const pool = (owner === null ? undefined : this.#within.get(owner)?.get(kind)) ?? this.#general.get(kind);
    return pool === undefined || pool.length === 0 ? undefined : pickFrom(rng, pool);
  }

  /** Learns the ids that an answer shows. @param path what was asked for */
  learn(answer: unknown, path: string): void {
    this.#learn(answer, /\/(?:runs|hooks|subscriptions)\/([^/?]+)/.exec(path)?.[1] ?? null, 0);
  }

  #poolsOf(owner: string): Map<Kind, string[]> {
    const pools = this.#within.get(owner) ?? new Map<Kind, string[]>();
    this.#within.delete(owner);
    this.#within.set(owner, pools);
    const [oldest] = this.#within.keys();
    if (this.#within.size > OWNERS && oldest !== undefined) this.#within.delete(oldest);
    return pools;
  }

  #learn(value: unknown, within: string | null, depth: number): void {
    if (typeof value !== "object" || value === null || depth > 6) return;
    if (Array.isArray(value)) {
      for (const element of value.slice(0, 20)) this.#learn(element, within, depth + 1);
      return;
    }
    const record = value as Record<string, unknown>;
    const owner = [record.hook_id, record.subscription_id].find((id) => typeof id === "string") ?? within;
    if (
      typeof record.run_id === "string" &&
      typeof record.objective === "string" &&
      record.archived_at_ms == null
    ) {
      this.addRun(record.run_id);
    }
    if (typeof record.id === "string" && typeof record.task_type === "string") {
      this.remember("task_id", record.id, within);
      if (typeof record.lease_token === "string") {
        this.remember("lease_token", record.lease_token, `${within}/${record.id}`);
        this.remember("held_task", record.id, within);
      }
    }
    if (typeof record.lock_id === "string" && typeof record.token === "string") {
      this.remember("lease_token", record.token, `${within}/${record.lock_id}`);
    }
    for (const [name, member] of Object.entries(record)) {
      if (typeof member === "object") this.#learn(member, owner as string | null, depth + 1);
      if (typeof member !== "string") continue;
      const kind = KINDS[name];
      if (kind !== undefined) this.remember(kind, member, owner as string | null);
      const publicId = name === "url" ? /\/hooks\/([^/?]+)$/.exec(member)?.[1] : undefined;
      if (publicId !== undefined) this.remember("public_id", publicId);
    }
  }
}

/** Which members of answers hold which ids. */
const KINDS: Readonly<Record<string, Kind>> = {
  lock_id: "lock_id",
  upload_id: "upload_id",
  checkpoint_id: "checkpoint",
  token_id: "token_id",
  hook_id: "hook_id",
  secret_id: "secret_id",
  delivery_id: "delivery_id",
  subscription_id: "subscription_id",
  letter_id: "letter_id",
  token: "lease_token",
  lease_token: "lease_token",
  event_id: "event_id",
  path: "path",
  next_cursor: "cursor",
  cursor: "cursor",
  sha256: "sha256",
};
