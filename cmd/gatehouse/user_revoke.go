package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/postgres"
)

func newUserRevoke(in *invocation) *cobra.Command {
	var confirm confirmation
	cmd := &cobra.Command{
		Use:   "revoke EMAIL|ID",
		Short: "End every login of a user, at once",
		Long: `End every login of a user, at once.

No token that was issued before is accepted any more, with a session or without
one. The user may log in again; to keep it out, disable it.`,
		Example: "  gatehouse user revoke ada@example.com",
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
				ended, err := store.RevokeUser(ctx, u.ID)
				if err != nil {
					return err
				}
				return confirm.done(ctx, in, store, fmt.Sprintf("%s %s: tokens issued before are revoked, %s ended",
					u.ID, printable(u.Email), sessions(ended)))
			})
		}),
	}
	confirm.flag(cmd)
	return cmd
}

// sessions counts them in words.
func sessions(n int) string {
	if n == 1 {
		return "1 session"
	}
	return fmt.Sprintf("%d sessions", n)
}
