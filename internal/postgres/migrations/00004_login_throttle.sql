-- How often who was wrong, and from where people usually come: what the login
-- services share to slow down guessing.
--
-- The counters are not logged: they change with every login, and after a crash
-- of the server everybody begins anew, which is a fair price for writes that
-- wait for no disk.

-- +goose Up

-- A key is a keyed hash of an address, a source or both; which of the columns
-- count depends on what it stands for. user_id is of whom the failures were
-- about, where there is such a user: it is what an operator can unlock by.
CREATE UNLOGGED TABLE login_throttle (
  key           bytea            PRIMARY KEY CHECK (octet_length(key) = 16),
  failures      integer          NOT NULL DEFAULT 0,
  inflight      integer          NOT NULL DEFAULT 0,
  tokens        double precision NOT NULL DEFAULT 0,
  marks         timestamptz[]    NOT NULL DEFAULT '{}', -- the latest of what is counted, oldest first
  last_at       timestamptz      NOT NULL,
  blocked_until timestamptz      NULL,
  expires_at    timestamptz      NOT NULL,
  user_id       uuid             NULL
);
CREATE INDEX login_throttle_gc_idx ON login_throttle (expires_at);
CREATE INDEX login_throttle_user_idx ON login_throttle (user_id) WHERE user_id IS NOT NULL;

-- Logged, unlike the counters: whoever is at home must not be locked out with
-- the strangers after a crash. It is written at most once an hour for a network.
CREATE TABLE login_known_sources (
  user_id      uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  source       cidr        NOT NULL,
  last_success timestamptz NOT NULL,
  PRIMARY KEY (user_id, source)
);
CREATE INDEX login_known_sources_gc_idx ON login_known_sources (last_success);
