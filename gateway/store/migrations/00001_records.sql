-- +goose Up
CREATE TABLE sessions (
  id             TEXT PRIMARY KEY,
  secret         BLOB NOT NULL,
  user_name      TEXT NOT NULL,
  real_user      TEXT NOT NULL,
  front_end      TEXT NOT NULL,
  client_addr    TEXT NOT NULL,
  protocol       INTEGER NOT NULL,
  conf           TEXT NOT NULL,
  catalog        TEXT NOT NULL,
  database_name  TEXT NOT NULL,
  engine_id      TEXT NOT NULL,
  engine_session TEXT NOT NULL,
  opened_at      BIGINT NOT NULL,
  seen_at        BIGINT NOT NULL,
  closed_at      BIGINT
);
CREATE INDEX sessions_open ON sessions (closed_at);

CREATE TABLE operations (
  id            TEXT PRIMARY KEY,
  session_id    TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  secret        BLOB NOT NULL,
  kind          TEXT NOT NULL,
  statement     TEXT NOT NULL,
  state         TEXT NOT NULL,
  engine_id     TEXT NOT NULL,
  engine_op     TEXT NOT NULL,
  position      TEXT NOT NULL,
  row_count     BIGINT NOT NULL,
  error_class   TEXT NOT NULL,
  sql_state     TEXT NOT NULL,
  error_message TEXT NOT NULL,
  created_at    BIGINT NOT NULL,
  started_at    BIGINT,
  ended_at      BIGINT
);
CREATE INDEX operations_session ON operations (session_id);

CREATE TABLE engines (
  id         TEXT PRIMARY KEY,
  share_key  TEXT NOT NULL,
  cluster    TEXT NOT NULL,
  kind       TEXT NOT NULL,
  tag        TEXT NOT NULL,
  user_name  TEXT NOT NULL,
  app_id     TEXT NOT NULL,
  address    TEXT NOT NULL,
  state      TEXT NOT NULL,
  reason     TEXT NOT NULL,
  fence      BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  ended_at   BIGINT
);
CREATE INDEX engines_live ON engines (ended_at);

-- +goose Down
DROP TABLE engines;
DROP TABLE operations;
DROP TABLE sessions;
