-- The authz replicas that remember users, and how far each has heard what was
-- announced; and what deletes ended sessions without reading them all.

-- +goose Up

-- One row for each replica that listens, written by it alone about once a second
-- and whenever it confirms. UNLOGGED: it is worth nothing after a crash of the
-- server, which ends every listener, and so it writes no WAL.
CREATE UNLOGGED TABLE gatehouse_replicas (
  id           uuid        PRIMARY KEY,
  name         text        NOT NULL, -- for people: host and process
  started_at   timestamptz NOT NULL,
  heartbeat_at timestamptz NOT NULL, -- when it last proved that it hears every change
  proof_ms     bigint      NOT NULL, -- for how long after that it trusts its memory
  applied      bigint      NOT NULL  -- the last fence that it heard
) WITH (fillfactor = 50);

-- The last fence that was sent. Its number is taken under the lock of this one
-- row, which lasts until the sender's commit is over: the numbers are in the order
-- of the commits, which is the order in which PostgreSQL tells notices. A sequence
-- alone would not do that.
CREATE TABLE gatehouse_fence (
  the_only boolean PRIMARY KEY DEFAULT true CHECK (the_only),
  number   bigint  NOT NULL
);
INSERT INTO gatehouse_fence (number) VALUES (0);

CREATE INDEX sessions_ended_idx ON sessions (ended_at) WHERE ended_at IS NOT NULL;
