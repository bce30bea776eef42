package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

func newInvite(in *invocation) *cobra.Command {
	return group(&cobra.Command{
		Use:   "invite",
		Short: "List and revoke invitations to companies",
		Long: `List and revoke invitations to companies.

They are made by 'gatehouse company invite', and by the admins of a company
through POST /api/v1/companies/{id}/invitations.`,
	},
		newInviteList(in),
		newInviteRevoke(in),
	)
}

// invitationView is an invitation without its secret, which nobody has kept.
type invitationView struct {
	ID        string  `json:"id"`
	Company   string  `json:"company_id"`
	Email     *string `json:"email"`
	User      *string `json:"user_id"` // of one that is bound to an account
	Role      string  `json:"role"`
	State     string  `json:"state"`
	InvitedBy *string `json:"invited_by"` // null: an operator
	CreatedAt string  `json:"created_at"`
	ExpiresAt string  `json:"expires_at"`
}

func viewInvitation(i identity.Invitation) invitationView {
	v := invitationView{
		ID: i.ID.String(), Company: i.Company.String(), Email: orNull(i.Email), Role: i.Role, State: string(i.State),
		CreatedAt: stamp(i.CreatedAt), ExpiresAt: stamp(i.ExpiresAt),
	}
	if !i.User.IsZero() {
		v.User = orNull(i.User.String())
	}
	if !i.InvitedBy.IsZero() {
		v.InvitedBy = orNull(i.InvitedBy.String())
	}
	return v
}

func viewInvitations(all []identity.Invitation) []invitationView {
	views := make([]invitationView, 0, len(all))
	for _, i := range all {
		views = append(views, viewInvitation(i))
	}
	return views
}

func newInviteList(in *invocation) *cobra.Command {
	var (
		out          format
		company, who string
		all          bool
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List open invitations, the newest first",
		Long: fmt.Sprintf(`List open invitations, the newest first; at most %d.

With --user, those of the account and those of its address.`, postgres.MostInvitations),
		Example: `  gatehouse invite list --company 7d1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11
  gatehouse invite list --user ada@example.com --all --output json`,
		Args: takes(),
		RunE: in.runs(func(ctx context.Context, _ []string) error {
			filter := identity.InvitationFilter{All: all}
			if company != "" {
				var err error
				if filter.Company, err = namedCompany(company); err != nil {
					return err
				}
			}
			return in.withStore(ctx, func(ctx context.Context, store *postgres.Store) error {
				if who != "" {
					u, err := findUser(ctx, store, who)
					if err != nil {
						return err
					}
					filter.User = u.ID
				}
				found, err := store.ListInvitations(ctx, filter)
				if err != nil {
					return err
				}
				views := viewInvitations(found)
				if out == formatJSON {
					return writeJSON(in.stdout, views)
				}
				tab := newTable("ID", "COMPANY", "FOR", "ROLE", "STATE", "UNTIL")
				for _, v := range views {
					tab.row(v.ID, v.Company, cmp.Or(text(v.Email), text(v.User)), v.Role, v.State, v.ExpiresAt)
				}
				return tab.writeTo(in.stdout)
			})
		}),
	}
	outputFlag(cmd, &out)
	cmd.Flags().StringVar(&company, "company", "", "`ID` of the company that they are to")
	cmd.Flags().StringVar(&who, "user", "", "`EMAIL|ID` of the user whom they are for")
	cmd.Flags().BoolVar(&all, "all", false, "those too that were accepted or revoked or have expired")
	return cmd
}

func newInviteRevoke(in *invocation) *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID",
		Short:   "Take back an open invitation",
		Example: "  gatehouse invite revoke 2f1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11",
		Args:    takes("ID"),
		RunE: in.runs(func(ctx context.Context, args []string) error {
			id, err := identity.ParseInvitationID(args[0])
			if err != nil {
				return misuse("ID %q: %w", args[0], err)
			}
			return in.withStore(ctx, func(ctx context.Context, store *postgres.Store) error {
				revoked, err := store.RevokeInvitation(ctx, identity.CompanyID{}, id, identity.Inviter{})
				if errors.Is(err, identity.ErrNotFound) {
					return fmt.Errorf("no open invitation %s", id)
				}
				if err != nil {
					return err
				}
				v := viewInvitation(revoked)
				return write(in.stdout, fmt.Appendf(nil, "%s to %s for %s revoked\n",
					v.ID, v.Company, printable(cmp.Or(text(v.Email), text(v.User)))))
			})
		}),
	}
}
