import type { Children } from "./children.ts";

/** The work every peer is given. */
export interface Job {
  /** How many tasks are created, and then worked. */
  tasks: number;
  /** How many callers create tasks at the same time, and how many agents work them. */
  agents: number;
  /** An empty folder made for this run and removed after it; servers keep their data in it. */
  dataDir: string;
}

/** What a peer measured, and under which conditions. */
export interface PeerResult {
  peer: string;
  /** Of the client packages and the server. */
  versions: string;
  /** The settings that decide when a write is durable, as the running server reports them. */
  durability: string;
  /** How the job maps to the peer, the heartbeat above all. */
  idiom: string;
  /** From the first create to the last acknowledgement. */
  create_ms: number;
  /** From the first claim until the last task is completed durably. */
  work_ms: number;
  claim_p50_ms?: number;
  claim_p99_ms?: number;
  tasks: number;
  agents: number;
}

/**
 * Starts the peer's server, does the job and checks that every task was completed exactly once.
 *
 * @throws Skipped when the server or a package is not installed; Error when the peer failed.
 */
export type Peer = (job: Job, children: Children) => Promise<PeerResult>;

/** The peer cannot run on this machine as it is; the message says what to install. */
export class Skipped extends Error {
  override readonly name = "Skipped";
}
