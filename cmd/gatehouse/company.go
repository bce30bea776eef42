package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

func newCompany(in *invocation) *cobra.Command {
	return group(&cobra.Command{
		Use:   "company",
		Short: "Make, list, suspend and resume companies, invite and remove people",
	},
		newCompanyCreate(in),
		newCompanyList(in),
		newCompanyMembers(in),
		newCompanyInvite(in),
		newCompanyRemove(in),
		newCompanySetSuspended(in, true),
		newCompanySetSuspended(in, false),
	)
}

func newCompanyCreate(in *invocation) *cobra.Command {
	return &cobra.Command{
		Use:     "create NAME",
		Short:   "Make a company and print its id",
		Example: `  gatehouse company create "Analytical Engines"`,
		Args:    takes("NAME"),
		RunE: in.runs(func(ctx context.Context, args []string) error {
			name := args[0]
			err := checkLine(name, nameLimit)
			if err == nil && name == "" {
				err = errors.New("must not be empty")
			}
			if err != nil {
				return misuse("NAME: %w", err)
			}
			return in.withStore(ctx, func(ctx context.Context, store *postgres.Store) error {
				made, err := store.CreateCompany(ctx, name)
				if err != nil {
					return err
				}
				return write(in.stdout, fmt.Appendf(nil, "%s\n", made.ID))
			})
		}),
	}
}

type companyView struct {
	ID        string  `json:"id"`
	Name      string  `json:"name"`
	Active    bool    `json:"active"`
	Users     int     `json:"users"`
	CreatedAt *string `json:"created_at"`
}

func newCompanyList(in *invocation) *cobra.Command {
	var out format
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List companies",
		Example: "  gatehouse company list\n  gatehouse company list --output json",
		Args:    takes(),
		RunE: in.runs(func(ctx context.Context, _ []string) error {
			return in.withStore(ctx, func(ctx context.Context, store *postgres.Store) error {
				companies, err := store.ListCompanies(ctx)
				if err != nil {
					return err
				}
				views := make([]companyView, 0, len(companies))
				for _, c := range companies {
					views = append(views, companyView{
						ID: c.ID.String(), Name: c.Name, Active: c.Active, Users: c.Users, CreatedAt: orNull(stamp(c.CreatedAt)),
					})
				}
				if out == formatJSON {
					return writeJSON(in.stdout, views)
				}
				tab := newTable("ID", "NAME", "ACTIVE", "USERS", "CREATED")
				for _, v := range views {
					tab.row(v.ID, v.Name, yesNo(v.Active), strconv.Itoa(v.Users), text(v.CreatedAt))
				}
				return tab.writeTo(in.stdout)
			})
		}),
	}
	outputFlag(cmd, &out)
	return cmd
}

// namedCompany reads --company. The nil UUID would read as "none was named".
func namedCompany(text string) (identity.CompanyID, error) {
	id, err := identity.ParseCompanyID(text)
	if err == nil && id.IsZero() {
		err = errors.New("the nil UUID is nobody's")
	}
	if err != nil {
		return identity.CompanyID{}, misuse("--company %q: %w", text, err)
	}
	return id, nil
}
