package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

const (
	invitationLifetime = 7 * 24 * time.Hour
	longestInvitation  = 365 * 24 * time.Hour
)

// madeInvitation shows the secret, once.
type madeInvitation struct {
	invitationView
	Token *string `json:"token"` // null where the invitation is bound to an account
}

func newCompanyInvite(in *invocation) *cobra.Command {
	var (
		out       format
		role, who string
		lifetime  time.Duration
	)
	cmd := &cobra.Command{
		Use:   "invite ID EMAIL",
		Short: "Invite somebody to a company and print the token of the invitation",
		Long: `Invite somebody to a company and print the token of the invitation, and nothing
else, on standard output. It is shown this once.

Whoever has both the token and a login with that address may join, once:
POST /api/v1/users/me/ensure-company {"invitation_token": "..."}. Where registration
is on, whoever has no login registers with it: POST /api/v1/auth/register with
"email", "password" and "invitation_token". With --user the invitation is bound to an
account instead; it needs no token and is accepted by naming the company. Nobody
becomes a member before they act.`,
		Example: `  gatehouse company invite 7d1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11 ada@example.com --role admin
  gatehouse company invite 7d1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11 --user ada@example.com --expires 24h`,
		Args: func(cmd *cobra.Command, args []string) error {
			if who != "" {
				return takes("ID")(cmd, args)
			}
			return takes("ID", "EMAIL")(cmd, args)
		},
		RunE: in.runs(func(ctx context.Context, args []string) error {
			r := identity.InviteRequest{Role: role, Lifetime: lifetime}
			var err error
			if r.Company, err = companyArgument(args[0]); err != nil {
				return err
			}
			if who == "" {
				if r.Email = args[1]; identity.CheckEmail(r.Email) != nil {
					return misuse("%q is %w", r.Email, identity.ErrNotEmail)
				}
			}
			if err := checkRole(role); err != nil {
				return err
			}
			if lifetime < time.Minute || lifetime > longestInvitation {
				return misuse("--expires %s: must be at least 1m and at most %dh", lifetime, int(longestInvitation.Hours()))
			}
			return in.withStore(ctx, func(ctx context.Context, store *postgres.Store) error {
				if who != "" {
					u, err := findUser(ctx, store, who)
					if err != nil {
						return err
					}
					r.User = u.ID
				}
				made, secret, err := store.Invite(ctx, r)
				if err != nil {
					return uninvited(r, err)
				}
				return in.tellInvitation(made, secret, out)
			})
		}),
	}
	outputFlag(cmd, &out)
	cmd.Flags().StringVar(&role, "role", defaultRole, "role in that company")
	cmd.Flags().DurationVar(&lifetime, "expires", invitationLifetime, "how long the invitation waits, such as 24h")
	cmd.Flags().StringVar(&who, "user", "", "`EMAIL|ID` of an account to invite, instead of an address with a token")
	return cmd
}

func (in *invocation) tellInvitation(made identity.Invitation, secret string, out format) error {
	if out == formatJSON {
		return writeJSON(in.stdout, madeInvitation{viewInvitation(made), orNull(secret)})
	}
	if secret == "" {
		return write(in.stdout, fmt.Appendf(nil, "%s: user %s may join %s as %s until %s\n",
			made.ID, made.User, made.Company, printable(made.Role), stamp(made.ExpiresAt)))
	}
	in.complain(fmt.Sprintf("the token lets whoever logs in or registers as %s join %s as %s until %s; it is not shown again",
		printable(made.Email), made.Company, printable(made.Role), stamp(made.ExpiresAt)))
	return write(in.stdout, []byte(secret+"\n"))
}

// checkRole reads --role. Routes name the roles that they ask for in a list with
// commas.
func checkRole(role string) error {
	if err := checkLine(role, roleLimit); err != nil {
		return misuse("--role: %w", err)
	}
	if role == "" || strings.ContainsAny(role, ", ") {
		return misuse("--role %q: must be one word without a comma", role)
	}
	return nil
}

// uninvited says why nobody was invited.
func uninvited(r identity.InviteRequest, err error) error {
	switch {
	case errors.Is(err, identity.ErrInvited):
		return fmt.Errorf("%w; see 'gatehouse invite list --company %s', and 'gatehouse invite revoke'", err, r.Company)
	default:
		return unknownCompany(r.Company, err)
	}
}

func newCompanyRemove(in *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "remove ID EMAIL|ID",
		Short: "Take a user out of a company, at once",
		Long: `Take a user out of a company, at once.

Where it was the user's current company, the user has none any more. Open
invitations that would bring the user back, and those that the user made for
others there, are revoked. The user's logins go on: what it may do elsewhere
stays; see 'gatehouse user revoke'.`,
		Example: "  gatehouse company remove 7d1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11 ada@example.com",
		Args:    takes("ID", "EMAIL|ID"),
		RunE: in.runs(func(ctx context.Context, args []string) error {
			company, err := companyArgument(args[0])
			if err != nil {
				return err
			}
			return in.withStore(ctx, func(ctx context.Context, store *postgres.Store) error {
				u, err := findUser(ctx, store, args[1])
				if err != nil {
					return err
				}
				did, err := store.RemoveMember(ctx, identity.RemoveRequest{Company: company, User: u.ID})
				if errors.Is(err, identity.ErrNotFound) {
					return fmt.Errorf("user %q neither belongs to company %s nor is invited to it", args[1], company)
				}
				if err != nil {
					return err
				}
				what := "was no member of " + company.String()
				if did.Member {
					what = "removed from " + company.String()
				}
				if did.Current {
					what += ", which was its current company"
				}
				if did.Invitations > 0 {
					what += "; open invitations revoked: " + fmt.Sprint(did.Invitations)
				}
				return write(in.stdout, fmt.Appendf(nil, "%s %s %s\n", u.ID, printable(u.Email), what))
			})
		}),
	}
}
