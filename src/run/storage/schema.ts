/**
 * A run's tables. Append-only: a released migration is never edited, because objects that slept through several
 * releases run them one after the other when they next wake.
 */
export const MIGRATIONS: readonly (readonly string[])[] = [
  [
    // The log, and the truth. Writes: every commit, once. Everything else can be rebuilt from it.
    `CREATE TABLE commits (
      seq INTEGER PRIMARY KEY,    -- 1, 2, 3, … (I1)
      command_id TEXT,            -- idempotency key of the command whose first commit this is; null when it had none
      receipt TEXT,               -- JSON, see commits.ts; null when command_id is
      event TEXT NOT NULL,        -- the event record as clients see it, JSON
      patch TEXT                  -- the patch record as clients see it, JSON; null when the commit has none
    ) STRICT`,
    `CREATE UNIQUE INDEX commits_by_command ON commits (command_id) WHERE command_id IS NOT NULL`,

    // One row. The head is written now and then, not per commit: what is newer is read from the log on waking.
    `CREATE TABLE run (
      only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
      head TEXT NOT NULL,             -- RunHead after commit head_seq, JSON
      head_seq INTEGER NOT NULL,
      task_counts TEXT NOT NULL,      -- TaskCounts after commit head_seq, JSON
      initial TEXT NOT NULL,          -- RunHeader as created, JSON: where a replay starts
      lease_key TEXT NOT NULL,        -- secret from which lease tokens are derived, hex; never leaves the object
      created_command TEXT,           -- JSON {command_id, fingerprint} of the create call, or null
      directory_seq INTEGER NOT NULL  -- seq up to which the directory has this run; -1 when it never had
    ) STRICT`,

    // Projection of the tasks. A row of queue 'ready' is claimable now, 'delayed' once next_retry_at_ms passes,
    // 'leased' is in progress under an expiring lease; all other tasks have none.
    `CREATE TABLE tasks (
      pos INTEGER PRIMARY KEY,              -- list order (I20)
      id TEXT NOT NULL UNIQUE,
      task_type TEXT NOT NULL,
      workflow_id TEXT NOT NULL,            -- '' when the task has none
      priority INTEGER NOT NULL,
      created_ts INTEGER NOT NULL,          -- epoch ms
      status TEXT NOT NULL,
      next_retry_at_ms INTEGER,             -- epoch ms
      lease_expires_at_ms INTEGER,          -- epoch ms
      open_dependencies INTEGER NOT NULL,   -- distinct dependencies that are missing or not done
      queue TEXT CHECK (queue IN ('ready', 'delayed', 'leased')),
      doc TEXT NOT NULL                     -- the task as clients see it, JSON
    ) STRICT`,
    // One lane per task type and workflow, best task first: filtered and unfiltered claims read lane heads only.
    `CREATE INDEX ready_lanes ON tasks (task_type, workflow_id, priority DESC, created_ts, pos)
      WHERE queue = 'ready'`,
    `CREATE INDEX delayed_tasks ON tasks (next_retry_at_ms) WHERE queue = 'delayed'`,
    // By position, not by expiry: a heartbeat then touches no index, and stale leases are found in list order.
    `CREATE INDEX leased_tasks ON tasks (pos) WHERE queue = 'leased'`,
    `CREATE TABLE task_edges (
      dependency TEXT NOT NULL,   -- a task id, of a task that may not exist yet
      dependent TEXT NOT NULL,    -- id of the task that waits
      PRIMARY KEY (dependency, dependent)
    ) STRICT, WITHOUT ROWID`,

    // Blackboard entries in the order they were added.
    `CREATE TABLE notes (
      pos INTEGER PRIMARY KEY,
      list TEXT NOT NULL,         -- facts, decisions or open_questions
      doc TEXT NOT NULL           -- JSON
    ) STRICT`,
    `CREATE TABLE artifacts (
      pos INTEGER PRIMARY KEY,
      doc TEXT NOT NULL           -- JSON
    ) STRICT`,
  ],
  [
    // What was saved where. The content lies in parts, because a row ends at 2 MB.
    `CREATE TABLE checkpoints (
      seq INTEGER PRIMARY KEY,    -- position in the log; a second checkpoint there takes the place of the first
      head TEXT NOT NULL          -- CheckpointHead, JSON
    ) STRICT`,
    // The calls that made checkpoints, for answering their repeats.
    `CREATE TABLE checkpoint_commands (
      command_id TEXT PRIMARY KEY,
      fingerprint TEXT NOT NULL,  -- digest of the request
      head TEXT NOT NULL          -- CheckpointHead as it was answered, JSON
    ) STRICT, WITHOUT ROWID`,
    `CREATE TABLE checkpoint_parts (
      seq INTEGER NOT NULL,
      member TEXT NOT NULL,       -- run_state or blackboard
      part INTEGER NOT NULL,      -- 0, 1, 2, …
      text TEXT NOT NULL,         -- JSON, to be joined
      PRIMARY KEY (seq, member, part)
    ) STRICT, WITHOUT ROWID`,
    // What of run.head does not fit into its row: long objectives, steps and summaries together.
    `CREATE TABLE head_parts (
      part INTEGER PRIMARY KEY,   -- 1, 2, 3, …; part 0 is run.head
      text TEXT NOT NULL
    ) STRICT`,
  ],
  [
    // The chain (chain.ts): the hash of the commit before; null in commits of releases that did not chain them.
    `ALTER TABLE commits ADD COLUMN prev_hash TEXT`,
    // Hash of commit head_seq; null as long as no release that chains commits has saved the head.
    `ALTER TABLE run ADD COLUMN log_hash TEXT`,

    // Events that audits ask for, so that finding them costs nothing for those that lie between.
    `CREATE TABLE effects (
      kind TEXT NOT NULL,         -- see domain/audit.ts
      seq INTEGER NOT NULL,
      event_id TEXT,              -- of a mutation: how rollbacks name it
      applied_seq INTEGER,        -- of a mutation that was undone: seq of the rollback
      PRIMARY KEY (kind, seq)
    ) STRICT, WITHOUT ROWID`,
    `CREATE INDEX effects_by_event ON effects (event_id) WHERE event_id IS NOT NULL`,

    // The run's artifact space: what each path holds now, and every version it ever had. The content is in R2.
    `CREATE TABLE files (
      path TEXT PRIMARY KEY,
      doc TEXT NOT NULL           -- FileVersion, JSON; a path that was removed has no row
    ) STRICT, WITHOUT ROWID`,
    `CREATE TABLE file_versions (
      path TEXT NOT NULL,
      version INTEGER NOT NULL,   -- seq of the commit that made it
      doc TEXT NOT NULL,          -- FileVersion, JSON
      PRIMARY KEY (path, version)
    ) STRICT, WITHOUT ROWID`,

    // Stretches of the log that lie in R2 instead of table commits.
    `CREATE TABLE segments (
      upto_seq INTEGER PRIMARY KEY,
      doc TEXT NOT NULL           -- Segment, JSON
    ) STRICT`,
    // The commands whose commits lie there: a command id is remembered for the life of the run.
    `CREATE TABLE sealed_commands (
      command_id TEXT PRIMARY KEY,
      seq INTEGER NOT NULL        -- of the command's first commit, which has the receipt
    ) STRICT, WITHOUT ROWID`,
    // One row, while a segment is on its way to R2: what a crash leaves there is found by it, and deleted.
    `CREATE TABLE sealing (
      only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
      key TEXT NOT NULL
    ) STRICT`,

    // The state a run began with, when it did not begin empty: a forked run's. JSON lines (domain/state-lines.ts), each with its line
    // break, in parts.
    `CREATE TABLE genesis_parts (
      part INTEGER PRIMARY KEY,   -- 1, 2, 3, …
      text TEXT NOT NULL
    ) STRICT`,

    // From here on a checkpoint's content is JSON lines (domain/state-lines.ts): in checkpoint_parts as member `state`, or
    // in R2 under this key. And how many lines there are.
    `ALTER TABLE checkpoints ADD COLUMN object_key TEXT`,
    `ALTER TABLE checkpoints ADD COLUMN lines INTEGER`,

    // Names that clients gave to checkpoints.
    `CREATE TABLE checkpoint_names (
      name TEXT PRIMARY KEY,
      seq INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID`,

    // One row, once the run is gone from here: deleted for good, or archived to R2.
    `CREATE TABLE tombstone (
      only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
      doc TEXT NOT NULL           -- Tombstone, JSON
    ) STRICT`,
  ],
  [
    // What tasks of docs/claims.md are found by. Rows of others enter none of the indexes.
    `ALTER TABLE tasks ADD COLUMN concurrency_key TEXT NOT NULL DEFAULT ''`, // '' when the task has none
    `ALTER TABLE tasks ADD COLUMN due_at_ms INTEGER`, // no later than when a clock of it runs out, epoch ms
    `ALTER TABLE tasks ADD COLUMN dead_letter INTEGER NOT NULL DEFAULT 0`, // 1: it waits for somebody to redrive it
    `ALTER TABLE tasks ADD COLUMN busy INTEGER NOT NULL DEFAULT 0`, // 1: it takes a place of its concurrency key
    `CREATE INDEX due_tasks ON tasks (due_at_ms) WHERE due_at_ms IS NOT NULL`,
    `CREATE INDEX dead_letters ON tasks (pos) WHERE dead_letter = 1`,
    `CREATE INDEX busy_keys ON tasks (concurrency_key) WHERE busy = 1`,
    `DROP INDEX ready_lanes`,
    `CREATE INDEX ready_lanes ON tasks (task_type, workflow_id, concurrency_key, priority DESC, created_ts, pos)
      WHERE queue = 'ready'`,
  ],
  [
    // The calls that brought the run here (a fork, an import, a restore), for answering their repeats.
    `CREATE TABLE move_calls (
      command_id TEXT PRIMARY KEY,
      fingerprint TEXT NOT NULL,  -- digest of the request
      answer TEXT NOT NULL        -- MoveAnswer, JSON
    ) STRICT, WITHOUT ROWID`,
  ],
];
