-- Says at each commit what was changed that a decision rests on, whoever changed
-- it and by whatever SQL, so that what is remembered of a user can be forgotten
-- at once. No row is touched, and readers are not held up.
--
-- Channel "gatehouse"; the payload is u:<uuid> (a user: its row or its
-- memberships), s:<uuid> (a session), c:<uuid> (a company) or flush (everything).
--
-- There is no notice for a login (last_login, last_seen_at, a new session):
-- PostgreSQL commits transactions with notices one after the other. And none of
-- them can be prepared for a two-phase commit; that is refused with an error.
--
-- The conditions compare columns of the adopted tables as text in byte order,
-- because a type or collation of theirs may take two values for equal that are
-- not the same in a header.

-- +goose Up

-- SECURITY DEFINER so that a caller needs no right of its own to notify; the
-- search_path is pinned so that such a caller cannot put functions or operators
-- of its own in the way.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION gatehouse_notice_user() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP <> 'INSERT' THEN
    PERFORM pg_notify('gatehouse', 'u:' || OLD.id);
  END IF;
  IF TG_OP <> 'DELETE' THEN
    PERFORM pg_notify('gatehouse', 'u:' || NEW.id); -- the same one twice is sent once
  END IF;
  RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION gatehouse_notice_member() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP <> 'INSERT' THEN
    PERFORM pg_notify('gatehouse', 'u:' || OLD.user_id);
  END IF;
  IF TG_OP <> 'DELETE' THEN
    PERFORM pg_notify('gatehouse', 'u:' || NEW.user_id);
  END IF;
  RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION gatehouse_notice_session() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM pg_notify('gatehouse', 's:' || OLD.id);
  IF TG_OP = 'UPDATE' THEN
    PERFORM pg_notify('gatehouse', 's:' || NEW.id);
  END IF;
  RETURN NULL;
END $$;
-- +goose StatementEnd

-- An adopted company may have no id; an empty payload means everything.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION gatehouse_notice_company() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP <> 'INSERT' THEN
    PERFORM pg_notify('gatehouse', 'c:' || OLD.id);
  END IF;
  IF TG_OP <> 'DELETE' THEN
    PERFORM pg_notify('gatehouse', 'c:' || NEW.id);
  END IF;
  RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION gatehouse_notice_flush() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM pg_notify('gatehouse', 'flush');
  RETURN NULL;
END $$;
-- +goose StatementEnd

-- A user that comes is told as well: that it did not exist may be remembered.
DROP TRIGGER IF EXISTS gatehouse_users_changed ON users;
CREATE TRIGGER gatehouse_users_changed AFTER UPDATE ON users FOR EACH ROW
  WHEN (OLD.id IS DISTINCT FROM NEW.id
     OR OLD.is_active IS DISTINCT FROM NEW.is_active
     OR OLD.company_id IS DISTINCT FROM NEW.company_id
     OR OLD.role::text COLLATE "C" IS DISTINCT FROM NEW.role::text COLLATE "C"
     OR OLD.email::text COLLATE "C" IS DISTINCT FROM NEW.email::text COLLATE "C"
     OR OLD.tokens_valid_after IS DISTINCT FROM NEW.tokens_valid_after)
  EXECUTE FUNCTION gatehouse_notice_user();
DROP TRIGGER IF EXISTS gatehouse_users_came_or_went ON users;
CREATE TRIGGER gatehouse_users_came_or_went AFTER INSERT OR DELETE ON users FOR EACH ROW
  EXECUTE FUNCTION gatehouse_notice_user();
DROP TRIGGER IF EXISTS gatehouse_users_truncated ON users;
CREATE TRIGGER gatehouse_users_truncated AFTER TRUNCATE ON users FOR EACH STATEMENT
  EXECUTE FUNCTION gatehouse_notice_flush();

DROP TRIGGER IF EXISTS gatehouse_members_changed ON company_members;
CREATE TRIGGER gatehouse_members_changed AFTER UPDATE ON company_members FOR EACH ROW
  WHEN (OLD.user_id IS DISTINCT FROM NEW.user_id
     OR OLD.company_id IS DISTINCT FROM NEW.company_id
     OR OLD.role COLLATE "C" IS DISTINCT FROM NEW.role COLLATE "C")
  EXECUTE FUNCTION gatehouse_notice_member();
