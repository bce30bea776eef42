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

// A function of ours. The body is plpgsql without the declarations around it.
type function struct {
	name, declare, body string
	// path is its search_path: pinned, because whoever changes a row could put
	// functions or operators of its own in the way.
	path string
}

// trustedPath holds nothing that a caller could have made.
const trustedPath = "pg_catalog, pg_temp"

const (
	noticeUser    = "gatehouse_notice_user"
	noticeMember  = "gatehouse_notice_member"
	noticeSession = "gatehouse_notice_session"
	noticeCompany = "gatehouse_notice_company"
	noticeFlush   = "gatehouse_notice_flush"
	companyMoved  = "gatehouse_company_moved"
)

// functions are all of ours. ownPath finds our tables.
func functions(ownPath string) []function {
	return []function{
		notice(noticeUser, "u", "id"),
		notice(noticeMember, "u", "user_id"),
		notice(noticeSession, "s", "id"),
		notice(noticeCompany, "c", "id"), // an adopted one may have none; an empty payload means everything
		{name: noticeFlush, path: trustedPath, body: `
  PERFORM pg_notify('gatehouse', 'flush');`},
		// Plain SQL that moves a user takes the old company away from it; a join,
		// which keeps it, says so for its transaction.
		{name: companyMoved, path: ownPath, body: `
  IF coalesce(current_setting('gatehouse.keep_members', true), '') <> 'on' THEN
    DELETE FROM company_members WHERE user_id = OLD.id AND company_id = OLD.company_id;
  END IF;`},
	}
}

// notice tells of the row's key before and after the change. The same notice
// twice in a transaction is sent once.
//
// The count of rows is a text of so many dots, so that whatever somebody else
// sets under its name is a count too, and at worst too high a one. It is the
// transaction's, and goes back with what a savepoint takes back.
func notice(name, kind, key string) function {
	return function{name: name, path: trustedPath,
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
  END IF;`, noticesAtOnce, kind, key)}
}

// sql makes the function or replaces it. SECURITY DEFINER: whoever may change a
// row needs no right of its own to notify or to change memberships.
func (f function) sql() string {
	return `CREATE OR REPLACE FUNCTION ` + f.name + `() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ` + f.path + ` AS $gatehouse$` + f.declare + `
BEGIN` + f.body + `
  RETURN NULL;
END $gatehouse$`
}

// A trigger of ours.
type trigger struct {
	table, name string
	event       string
	when        string // empty: always; needs a row
	function    string
}

const (
	onUpdate   = "UPDATE"
	onPassing  = "INSERT OR DELETE" // one that comes is told as well: that it did not exist may be remembered
	onDelete   = "DELETE"
	onTruncate = "TRUNCATE"

	movedTrigger = "gatehouse_users_moved"
)

// triggers are all of ours.
//
// The conditions compare columns of the adopted tables as text in byte order,
// because a type or collation of theirs may take two values for equal that are
// not the same in a header. A login (last_login, last_seen_at, a new session)
// says nothing: PostgreSQL commits transactions with notices one after the other.
func triggers() []trigger {
	return []trigger{
		{"users", "gatehouse_users_changed", onUpdate, `OLD.id IS DISTINCT FROM NEW.id
     OR OLD.is_active IS DISTINCT FROM NEW.is_active
     OR OLD.company_id IS DISTINCT FROM NEW.company_id
     OR OLD.role::text COLLATE "C" IS DISTINCT FROM NEW.role::text COLLATE "C"
     OR OLD.email::text COLLATE "C" IS DISTINCT FROM NEW.email::text COLLATE "C"
     OR OLD.tokens_valid_after IS DISTINCT FROM NEW.tokens_valid_after`, noticeUser},
		{"users", "gatehouse_users_came_or_went", onPassing, "", noticeUser},
		{"users", "gatehouse_users_truncated", onTruncate, "", noticeFlush},
		{"company_members", "gatehouse_members_changed", onUpdate, `OLD.user_id IS DISTINCT FROM NEW.user_id
     OR OLD.company_id IS DISTINCT FROM NEW.company_id
     OR OLD.role COLLATE "C" IS DISTINCT FROM NEW.role COLLATE "C"`, noticeMember},
		{"company_members", "gatehouse_members_came_or_went", onPassing, "", noticeMember},
		{"company_members", "gatehouse_members_truncated", onTruncate, "", noticeFlush},
		{"sessions", "gatehouse_sessions_changed", onUpdate, `OLD.id IS DISTINCT FROM NEW.id
     OR OLD.user_id IS DISTINCT FROM NEW.user_id
     OR OLD.ended_at IS DISTINCT FROM NEW.ended_at
     OR OLD.auth_time IS DISTINCT FROM NEW.auth_time
     OR OLD.valid_from IS DISTINCT FROM NEW.valid_from
     OR OLD.not_after IS DISTINCT FROM NEW.not_after`, noticeSession},
		{"sessions", "gatehouse_sessions_went", onDelete, "", noticeSession},
		{"sessions", "gatehouse_sessions_truncated", onTruncate, "", noticeFlush},
		{"companies", "gatehouse_companies_changed", onUpdate,
			`OLD.id IS DISTINCT FROM NEW.id OR OLD.is_active IS DISTINCT FROM NEW.is_active`, noticeCompany},
		{"companies", "gatehouse_companies_came_or_went", onPassing, "", noticeCompany},
		{"companies", "gatehouse_companies_truncated", onTruncate, "", noticeFlush},
		{"users", movedTrigger, onUpdate,
			`OLD.company_id IS NOT NULL AND OLD.company_id IS DISTINCT FROM NEW.company_id`, companyMoved},
	}
}

// announcers are the triggers without which authz trusts no memory.
func announcers() []string {
	var names []string
	for _, t := range triggers() {
		if t.name != movedTrigger {
			names = append(names, t.name)
		}
	}
	return names
}

// sql makes the trigger anew. ALWAYS: a restore or a replication apply skips
// ordinary triggers. (PostgreSQL 13 has no CREATE OR REPLACE TRIGGER.)
func (t trigger) sql() []string {
	each := "ROW"
	if t.event == onTruncate {
		each = "STATEMENT"
	}
	made := fmt.Sprintf("CREATE TRIGGER %s AFTER %s ON %s FOR EACH %s", t.name, t.event, t.table, each)
	if t.when != "" {
		made += "\n  WHEN (" + t.when + ")"
	}
	return []string{
		fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", t.name, t.table),
		fmt.Sprintf("%s\n  EXECUTE FUNCTION %s()", made, t.function),
		fmt.Sprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", t.table, t.name),
	}
}
