-- The directory of runs: what lists filter and sort by. A projection; the truth is in each run's object.
CREATE TABLE runs (
  tenant TEXT NOT NULL,               -- org_id/workspace_id, percent-encoded
  run_id TEXT NOT NULL,
  run_type TEXT NOT NULL,             -- as the client sent it
  run_type_key TEXT NOT NULL,         -- trimmed, lower case: what filters compare
  source_client TEXT,                 -- as stored on the run; null when absent
  source_key TEXT,                    -- lower case: what filters compare
  workspace TEXT NOT NULL,            -- Workspace, JSON
  workspace_key TEXT NOT NULL,        -- canonical_path, trimmed, without trailing slash: what filters compare
  status TEXT NOT NULL,
  objective TEXT NOT NULL,
  revision INTEGER NOT NULL,
  last_event_seq INTEGER NOT NULL,    -- how new this row is: an older one never replaces it
  created_at_ms INTEGER NOT NULL,     -- epoch ms
  updated_at_ms INTEGER NOT NULL,     -- epoch ms
  task_counts TEXT NOT NULL,          -- TaskCounts, JSON
  lease_due_at_ms INTEGER,            -- epoch ms, no later than the earliest lease expiry; null when no lease is out
  PRIMARY KEY (tenant, run_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_by_update ON runs (tenant, updated_at_ms DESC, run_id DESC);
CREATE INDEX runs_by_workspace ON runs (tenant, workspace_key, updated_at_ms DESC, run_id DESC);
CREATE INDEX runs_by_lease_due ON runs (lease_due_at_ms, tenant, run_id) WHERE lease_due_at_ms IS NOT NULL;

-- Where each cron duty stopped, so that the next tick goes on from there.
CREATE TABLE maintenance (
  duty TEXT PRIMARY KEY,
  cursor TEXT NOT NULL,               -- JSON, the duty's own
  updated_at_ms INTEGER NOT NULL      -- epoch ms
) STRICT, WITHOUT ROWID;
