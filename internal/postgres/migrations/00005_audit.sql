-- What happened to people and their companies, for those who have to look into
-- it later. Rows are added and, after their time, dropped; nothing else.
--
-- Partitioned by month so that dropping is cheap. A row for which no month was
-- made lies in the default partition, and nothing is lost.
--
-- No column refers to another table: the record of a user outlives the user.

-- +goose Up

CREATE TABLE audit_log (
  id           bigint      GENERATED ALWAYS AS IDENTITY,
  at           timestamptz NOT NULL DEFAULT clock_timestamp(),
  event        text        NOT NULL CHECK (event <> ''),
  outcome      text        NOT NULL CHECK (outcome IN ('success', 'failure', 'denied')),
  actor_user   uuid        NULL, -- NULL: nobody who is known, or an operator
  operator     text        NULL, -- whoever ran a command
  subject_user uuid        NULL,
  company_id   uuid        NULL,
  session_id   uuid        NULL,
  ip           inet        NULL,
  request_id   text        NULL,
  details      jsonb       NOT NULL DEFAULT '{}',
  PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);
CREATE TABLE audit_log_default PARTITION OF audit_log DEFAULT;
CREATE INDEX audit_log_subject_idx ON audit_log (subject_user, at DESC) WHERE subject_user IS NOT NULL;
CREATE INDEX audit_log_company_idx ON audit_log (company_id, at DESC) WHERE company_id IS NOT NULL;

-- Only gatehouse_audit_tend takes anything away, and only what is a day old at
-- least. This keeps out mistakes and everybody who is not the table's owner; an
-- owner can always take its own triggers off.
-- +goose StatementBegin
CREATE FUNCTION gatehouse_audit_is_append_only() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP = 'DELETE' AND current_setting('gatehouse.audit_tend', true) = 'on' AND OLD.at < now() - interval '1 day' THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'audit_log is append-only: no % of its rows', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd
CREATE TRIGGER gatehouse_audit_append_only BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW
  EXECUTE FUNCTION gatehouse_audit_is_append_only();
CREATE TRIGGER gatehouse_audit_no_truncate BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT
  EXECUTE FUNCTION gatehouse_audit_is_append_only();
CREATE TRIGGER gatehouse_audit_no_truncate BEFORE TRUNCATE ON audit_log_default FOR EACH STATEMENT
  EXECUTE FUNCTION gatehouse_audit_is_append_only();

-- Makes the partitions of this month and the next two, and drops what is older
-- than retention (NULL: nothing): whole months, and rows of the default partition
-- a thousand at a time. It says how many partitions it made, how many it dropped
-- and how many rows it deleted.
--
-- SECURITY DEFINER because making and dropping tables takes their owner, which
-- the login service need not be. It waits for nobody: a partition that cannot be
-- made or dropped now, because somebody reads the log, is for the next time.
-- +goose StatementBegin
CREATE FUNCTION gatehouse_audit_tend(retention interval, OUT made int, OUT dropped int, OUT deleted int)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET gatehouse.audit_tend = 'on' SET lock_timeout = '200ms' AS $$
DECLARE
  month timestamptz;
  ends  timestamptz;
  part  record;
BEGIN
  made := 0; dropped := 0; deleted := 0;
  -- One at a time; the others come again.
  IF NOT pg_try_advisory_xact_lock(7305411920644288) THEN
    RETURN;
  END IF;
  FOR n IN 0..2 LOOP
    month := (date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month') AT TIME ZONE 'UTC';
    ends  := (date_trunc('month', now() AT TIME ZONE 'UTC') + (n + 1) * interval '1 month') AT TIME ZONE 'UTC';
    CONTINUE WHEN to_regclass('audit_log_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM')) IS NOT NULL
      -- What lies in the default partition already stays there.
      OR EXISTS (SELECT FROM audit_log_default d WHERE d.at >= month AND d.at < ends);
    BEGIN
      EXECUTE format('CREATE TABLE %I PARTITION OF audit_log FOR VALUES FROM (%L) TO (%L)',
        'audit_log_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM'), month, ends);
      EXECUTE format('CREATE TRIGGER gatehouse_audit_no_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION gatehouse_audit_is_append_only()',
        'audit_log_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM'));
      made := made + 1;
    EXCEPTION WHEN lock_not_available OR deadlock_detected OR check_violation THEN
      NULL;
    END;
  END LOOP;
  IF retention IS NULL THEN
    RETURN;
  END IF;
  FOR part IN
    SELECT c.relname, (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC' AS over
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'audit_log'::regclass AND c.relname ~ '^audit_log_[0-9]{4}_[0-9]{2}$'
  LOOP
    CONTINUE WHEN part.over >= now() - greatest(retention, interval '1 day');
    BEGIN
      EXECUTE format('DROP TABLE %I', part.relname);
      dropped := dropped + 1;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
      NULL;
    END;
  END LOOP;
  DELETE FROM audit_log_default d WHERE (d.at, d.id) IN (
    SELECT at, id FROM audit_log_default WHERE at < now() - greatest(retention, interval '1 day') LIMIT 1000);
  GET DIAGNOSTICS deleted = ROW_COUNT;
END $$;
-- +goose StatementEnd

-- Whoever may call it may shorten the log: a service that is not the owner is
-- granted EXECUTE by name.
REVOKE ALL ON FUNCTION gatehouse_audit_tend(interval) FROM PUBLIC;

SELECT gatehouse_audit_tend(NULL);
