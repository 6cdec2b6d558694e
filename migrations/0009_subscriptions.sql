-- Webhooks out: who wants to hear of what. How far each subscription is, its own object knows (src/hooks/out).
CREATE TABLE subscriptions (
  tenant TEXT NOT NULL,               -- org_id/workspace_id, percent-encoded
  subscription_id TEXT NOT NULL,
  name TEXT,
  url TEXT NOT NULL,
  events TEXT NOT NULL,               -- patterns of event types, JSON array
  run_id TEXT,                        -- the one run that it is about; null for any
  filter TEXT NOT NULL,               -- RunChoice as the client sent it, JSON
  run_type_key TEXT,                  -- of the filter, as runs.run_type_key has it; null for any
  workspace_key TEXT,                 -- likewise
  source_key TEXT,                    -- likewise
  data TEXT NOT NULL,                 -- thin or full
  status TEXT NOT NULL,               -- active or disabled
  disabled_reason TEXT,               -- operator, gone or failing; null while active
  disabled_at_ms INTEGER,             -- epoch ms
  origin TEXT NOT NULL,               -- of this deployment, as the request called it that made or changed the subscription
  since_ms INTEGER NOT NULL,          -- of a run it has not heard of, it wants the events from this moment on; epoch ms
  told_upto_ms INTEGER NOT NULL,      -- cron has told it of all runs whose last change was before this place, epoch ms…
  told_upto_run_id TEXT NOT NULL,     -- …and run id
  created_at_ms INTEGER NOT NULL,     -- epoch ms
  updated_at_ms INTEGER NOT NULL,     -- epoch ms
  PRIMARY KEY (tenant, subscription_id)
) STRICT, WITHOUT ROWID;

-- Read whenever a run's row is written: without subscriptions that is no row.
CREATE INDEX subscriptions_active ON subscriptions (tenant, ifnull(run_id, ''), subscription_id)
  WHERE status = 'active';

-- What deliveries are signed with, sealed (identity/keyring.ts).
CREATE TABLE subscription_secrets (
  tenant TEXT NOT NULL,
  subscription_id TEXT NOT NULL,
  secret_id TEXT NOT NULL,
  sealed TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,     -- epoch ms
  retires_at_ms INTEGER,              -- epoch ms from when it no longer signs; null while it is the newest
  PRIMARY KEY (tenant, subscription_id, secret_id)
) STRICT, WITHOUT ROWID;
