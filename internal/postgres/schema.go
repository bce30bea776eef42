package postgres

import (
	"context"
	"fmt"
)

// SchemaStatus is how far a database has been migrated.
type SchemaStatus struct {
	Server  string // the server's version, such as "15.14"
	Schema  string // that holds the tables
	Version int64  // of the database; 0: never migrated
	Latest  int64  // that this release knows
	// Pending names the migrations to come, oldest first.
	Pending []string
	// Missing names tables that the version promises and that are gone.
	Missing []string
	// Silent names triggers that should tell authz of changes and do not: they
	// are gone, or not ENABLE ALWAYS. Looked for where nothing is pending or missing.
	Silent []string
}

// Status reads how far the database has been migrated, and changes nothing.
func Status(ctx context.Context, url string) (SchemaStatus, error) {
	m, err := openMigrator(ctx, url)
	if err != nil {
		return SchemaStatus{}, err
	}
	defer m.close()
	version, recorded, err := m.current(ctx)
	if err != nil {
		return SchemaStatus{}, err
	}
	status := SchemaStatus{Server: m.server, Schema: m.schema, Version: version, Latest: m.latest()}
	if status.Pending, err = m.pending(ctx, recorded); err != nil {
		return SchemaStatus{}, err
	}
	if version == 0 {
		return status, nil
	}
	for _, table := range append([]ownTable{{"users", 1}, {"companies", 1}}, ownTables()...) {
		if table.since > version {
			continue // not promised yet
		}
		var there bool
		if err := m.control.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, table.name).Scan(&there); err != nil {
			return SchemaStatus{}, fmt.Errorf("looking for the table %s: %w", table.name, err)
		}
		if !there {
			status.Missing = append(status.Missing, table.name)
		}
	}
	if len(status.Pending) == 0 && len(status.Missing) == 0 {
		if status.Silent, err = m.silent(ctx); err != nil {
			return SchemaStatus{}, err
		}
	}
	return status, nil
}

// silent finds the triggers without which a Listener trusts nothing.
func (m *migrator) silent(ctx context.Context) ([]string, error) {
	var names []string
	for _, trigger := range triggers() {
		var always bool
		if err := m.control.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger t
			WHERE t.tgrelid IN (to_regclass('users'), to_regclass('company_members'), to_regclass('sessions'), to_regclass('companies'))
			  AND t.tgname = $1 AND t.tgenabled = 'A')`, trigger).Scan(&always); err != nil {
			return nil, fmt.Errorf("looking for the trigger %s: %w", trigger, err)
		}
		if !always {
			names = append(names, trigger)
		}
	}
	return names, nil
}
