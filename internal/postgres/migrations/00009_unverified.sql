-- An address that was verified is not the next one: whoever changes users.email, by
-- whatever SQL, takes email_verified_at back, unless the same statement sets another.
-- A verified address opens the invitations to it without their secrets.
--
-- Sealed here as Migrate would (see objects.go), so that an upgrade makes the trigger
-- under a lock that stops writers for a moment, and need not make it anew under one
-- that stops readers.

-- +goose Up

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION gatehouse_address_moved() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  NEW.email_verified_at := NULL;
  RETURN NEW;
END $$;
-- +goose StatementEnd
DROP TRIGGER IF EXISTS gatehouse_users_unverified ON users;
CREATE TRIGGER gatehouse_users_unverified BEFORE UPDATE ON users FOR EACH ROW
  WHEN (OLD.email_verified_at IS NOT NULL AND NEW.email_verified_at IS NOT DISTINCT FROM OLD.email_verified_at
    AND lower(OLD.email::text COLLATE "C") IS DISTINCT FROM lower(NEW.email::text COLLATE "C"))
  EXECUTE FUNCTION gatehouse_address_moved();
-- ALWAYS: a restore or a replication apply skips ordinary triggers.
ALTER TABLE users ENABLE ALWAYS TRIGGER gatehouse_users_unverified;

-- +goose StatementBegin
DO $$
BEGIN
  EXECUTE format('COMMENT ON FUNCTION gatehouse_address_moved() IS %L', (
    SELECT 'made by gatehouse migrate: ' || md5(concat_ws(' ', p.prosrc, p.prosecdef, p.proconfig))
      FROM pg_proc p WHERE p.oid = to_regprocedure('gatehouse_address_moved()')));
  EXECUTE format('COMMENT ON TRIGGER gatehouse_users_unverified ON users IS %L', (
    SELECT 'made by gatehouse migrate: ' || md5(pg_get_triggerdef(t.oid))
      FROM pg_trigger t WHERE t.tgrelid = to_regclass('users') AND t.tgname = 'gatehouse_users_unverified'));
END $$;
-- +goose StatementEnd
