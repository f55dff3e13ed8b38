-- +goose Up
ALTER TABLE sessions ADD COLUMN journal TEXT NOT NULL DEFAULT 'null';

-- +goose Down
ALTER TABLE sessions DROP COLUMN journal;
