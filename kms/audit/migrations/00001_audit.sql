-- +goose Up
CREATE TABLE audit_head (
  org  TEXT   NOT NULL PRIMARY KEY,
  seq  BIGINT NOT NULL,
  hash BYTEA  NOT NULL,
  mac  BYTEA  NOT NULL
);
CREATE TABLE audit_row (
  org      TEXT   NOT NULL,
  seq      BIGINT NOT NULL,
  at       BIGINT NOT NULL,
  event    TEXT   NOT NULL,
  outcome  TEXT   NOT NULL,
  reason   TEXT   NOT NULL,
  actor    TEXT   NOT NULL,
  client   TEXT   NOT NULL,
  service  TEXT   NOT NULL,
  via      TEXT   NOT NULL,
  object   TEXT   NOT NULL,
  resource TEXT   NOT NULL,
  hash     BYTEA  NOT NULL,
  PRIMARY KEY (org, seq)
);
CREATE TABLE audit_key (
  org     TEXT  NOT NULL PRIMARY KEY,
  kek     TEXT  NOT NULL,
  wrapped BYTEA NOT NULL
);
CREATE TABLE audit_sink (
  org TEXT   NOT NULL PRIMARY KEY,
  seq BIGINT NOT NULL
);

-- +goose Down
DROP TABLE audit_sink;
DROP TABLE audit_key;
DROP TABLE audit_row;
DROP TABLE audit_head;
