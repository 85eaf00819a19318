-- +goose Up
CREATE TABLE box (
  id      TEXT  NOT NULL PRIMARY KEY,
  org     TEXT  NOT NULL,
  kek     TEXT  NOT NULL,
  wrapped BYTEA NOT NULL
);

-- +goose Down
DROP TABLE box;
