package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/postgres"
)

func newMigrate(in *invocation) *cobra.Command {
	var (
		out      format
		status   bool
		lockWait time.Duration
	)
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database up to this release",
		Long: `Bring the database up to this release.

Existing users and companies tables are adopted without losing or rewriting a
row. Where they cannot be, what is in the way is listed and nothing is changed.
Triggers and functions of ours that somebody took away, turned off or altered are
put back, and named.
Running it again, or on several machines at once, does no harm.`,
		Example: "  gatehouse migrate\n  gatehouse migrate --status --output json",
		Args:    takes(),
		RunE: in.runs(func(ctx context.Context, _ []string) error {
			if lockWait <= 0 {
				return misuse("--lock-wait %s: must be more than nothing", lockWait)
			}
			s, err := in.settings(config.NeedDatabase)
			if err != nil {
				return err
			}
			if status {
				return in.migrationStatus(ctx, s, out)
			}
			return in.migrate(ctx, s, lockWait, out)
		}),
	}
	outputFlag(cmd, &out)
	cmd.Flags().BoolVar(&status, "status", false, "say how far the database is, and change nothing")
	cmd.Flags().DurationVar(&lockWait, "lock-wait", 10*time.Second, "how long to wait for other transactions")
	return cmd
}

type migrationView struct {
	Version int64         `json:"version"`
	Schema  string        `json:"schema"`
	Applied []appliedView `json:"applied"`
	// Repaired are triggers and functions of ours that were missing or altered.
	Repaired []repairedView `json:"repaired"`
}

type repairedView struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

type appliedView struct {
	Version int64   `json:"version"`
	Name    string  `json:"name"`
	Millis  float64 `json:"duration_ms"`
}

func (in *invocation) migrate(ctx context.Context, s *config.Settings, lockWait time.Duration, out format) error {
	logger := slog.New(slog.NewTextHandler(in.stderr, nil))
	done, err := postgres.Migrate(ctx, s.Database.URL.Reveal(), postgres.MigrateOptions{Logger: logger, LockWait: lockWait})
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	for _, w := range done.Warnings {
		in.complain("warning: " + w)
	}
	view := migrationView{Version: done.Version, Schema: done.Schema, Applied: make([]appliedView, 0, len(done.Applied))}
	for _, m := range done.Applied {
		view.Applied = append(view.Applied, appliedView{m.Version, m.Name, float64(m.Took.Microseconds()) / 1000})
	}
	view.Repaired = make([]repairedView, 0, len(done.Repaired))
	for _, b := range done.Repaired {
		view.Repaired = append(view.Repaired, repairedView(b))
	}
	if out == formatJSON {
		return writeJSON(in.stdout, view)
	}
	var text bytes.Buffer
	for _, m := range done.Applied {
		fmt.Fprintf(&text, "applied %d %s (%s)\n", m.Version, m.Name, m.Took.Round(time.Millisecond))
	}
	for _, b := range done.Repaired {
		fmt.Fprintf(&text, "put back %s\n", b)
	}
	if len(done.Applied)+len(done.Repaired) == 0 {
		fmt.Fprintf(&text, "nothing to do: the database is at version %d\n", done.Version)
	}
	return write(in.stdout, text.Bytes())
}

type schemaView struct {
	Server  string   `json:"server_version"`
	Schema  string   `json:"schema"`
	Version int64    `json:"version"`
	Latest  int64    `json:"latest"`
	Pending []string `json:"pending"`
	Missing []string `json:"missing_tables"`
	Broken  []string `json:"broken"` // triggers and functions, with the reason
}

func (in *invocation) migrationStatus(ctx context.Context, s *config.Settings, out format) error {
	st, err := postgres.Status(ctx, s.Database.URL.Reveal())
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	view := schemaView{
		Server: st.Server, Schema: st.Schema, Version: st.Version, Latest: st.Latest,
		Pending: append([]string{}, st.Pending...), Missing: append([]string{}, st.Missing...), Broken: []string{},
	}
	for _, b := range st.Broken {
		view.Broken = append(view.Broken, b.String())
	}
	if out == formatJSON {
		return writeJSON(in.stdout, view)
	}
	tab := newTable()
	tab.row("server", "PostgreSQL "+view.Server)
	tab.row("schema", view.Schema)
	tab.row("version", fmt.Sprintf("%d of %d", view.Version, view.Latest))
	for _, name := range view.Pending {
		tab.row("pending", name)
	}
	for _, name := range view.Missing {
		tab.row("missing table", name)
	}
	for _, name := range view.Broken {
		tab.row("to be put back", name)
	}
	return tab.writeTo(in.stdout)
}
