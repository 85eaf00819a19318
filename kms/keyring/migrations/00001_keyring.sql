-- +goose Up
CREATE TABLE kr_resource (
  id        TEXT    NOT NULL PRIMARY KEY,
  org       TEXT    NOT NULL,
  creator   TEXT    NOT NULL,
  created   BIGINT  NOT NULL,
  moderated BOOLEAN NOT NULL,
  current   TEXT    NOT NULL, -- id of a key; empty: none
  bound     BIGINT  NOT NULL, -- how many keys were bound to it
  state     TEXT    NOT NULL  -- active, disabled, destroyed
);
CREATE TABLE kr_member (
  id       TEXT   NOT NULL PRIMARY KEY,
  resource TEXT   NOT NULL REFERENCES kr_resource (id),
  subject  TEXT   NOT NULL, -- user@domain
  authid   TEXT   NOT NULL, -- as it was given
  role     TEXT   NOT NULL,
  created  BIGINT NOT NULL,
  UNIQUE (resource, subject)
);
CREATE TABLE kr_key (
  id       TEXT   NOT NULL PRIMARY KEY,
  org      TEXT   NOT NULL,
  creator  TEXT   NOT NULL,
  client   TEXT   NOT NULL,
  created  BIGINT NOT NULL,
  resource TEXT   NOT NULL, -- empty: unbound
  bound    BIGINT NOT NULL, -- when; 0: unbound
  place    BIGINT NOT NULL, -- which of the resource's keys, from 1
  kek      TEXT   NOT NULL,
  wrapped  BYTEA  NOT NULL  -- empty: destroyed
);
CREATE INDEX kr_key_resource ON kr_key (resource, place);
CREATE INDEX kr_key_kek ON kr_key (org, kek);
CREATE TABLE kr_consent (
  org     TEXT    NOT NULL,
  service TEXT    NOT NULL,
  allowed BOOLEAN NOT NULL,
  officer TEXT    NOT NULL,
  at      BIGINT  NOT NULL,
  PRIMARY KEY (org, service)
);
CREATE TABLE kr_deletion (
  resource TEXT   NOT NULL PRIMARY KEY REFERENCES kr_resource (id),
  org      TEXT   NOT NULL,
  asked    TEXT   NOT NULL, -- by whom
  days     BIGINT NOT NULL,
  agreed   TEXT   NOT NULL, -- by whom; empty: nobody yet
  due      BIGINT NOT NULL  -- 0: nobody has agreed
);

-- +goose Down
DROP TABLE kr_deletion;
DROP TABLE kr_consent;
DROP TABLE kr_key;
DROP TABLE kr_member;
DROP TABLE kr_resource;
