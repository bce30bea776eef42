-- Adopts the users (and companies) table of the replaced gateways, or makes
-- them, and adds what belongs to people and their companies.
--
-- All of it is one transaction. The order keeps the time short in which users
-- cannot be read: the index is built under a lock that only stops writers, and
-- the columns, which need the exclusive lock for a moment, come last. No
-- statement here rewrites a table: a column without a default, or with one that
-- does not change from row to row, is only a line in the catalogue.
--
-- Names are resolved through a search_path that Migrate has set to the one
-- schema that holds users.

-- +goose Up

CREATE TABLE IF NOT EXISTS users (
  id              uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
  company_id      uuid        NULL,
  email           text        NOT NULL,
  hashed_password text        NULL,
  full_name       text        NULL,
  role            text        NOT NULL DEFAULT 'user',
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  last_login      timestamptz NULL,
  is_active       boolean     NOT NULL DEFAULT true
);

LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE;

-- "C" folds ASCII letters only. Every other collation makes the Kelvin sign a k
-- and the dotted capital I an i, so that one person could take another's address.
CREATE UNIQUE INDEX IF NOT EXISTS users_email_fold_key ON users (lower(email COLLATE "C"));

CREATE TABLE IF NOT EXISTS companies (
  id         uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
  name       text        NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
  is_active  boolean     NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE companies
  ADD COLUMN IF NOT EXISTS is_active  boolean     NOT NULL DEFAULT true,
  ADD COLUMN IF NOT EXISTS created_at timestamptz NOT NULL DEFAULT now();

-- An adopted companies table may have lost its key; a company is asked for by
-- id on every check.
-- +goose StatementBegin
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_index i
                  WHERE i.indrelid = 'companies'::regclass AND i.indisvalid AND i.indpred IS NULL
                    AND i.indkey[0] = (SELECT attnum FROM pg_attribute
                                        WHERE attrelid = 'companies'::regclass AND attname = 'id')) THEN
    CREATE INDEX companies_id_idx ON companies (id);
  END IF;
END $$;
-- +goose StatementEnd

-- Never unique: an adopted table may hold a name twice, and two installations
-- should not differ in their rules. A hash, because an adopted name may be longer
-- than a btree entry can be.
CREATE INDEX IF NOT EXISTS companies_name_idx ON companies USING hash (name);

-- The id stands in for a name nobody told us; it is cut to what the column holds.
INSERT INTO companies (id, name)
SELECT u.company_id,
       left(u.company_id::text,
            coalesce((SELECT a.atttypmod - 4 FROM pg_attribute a
                       WHERE a.attrelid = 'companies'::regclass AND a.attname = 'name' AND a.atttypmod > 4), 36))
  FROM (SELECT DISTINCT company_id FROM users WHERE company_id IS NOT NULL) u
 WHERE NOT EXISTS (SELECT FROM companies c WHERE c.id = u.company_id);

-- Memberships beyond users.company_id, which stays the current company. No
-- reference to companies: the current and the default company need no row there.
CREATE TABLE company_members (
  user_id    uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  company_id uuid        NOT NULL,
  role       text        NOT NULL DEFAULT 'user',
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by uuid        NULL,
  PRIMARY KEY (user_id, company_id)
);
CREATE INDEX company_members_company_idx ON company_members (company_id);

-- Bound to an account, or to an address together with a secret of which only the
-- SHA-256 is kept: an address alone is no proof of who reads its mail.
CREATE TABLE company_invitations (
  id          uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
  company_id  uuid        NOT NULL,
  user_id     uuid        NULL REFERENCES users (id) ON DELETE CASCADE,
  email       text        NULL,
  token_hash  bytea       NULL CHECK (octet_length(token_hash) = 32),
  role        text        NOT NULL DEFAULT 'user',
  invited_by  uuid        NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  expires_at  timestamptz NOT NULL,
  accepted_at timestamptz NULL,
  accepted_by uuid        NULL,
  revoked_at  timestamptz NULL,
  CHECK ((user_id IS NOT NULL) <> (email IS NOT NULL)),
  CHECK (email IS NULL OR token_hash IS NOT NULL)
);
-- For the cascade when a user is deleted.
CREATE INDEX company_invitations_user_idx ON company_invitations (user_id) WHERE user_id IS NOT NULL;
CREATE UNIQUE INDEX company_invitations_token_key ON company_invitations (token_hash)
  WHERE token_hash IS NOT NULL;
CREATE UNIQUE INDEX company_invitations_open_user ON company_invitations (company_id, user_id)
  WHERE user_id IS NOT NULL AND accepted_at IS NULL AND revoked_at IS NULL;
CREATE UNIQUE INDEX company_invitations_open_mail ON company_invitations (company_id, lower(email COLLATE "C"))
  WHERE email IS NOT NULL AND accepted_at IS NULL AND revoked_at IS NULL;

CREATE TABLE sessions (
  id           uuid        PRIMARY KEY,
  user_id      uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  auth_time    timestamptz NOT NULL,
  valid_from   timestamptz NOT NULL DEFAULT now(),
  created_at   timestamptz NOT NULL DEFAULT now(),
  last_seen_at timestamptz NOT NULL DEFAULT now(),
  not_after    timestamptz NOT NULL,
  ended_at     timestamptz NULL,
  end_reason   text        NULL CHECK (end_reason IN ('logout', 'logout_all', 'password_change', 'password_reset',
                                                      'refresh_reuse', 'admin', 'user_disabled', 'evicted')),
  company_id   uuid        NULL,
  ip           inet        NULL,
  user_agent   text        NULL CHECK (char_length(user_agent) <= 300)
);
-- Of all sessions, not only the open ones: deleting a user looks for every one.
CREATE INDEX sessions_user_idx ON sessions (user_id);
CREATE INDEX sessions_gc_idx ON sessions (not_after);

-- Plain SQL that moves a user takes the old company away from it; a join, which
-- keeps it, says so for its transaction. SECURITY DEFINER because whoever may
-- update users need not know of company_members; the search_path is pinned so
-- that such a caller cannot put a table of its own in the way.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION gatehouse_company_moved() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
  IF coalesce(current_setting('gatehouse.keep_members', true), '') <> 'on' THEN
    DELETE FROM company_members WHERE user_id = OLD.id AND company_id = OLD.company_id;
  END IF;
  RETURN NULL;
END $$;
-- +goose StatementEnd
DROP TRIGGER IF EXISTS gatehouse_users_moved ON users;
CREATE TRIGGER gatehouse_users_moved AFTER UPDATE ON users FOR EACH ROW
  WHEN (OLD.company_id IS NOT NULL AND OLD.company_id IS DISTINCT FROM NEW.company_id)
  EXECUTE FUNCTION gatehouse_company_moved();
-- ALWAYS: a restore or a replication apply skips ordinary triggers.
ALTER TABLE users ENABLE ALWAYS TRIGGER gatehouse_users_moved;

ALTER TABLE users
  ADD COLUMN IF NOT EXISTS tokens_valid_after  timestamptz NULL,
  ADD COLUMN IF NOT EXISTS password_changed_at timestamptz NULL,
  ADD COLUMN IF NOT EXISTS email_verified_at   timestamptz NULL;
