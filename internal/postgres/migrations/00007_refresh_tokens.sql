-- Refresh tokens: each is good once, and leaves a successor behind.

-- +goose Up

-- Only the SHA-256 of a token is kept. sealed is its successor under a key that
-- only the token itself gives: whoever presents it once more, because the answer was
-- lost, gets the same successor, and whoever reads this table gets nothing.
--
-- No reference to sessions: plain SQL that truncates them must go on to work. A token
-- without a session is none, and is swept when its time is over.
CREATE TABLE refresh_tokens (
  id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  session_id uuid        NOT NULL,
  token_hash bytea       NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
  parent_id  bigint      NULL,
  sealed     bytea       NULL CHECK (octet_length(sealed) = 32),
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  used_at    timestamptz NULL,
  CHECK ((used_at IS NULL) = (sealed IS NULL))
);
CREATE UNIQUE INDEX refresh_tokens_one_live ON refresh_tokens (session_id) WHERE used_at IS NULL;
-- For taking back all of a session, and for the sweep.
CREATE INDEX refresh_tokens_session_idx ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_used_idx ON refresh_tokens (used_at) WHERE used_at IS NOT NULL;
CREATE INDEX refresh_tokens_expires_idx ON refresh_tokens (expires_at);
