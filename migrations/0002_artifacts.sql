-- Contents of artifacts: each is stored once per tenant, in R2. See docs/artifacts.md for the order of writes.
CREATE TABLE blobs (
  tenant TEXT NOT NULL,               -- org_id/workspace_id, percent-encoded
  sha256 TEXT NOT NULL,               -- of the content, lower-case hex
  key TEXT NOT NULL,                  -- of the object in R2; never used again once the content is gone
  bytes INTEGER NOT NULL,
  unheld_at_ms INTEGER,               -- epoch ms since when nobody may hold it, for collection; null while someone does
  PRIMARY KEY (tenant, sha256)
) STRICT, WITHOUT ROWID;

CREATE INDEX blobs_to_collect ON blobs (unheld_at_ms, tenant, sha256) WHERE unheld_at_ms IS NOT NULL;

-- Who needs a content. Written before the commit that needs it; a run that turns out not to have it loses the row.
CREATE TABLE blob_holders (
  tenant TEXT NOT NULL,
  holder TEXT NOT NULL,               -- run:{run_id} or archive:{run_id}
  sha256 TEXT NOT NULL,
  asked_at_ms INTEGER,                -- epoch ms when it was asked for; null once the holder is known to have it
  PRIMARY KEY (tenant, holder, sha256)
) STRICT, WITHOUT ROWID;

CREATE INDEX blob_holders_by_content ON blob_holders (tenant, sha256);
CREATE INDEX blob_holders_to_ask ON blob_holders (asked_at_ms, tenant, holder, sha256) WHERE asked_at_ms IS NOT NULL;

-- Objects in R2 that no content owns: written before the object is, gone when a content takes it or it is deleted.
CREATE TABLE loose_objects (
  key TEXT PRIMARY KEY,
  multipart_id TEXT,                  -- R2's id of the multipart upload that writes it; null when there is none
  unwanted INTEGER NOT NULL,          -- 0: someone is writing it; 1: no content may take it any more
  due_at_ms INTEGER NOT NULL          -- epoch ms; collected from then on
) STRICT, WITHOUT ROWID;

CREATE INDEX loose_objects_by_due ON loose_objects (due_at_ms, key);

-- Uploads in parts.
CREATE TABLE uploads (
  tenant TEXT NOT NULL,
  run_id TEXT NOT NULL,
  upload_id TEXT NOT NULL,
  key TEXT NOT NULL,                  -- of the object in R2 that the parts become
  multipart_id TEXT NOT NULL,         -- R2's id
  asked TEXT NOT NULL,                -- what the upload shall become, JSON (artifacts/uploads.ts)
  sha256 TEXT,                        -- of the whole content, once it has been put together and read through
  started_at_ms INTEGER NOT NULL,     -- epoch ms
  done INTEGER NOT NULL,              -- 1 once it is in the run
  PRIMARY KEY (tenant, run_id, upload_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX uploads_by_start ON uploads (started_at_ms, tenant, run_id, upload_id);

CREATE TABLE upload_parts (
  upload_id TEXT NOT NULL,
  part INTEGER NOT NULL,              -- 1, 2, 3, …
  etag TEXT NOT NULL,                 -- R2's
  sha256 TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  PRIMARY KEY (upload_id, part)
) STRICT, WITHOUT ROWID;
