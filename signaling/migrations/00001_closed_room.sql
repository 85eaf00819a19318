-- +goose Up
CREATE TABLE closed_room (
  room   TEXT   PRIMARY KEY,
  closed BIGINT NOT NULL -- microseconds since 1970
);

-- +goose Down
DROP TABLE closed_room;
