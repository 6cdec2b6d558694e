-- What was done to a tenant's credentials, hooks and subscriptions: who may do what, and where news goes. Never changed.
CREATE TABLE audit_events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant TEXT NOT NULL,               -- org_id/workspace_id, percent-encoded
  at_ms INTEGER NOT NULL,             -- epoch ms
  type TEXT NOT NULL,                 -- token.minted, token.revoked, hook.created, …
  subject TEXT NOT NULL,              -- id of what it was done to
  token_id TEXT NOT NULL,             -- of the credential that did it; root for the root credential
  actor_id TEXT,                      -- the actor it acted for, if it has one
  detail TEXT NOT NULL                -- JSON; never a secret
) STRICT;

CREATE INDEX audit_events_by_tenant ON audit_events (tenant, seq);
