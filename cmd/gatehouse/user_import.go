package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

func newUserImport(in *invocation) *cobra.Command {
	var (
		apply, skip bool
		kind        string
		ignored     []string
		out         format
	)
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Make users out of a file, with the password hashes that they have",
		Long: `Make users out of a CSV file or a file of JSON lines.

Columns are those of the users table: ` + strings.Join(importColumns(), ", ") + `.
Only email is needed, updated_at is not looked at, and an unknown column is refused.
Hashes of bcrypt and argon2id are kept, so that people go on with their passwords;
passwords themselves are not taken. Without is_active a user is active; where it is
empty, as PostgreSQL exports NULL, it is not.

Without --apply nothing is changed: the report says what would be. Who is there
already, by the address, is left as it is, so that an import that was interrupted
goes on when it is run again. A user whose id or address belongs to somebody else is
a conflict. While there are faults or conflicts nothing is applied, unless
--skip-faulty is given; they end the command with code 1.

Users are made in transactions of 500. A file is read twice and must not change in
between.`,
		Example: `  psql -c "\copy users to users.csv csv header"    # at the old system
  gatehouse user import users.csv
  gatehouse user import users.csv --apply
  gatehouse user import people.jsonl --output json`,
		Args: takes("FILE"),
		RunE: in.runs(func(ctx context.Context, args []string) error {
			file := args[0]
			jsonLines, err := isJSONLines(file, kind)
			if err != nil {
				return err
			}
			s, err := in.settings(config.NeedDatabase)
			if err != nil {
				return err
			}
			return in.withStoreOf(ctx, s, func(ctx context.Context, store *postgres.Store) error {
				read := func(each func(candidate) error) error {
					// A pipe that nobody writes to is refused below, and not waited for.
					f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
					if err != nil {
						return misuse("FILE: %w", err)
					}
					defer func() { _ = f.Close() }()
					if stat, err := f.Stat(); err != nil || !stat.Mode().IsRegular() {
						return misuse("FILE %s: not a regular file, and it is read twice", file)
					}
					if err := readCandidates(f, jsonLines, ignored, each); err != nil {
						return fmt.Errorf("%s: %w", file, err)
					}
					return nil
				}
				report := importReport{File: file}
				if err := report.plan(ctx, store, read); err != nil {
					return err
				}
				var failed error
				if apply && (skip || report.clean()) {
					report.Applied = true
					failed = report.carryOut(ctx, store, read)
				}
				if err := report.print(in.stdout, out); err != nil {
					return err
				}
				switch {
				case failed != nil:
					return fmt.Errorf("%w; %d users were made, run it again to go on", failed, report.Made)
				case !report.clean():
					return errReported
				}
				return nil
			})
		}),
	}
	cmd.Flags().BoolVar(&apply, "apply", false, "make the users; without it, say what would be made")
	cmd.Flags().BoolVar(&skip, "skip-faulty", false, "with --apply: make the others, in spite of faults and conflicts")
	cmd.Flags().StringVar(&kind, "format", "", "csv or jsonl; unset: by the end of the file's name")
	cmd.Flags().StringSliceVar(&ignored, "ignore", nil, "pass over a `COLUMN` that is not known")
	outputFlag(cmd, &out)
	return cmd
}

func isJSONLines(file, kind string) (bool, error) {
	if kind == "" {
		switch {
		case strings.HasSuffix(file, ".csv"):
			kind = "csv"
		case strings.HasSuffix(file, ".jsonl"), strings.HasSuffix(file, ".ndjson"):
			kind = "jsonl"
		}
	}
	switch kind {
	case "csv":
		return false, nil
	case "jsonl":
		return true, nil
	case "":
		return false, misuse("FILE %s: neither .csv nor .jsonl; say which with --format", file)
	}
	return false, misuse("--format %q: must be csv or jsonl", kind)
}

// importReport is what became, or would become, of the users of a file.
type importReport struct {
	File      string          `json:"file"`
	Records   int             `json:"records"`
	ToMake    int             `json:"to_make"`
	Made      int             `json:"made"`
	Existing  int             `json:"existing"`
	Conflicts []importProblem `json:"conflicts"`
	Faults    []importProblem `json:"faults"`
	Applied   bool            `json:"applied"`
}

type importProblem struct {
	Line    int     `json:"line"`
	Email   *string `json:"email"`
	Problem string  `json:"problem"`
}

