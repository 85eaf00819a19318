-- +goose Up
CREATE TABLE idempotency (
  scope    TEXT   NOT NULL,
  key      TEXT   NOT NULL,
  request  BYTEA  NOT NULL, -- SHA-256 of what was asked
  response BYTEA  NOT NULL,
  at       BIGINT NOT NULL, -- microseconds since 1970
  PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_at ON idempotency (at);

-- +goose Down
DROP TABLE idempotency;
