package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/token"
)

// defaultRole is the least that a user can be; login says it in tokens too.
const defaultRole = "user"

// longestTTL is the bound of GATEWAY_ACCESS_TOKEN_TTL: a token that never ends
// is a password that cannot be changed.
const longestTTL = 8760 * time.Hour

func newToken(in *invocation) *cobra.Command {
	return group(&cobra.Command{
		Use:   "token",
		Short: "Make tokens and look into them",
	},
		newTokenMint(in),
		newTokenInspect(in),
		newTokenRevoke(in),
	)
}

func newTokenMint(in *invocation) *cobra.Command {
	var (
		user, company string
		ttl           time.Duration
	)
	cmd := &cobra.Command{
		Use:   "mint --user EMAIL|ID",
		Short: "Sign a token for a user and print it",
		Long: `Sign a token for a user and print it, and nothing else, on standard output.

The token belongs to no session: it ends by its own time, when the user is
disabled or deleted, or when all of the user's tokens are revoked.`,
		Example: `  gatehouse token mint --user ada@example.com --ttl 15m
  curl -H "Authorization: Bearer $(gatehouse token mint --user ada@example.com)" http://localhost:8080/api/v1/query/chats`,
		Args: takes(),
		RunE: in.runs(func(ctx context.Context, _ []string) error {
			if user == "" {
				return misuse("missing --user EMAIL|ID; see 'gatehouse token mint --help'")
			}
			var want identity.CompanyID
			if company != "" {
				var err error
				if want, err = namedCompany(company); err != nil {
					return err
				}
			}
			s, err := in.settings(config.NeedSign | config.NeedDatabase)
			if err != nil {
				return err
			}
			if ttl == 0 {
				ttl = s.Tokens.TTL
			}
			if ttl < time.Second || ttl > longestTTL {
				return misuse("--ttl %s: must be at least 1s and at most %s", ttl, longestTTL)
			}
			issuer, err := newIssuer(s, ttl)
			if err != nil {
				return err
			}
			return in.withStoreOf(ctx, s, func(ctx context.Context, store *postgres.Store) error {
				grant, err := in.grant(ctx, store, user, want)
				if err != nil {
					return err
				}
				minted, err := issuer.Issue(grant, time.Now())
				if err != nil {
					return err
				}
				in.complain(fmt.Sprintf("the token lets whoever holds it act as %s until %s; treat it like a password",
					printable(grant.Email), stamp(minted.ExpiresAt)))
				return write(in.stdout, []byte(minted.Token+"\n"))
			})
		}),
	}
	cmd.Flags().StringVar(&user, "user", "", "`EMAIL|ID` of the user that the token is for")
	cmd.Flags().StringVar(&company, "company", "", "company of the token, instead of the user's current one")
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "life of the token, such as 15m (default GATEWAY_ACCESS_TOKEN_TTL)")
	return cmd
}

// grant is what the database has to say for a token of the user named.
func (in *invocation) grant(ctx context.Context, store *postgres.Store, name string, company identity.CompanyID) (token.Grant, error) {
	u, err := findUser(ctx, store, name)
	if err != nil {
		return token.Grant{}, err
	}
	if !u.Active {
		return token.Grant{}, fmt.Errorf("user %q is disabled; its tokens would be refused", name)
	}
	standing, err := store.Standing(ctx, u.ID, identity.SessionID{}, identity.CompanyID{})
	if err != nil {
		return token.Grant{}, err
	}
	if company.IsZero() {
		company = u.Company
	}
	g := token.Grant{User: u.ID, Email: u.Email, Company: company, Roles: []string{cmp.Or(u.Role, defaultRole)}}
	m, member := standing.In(company)
	switch {
	case member:
		g.Roles = []string{cmp.Or(m.Role, defaultRole)}
		if m.Suspended {
			in.complain(fmt.Sprintf("company %s is suspended; strict routes will refuse the token", company))
		}
	case company.IsZero():
		in.complain("the user has no company; strict routes will refuse the token")
	default:
		in.complain(fmt.Sprintf("the user does not belong to company %s; strict routes will refuse the token", company))
	}
	return g, nil
}
