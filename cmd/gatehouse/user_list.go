package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

// userPage is how many users are read at once: a table of millions is listed
// with the memory of one page.
const userPage = 500

func newUserList(in *invocation) *cobra.Command {
	var (
		out   format
		limit int
		after string
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List users, oldest first, all of them unless limited",
		Long: `List users, oldest first, all of them unless limited.

To read the list in parts, give --limit; where more users follow, the value of
--after for the next part is told on standard error.`,
		Example: "  gatehouse user list\n  gatehouse user list --output json --limit 100",
		Args:    takes(),
		RunE: in.runs(func(ctx context.Context, _ []string) error {
			if limit < 0 {
				return misuse("--limit %d: must not be negative", limit)
			}
			return in.withStore(ctx, func(ctx context.Context, store *postgres.Store) error {
				var list userWriter = &userTable{in: in}
				if out == formatJSON {
					list = &userArray{in: in}
				}
				next, err := eachUserPage(ctx, store, limit, after, list.page)
				if err != nil {
					return err
				}
				if err := list.end(); err != nil {
					return err
				}
				if next != "" {
					in.complain("more users follow: --after " + next)
				}
				return nil
			})
		}),
	}
	outputFlag(cmd, &out)
	cmd.Flags().IntVar(&limit, "limit", 0, "at most this many users; 0 means all")
	cmd.Flags().StringVar(&after, "after", "", "go on where a limited list ended")
	return cmd
}

// eachUserPage hands over at most limit users (0: all), a page at a time, and
// returns where the next ones are; empty: there are none.
func eachUserPage(ctx context.Context, store *postgres.Store, limit int, after string, page func([]identity.User) error) (string, error) {
	for rest := limit; limit == 0 || rest > 0; {
		n := userPage
		if limit > 0 {
			n = min(n, rest)
		}
		users, next, err := store.ListUsers(ctx, n, after)
		if errors.Is(err, postgres.ErrBadCursor) {
			return "", misuse("--after %q: %w", after, err)
		}
		if err != nil {
			return "", err
		}
		if err := page(users); err != nil {
			return "", err
		}
		rest -= len(users)
		after = next
		if next == "" {
			return "", nil
		}
	}
	return after, nil
}

// userWriter prints pages of users as they come.
type userWriter interface {
	page([]identity.User) error
	end() error
}

type userTable struct {
	in     *invocation
	headed bool
}

func (t *userTable) page(users []identity.User) error {
	var columns []string
	if !t.headed {
		t.headed = true
		columns = []string{"ID", "EMAIL", "NAME", "ROLE", "COMPANY", "ACTIVE", "CREATED", "LAST LOGIN"}
	}
	tab := newTable(columns...)
	for _, u := range users {
		v := viewUser(u)
		tab.row(v.ID, v.Email, text(v.FullName), v.Role, text(v.Company), yesNo(v.Active), text(v.CreatedAt), text(v.LastLogin))
	}
	return tab.writeTo(t.in.stdout)
}

func (t *userTable) end() error { return nil }

// userArray writes one JSON array. When a page fails the array stays open, so
// that half a list is never taken for a whole one.
type userArray struct {
	in    *invocation
	begun bool
}

func (a *userArray) page(users []identity.User) error {
	var b bytes.Buffer
	for _, u := range users {
		separator := "[\n  "
		if a.begun {
			separator = ",\n  "
		}
		a.begun = true
		b.WriteString(separator)
		one, err := json.Marshal(viewUser(u))
		if err != nil {
			return fmt.Errorf("encoding the output: %w", err)
		}
		b.Write(one)
	}
	return write(a.in.stdout, b.Bytes())
}

func (a *userArray) end() error {
	if !a.begun {
		return write(a.in.stdout, []byte("[]\n"))
	}
	return write(a.in.stdout, []byte("\n]\n"))
}
