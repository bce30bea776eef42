package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

func newCompanySetSuspended(in *invocation, suspend bool) *cobra.Command {
	name, done, already := "resume", "resumed", "was not suspended"
	short := "Let the people of a suspended company act for it again"
	if suspend {
		name, done, already = "suspend", "suspended", "was suspended already"
		short = "Refuse everybody who acts for a company, at once"
	}
	var confirm confirmation
	cmd := &cobra.Command{
		Use:     name + " ID",
		Short:   short,
		Example: fmt.Sprintf("  gatehouse company %s 7d1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11", name),
		Args:    takes("ID"),
		RunE: in.runs(func(ctx context.Context, args []string) error {
			id, err := companyArgument(args[0])
			if err != nil {
				return err
			}
			if err := confirm.check(); err != nil {
				return err
			}
			return in.withStore(ctx, func(ctx context.Context, store *postgres.Store) error {
				changed, err := store.SetSuspended(ctx, id, suspend)
				if err != nil {
					return unknownCompany(id, err)
				}
				what := already
				if changed {
					what = done
				}
				return confirm.done(ctx, in, store, fmt.Sprintf("%s %s", id, what))
			})
		}),
	}
	confirm.flag(cmd)
	return cmd
}

// companyArgument is the company that a command names. Its name would not do: it
// need not be unique.
func companyArgument(text string) (identity.CompanyID, error) {
	id, err := identity.ParseCompanyID(text)
	if err == nil && id.IsZero() {
		err = identity.ErrNotUUID
	}
	if err != nil {
		return id, misuse("ID %q: %w", text, err)
	}
	return id, nil
}

func unknownCompany(id identity.CompanyID, err error) error {
	if errors.Is(err, identity.ErrNotFound) {
		return fmt.Errorf("no company %s", id)
	}
	return err
}
