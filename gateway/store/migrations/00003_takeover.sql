-- +goose Up
ALTER TABLE sessions ADD COLUMN user_groups TEXT NOT NULL DEFAULT 'null';
ALTER TABLE operations ADD COLUMN fetched BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE operations DROP COLUMN fetched;
ALTER TABLE sessions DROP COLUMN user_groups;
