-- One schema for both databases: SQLite takes BYTEA for a type without a conversion. Statements and messages are bytes,
-- because clients send any, and PostgreSQL's text takes no NUL.
-- +goose Up
CREATE TABLE replicas (
  id         TEXT PRIMARY KEY,
  address    TEXT NOT NULL,
  started_at BIGINT NOT NULL,
  seen_at    BIGINT NOT NULL
);

-- What all gateways on the database must agree on.
CREATE TABLE agreements (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
);

-- What administrators have said to all gateways, by a name such as drain/CLUSTER.
CREATE TABLE settings (
  name    TEXT PRIMARY KEY,
  value   TEXT NOT NULL,
  said_by TEXT NOT NULL,
  said_at BIGINT NOT NULL
);

-- The versions of the rules of the router, by the hash of their text.
CREATE TABLE rules (
  version   TEXT PRIMARY KEY,
  name      TEXT NOT NULL,
  body      BYTEA NOT NULL,
  loaded_at BIGINT NOT NULL
);

-- What gateways hold of limits that they share. The rows of limits are locked while a portion changes.
CREATE TABLE limits (
  name TEXT PRIMARY KEY
);
CREATE TABLE portions (
  name      TEXT NOT NULL,
  replica   TEXT NOT NULL,
  amount    BIGINT NOT NULL,
  wanted_at BIGINT NOT NULL,
  PRIMARY KEY (name, replica)
);
CREATE INDEX portions_replica ON portions (replica);
CREATE INDEX portions_wanted ON portions (wanted_at);

-- Buckets of rates, with what is in them at a time.
CREATE TABLE buckets (
  name    TEXT PRIMARY KEY,
  tokens  DOUBLE PRECISION NOT NULL,
  used_at BIGINT NOT NULL
);

CREATE TABLE sessions (
  id             TEXT PRIMARY KEY,
  replica        TEXT NOT NULL,
  fence          BIGINT NOT NULL,
  secret         BYTEA NOT NULL,
  user_name      TEXT NOT NULL,
  real_user      TEXT NOT NULL,
  user_groups    TEXT NOT NULL,
  front_end      TEXT NOT NULL,
  client_addr    TEXT NOT NULL,
  protocol       INTEGER NOT NULL,
  conf           TEXT NOT NULL,
  catalog        TEXT NOT NULL,
  database_name  TEXT NOT NULL,
  journal        TEXT NOT NULL,
  engine_id      TEXT NOT NULL,
  engine_session TEXT NOT NULL,
  opened_at      BIGINT NOT NULL,
  seen_at        BIGINT NOT NULL,
  closed_at      BIGINT
);
CREATE INDEX sessions_open ON sessions (replica, closed_at);
CREATE INDEX sessions_closed ON sessions (closed_at);

CREATE TABLE operations (
  id            TEXT PRIMARY KEY,
  session_id    TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  fence         BIGINT NOT NULL,
  secret        BYTEA NOT NULL,
  kind          TEXT NOT NULL,
  statement     BYTEA NOT NULL,
  overlay       TEXT NOT NULL,
  time_limit    BIGINT NOT NULL,
  state         TEXT NOT NULL,
  engine_id     TEXT NOT NULL,
  engine_op     TEXT NOT NULL,
  position      TEXT NOT NULL,
  row_count     BIGINT NOT NULL,
  fetched       BIGINT NOT NULL,
  error_class   TEXT NOT NULL,
  sql_state     TEXT NOT NULL,
  error_message BYTEA NOT NULL,
  created_at    BIGINT NOT NULL,
  started_at    BIGINT,
  ended_at      BIGINT
);
CREATE INDEX operations_session ON operations (session_id);

CREATE TABLE engines (
  id         TEXT PRIMARY KEY,
  share_key  TEXT NOT NULL,
  slot       INTEGER NOT NULL,
  claimed    INTEGER NOT NULL,
  replica    TEXT NOT NULL,
  fence      BIGINT NOT NULL,
  cluster    TEXT NOT NULL,
  queue      TEXT NOT NULL,
  kind       TEXT NOT NULL,
  tag        TEXT NOT NULL,
  user_name  TEXT NOT NULL,
  app_id     TEXT NOT NULL,
  address    TEXT NOT NULL,
  state      TEXT NOT NULL,
  reason     TEXT NOT NULL,
  opened     BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  idle_since BIGINT NOT NULL,
  ended_at   BIGINT
);
-- The claim: of all engines of a key and slot at most one can be had.
CREATE UNIQUE INDEX engines_claim ON engines (share_key, slot) WHERE claimed = 1;
CREATE INDEX engines_live ON engines (ended_at);

CREATE TABLE engine_holds (
  engine_id TEXT NOT NULL REFERENCES engines (id) ON DELETE CASCADE,
  replica   TEXT NOT NULL,
  sessions  BIGINT NOT NULL,
  PRIMARY KEY (engine_id, replica)
);

-- What happened, for those who ask later. It holds its own copies of names, because what they belong to is pruned sooner.
CREATE TABLE audit (
  id             TEXT PRIMARY KEY,
  time           BIGINT NOT NULL,
  kind           TEXT NOT NULL,
  gateway        TEXT NOT NULL,
  session        TEXT NOT NULL,
  operation      TEXT NOT NULL,
  user_name      TEXT NOT NULL,
  real_user      TEXT NOT NULL,
  address        TEXT NOT NULL,
  front_end      TEXT NOT NULL,
  statement_kind TEXT NOT NULL,
  statement      BYTEA NOT NULL,
  catalog        TEXT NOT NULL,
  database_name  TEXT NOT NULL,
  engine         TEXT NOT NULL,
  cluster        TEXT NOT NULL,
  share_key      TEXT NOT NULL,
  profile        TEXT NOT NULL,
  route          TEXT NOT NULL,
  waited_ms      BIGINT NOT NULL,
  ran_ms         BIGINT NOT NULL,
  row_count      BIGINT NOT NULL,
  rows_fetched   BIGINT NOT NULL,
  bytes          BIGINT NOT NULL,
  state          TEXT NOT NULL,
  error_class    TEXT NOT NULL,
  sql_state      TEXT NOT NULL,
  error          TEXT NOT NULL,
  reason         TEXT NOT NULL
);
CREATE INDEX audit_time ON audit (time);

-- +goose Down
DROP TABLE audit;
DROP TABLE engine_holds;
DROP TABLE engines;
DROP TABLE operations;
DROP TABLE sessions;
DROP TABLE agreements;
DROP TABLE replicas;
