package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

func newUser(in *invocation) *cobra.Command {
	return group(&cobra.Command{
		Use:   "user",
		Short: "Make, list and change users",
		Long: `Make, list and change users.

A user is named by its email address, in any letter case, or by its id.
Passwords are read from a prompt, from standard input or from a file, never from
the arguments, which every process of the machine can read.`,
	},
		newUserCreate(in),
		newUserImport(in),
		newUserList(in),
		newUserShow(in),
		newUserSetActive(in, false),
		newUserSetActive(in, true),
		newUserSetPassword(in),
		newUserRevoke(in),
		newUserUnlock(in),
	)
}

// userView is a user as the operator sees it. The password's hash is no part of
// it, on purpose: what cannot be printed cannot be leaked into a ticket.
type userView struct {
	ID        string  `json:"id"`
	Email     string  `json:"email"`
	FullName  *string `json:"full_name"`
	Role      string  `json:"role"`
	Company   *string `json:"company_id"`
	Active    bool    `json:"active"`
	CreatedAt *string `json:"created_at"`
	LastLogin *string `json:"last_login"`
}

func viewUser(u identity.User) userView {
	v := userView{
		ID:        u.ID.String(),
		Email:     u.Email,
		FullName:  orNull(u.FullName),
		Role:      u.Role,
		Active:    u.Active,
		CreatedAt: orNull(stamp(u.CreatedAt)),
		LastLogin: orNull(stamp(u.LastLogin)),
	}
	if !u.Company.IsZero() {
		v.Company = orNull(u.Company.String())
	}
	return v
}

// text is the value or, for none, the empty cell.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// findUser is the user that a command names.
func findUser(ctx context.Context, store *postgres.Store, name string) (identity.User, error) {
	u, err := store.FindUser(ctx, name)
	if errors.Is(err, identity.ErrNotFound) {
		return identity.User{}, fmt.Errorf("no user %q", name)
	}
	if err != nil {
		return identity.User{}, err
	}
	return u, nil
}

func newUserSetActive(in *invocation, active bool) *cobra.Command {
	name, done, already := "disable", "disabled", "was disabled already"
	short := "Refuse a user at every door, at once"
	if active {
		name, done, already = "enable", "enabled", "was enabled already"
		short = "Let a disabled user in again"
	}
	var confirm confirmation
	cmd := &cobra.Command{
		Use:     name + " EMAIL|ID",
		Short:   short,
		Example: fmt.Sprintf("  gatehouse user %s ada@example.com", name),
		Args:    takes("EMAIL|ID"),
		RunE: in.runs(func(ctx context.Context, args []string) error {
			if err := confirm.check(); err != nil {
				return err
			}
			return in.withStore(ctx, func(ctx context.Context, store *postgres.Store) error {
				u, err := findUser(ctx, store, args[0])
				if err != nil {
					return err
				}
				changed, err := store.SetActive(ctx, u.ID, active)
				if err != nil {
					return err
				}
				what := already
				if changed {
					what = done
				}
				return confirm.done(ctx, in, store, fmt.Sprintf("%s %s %s", u.ID, printable(u.Email), what))
			})
		}),
	}
	confirm.flag(cmd)
	return cmd
}
