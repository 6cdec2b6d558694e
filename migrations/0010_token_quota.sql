-- Tokens that are remembered count to a quota: every isolate holds all that are revoked and not expired.
ALTER TABLE quotas ADD COLUMN tokens INTEGER;                          -- null: the default
ALTER TABLE usage ADD COLUMN tokens INTEGER NOT NULL DEFAULT 0;

INSERT INTO usage (tenant, runs, artifact_bytes, tokens)
  SELECT tenant, 0, 0, count(*) FROM tokens GROUP BY tenant
  ON CONFLICT (tenant) DO UPDATE SET tokens = excluded.tokens;

CREATE TRIGGER usage_token_added AFTER INSERT ON tokens BEGIN
  INSERT INTO usage (tenant, runs, artifact_bytes, tokens) VALUES (NEW.tenant, 0, 0, 1)
    ON CONFLICT (tenant) DO UPDATE SET tokens = tokens + 1;
END;

CREATE TRIGGER usage_token_removed AFTER DELETE ON tokens BEGIN
  UPDATE usage SET tokens = tokens - 1 WHERE tenant = OLD.tenant;
END;