DROP TRIGGER IF EXISTS gatehouse_members_came_or_went ON company_members;
CREATE TRIGGER gatehouse_members_came_or_went AFTER INSERT OR DELETE ON company_members FOR EACH ROW
  EXECUTE FUNCTION gatehouse_notice_member();
DROP TRIGGER IF EXISTS gatehouse_members_truncated ON company_members;
CREATE TRIGGER gatehouse_members_truncated AFTER TRUNCATE ON company_members FOR EACH STATEMENT
  EXECUTE FUNCTION gatehouse_notice_flush();

DROP TRIGGER IF EXISTS gatehouse_sessions_changed ON sessions;
CREATE TRIGGER gatehouse_sessions_changed AFTER UPDATE ON sessions FOR EACH ROW
  WHEN (OLD.id IS DISTINCT FROM NEW.id
     OR OLD.user_id IS DISTINCT FROM NEW.user_id
     OR OLD.ended_at IS DISTINCT FROM NEW.ended_at
     OR OLD.auth_time IS DISTINCT FROM NEW.auth_time
     OR OLD.valid_from IS DISTINCT FROM NEW.valid_from
     OR OLD.not_after IS DISTINCT FROM NEW.not_after)
  EXECUTE FUNCTION gatehouse_notice_session();
DROP TRIGGER IF EXISTS gatehouse_sessions_went ON sessions;
CREATE TRIGGER gatehouse_sessions_went AFTER DELETE ON sessions FOR EACH ROW
  EXECUTE FUNCTION gatehouse_notice_session();
DROP TRIGGER IF EXISTS gatehouse_sessions_truncated ON sessions;
CREATE TRIGGER gatehouse_sessions_truncated AFTER TRUNCATE ON sessions FOR EACH STATEMENT
  EXECUTE FUNCTION gatehouse_notice_flush();

DROP TRIGGER IF EXISTS gatehouse_companies_changed ON companies;
CREATE TRIGGER gatehouse_companies_changed AFTER UPDATE ON companies FOR EACH ROW
  WHEN (OLD.id IS DISTINCT FROM NEW.id OR OLD.is_active IS DISTINCT FROM NEW.is_active)
  EXECUTE FUNCTION gatehouse_notice_company();
DROP TRIGGER IF EXISTS gatehouse_companies_came_or_went ON companies;
CREATE TRIGGER gatehouse_companies_came_or_went AFTER INSERT OR DELETE ON companies FOR EACH ROW
  EXECUTE FUNCTION gatehouse_notice_company();
DROP TRIGGER IF EXISTS gatehouse_companies_truncated ON companies;
CREATE TRIGGER gatehouse_companies_truncated AFTER TRUNCATE ON companies FOR EACH STATEMENT
  EXECUTE FUNCTION gatehouse_notice_flush();

-- ALWAYS: a restore or a replication apply skips ordinary triggers. authz trusts
-- its memory only while every one of these is there and ALWAYS.
ALTER TABLE users ENABLE ALWAYS TRIGGER gatehouse_users_changed;
ALTER TABLE users ENABLE ALWAYS TRIGGER gatehouse_users_came_or_went;
ALTER TABLE users ENABLE ALWAYS TRIGGER gatehouse_users_truncated;
ALTER TABLE company_members ENABLE ALWAYS TRIGGER gatehouse_members_changed;
ALTER TABLE company_members ENABLE ALWAYS TRIGGER gatehouse_members_came_or_went;
ALTER TABLE company_members ENABLE ALWAYS TRIGGER gatehouse_members_truncated;
ALTER TABLE sessions ENABLE ALWAYS TRIGGER gatehouse_sessions_changed;
ALTER TABLE sessions ENABLE ALWAYS TRIGGER gatehouse_sessions_went;
ALTER TABLE sessions ENABLE ALWAYS TRIGGER gatehouse_sessions_truncated;
ALTER TABLE companies ENABLE ALWAYS TRIGGER gatehouse_companies_changed;
ALTER TABLE companies ENABLE ALWAYS TRIGGER gatehouse_companies_came_or_went;
ALTER TABLE companies ENABLE ALWAYS TRIGGER gatehouse_companies_truncated;
