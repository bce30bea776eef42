package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/postgres"
)

func newUserUnlock(in *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "unlock EMAIL|ID",
		Short: "Forget the failed logins of a user, at once",
		Long: `Forget the failed logins of a user, at once.

Sources that guessed at its password no longer wait, and those that it never
logged in from are no longer refused. A new password (set-password) does the same.
What a source did to other users still counts for it.`,
		Example: "  gatehouse user unlock ada@example.com",
		Args:    takes("EMAIL|ID"),
		RunE: in.runs(func(ctx context.Context, args []string) error {
			return in.withStore(ctx, func(ctx context.Context, store *postgres.Store) error {
				u, err := findUser(ctx, store, args[0])
				if err != nil {
					return err
				}
				unlocked, err := store.UnlockUser(ctx, u.ID)
				if err != nil {
					return err
				}
				what := "was not locked"
				if unlocked {
					what = "unlocked"
				}
				return write(in.stdout, fmt.Appendf(nil, "%s %s %s\n", u.ID, printable(u.Email), what))
			})
		}),
	}
}