func problemOf(c candidate, problem string) importProblem {
	return importProblem{Line: c.line, Email: orNull(c.account.Email), Problem: problem}
}

func (r *importReport) clean() bool { return len(r.Faults) == 0 && len(r.Conflicts) == 0 }

// plan compares the file with the database.
func (r *importReport) plan(ctx context.Context, store *postgres.Store, read func(func(candidate) error) error) error {
	return inBatches(read, func(c candidate) {
		r.Records++
		if c.fault != nil {
			r.Faults = append(r.Faults, problemOf(c, c.fault.Error()))
		}
	}, func(batch []candidate) error {
		matches, err := store.MatchUsers(ctx, accountsOf(batch))
		if err != nil {
			return err
		}
		for i, m := range matches {
			c := batch[i]
			switch {
			case !m.User.IsZero() && (c.account.ID.IsZero() || c.account.ID == m.User):
				r.Existing++
			case !m.User.IsZero():
				r.Conflicts = append(r.Conflicts, problemOf(c, "the address belongs to the user "+m.User.String()))
			case m.IDTaken:
				r.Conflicts = append(r.Conflicts, problemOf(c, "the id belongs to a user with another address"))
			case !m.CompanyKnown:
				r.Faults = append(r.Faults, problemOf(c, "company_id: no company "+c.account.Company.String()))
			default:
				r.ToMake++
			}
		}
		return nil
	})
}

// carryOut makes the users that can be made. Who came in the meantime, by whatever
// way, is left alone.
func (r *importReport) carryOut(ctx context.Context, store *postgres.Store, read func(func(candidate) error) error) error {
	return inBatches(read, func(candidate) {}, func(batch []candidate) error {
		matches, err := store.MatchUsers(ctx, accountsOf(batch))
		if err != nil {
			return err
		}
		var fresh []identity.Account
		for i, m := range matches {
			if m.User.IsZero() && !m.IDTaken && m.CompanyKnown {
				fresh = append(fresh, batch[i].account)
			}
		}
		if len(fresh) == 0 {
			return nil
		}
		made, err := store.ImportUsers(ctx, fresh)
		r.Made += made
		return err
	})
}

// inBatches shows every candidate to one, and those without a fault to all, in
// heaps that the database takes at once.
func inBatches(read func(func(candidate) error) error, one func(candidate), all func([]candidate) error) error {
	var batch []candidate
	err := read(func(c candidate) error {
		one(c)
		if c.fault != nil {
			return nil //nolint:nilerr // the fault is the candidate's, and told already
		}
		if batch = append(batch, c); len(batch) < postgres.MostImported {
			return nil
		}
		full := batch
		batch = nil
		return all(full)
	})
	if err == nil && len(batch) > 0 {
		err = all(batch)
	}
	return err
}

func accountsOf(batch []candidate) []identity.Account {
	accounts := make([]identity.Account, len(batch))
	for i, c := range batch {
		accounts[i] = c.account
	}
	return accounts
}

// mostShown bounds the problems that are printed as text; JSON has all of them.
const mostShown = 50

func (r *importReport) print(w io.Writer, as format) error {
	if as == formatJSON {
		shown := *r
		shown.Conflicts = append([]importProblem{}, r.Conflicts...) // [] and not null
		shown.Faults = append([]importProblem{}, r.Faults...)
		return writeJSON(w, shown)
	}
	var b strings.Builder
	for _, group := range []struct {
		name     string
		problems []importProblem
	}{{"fault", r.Faults}, {"conflict", r.Conflicts}} {
		for i, p := range group.problems {
			if i == mostShown {
				fmt.Fprintf(&b, "%d more; --output json has all\n", len(group.problems)-mostShown)
				break
			}
			email := ""
			if p.Email != nil {
				email = printable(*p.Email) + ": "
			}
			fmt.Fprintf(&b, "line %d: %s: %s%s\n", p.Line, group.name, email, printable(p.Problem))
		}
	}
	fmt.Fprintf(&b, "%d users in the file: %d exist already, %d faulty, %d in conflict, ", r.Records, r.Existing, len(r.Faults), len(r.Conflicts))
	switch {
	case r.Applied:
		fmt.Fprintf(&b, "%d made\n", r.Made)
	case !r.clean():
		fmt.Fprintf(&b, "%d could be made; nothing was changed\n", r.ToMake)
	default:
		fmt.Fprintf(&b, "%d to make; nothing was changed, --apply makes them\n", r.ToMake)
	}
	return write(w, []byte(b.String()))
}
