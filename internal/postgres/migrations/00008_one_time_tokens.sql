-- Tokens that are mailed: each is good once, and for one purpose.

-- +goose Up

-- Only the SHA-256 of a token is kept. relates_to is the SHA-256 of what must not have
-- changed when the token is used: the address, and for a reset the password hash too.
CREATE TABLE one_time_tokens (
  token_hash bytea       PRIMARY KEY CHECK (octet_length(token_hash) = 32),
  user_id    uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  purpose    text        NOT NULL CHECK (purpose IN ('password_reset', 'email_verify', 'email_change')),
  relates_to text        NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  used_at    timestamptz NULL
);
CREATE UNIQUE INDEX one_time_tokens_one_live ON one_time_tokens (user_id, purpose) WHERE used_at IS NULL;
-- For the cascade when a user is deleted, and for the sweep.
CREATE INDEX one_time_tokens_user_idx ON one_time_tokens (user_id);
CREATE INDEX one_time_tokens_gc_idx ON one_time_tokens (expires_at);
