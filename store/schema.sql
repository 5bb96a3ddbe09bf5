-- state.db: what must survive power loss.
-- Generated from store/models.py by `python -m flowdeck.store.models`.
CREATE TABLE cache_entry (
  "key" TEXT NOT NULL,
  run_id INTEGER,
  task_seq INTEGER,
  codec TEXT NOT NULL,
  checksum TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  data BLOB,
  path TEXT,
  preview TEXT NOT NULL,
  created_at_us INTEGER NOT NULL,
  expires_at_us INTEGER,
  PRIMARY KEY ("key"),
  CONSTRAINT cache_entry_codec CHECK (codec IN ('json', 'cloudpickle'))
) STRICT;
CREATE TABLE cache_lock (
  "key" TEXT NOT NULL,
  run_id INTEGER,
  task_seq INTEGER,
  host TEXT NOT NULL,
  boot_id TEXT NOT NULL,
  pid INTEGER NOT NULL,
  pid_started_ticks INTEGER NOT NULL,
  acquired_at_us INTEGER NOT NULL,
  pid_namespace TEXT,
  PRIMARY KEY ("key")
) STRICT;
CREATE TABLE concurrency_limit (
  name TEXT NOT NULL,
  slots INTEGER NOT NULL,
  slot_decay_per_second REAL,
  active INTEGER NOT NULL,
  used REAL NOT NULL,
  used_at_us INTEGER NOT NULL,
  created_at_us INTEGER NOT NULL,
  updated_at_us INTEGER NOT NULL,
  actor TEXT NOT NULL,
  PRIMARY KEY (name),
  CONSTRAINT concurrency_limit_slots CHECK (slots >= 0),
  CONSTRAINT concurrency_limit_active CHECK (active IN (0, 1))
) STRICT;
CREATE TABLE event (
  id INTEGER NOT NULL,
  at_us INTEGER NOT NULL,
  kind TEXT NOT NULL,
  run_id INTEGER,
  task_seq INTEGER,
  attempt INTEGER,
  from_type TEXT,
  from_name TEXT,
  to_type TEXT,
  to_name TEXT,
  actor TEXT NOT NULL,
  message TEXT,
  data TEXT,
  PRIMARY KEY (id),
  CONSTRAINT event_kind CHECK (kind = 'state' OR kind = 'request' OR kind = 'schedule' OR kind = 'deployment' OR kind = 'daemon' OR kind = 'limit' OR kind = 'variable' OR kind = 'input' OR kind = 'user')
) STRICT;
CREATE INDEX event_by_run ON event (run_id, id) WHERE run_id IS NOT NULL AND task_seq IS NULL;
CREATE TABLE flow (
  name TEXT NOT NULL,
  description TEXT,
  created_at_us INTEGER NOT NULL,
  PRIMARY KEY (name)
) STRICT;
CREATE TABLE flow_file (
  path TEXT NOT NULL,
  source_hash TEXT NOT NULL,
  error TEXT,
  traceback TEXT,
  loaded_at_us INTEGER NOT NULL,
  PRIMARY KEY (path)
) STRICT;
CREATE TABLE slot (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  ask_id INTEGER NOT NULL,
  limit_name TEXT NOT NULL,
  kind TEXT NOT NULL,
  occupy INTEGER NOT NULL,
  run_id INTEGER,
  task_seq INTEGER,
  host TEXT NOT NULL,
  boot_id TEXT NOT NULL,
  pid INTEGER NOT NULL,
  pid_started_ticks INTEGER NOT NULL,
  asked_at_us INTEGER NOT NULL,
  held_at_us INTEGER,
  actor TEXT NOT NULL,
  within TEXT,
  pid_namespace TEXT,
  CONSTRAINT slot_occupy CHECK (occupy >= 1),
  CONSTRAINT slot_kind CHECK (kind IN ('hold', 'rate'))
) STRICT;
CREATE INDEX slot_by_ask ON slot (ask_id);
CREATE INDEX slot_by_limit ON slot (limit_name, held_at_us, id, ask_id, kind, occupy);
CREATE INDEX slot_by_run ON slot (run_id) WHERE run_id IS NOT NULL;
CREATE TABLE variable (
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  tags TEXT NOT NULL,
  created_at_us INTEGER NOT NULL,
  updated_at_us INTEGER NOT NULL,
  actor TEXT NOT NULL,
  PRIMARY KEY (name)
) STRICT;
CREATE TABLE deployment (
  name TEXT NOT NULL,
  flow_name TEXT NOT NULL,
  path TEXT NOT NULL,
  entrypoint TEXT NOT NULL,
  description TEXT,
  parameters TEXT NOT NULL,
  parameters_schema TEXT NOT NULL,
  tags TEXT NOT NULL,
  source_hash TEXT NOT NULL,
  updated_at_us INTEGER NOT NULL,
  concurrency_limit INTEGER,
  collision_strategy TEXT,
  PRIMARY KEY (name),
  FOREIGN KEY(flow_name) REFERENCES flow (name)
) STRICT;
CREATE TABLE flow_run (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  flow_name TEXT NOT NULL,
  name TEXT NOT NULL,
  deployment TEXT,
  schedule_id INTEGER,
  due_at_us INTEGER,
  entrypoint TEXT,
  parameters TEXT NOT NULL,
  tags TEXT NOT NULL,
  state_type TEXT NOT NULL,
  state_name TEXT NOT NULL,
  cause TEXT,
  intent TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  crash_count INTEGER NOT NULL,
  created_at_us INTEGER NOT NULL,
  scheduled_at_us INTEGER NOT NULL,
  wake_at_us INTEGER,
  started_at_us INTEGER,
  ended_at_us INTEGER,
  duration_us INTEGER,
  parent_run_id INTEGER,
  parent_seq INTEGER,
  root_id INTEGER,
  retry_of INTEGER,
  source_hash TEXT,
  actor TEXT NOT NULL,
  result_preview TEXT,
  working_folder TEXT,
  CONSTRAINT uq_flow_run_schedule_id_due_at_us UNIQUE (schedule_id, due_at_us),
  CONSTRAINT flow_run_state_type CHECK (state_type = 'SCHEDULED' OR state_type = 'PENDING' OR state_type = 'RUNNING' OR state_type = 'PAUSED' OR state_type = 'CANCELLING' OR state_type = 'CANCELLED' OR state_type = 'COMPLETED' OR state_type = 'FAILED' OR state_type = 'CRASHED'),
  CONSTRAINT flow_run_intent CHECK (intent = 'none' OR intent = 'pause' OR intent = 'freeze' OR intent = 'cancel'),
  CONSTRAINT flow_run_attempt CHECK (attempt >= 1),
  CONSTRAINT flow_run_ended_at_us CHECK ((ended_at_us IS NOT NULL) = (state_type = 'CANCELLED' OR state_type = 'COMPLETED' OR state_type = 'FAILED' OR state_type = 'CRASHED')),
  FOREIGN KEY(flow_name) REFERENCES flow (name),
  FOREIGN KEY(parent_run_id) REFERENCES flow_run (id) ON DELETE CASCADE,
  FOREIGN KEY(root_id) REFERENCES flow_run (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX flow_run_asked ON flow_run (intent) WHERE ended_at_us IS NULL AND intent <> 'none';
CREATE INDEX flow_run_by_flow ON flow_run (flow_name, id);
CREATE INDEX flow_run_by_parent ON flow_run (parent_run_id, parent_seq) WHERE parent_run_id IS NOT NULL;
CREATE INDEX flow_run_by_root ON flow_run (root_id) WHERE root_id IS NOT NULL;
CREATE INDEX flow_run_by_state ON flow_run (state_type, id);
CREATE INDEX flow_run_due ON flow_run (deployment, entrypoint, wake_at_us) WHERE ended_at_us IS NULL AND state_type = 'SCHEDULED' AND root_id IS NULL;
CREATE INDEX flow_run_live ON flow_run (state_type, wake_at_us) WHERE ended_at_us IS NULL;
CREATE INDEX flow_run_of_schedule ON flow_run (schedule_id, state_name, wake_at_us) WHERE ended_at_us IS NULL AND schedule_id IS NOT NULL;
CREATE TABLE artifact (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  run_id INTEGER,
  task_seq INTEGER,
  "key" TEXT NOT NULL,
  kind TEXT NOT NULL,
  description TEXT,
  data TEXT NOT NULL,
  created_at_us INTEGER NOT NULL,
  FOREIGN KEY(run_id) REFERENCES flow_run (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX artifact_by_key ON artifact ("key", id);
CREATE INDEX artifact_by_run ON artifact (run_id, id);
CREATE TABLE edge (
  run_id INTEGER NOT NULL,
  to_seq INTEGER NOT NULL,
  from_run_id INTEGER NOT NULL,
  from_seq INTEGER NOT NULL,
  kind TEXT NOT NULL,
  PRIMARY KEY (run_id, to_seq, from_run_id, from_seq),
  CONSTRAINT edge_kind CHECK (kind IN ('data', 'wait')),
  FOREIGN KEY(run_id) REFERENCES flow_run (id) ON DELETE CASCADE
) WITHOUT ROWID, STRICT;
CREATE TABLE lease (
  owner TEXT NOT NULL,
  run_id INTEGER,
  attempt INTEGER,
  host TEXT NOT NULL,
  boot_id TEXT NOT NULL,
  pid INTEGER NOT NULL,
  pid_started_ticks INTEGER NOT NULL,
  process_group INTEGER,
  actor TEXT NOT NULL,
  acquired_at_us INTEGER NOT NULL,
  info TEXT,
  pid_namespace TEXT,
  uid INTEGER,
  store TEXT,
  PRIMARY KEY (owner),
  CONSTRAINT uq_lease_run_id UNIQUE (run_id),
  FOREIGN KEY(run_id) REFERENCES flow_run (id) ON DELETE CASCADE
) STRICT;
CREATE TABLE result (
  run_id INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  codec TEXT NOT NULL,
  checksum TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  data BLOB,
  path TEXT,
  preview TEXT NOT NULL,
  PRIMARY KEY (run_id, seq),
  CONSTRAINT result_codec CHECK (codec = 'json' OR codec = 'cloudpickle' OR codec = 'none'),
  FOREIGN KEY(run_id) REFERENCES flow_run (id) ON DELETE CASCADE
) WITHOUT ROWID, STRICT;
CREATE TABLE run_input (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  run_id INTEGER NOT NULL,
  "key" TEXT NOT NULL,
  kind TEXT NOT NULL,
  json_schema TEXT,
  description TEXT,
  value TEXT,
  sender TEXT NOT NULL,
  created_at_us INTEGER NOT NULL,
  until_us INTEGER,
  taken_at_us INTEGER,
  taken_by TEXT,
  CONSTRAINT run_input_kind CHECK (kind = 'request' OR kind = 'response' OR kind = 'message' OR kind = 'wait'),
  FOREIGN KEY(run_id) REFERENCES flow_run (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX run_input_by_run ON run_input (run_id, "key", id);
CREATE TABLE schedule (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  deployment TEXT NOT NULL,
  slug TEXT NOT NULL,
  kind TEXT NOT NULL,
  spec TEXT NOT NULL,
  parameters TEXT NOT NULL,
  catchup TEXT NOT NULL,
  catchup_window_seconds REAL NOT NULL,
  overlap TEXT NOT NULL,
  active INTEGER NOT NULL,
  next_due_at_us INTEGER,
  last_due_at_us INTEGER,
  CONSTRAINT uq_schedule_deployment_slug UNIQUE (deployment, slug),
  CONSTRAINT schedule_kind CHECK (kind = 'cron' OR kind = 'interval' OR kind = 'rrule' OR kind = 'dates' OR kind = 'composite'),
  CONSTRAINT schedule_catchup CHECK (catchup = 'latest' OR catchup = 'all' OR catchup = 'none'),
  CONSTRAINT schedule_overlap CHECK (overlap = 'skip' OR overlap = 'queue' OR overlap = 'allow' OR overlap = 'cancel_running'),
  CONSTRAINT schedule_active CHECK (active IN (0, 1)),
  FOREIGN KEY(deployment) REFERENCES deployment (name) ON DELETE CASCADE
) STRICT;
CREATE TABLE staged_task (
  run_id INTEGER NOT NULL,
  task_seq INTEGER NOT NULL,
  transaction_name TEXT NOT NULL,
  held BLOB,
  commit_hooks_done INTEGER NOT NULL,
  rollback_place INTEGER,
  rollback_hooks_done INTEGER NOT NULL,
  cause TEXT,
  PRIMARY KEY (run_id, task_seq),
  FOREIGN KEY(run_id) REFERENCES flow_run (id) ON DELETE CASCADE
) WITHOUT ROWID, STRICT;
CREATE TABLE task_run (
  run_id INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  "key" TEXT NOT NULL,
  scope_seq INTEGER NOT NULL,
  call_index INTEGER NOT NULL,
  map_group INTEGER,
  map_index INTEGER,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  child_run_id INTEGER,
  state_type TEXT NOT NULL,
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
  code_hash TEXT,
  result_codec TEXT,
  result_checksum TEXT,
  result_data BLOB,
  result_preview TEXT,
  PRIMARY KEY (run_id, seq),
  CONSTRAINT task_run_seq CHECK (seq >= 1),
  CONSTRAINT task_run_kind CHECK (kind IN ('task', 'subflow')),
  CONSTRAINT task_run_state_type CHECK (state_type = 'SCHEDULED' OR state_type = 'PENDING' OR state_type = 'RUNNING' OR state_type = 'PAUSED' OR state_type = 'CANCELLING' OR state_type = 'CANCELLED' OR state_type = 'COMPLETED' OR state_type = 'FAILED' OR state_type = 'CRASHED'),
  CONSTRAINT task_run_ended_at_us CHECK ((ended_at_us IS NOT NULL) = (state_type = 'CANCELLED' OR state_type = 'COMPLETED' OR state_type = 'FAILED' OR state_type = 'CRASHED' OR state_name = 'NotReady')),
  FOREIGN KEY(run_id) REFERENCES flow_run (id) ON DELETE CASCADE
) WITHOUT ROWID, STRICT;
CREATE UNIQUE INDEX task_run_nested ON task_run (run_id, scope_seq, "key", call_index) WHERE scope_seq > 0;
