-- Tokens that were minted, for lists and to revoke them. Never read to check a credential, and never the token itself.
CREATE TABLE tokens (
  tenant TEXT NOT NULL,               -- org_id/workspace_id, percent-encoded
  token_id TEXT NOT NULL,
  name TEXT,                          -- for people; null without one
  scopes TEXT NOT NULL,               -- JSON, array of text
  actor_id TEXT,                      -- what the token is bound to; null where it is bound to nothing
  run_id TEXT,
  agent_id TEXT,
  task_types TEXT,                    -- JSON, array of text
  minted_by TEXT NOT NULL,            -- id of the credential; root for the root credential
  ancestors TEXT NOT NULL,            -- JSON: ids of the tokens it comes from, the first one first
  fingerprint TEXT,                   -- digest of the request, where it had an idempotency key
  minted_at_ms INTEGER NOT NULL,      -- epoch ms
  expires_at_ms INTEGER NOT NULL,     -- epoch ms
  revoked_at_ms INTEGER,              -- epoch ms; null unless revoked itself: what its ancestors are counts too
  PRIMARY KEY (tenant, token_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX tokens_by_age ON tokens (tenant, minted_at_ms, token_id);
CREATE INDEX tokens_by_expiry ON tokens (expires_at_ms, tenant, token_id);

-- What every isolate reads to know which tokens are no longer valid. In order of seq, so that each reads only what is new.
CREATE TABLE revocations (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  token_id TEXT NOT NULL,
  expires_at_ms INTEGER NOT NULL      -- epoch ms; no token that comes from it is valid longer
) STRICT;

CREATE INDEX revocations_by_expiry ON revocations (expires_at_ms);

-- Which other tenant has a run that an old client names without a tenant (docs/compatibility.md). No run of `local/local`
-- is in it, so that a deployment with one tenant writes no row for it.
CREATE INDEX runs_of_other_tenants ON runs (run_id, tenant) WHERE tenant <> 'local/local';
