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
	// Broken are triggers and functions of ours that do not do what they should;
	// Migrate puts them back. Looked for where nothing is pending or missing.
	Broken []Broken
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
		if status.Broken, err = m.broken(ctx); err != nil {
			return SchemaStatus{}, err
		}
	}
	return status, nil
}
