package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

const (
	nameLimit = 200 // characters, as at registration
	roleLimit = 64  // characters
)

func newUserCreate(in *invocation) *cobra.Command {
	var (
		name, role, company string
		source              passwordSource
	)
	cmd := &cobra.Command{
		Use:   "create EMAIL",
		Short: "Make a user and print its id",
		Long: `Make a user and print its id.

The password is asked for twice on a terminal; elsewhere it comes from standard
input or a file, without the newline at its end. A user made with --no-password
cannot log in until it has one.`,
		Example: `  gatehouse user create ada@example.com --name "Ada Lovelace"
  gatehouse user create ada@example.com --company 7d1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11 --role admin
  gatehouse user create ada@example.com --password-file ./password.txt
  pass show ada | gatehouse user create ada@example.com --password-stdin`,
		Args: takes("EMAIL"),
		RunE: in.runs(func(ctx context.Context, args []string) error {
			u, err := newUserFrom(args[0], name, role, company)
			if err != nil {
				return err
			}
			if err := source.check(in.stdin); err != nil {
				return err
			}
			s, err := in.settings(config.NeedDatabase)
			if err != nil {
				return err
			}
			return in.withStoreOf(ctx, s, func(ctx context.Context, store *postgres.Store) error {
				account := identity.Account{User: u}
				if !source.none {
					account.PasswordHash, err = in.newHash(ctx, s, source, u.Email, u.FullName)
					if err != nil {
						return err
					}
				}
				made, err := store.CreateUser(ctx, account)
				switch {
				case errors.Is(err, identity.ErrEmailTaken):
					return fmt.Errorf("a user with the email %q exists already", u.Email)
				case errors.Is(err, identity.ErrUnknownCompany):
					return fmt.Errorf("no company %s", u.Company)
				case err != nil:
					return err
				}
				return write(in.stdout, fmt.Appendf(nil, "%s\n", made.ID))
			})
		}),
	}
	cmd.Flags().StringVar(&name, "name", "", "full name")
	cmd.Flags().StringVar(&company, "company", "", "id of the company that the user acts for")
	cmd.Flags().StringVar(&role, "role", defaultRole, "role in that company")
	source.flags(cmd)
	cmd.Flags().BoolVar(&source.none, "no-password", false, "make a user who cannot log in yet")
	return cmd
}

func newUserSetPassword(in *invocation) *cobra.Command {
	var source passwordSource
	var confirm confirmation
	cmd := &cobra.Command{
		Use:   "set-password EMAIL|ID",
		Short: "Give a user a new password",
		Long: `Give a user a new password.

It is asked for twice on a terminal; elsewhere it comes from standard input or a
file, without the newline at its end.

Every login of the user ends at once, and no token that was issued before is
accepted any more.`,
		Example: `  gatehouse user set-password ada@example.com
  pass show ada | gatehouse user set-password ada@example.com --password-stdin`,
		Args: takes("EMAIL|ID"),
		RunE: in.runs(func(ctx context.Context, args []string) error {
			if err := source.check(in.stdin); err != nil {
				return err
			}
			if err := confirm.check(); err != nil {
				return err
			}
			s, err := in.settings(config.NeedDatabase)
			if err != nil {
				return err
			}
			return in.withStoreOf(ctx, s, func(ctx context.Context, store *postgres.Store) error {
				u, err := findUser(ctx, store, args[0])
				if err != nil {
					return err
				}
				hash, err := in.newHash(ctx, s, source, u.Email, u.FullName)
				if err != nil {
					return err
				}
				ended, err := store.SetPassword(ctx, u.ID, hash)
				if err != nil {
					return err
				}
				return confirm.done(ctx, in, store, fmt.Sprintf("%s %s has a new password; tokens issued before are revoked, %s ended",
					u.ID, printable(u.Email), sessions(ended)))
			})
		}),
	}
	source.flags(cmd)
	confirm.flag(cmd)
	return cmd
}

// newUserFrom reads what the command line says of a new user.
func newUserFrom(email, name, role, company string) (identity.User, error) {
	// As at login: a user with another address could never log in.
	if err := identity.CheckEmail(email); err != nil {
		return identity.User{}, misuse("%q is %w", email, err)
	}
	if err := checkLine(name, nameLimit); err != nil {
		return identity.User{}, misuse("--name: %w", err)
	}
	if err := checkRole(role); err != nil {
		return identity.User{}, err
	}
	u := identity.User{Email: email, FullName: name, Role: role, Active: true}
	if company != "" {
		var err error
		if u.Company, err = namedCompany(company); err != nil {
			return identity.User{}, err
		}
	}
	return u, nil
}

// checkLine accepts text that can stand in one line of a table.
func checkLine(text string, limit int) error {
	switch {
	case !utf8.ValidString(text):
		return errors.New("must be valid UTF-8")
	case utf8.RuneCountInString(text) > limit:
		return fmt.Errorf("must not be longer than %d characters", limit)
	case strings.ContainsFunc(text, unicode.IsControl):
		return errors.New("must not hold control characters")
	}
	return nil
}
