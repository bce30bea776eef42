package postgres

import (
	"fmt"
	"strings"
)

// The functions and triggers of ours. Migrations made the first of them; they are
// kept as they should be from here, by Migrate, each whenever it is missing, altered
// or of a release that did not seal it.
//
// What is sealed stays: releases that run side by side take each other's for good. A
// release that has another function or trigger under an old name needs a migration
// that takes the seal off (COMMENT ON … IS NULL).

// A function of ours. The body is plpgsql without the declarations around it.
type function struct {
	name    string
	in      string // the types that it takes; empty: none
	takes   string // the parameters as they are declared, results included
	returns string // empty: told by takes
	declare string
	body    string
	// path is its search_path: pinned, because whoever changes a row could put
	// functions or operators of its own in the way.
	path string
	// definer: whoever may change a row needs no right of its own to notify, to change
	// memberships or to make tables.
	definer bool
	sets    []string // other settings
	private bool     // whoever is to call it is told so by a GRANT
}

// trustedPath holds nothing that a caller could have made.
const trustedPath = "pg_catalog, pg_temp"

const asTrigger = "trigger"

const (
	companyMoved  = "gatehouse_company_moved"
	addressMoved  = "gatehouse_address_moved"
	auditGuard    = "gatehouse_audit_is_append_only"
	auditTend     = "gatehouse_audit_tend"
	movedTrigger  = "gatehouse_users_moved"
	resetsTrigger = "gatehouse_users_unverified"
)

// functions are all of ours. ownPath finds our tables.
func functions(ownPath string) []function {
	return append(noticeFunctions(),
		// Plain SQL that moves a user takes the old company away from it; a join,
		// which keeps it, says so for its transaction.
		function{name: companyMoved, returns: asTrigger, definer: true, path: ownPath, body: `
  IF coalesce(current_setting('gatehouse.keep_members', true), '') <> 'on' THEN
    DELETE FROM company_members WHERE user_id = OLD.id AND company_id = OLD.company_id;
  END IF;
  RETURN NULL;`},
		// That an address was verified says nothing about the next one.
		function{name: addressMoved, returns: asTrigger, path: trustedPath, body: `
  NEW.email_verified_at := NULL;
  RETURN NEW;`},
		auditGuardFunction(),
		auditTendFunction(ownPath),
	)
}

// signature names the function among others of its name.
func (f function) signature() string { return f.name + "(" + f.in + ")" }

// sql makes the function or replaces it, which keeps who may call it.
func (f function) sql(replaces bool) []string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE OR REPLACE FUNCTION %s(%s)", f.name, f.takes)
	if f.returns != "" {
		b.WriteString(" RETURNS " + f.returns)
	}
	b.WriteString("\nLANGUAGE plpgsql")
	if f.definer {
		b.WriteString(" SECURITY DEFINER")
	}
	b.WriteString(" SET search_path = " + f.path)
	for _, s := range f.sets {
		b.WriteString(" SET " + s)
	}
	b.WriteString(" AS $gatehouse$" + f.declare + "\nBEGIN" + f.body + "\nEND $gatehouse$")
	made := []string{b.String()}
	if f.private && !replaces {
		made = append(made, "REVOKE ALL ON FUNCTION "+f.signature()+" FROM PUBLIC")
	}
	return made
}

// A trigger of ours.
type trigger struct {
	table, name string
	moment      string
	event       string
	when        string // empty: always; needs a row
	function    string
}

const (
	after  = "AFTER"
	before = "BEFORE"

	onUpdate   = "UPDATE"
	onPassing  = "INSERT OR DELETE" // one that comes is told as well: that it did not exist may be remembered
	onDelete   = "DELETE"
	onTruncate = "TRUNCATE"
)

// triggers are all of ours that are sealed; see also guards.
func triggers() []trigger {
	return append(noticeTriggers(),
		trigger{"users", movedTrigger, after, onUpdate,
			`OLD.company_id IS NOT NULL AND OLD.company_id IS DISTINCT FROM NEW.company_id`, companyMoved},
		// Whoever writes both says themselves what the new address is. Another spelling
		// of the same address, by the case of ASCII letters, is the same address here as
		// everywhere.
		trigger{"users", resetsTrigger, before, onUpdate,
			`OLD.email_verified_at IS NOT NULL AND NEW.email_verified_at IS NOT DISTINCT FROM OLD.email_verified_at
     AND lower(OLD.email::text COLLATE "C") IS DISTINCT FROM lower(NEW.email::text COLLATE "C")`, addressMoved},
	)
}

// sql makes the trigger anew. ALWAYS: a restore or a replication apply skips
// ordinary triggers. (PostgreSQL 13 has no CREATE OR REPLACE TRIGGER.)
func (t trigger) sql() []string {
	each := "ROW"
	if t.event == onTruncate {
		each = "STATEMENT"
	}
	made := fmt.Sprintf("CREATE TRIGGER %s %s %s ON %s FOR EACH %s", t.name, t.moment, t.event, t.table, each)
	if t.when != "" {
		made += "\n  WHEN (" + t.when + ")"
	}
	return []string{
		fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", t.name, t.table),
		fmt.Sprintf("%s\n  EXECUTE FUNCTION %s()", made, t.function),
		t.always(),
	}
}

// always is of the table alone: servers differ in what they do to its partitions.
func (t trigger) always() string {
	return fmt.Sprintf("ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %s", t.table, t.name)
}
