-- +goose Up
CREATE TABLE account (
  name    TEXT PRIMARY KEY,
  balance BIGINT NOT NULL,
  note    TEXT,
  secret  BYTEA,
  open    BOOLEAN NOT NULL DEFAULT TRUE,
  rate    DOUBLE PRECISION,
  since   BIGINT
);
CREATE TABLE entry (
  number  BIGINT PRIMARY KEY,
  account TEXT NOT NULL REFERENCES account (name),
  amount  BIGINT NOT NULL
);
-- +goose Down
DROP TABLE entry;
DROP TABLE account;
