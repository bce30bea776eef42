package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

// recordView is one record of the audit log.
type recordView struct {
	ID        int64          `json:"id"`
	At        string         `json:"at"` // with microseconds, in UTC
	Event     string         `json:"event"`
	Outcome   string         `json:"outcome"`
	Actor     *string        `json:"actor_user"`
	Operator  *string        `json:"operator"`
	Subject   *string        `json:"subject_user"`
	Email     *string        `json:"subject_email"` // as it is now
	Company   *string        `json:"company_id"`
	Session   *string        `json:"session_id"`
	Address   *string        `json:"ip"`
	RequestID *string        `json:"request_id"`
	Details   map[string]any `json:"details"`
}

func viewRecord(r postgres.AuditRecord) recordView {
	v := recordView{
		ID: r.ID, At: r.At.UTC().Format("2006-01-02T15:04:05.000000Z"), Event: r.Name, Outcome: string(r.Outcome),
		Operator: orNull(r.Operator), Email: orNull(r.SubjectEmail), RequestID: orNull(r.RequestID), Details: r.Details,
	}
	if !r.Actor.IsZero() {
		v.Actor = orNull(r.Actor.String())
	}
	if !r.Subject.IsZero() {
		v.Subject = orNull(r.Subject.String())
	}
	if !r.Company.IsZero() {
		v.Company = orNull(r.Company.String())
	}
	if !r.Session.IsZero() {
		v.Session = orNull(r.Session.String())
	}
	if r.Address.IsValid() {
		v.Address = orNull(r.Address.String())
	}
	return v
}

func newAudit(in *invocation) *cobra.Command {
	var (
		out          format
		who, company string
		filter       postgres.AuditFilter
		since        time.Duration
		follow       bool
	)
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show what happened to users and companies, and who did it",
		Long: `Show what happened to users and companies, and who did it: the newest records,
the oldest of them first.

What the login service and this command do is in the log. What others do with
plain SQL is not.`,
		Example: `  gatehouse audit --since 24h
  gatehouse audit --user ada@example.com --event login. --limit 20
  gatehouse audit --company 7d1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11 --output json`,
		Args: takes(),
		RunE: in.runs(func(ctx context.Context, _ []string) error {
			if company != "" {
				var err error
				if filter.Company, err = namedCompany(company); err != nil {
					return err
				}
			}
			if filter.Limit < 1 || filter.Limit > postgres.MostRecords {
				return misuse("--limit %d: must be at least 1 and at most %d", filter.Limit, postgres.MostRecords)
			}
			if since < 0 {
				return misuse("--since %s: must not be negative", since)
			}
			if since > 0 {
				filter.Since = time.Now().Add(-since)
			}
			return in.withStore(ctx, func(ctx context.Context, store *postgres.Store) error {
				if who != "" {
					id, err := auditedUser(ctx, store, who)
					if err != nil {
						return err
					}
					filter.User = id
				}
				records, err := store.AuditLog(ctx, filter)
				if err != nil {
					return err
				}
				if follow {
					return in.followRecords(ctx, store, filter, records, out)
				}
				return in.writeRecords(records, out)
			})
		}),
	}
	outputFlag(cmd, &out)
	cmd.Flags().StringVar(&who, "user", "", "`EMAIL|ID` of the user who did it or to whom it was done")
	cmd.Flags().StringVar(&company, "company", "", "`ID` of the company that it was about")
	cmd.Flags().StringVar(&filter.Prefix, "event", "", "`PREFIX` of the event's name, such as login. or invitation.created")
	cmd.Flags().DurationVar(&since, "since", 0, "how far back, such as 24h (default without a limit)")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with what comes, until interrupted; in JSON, one record a line")
	cmd.Flags().IntVar(&filter.Limit, "limit", 200, "how many records at most")
	return cmd
}

// auditedUser takes an id as it is: the log outlives the user.
func auditedUser(ctx context.Context, store *postgres.Store, name string) (identity.UserID, error) {
	if id, err := identity.ParseUserID(name); err == nil {
		return id, nil
	}
	u, err := findUser(ctx, store, name)
	return u.ID, err
}

func (in *invocation) writeRecords(records []postgres.AuditRecord, out format) error {
	views := make([]recordView, 0, len(records))
	for _, r := range records {
		views = append(views, viewRecord(r))
	}
	if out == formatJSON {
		return writeJSON(in.stdout, views)
	}
	return writeRows(in.stdout, newTable("AT", "EVENT", "OUTCOME", "BY", "USER", "COMPANY", "ADDRESS", "DETAILS"), views)
}

func writeRows(w io.Writer, tab *table, views []recordView) error {
	for _, v := range views {
		by := text(v.Actor)
		switch {
		case v.Operator != nil:
			by = "operator " + *v.Operator
		case by == text(v.Subject) && by != "":
			by = "itself"
		}
		tab.row(v.At, v.Event, v.Outcome, by, cmp.Or(text(v.Email), text(v.Subject)), text(v.Company), text(v.Address), inOneLine(v.Details))
	}
	return tab.writeTo(w)
}

const (
	followEvery = time.Second
	// followBack is how long a transaction may take from its record to its end
	// without the record being missed: they come in the order of their ends.
	followBack = 30 * time.Second
)

// followRecords prints records and then those that come, each once.
func (in *invocation) followRecords(ctx context.Context, store *postgres.Store, filter postgres.AuditFilter, records []postgres.AuditRecord, out format) error {
	shown := map[int64]time.Time{}
	var last time.Time // by the database's clock
	filter.Limit = postgres.MostRecords
	for {
		for _, r := range records {
			if _, before := shown[r.ID]; before {
				continue
			}
			if err := in.followRecord(viewRecord(r), out); err != nil {
				return err
			}
			shown[r.ID] = r.At
			if r.At.After(last) {
				last = r.At
			}
		}
		if !last.IsZero() {
			filter.Since = last.Add(-followBack)
		}
		maps.DeleteFunc(shown, func(_ int64, at time.Time) bool { return at.Before(filter.Since) })
		select {
		case <-ctx.Done():
			return nil // the only way in which it ends
		case <-time.After(followEvery):
		}
		var err error
		if records, err = store.AuditLog(ctx, filter); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func (in *invocation) followRecord(v recordView, out format) error {
	if out == formatJSON {
		line, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("encoding the output: %w", err)
		}
		return write(in.stdout, append(line, '\n'))
	}
	return writeRows(in.stdout, newTable(), []recordView{v})
}

// inOneLine is "name=value" of each, by name.
func inOneLine(details map[string]any) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(details)) {
		value, ok := details[name].(string)
		if !ok {
			encoded, _ := json.Marshal(details[name]) // it came from JSON
			value = string(encoded)
		}
		parts = append(parts, fmt.Sprintf("%s=%s", name, value))
	}
	return strings.Join(parts, " ")
}
