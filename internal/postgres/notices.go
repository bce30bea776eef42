package postgres

import "fmt"

// What says at each commit what was changed that a decision rests on, whoever
// changed it and by whatever SQL. Migration 00002 tells the channel and the
// payloads; its triggers and functions are kept up to date from here, by Migrate,
// each whenever it is missing, altered or of an older release.

// noticesAtOnce is after how many rows of one transaction their notices become a
// single "flush". Listeners take notices one by one: on two busy cores an UPDATE
// of 50,000 users took 2.5 s and kept the next change of anybody unheard for 90 to
// 360 ms; with the bound they are 1.4 s and 0.5 to 4 ms.
const noticesAtOnce = 500

const (
	noticePrefix  = "gatehouse_notice_"
	noticeUser    = noticePrefix + "user"
	noticeMember  = noticePrefix + "member"
	noticeSession = noticePrefix + "session"
	noticeCompany = noticePrefix + "company"
	noticeFlush   = noticePrefix + "flush"
)

func noticeFunctions() []function {
	return []function{
		notice(noticeUser, "u", "id"),
		notice(noticeMember, "u", "user_id"),
		notice(noticeSession, "s", "id"),
		notice(noticeCompany, "c", "id"), // an adopted one may have none; an empty payload means everything
		{name: noticeFlush, returns: asTrigger, definer: true, path: trustedPath, body: `
  PERFORM pg_notify('gatehouse', 'flush');
  RETURN NULL;`},
	}
}

// notice tells of the row's key before and after the change. The same notice
// twice in a transaction is sent once.
//
// The count of rows is a text of so many dots, so that whatever somebody else
// sets under its name is a count too, and at worst too high a one. It is the
// transaction's, and goes back with what a savepoint takes back.
func notice(name, kind, key string) function {
	return function{
		name: name, returns: asTrigger, definer: true, path: trustedPath,
		declare: `
DECLARE
  told text := coalesce(current_setting('gatehouse.notices', true), '');`,
		body: fmt.Sprintf(`
  IF length(told) >= %[1]d THEN
    PERFORM pg_notify('gatehouse', 'flush');
    RETURN NULL;
  END IF;
  told := set_config('gatehouse.notices', told || '.', true);
  IF TG_OP <> 'INSERT' THEN
    PERFORM pg_notify('gatehouse', '%[2]s:' || OLD.%[3]s);
  END IF;
  IF TG_OP <> 'DELETE' THEN
    PERFORM pg_notify('gatehouse', '%[2]s:' || NEW.%[3]s);
  END IF;
  RETURN NULL;`, noticesAtOnce, kind, key),
	}
}

// noticeTriggers are those without which authz trusts no memory.
//
// The conditions compare columns of the adopted tables as text in byte order,
// because a type or collation of theirs may take two values for equal that are
// not the same in a header. A login (last_login, last_seen_at, a new session)
// says nothing: PostgreSQL commits transactions with notices one after the other.
func noticeTriggers() []trigger {
	return []trigger{
		{"users", "gatehouse_users_changed", after, onUpdate, `OLD.id IS DISTINCT FROM NEW.id
     OR OLD.is_active IS DISTINCT FROM NEW.is_active
     OR OLD.company_id IS DISTINCT FROM NEW.company_id
     OR OLD.role::text COLLATE "C" IS DISTINCT FROM NEW.role::text COLLATE "C"
     OR OLD.email::text COLLATE "C" IS DISTINCT FROM NEW.email::text COLLATE "C"
     OR OLD.tokens_valid_after IS DISTINCT FROM NEW.tokens_valid_after`, noticeUser},
		{"users", "gatehouse_users_came_or_went", after, onPassing, "", noticeUser},
		{"users", "gatehouse_users_truncated", after, onTruncate, "", noticeFlush},
		{"company_members", "gatehouse_members_changed", after, onUpdate, `OLD.user_id IS DISTINCT FROM NEW.user_id
     OR OLD.company_id IS DISTINCT FROM NEW.company_id
     OR OLD.role COLLATE "C" IS DISTINCT FROM NEW.role COLLATE "C"`, noticeMember},
		{"company_members", "gatehouse_members_came_or_went", after, onPassing, "", noticeMember},
		{"company_members", "gatehouse_members_truncated", after, onTruncate, "", noticeFlush},
		{"sessions", "gatehouse_sessions_changed", after, onUpdate, `OLD.id IS DISTINCT FROM NEW.id
     OR OLD.user_id IS DISTINCT FROM NEW.user_id
     OR OLD.ended_at IS DISTINCT FROM NEW.ended_at
     OR OLD.auth_time IS DISTINCT FROM NEW.auth_time
     OR OLD.valid_from IS DISTINCT FROM NEW.valid_from
     OR OLD.not_after IS DISTINCT FROM NEW.not_after`, noticeSession},
		{"sessions", "gatehouse_sessions_went", after, onDelete, "", noticeSession},
		{"sessions", "gatehouse_sessions_truncated", after, onTruncate, "", noticeFlush},
		{"companies", "gatehouse_companies_changed", after, onUpdate,
			`OLD.id IS DISTINCT FROM NEW.id OR OLD.is_active IS DISTINCT FROM NEW.is_active`, noticeCompany},
		{"companies", "gatehouse_companies_came_or_went", after, onPassing, "", noticeCompany},
		{"companies", "gatehouse_companies_truncated", after, onTruncate, "", noticeFlush},
	}
}

// announcers are the names of those triggers.
func announcers() []string {
	var names []string
	for _, t := range noticeTriggers() {
		names = append(names, t.name)
	}
	return names
}
