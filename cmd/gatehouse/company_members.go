package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/postgres"
)

type memberView struct {
	ID      string `json:"user_id"`
	Email   string `json:"email"`
	Role    string `json:"role"`    // in this company
	Current bool   `json:"current"` // it is the one that the user acts for
	Active  bool   `json:"active"`
}

func newCompanyMembers(in *invocation) *cobra.Command {
	var out format
	cmd := &cobra.Command{
		Use:     "members ID",
		Short:   "List the people of a company",
		Example: "  gatehouse company members 7d1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11 --output json",
		Args:    takes("ID"),
		RunE: in.runs(func(ctx context.Context, args []string) error {
			id, err := companyArgument(args[0])
			if err != nil {
				return err
			}
			return in.withStore(ctx, func(ctx context.Context, store *postgres.Store) error {
				members, err := store.ListMembers(ctx, id)
				if err != nil {
					return unknownCompany(id, err)
				}
				views := make([]memberView, 0, len(members))
				for _, m := range members {
					views = append(views, memberView{
						ID: m.ID.String(), Email: m.Email, Role: m.RoleThere, Current: m.Current, Active: m.Active,
					})
				}
				if out == formatJSON {
					return writeJSON(in.stdout, views)
				}
				tab := newTable("USER", "EMAIL", "ROLE", "CURRENT", "ACTIVE")
				for _, v := range views {
					tab.row(v.ID, v.Email, v.Role, yesNo(v.Current), yesNo(v.Active))
				}
				return tab.writeTo(in.stdout)
			})
		}),
	}
	outputFlag(cmd, &out)
	return cmd
}
