import type { Migrations } from "../../run/storage/migrate.ts";

/** Attempts that are kept to be looked at. */
export const MAX_ATTEMPTS_KEPT = 100;

/** Dead letters that are kept; over it the oldest go, and are counted. A letter takes about 300 bytes. */
export const MAX_LETTERS = 10_000;

/**
 * A subscription's tables: how far it is. What it is, the directory says (directory/subscriptions.ts). Append-only, as a run's
 * are (run/storage/schema.ts).
 */
export const MIGRATIONS: Migrations = [
  [
    // Which subscription this is, and how it fares.
    `CREATE TABLE subscription (
      only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
      name TEXT NOT NULL,               -- of the object: alarms are not told it
      attempts INTEGER NOT NULL,        -- ever made
      delivered INTEGER NOT NULL,
      failures_in_row INTEGER NOT NULL, -- since the last success
      failing_since_ms INTEGER,         -- the first of these, epoch ms
      last_success_at_ms INTEGER,       -- epoch ms
      last_failure_at_ms INTEGER,       -- epoch ms
      last_failure TEXT,                -- why
      paused_until_ms INTEGER NOT NULL, -- epoch ms; the receiver wants to be left alone until then
      letters_dropped INTEGER NOT NULL
    ) STRICT`,
    // What is to be sent, in order: the wanted events of a run with after_seq < seq <= upto_seq.
    `CREATE TABLE lines (
      line_id TEXT PRIMARY KEY,         -- kind, colon, the run's id or an id of its own
      kind TEXT NOT NULL,               -- live: follows a run for ever; replay; letter: one dead letter once more
      run_id TEXT NOT NULL,
      after_seq INTEGER NOT NULL,       -- -1 until it is known where a live line begins
      upto_seq INTEGER NOT NULL,        -- up to where the log is known to go, or the replay's end
      attempts INTEGER NOT NULL,        -- that have failed, of the next event
      due_at_ms INTEGER,                -- epoch ms; null when there is nothing to send
      since_ms INTEGER                  -- epoch ms from when a live line begins; null where that is when the subscription does
    ) STRICT, WITHOUT ROWID`,
    "CREATE INDEX lines_by_due ON lines (due_at_ms, line_id) WHERE due_at_ms IS NOT NULL",
    // The last attempts, in a ring.
    `CREATE TABLE attempts (
      slot INTEGER PRIMARY KEY,
      number INTEGER NOT NULL,          -- 1, 2, 3, …
      doc TEXT NOT NULL                 -- AttemptRecord, JSON
    ) STRICT`,
    // Messages that were given up.
    `CREATE TABLE letters (
      pos INTEGER PRIMARY KEY,
      letter_id TEXT NOT NULL UNIQUE,   -- the message's id
      run_id TEXT NOT NULL,
      seq INTEGER NOT NULL,
      type TEXT NOT NULL,
      status INTEGER,                   -- that the receiver gave at last; null for none
      error TEXT NOT NULL,
      dead_at_ms INTEGER NOT NULL       -- epoch ms
    ) STRICT`,
  ],
];
