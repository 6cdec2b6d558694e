-- What a tenant may have at once, where that is not the default (DEFAULT_QUOTAS in src/protocol/limits.ts).
CREATE TABLE quotas (
  tenant TEXT PRIMARY KEY,            -- org_id/workspace_id, percent-encoded
  runs INTEGER,                       -- null: the default
  artifact_bytes INTEGER,             -- null: the default
  streams INTEGER,                    -- null: the default
  updated_at_ms INTEGER NOT NULL      -- epoch ms
) STRICT, WITHOUT ROWID;

-- What a tenant has. Kept by the triggers below, so that no way to make a run or a content can forget it.
CREATE TABLE usage (
  tenant TEXT PRIMARY KEY,            -- org_id/workspace_id, percent-encoded
  runs INTEGER NOT NULL,              -- listed ones, archived ones too
  artifact_bytes INTEGER NOT NULL     -- of contents, each counted once, and of parts of uploads that are not finished
) STRICT, WITHOUT ROWID;

-- A part is counted for whom it was uploaded; null for those from before.
ALTER TABLE upload_parts ADD COLUMN tenant TEXT;

INSERT INTO usage (tenant, runs, artifact_bytes)
  SELECT tenant, sum(runs), sum(bytes) FROM (
    SELECT tenant, count(*) AS runs, 0 AS bytes FROM runs GROUP BY tenant
    UNION ALL
    SELECT tenant, 0 AS runs, sum(bytes) AS bytes FROM blobs GROUP BY tenant
  ) GROUP BY tenant;

CREATE TRIGGER usage_run_added AFTER INSERT ON runs BEGIN
  INSERT INTO usage (tenant, runs, artifact_bytes) VALUES (NEW.tenant, 1, 0)
    ON CONFLICT (tenant) DO UPDATE SET runs = runs + 1;
END;

CREATE TRIGGER usage_run_removed AFTER DELETE ON runs BEGIN
  UPDATE usage SET runs = runs - 1 WHERE tenant = OLD.tenant;
END;

CREATE TRIGGER usage_blob_added AFTER INSERT ON blobs BEGIN
  INSERT INTO usage (tenant, runs, artifact_bytes) VALUES (NEW.tenant, 0, NEW.bytes)
    ON CONFLICT (tenant) DO UPDATE SET artifact_bytes = artifact_bytes + NEW.bytes;
END;

CREATE TRIGGER usage_blob_removed AFTER DELETE ON blobs BEGIN
  UPDATE usage SET artifact_bytes = artifact_bytes - OLD.bytes WHERE tenant = OLD.tenant;
END;

CREATE TRIGGER usage_part_added AFTER INSERT ON upload_parts WHEN NEW.tenant IS NOT NULL BEGIN
  INSERT INTO usage (tenant, runs, artifact_bytes) VALUES (NEW.tenant, 0, NEW.bytes)
    ON CONFLICT (tenant) DO UPDATE SET artifact_bytes = artifact_bytes + NEW.bytes;
END;

CREATE TRIGGER usage_part_changed AFTER UPDATE OF bytes ON upload_parts WHEN NEW.tenant IS NOT NULL BEGIN
  UPDATE usage SET artifact_bytes = artifact_bytes + NEW.bytes - OLD.bytes WHERE tenant = NEW.tenant;
END;

CREATE TRIGGER usage_part_removed AFTER DELETE ON upload_parts WHEN OLD.tenant IS NOT NULL BEGIN
  UPDATE usage SET artifact_bytes = artifact_bytes - OLD.bytes WHERE tenant = OLD.tenant;
END;
