-- telemetry.db: logs and metrics, apart from state so that a flood of lines never delays a state.
-- Generated from store/models.py by `python -m flowdeck.store.models`.
CREATE TABLE log (
  root_id INTEGER NOT NULL,
  line INTEGER NOT NULL,
  run_id INTEGER NOT NULL,
  task_seq INTEGER,
  attempt INTEGER NOT NULL,
  at_us INTEGER NOT NULL,
  level INTEGER NOT NULL,
  logger TEXT NOT NULL,
  stream TEXT NOT NULL,
  message TEXT NOT NULL,
  PRIMARY KEY (root_id, line),
  CONSTRAINT log_stream CHECK (stream = 'log' OR stream = 'stdout' OR stream = 'stderr')
) WITHOUT ROWID, STRICT;
CREATE TABLE metric (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  run_id INTEGER NOT NULL,
  task_seq INTEGER,
  at_us INTEGER NOT NULL,
  name TEXT NOT NULL,
  value REAL NOT NULL
) STRICT;
CREATE INDEX metric_by_run ON metric (run_id, id);
CREATE TABLE spool (
  name TEXT NOT NULL,
  offset_bytes INTEGER NOT NULL,
  PRIMARY KEY (name)
) STRICT;
