-- Runs that were deleted, or are about to be: the intent is written first and stays as the tombstone (docs/moving.md).
CREATE TABLE tombstones (
  tenant TEXT NOT NULL,
  run_id TEXT NOT NULL,
  created_at_ms INTEGER,              -- of the run that is meant, epoch ms; null when it is archived
  expected_revision INTEGER,          -- the run is deleted at this revision or not at all; null for any
  asked_at_ms INTEGER NOT NULL,       -- epoch ms
  done_at_ms INTEGER,                 -- epoch ms; null while something of the run is left
  swept_at_ms INTEGER,                -- epoch ms; when R2 was looked through once more, for what was on its way then
  PRIMARY KEY (tenant, run_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX tombstones_open ON tombstones (asked_at_ms, tenant, run_id) WHERE done_at_ms IS NULL;
CREATE INDEX tombstones_unswept ON tombstones (done_at_ms, tenant, run_id) WHERE swept_at_ms IS NULL;

-- Archived runs stay in the list. Null while the run is in its object.
ALTER TABLE runs ADD COLUMN archived_at_ms INTEGER;

-- Ended runs by age, for retention.
CREATE INDEX runs_to_archive ON runs (tenant, updated_at_ms, run_id)
  WHERE archived_at_ms IS NULL AND status IN ('completed', 'failed', 'cancelled');
CREATE INDEX runs_archived ON runs (tenant, archived_at_ms, run_id) WHERE archived_at_ms IS NOT NULL;

-- Runs on their way into the archive, or out of it: what was begun is finished, or taken back, by cron.
CREATE TABLE archivings (
  tenant TEXT NOT NULL,
  run_id TEXT NOT NULL,
  asked_at_ms INTEGER NOT NULL,       -- epoch ms
  PRIMARY KEY (tenant, run_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX archivings_by_age ON archivings (asked_at_ms, tenant, run_id);

-- How long ended runs are kept, per tenant. In milliseconds; null for ever.
CREATE TABLE retention (
  tenant TEXT PRIMARY KEY,
  archive_after_ms INTEGER,           -- after the last change of an ended run
  delete_after_ms INTEGER,            -- after archiving
  updated_at_ms INTEGER NOT NULL      -- epoch ms
) STRICT, WITHOUT ROWID;
