import type { LogRow } from "../../../../src/run/chain.ts";

/*
 * What a server has left on the disk, as rows: no SQL and no files from here on. Members are named like the columns they
 * come from (src/run/storage/schema.ts, src/hooks/out/storage.ts, migrations).
 */

/** What the platform keeps of an object's alarm, epoch ms of the machine's clock; null when none is set. */
export interface Alarm {
  /** In the object's own file: it changes with the object's writes. */
  readonly alarmMs: number | null;
  /** In the scheduler's file: when the object is woken. */
  readonly scheduledMs: number | null;
}

/** A task, with the columns by which claims and alarms find it. */
export interface StoredTask {
  readonly pos: number;
  readonly id: string;
  readonly task_type: string;
  readonly workflow_id: string;
  readonly concurrency_key: string;
  readonly priority: number;
  readonly created_ts: number;
  readonly status: string;
  readonly next_retry_at_ms: number | null;
  readonly lease_expires_at_ms: number | null;
  readonly open_dependencies: number;
  readonly queue: string | null;
  readonly due_at_ms: number | null;
  readonly dead_letter: number;
  /** JSON. */
  readonly doc: string;
}

/** A run's object. */
export interface StoredRun extends Alarm {
  readonly run: {
    /** RunHead, JSON, its parts joined. */
    readonly head: string;
    readonly head_seq: number;
    readonly task_counts: string;
    /** RunHeader, JSON. */
    readonly initial: string;
    readonly log_hash: string | null;
  };
  readonly commits: readonly LogRow[];
  readonly tasks: readonly StoredTask[];
  readonly edges: readonly { readonly dependency: string; readonly dependent: string }[];
  readonly notes: readonly { readonly list: string; readonly doc: string }[];
  readonly artifacts: readonly { readonly doc: string }[];
  readonly files: readonly { readonly path: string; readonly doc: string }[];
  readonly file_versions: readonly {
    readonly path: string;
    readonly version: number;
    readonly doc: string;
  }[];
  readonly effects: readonly { readonly kind: string; readonly seq: number }[];
  readonly checkpoints: readonly {
    readonly seq: number;
    readonly lines: number | null;
    readonly object_key: string | null;
  }[];
}

/** A subscription's object. */
export interface StoredSubscription extends Alarm {
  /** Of the object: tenant, slash, subscription id. */
  readonly name: string;
  readonly paused_until_ms: number;
  readonly lines: readonly { readonly line_id: string; readonly due_at_ms: number | null }[];
}

/** The directory, D1. */
export interface StoredDirectory {
  readonly runs: readonly {
    readonly tenant: string;
    readonly run_id: string;
    readonly last_event_seq: number;
    readonly lease_due_at_ms: number | null;
  }[];
  readonly subscriptions: readonly {
    readonly tenant: string;
    readonly subscription_id: string;
    readonly status: string;
    /** By the server's clock, epoch ms. */
    readonly created_at_ms: number;
  }[];
  readonly blobs: readonly {
    readonly tenant: string;
    readonly sha256: string;
    readonly key: string;
    readonly bytes: number;
  }[];
  readonly blob_holders: readonly {
    readonly tenant: string;
    readonly holder: string;
    readonly sha256: string;
  }[];
}

/** An object of the bucket. */
export interface StoredObject {
  readonly key: string;
  readonly size: number;
  /** Of its content's file; undefined when there is none. */
  readonly fileBytes: number | undefined;
  /** SHA-256 of that file, lower-case hex. */
  readonly sha256: string | undefined;
}

export interface Stored {
  readonly runs: readonly StoredRun[];
  readonly subscriptions: readonly StoredSubscription[];
  readonly directory: StoredDirectory;
  readonly bucket: readonly StoredObject[];
  /** What SQLite says of each file: "ok", or what is broken. */
  readonly integrity: ReadonlyMap<string, string>;
}
