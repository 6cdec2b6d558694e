export const LOCK_MODES = ["shared", "exclusive"] as const;
export type LockMode = (typeof LOCK_MODES)[number];

/** A resource by name, or many by a glob: `*` and `?` within a segment of a path, `**` over segments. */
export interface LockedResource {
  name: string;
  mode: LockMode;
}

/** Why resources cannot be locked: what of another lock overlaps with what was asked for. */
export interface LockConflict {
  lock_id: string;
  agent_id: string;
  fence: number;
  task_id?: string;
  /** As the other lock names it, and has it. */
  resource: string;
  mode: LockMode;
  /** As it was asked for. */
  wanted: string;
  expires_at_ms: number;
}

/** Resources that an agent has to itself, or with others, for a while. Times are epoch ms. */
export interface Lock {
  lock_id: string;
  agent_id: string;
  /** Seq of the commit that took it: it only grows. */
  fence: number;
  resources: LockedResource[];
  /** The token's fingerprint; of a lock that was taken with a claim, the task's lease is its proof. */
  lease_token?: string;
  /** The task it was taken with: it ends with that task's lease. */
  task_id?: string;
  expires_at_ms: number;
}
