-- Hooks: where other systems deliver to. Found by what stands in their URL, which nobody can guess.
CREATE TABLE hooks (
  tenant TEXT NOT NULL,               -- org_id/workspace_id, percent-encoded
  hook_id TEXT NOT NULL,
  public_id TEXT NOT NULL,            -- in its URL
  name TEXT NOT NULL,
  owner TEXT NOT NULL,                -- Tenant, JSON: whose runs its deliveries make
  scheme TEXT NOT NULL,               -- how deliveries prove where they come from, JSON (protocol/hooks.ts)
  mapping TEXT NOT NULL,              -- what becomes of them, JSON: a mapping, or a preset's name
  secrets TEXT NOT NULL,              -- JSON list of {secret_id, sealed, created_at_ms}; sealed under the keyring, bound to this row
  enabled INTEGER NOT NULL,
  max_body_bytes INTEGER NOT NULL,
  created_at_ms INTEGER NOT NULL,     -- epoch ms
  updated_at_ms INTEGER NOT NULL,     -- epoch ms
  refused_count INTEGER NOT NULL,     -- deliveries that were not believed: at least so many
  last_refused_at_ms INTEGER,         -- epoch ms; null when there was none
  last_refusal TEXT,                  -- why (hooks/in/scheme.ts)
  deleted_at_ms INTEGER,              -- epoch ms; from then on it is found by nobody, and goes when its deliveries are gone
  PRIMARY KEY (tenant, hook_id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX hooks_by_public_id ON hooks (public_id);
CREATE INDEX hooks_deleted ON hooks (deleted_at_ms, tenant, hook_id) WHERE deleted_at_ms IS NOT NULL;

-- What came in, verified, and what became of it. The key says which deliveries are one: their id is made of hook and key.
CREATE TABLE deliveries (
  tenant TEXT NOT NULL,
  hook_id TEXT NOT NULL,
  delivery_id TEXT NOT NULL,          -- of the hook's id and delivery_key
  delivery_key TEXT NOT NULL,         -- the sender's id, or the digest of the body
  keyed_by TEXT NOT NULL,             -- delivery_id or body_digest
  event TEXT,                         -- the sender's name of what happened; null when it does not say
  received_at_ms INTEGER NOT NULL,    -- epoch ms
  status TEXT NOT NULL,               -- received, processing, mapped, skipped, mapping_failed, failed
  due_at_ms INTEGER NOT NULL,         -- epoch ms when cron sees to it: to process it, or, once that is done, to forget it
  attempts INTEGER NOT NULL,          -- times that processing was begun; whoever has begun the last one may finish it
  tries INTEGER NOT NULL,             -- of them, those since it was received or replayed
  mapping TEXT,                       -- the hook's, as it was when processing began, JSON; null before and after
  finished_at_ms INTEGER,             -- epoch ms; null while it is not
  run_id TEXT,                        -- of the run that it made or went on with
  result TEXT,                        -- what else there is to tell, JSON: reason, error, issues
  repeats INTEGER NOT NULL,           -- times that it came again
  last_repeat_at_ms INTEGER,          -- epoch ms
  headers TEXT NOT NULL,              -- JSON, those that are kept
  content_type TEXT NOT NULL,
  bytes INTEGER NOT NULL,             -- of the body
  sha256 TEXT NOT NULL,               -- of the body, lower-case hex
  payload_key TEXT,                   -- of the object in R2 that has the body; null where it lies here
  payload BLOB,                       -- the body, where it is short
  PRIMARY KEY (tenant, hook_id, delivery_id),
  CHECK ((finished_at_ms IS NULL) = (status IN ('received', 'processing')))
) STRICT, WITHOUT ROWID;

CREATE INDEX deliveries_by_time ON deliveries (tenant, hook_id, received_at_ms DESC, delivery_id DESC);
CREATE INDEX deliveries_by_status ON deliveries (tenant, hook_id, status, received_at_ms DESC, delivery_id DESC);
CREATE INDEX deliveries_open ON deliveries (due_at_ms, tenant, hook_id, delivery_id) WHERE finished_at_ms IS NULL;
CREATE INDEX deliveries_done ON deliveries (due_at_ms, tenant, hook_id, delivery_id) WHERE finished_at_ms IS NOT NULL;

-- Deliveries that are kept count, and their bodies count like contents of artifacts.
ALTER TABLE quotas ADD COLUMN deliveries INTEGER;                      -- null: the default
ALTER TABLE usage ADD COLUMN deliveries INTEGER NOT NULL DEFAULT 0;

CREATE TRIGGER usage_delivery_added AFTER INSERT ON deliveries BEGIN
  INSERT INTO usage (tenant, runs, artifact_bytes, deliveries) VALUES (NEW.tenant, 0, NEW.bytes, 1)
    ON CONFLICT (tenant) DO UPDATE SET artifact_bytes = artifact_bytes + NEW.bytes, deliveries = deliveries + 1;
END;

CREATE TRIGGER usage_delivery_removed AFTER DELETE ON deliveries BEGIN
  UPDATE usage SET artifact_bytes = artifact_bytes - OLD.bytes, deliveries = deliveries - 1 WHERE tenant = OLD.tenant;
END;
