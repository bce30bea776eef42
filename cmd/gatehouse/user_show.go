package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

// userDetails adds to the row what decides over the user's requests.
type userDetails struct {
	userView
	Password         string           `json:"password"` // the scheme, never the hash
	TokensValidAfter *string          `json:"tokens_valid_after"`
	Companies        []membershipView `json:"companies"`
	// Sessions are the live ones, Invitations the open ones.
	Sessions    []sessionView    `json:"sessions"`
	Invitations []invitationView `json:"invitations"`
}

type membershipView struct {
	Company   string `json:"company_id"`
	Role      string `json:"role"`
	Current   bool   `json:"current"`
	Suspended bool   `json:"suspended"`
}

func newUserShow(in *invocation) *cobra.Command {
	var out format
	cmd := &cobra.Command{
		Use:     "show EMAIL|ID",
		Short:   "Show one user, with its companies, logins and open invitations",
		Example: "  gatehouse user show ada@example.com\n  gatehouse user show ada@example.com --output json",
		Args:    takes("EMAIL|ID"),
		RunE: in.runs(func(ctx context.Context, args []string) error {
			return in.withStore(ctx, func(ctx context.Context, store *postgres.Store) error {
				d, err := detailsOf(ctx, store, args[0])
				if err != nil {
					return err
				}
				if out == formatJSON {
					return writeJSON(in.stdout, d)
				}
				return writeDetails(in, d)
			})
		}),
	}
	outputFlag(cmd, &out)
	return cmd
}

func detailsOf(ctx context.Context, store *postgres.Store, name string) (userDetails, error) {
	u, err := findUser(ctx, store, name)
	if err != nil {
		return userDetails{}, err
	}
	// An adopted row may have no address, and so no way to log in.
	account, err := store.AccountByEmail(ctx, u.Email)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return userDetails{}, err
	}
	standing, err := store.Standing(ctx, u.ID, identity.SessionID{}, identity.CompanyID{})
	if err != nil {
		return userDetails{}, err
	}
	d := userDetails{
		userView:         viewUser(u),
		Password:         schemeOf(account.PasswordHash),
		TokensValidAfter: orNull(stamp(standing.TokensValidAfter)),
		Companies:        make([]membershipView, 0, len(standing.Memberships)),
	}
	for _, m := range standing.Memberships {
		d.Companies = append(d.Companies, membershipView{
			Company: m.Company.String(), Role: m.Role, Current: m.Company == u.Company, Suspended: m.Suspended,
		})
	}
	live, err := store.ListSessions(ctx, u.ID, false)
	if err != nil {
		return userDetails{}, err
	}
	d.Sessions = viewSessions(live)
	open, err := store.ListInvitations(ctx, identity.InvitationFilter{User: u.ID})
	if err != nil {
		return userDetails{}, err
	}
	d.Invitations = viewInvitations(open)
	return d, nil
}

func writeDetails(in *invocation, d userDetails) error {
	tab := newTable()
	tab.row("id", d.ID)
	tab.row("email", d.Email)
	tab.row("name", text(d.FullName))
	tab.row("role", d.Role)
	tab.row("company", text(d.Company))
	tab.row("active", yesNo(d.Active))
	tab.row("password", d.Password)
	tab.row("created", text(d.CreatedAt))
	tab.row("last login", text(d.LastLogin))
	tab.row("tokens valid after", text(d.TokensValidAfter))
	for _, m := range d.Companies {
		notes := m.Role
		if m.Current {
			notes += ", current"
		}
		if m.Suspended {
			notes += ", suspended"
		}
		tab.row("member of", m.Company+" ("+notes+")")
	}
	for _, l := range d.Sessions {
		tab.row("logged in", l.describe())
	}
	for _, i := range d.Invitations {
		tab.row("invited to", fmt.Sprintf("%s (%s, until %s)", i.Company, i.Role, i.ExpiresAt))
	}
	return tab.writeTo(in.stdout)
}
