-- A run's row may be written long after the run's last change: after a time without the directory, or because the run comes
-- from the archive or from elsewhere. Subscriptions are told of such a run by when its row was written.
ALTER TABLE runs ADD COLUMN late_at_ms INTEGER; -- epoch ms; null for a row that was written soon after the change

CREATE INDEX runs_by_late ON runs (tenant, late_at_ms, run_id) WHERE late_at_ms IS NOT NULL;
