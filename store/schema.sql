-- state.db: what must survive power loss. Generated from store/models.py and checked against it by a test.
CREATE TABLE flow (
  name TEXT NOT NULL PRIMARY KEY,
  description TEXT,
  created_at_us INTEGER NOT NULL
) STRICT;
CREATE TABLE flow_file (
  path TEXT NOT NULL PRIMARY KEY,
  source_hash TEXT NOT NULL,
  error TEXT,
  traceback TEXT,
  loaded_at_us INTEGER NOT NULL
) STRICT;
CREATE TABLE deployment (
  name TEXT NOT NULL PRIMARY KEY,
  flow_name TEXT NOT NULL REFERENCES flow (name),
  path TEXT NOT NULL,
  entrypoint TEXT NOT NULL,
  description TEXT,
  parameters TEXT NOT NULL,
  parameters_schema TEXT NOT NULL,
  tags TEXT NOT NULL,
  source_hash TEXT NOT NULL,
  updated_at_us INTEGER NOT NULL
) STRICT;
CREATE TABLE schedule (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  deployment TEXT NOT NULL REFERENCES deployment (name) ON DELETE CASCADE,
  slug TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('cron', 'interval')),
  spec TEXT NOT NULL,
  parameters TEXT NOT NULL,
  catchup TEXT NOT NULL CHECK (catchup IN ('latest', 'all', 'none')),
  catchup_window_seconds REAL NOT NULL,
  overlap TEXT NOT NULL CHECK (overlap IN ('skip', 'queue', 'allow', 'cancel_running')),
  active INTEGER NOT NULL CHECK (active IN (0, 1)),
  next_due_at_us INTEGER,
  last_due_at_us INTEGER,
  UNIQUE (deployment, slug)
) STRICT;
CREATE TABLE flow_run (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  flow_name TEXT NOT NULL REFERENCES flow (name),
  name TEXT NOT NULL,
  deployment TEXT,
  schedule_id INTEGER,
  due_at_us INTEGER,
  entrypoint TEXT,
  parameters TEXT NOT NULL,
  tags TEXT NOT NULL,
  state_type TEXT NOT NULL CHECK (state_type IN ('SCHEDULED', 'PENDING', 'RUNNING', 'PAUSED', 'CANCELLING',
    'CANCELLED', 'COMPLETED', 'FAILED', 'CRASHED')),
  state_name TEXT NOT NULL,
  cause TEXT,
  intent TEXT NOT NULL CHECK (intent IN ('none', 'pause', 'freeze', 'cancel')),
  attempt INTEGER NOT NULL CHECK (attempt >= 1),
  crash_count INTEGER NOT NULL,
  created_at_us INTEGER NOT NULL,
  scheduled_at_us INTEGER NOT NULL,
  wake_at_us INTEGER,
  started_at_us INTEGER,
  ended_at_us INTEGER,
  duration_us INTEGER,
  parent_run_id INTEGER REFERENCES flow_run (id) ON DELETE CASCADE,
  parent_seq INTEGER,
  root_id INTEGER REFERENCES flow_run (id) ON DELETE CASCADE,
  retry_of INTEGER,
  source_hash TEXT,
  actor TEXT NOT NULL,
  result_preview TEXT,
  UNIQUE (schedule_id, due_at_us),
  CHECK ((ended_at_us IS NOT NULL) = (state_type IN ('CANCELLED', 'COMPLETED', 'FAILED', 'CRASHED')))
) STRICT;
CREATE INDEX flow_run_by_flow ON flow_run (flow_name, id);
CREATE INDEX flow_run_by_parent ON flow_run (parent_run_id, parent_seq) WHERE parent_run_id IS NOT NULL;
CREATE INDEX flow_run_by_root ON flow_run (root_id) WHERE root_id IS NOT NULL;
CREATE INDEX flow_run_by_state ON flow_run (state_type, id);
CREATE INDEX flow_run_live ON flow_run (state_type, wake_at_us) WHERE ended_at_us IS NULL;
CREATE TABLE task_run (
  run_id INTEGER NOT NULL REFERENCES flow_run (id) ON DELETE CASCADE,
  seq INTEGER NOT NULL CHECK (seq >= 1),
  key TEXT NOT NULL,
  scope_seq INTEGER NOT NULL,
  call_index INTEGER NOT NULL,
  map_group INTEGER,
  map_index INTEGER,
  name TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('task', 'subflow')),
  child_run_id INTEGER,
  state_type TEXT NOT NULL CHECK (state_type IN ('SCHEDULED', 'PENDING', 'RUNNING', 'PAUSED', 'CANCELLING',
    'CANCELLED', 'COMPLETED', 'FAILED', 'CRASHED')),
  state_name TEXT NOT NULL,
  cause TEXT,
  attempt INTEGER NOT NULL,
  run_attempt INTEGER NOT NULL,
  created_at_us INTEGER NOT NULL,
  started_at_us INTEGER,
  ended_at_us INTEGER,
  duration_us INTEGER,
  cpu_us INTEGER,
  peak_rss_bytes INTEGER,
  tags TEXT NOT NULL,
  inputs_hash TEXT,
  wake_at_us INTEGER,
  PRIMARY KEY (run_id, seq),
  UNIQUE (run_id, scope_seq, key, call_index),
  CHECK ((ended_at_us IS NOT NULL) =
    (state_type IN ('CANCELLED', 'COMPLETED', 'FAILED', 'CRASHED') OR state_name = 'NotReady'))
) STRICT, WITHOUT ROWID;
CREATE TABLE edge (
  run_id INTEGER NOT NULL REFERENCES flow_run (id) ON DELETE CASCADE,
  to_seq INTEGER NOT NULL,
  from_run_id INTEGER NOT NULL,
  from_seq INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('data', 'wait')),
  PRIMARY KEY (run_id, to_seq, from_run_id, from_seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE result (
  run_id INTEGER NOT NULL REFERENCES flow_run (id) ON DELETE CASCADE,
  seq INTEGER NOT NULL,
  codec TEXT NOT NULL CHECK (codec IN ('json', 'cloudpickle', 'none')),
  checksum TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  data BLOB,
  path TEXT,
  preview TEXT NOT NULL,
  PRIMARY KEY (run_id, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE event (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  at_us INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('state', 'request', 'schedule', 'deployment', 'daemon')),
  run_id INTEGER,
  task_seq INTEGER,
  attempt INTEGER,
  from_type TEXT,
  from_name TEXT,
  to_type TEXT,
  to_name TEXT,
  actor TEXT NOT NULL,
  message TEXT,
  data TEXT
) STRICT;
CREATE INDEX event_by_run ON event (run_id, id) WHERE run_id IS NOT NULL;
CREATE TABLE lease (
  owner TEXT NOT NULL PRIMARY KEY,
  run_id INTEGER UNIQUE REFERENCES flow_run (id) ON DELETE CASCADE,
  attempt INTEGER,
  host TEXT NOT NULL,
  boot_id TEXT NOT NULL,
  pid INTEGER NOT NULL,
  pid_started_ticks INTEGER NOT NULL,
  process_group INTEGER,
  actor TEXT NOT NULL,
  acquired_at_us INTEGER NOT NULL,
  info TEXT
) STRICT;
CREATE TABLE artifact (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  run_id INTEGER NOT NULL REFERENCES flow_run (id) ON DELETE CASCADE,
  task_seq INTEGER,
  key TEXT NOT NULL,
  kind TEXT NOT NULL,
  description TEXT,
  data TEXT NOT NULL,
  created_at_us INTEGER NOT NULL
) STRICT;
CREATE INDEX artifact_by_run ON artifact (run_id, id);
CREATE INDEX artifact_by_key ON artifact (key, id);
