-- +goose Up
CREATE TABLE seal_root (
  id      TEXT   NOT NULL PRIMARY KEY,
  version BIGINT NOT NULL UNIQUE,
  keeper  TEXT   NOT NULL, -- what it is wrapped by
  wrapped BYTEA  NOT NULL,
  at      BIGINT NOT NULL
);
CREATE TABLE seal_kek (
  id      TEXT   NOT NULL PRIMARY KEY,
  org     TEXT   NOT NULL,
  version BIGINT NOT NULL,
  root    TEXT   NOT NULL REFERENCES seal_root (id),
  wrapped BYTEA  NOT NULL,
  at      BIGINT NOT NULL,
  UNIQUE (org, version)
);
CREATE INDEX seal_kek_root ON seal_kek (root);

-- +goose Down
DROP TABLE seal_kek;
DROP TABLE seal_root;
