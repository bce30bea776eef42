package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/token"
)

func newTokenRevoke(in *invocation) *cobra.Command {
	var (
		file string
		wide bool
	)
	cmd := &cobra.Command{
		Use:   "revoke",
		Short: "Take back a token, together with the login that it belongs to",
		Long: `Take back a token, together with the login that it belongs to: every token of
that session is refused from now on, the user's other logins go on.

The token is read from standard input or from a file, never from the arguments,
which every process of the machine can read. It must be one that would be
accepted: whoever can forge a token cannot end a stranger's login with it.

A token without a session ('gatehouse token mint', the replaced gateways) cannot be
told from its siblings. With --user-wide all such tokens of its user are taken
back; logins go on.`,
		Example: `  gatehouse token revoke < token.txt
  gatehouse token revoke --file token.txt --user-wide`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errors.New("a token is not taken from the arguments, which every process of the machine can read; use standard input or --file FILE")
			}
			return nil
		},
		RunE: in.runs(func(ctx context.Context, _ []string) error {
			s, err := in.settings(config.NeedVerify | config.NeedDatabase)
			if err != nil {
				return err
			}
			raw, err := in.readToken(ctx, file)
			if err != nil {
				return err
			}
			credential, err := judged(raw, s, time.Now())
			if err != nil {
				return err
			}
			if !credential.HasSession && !wide {
				return errors.New("the token has no session, so that it cannot be told from other such tokens of its user; " +
					"say --user-wide to take all of them back")
			}
			return in.withStoreOf(ctx, s, func(ctx context.Context, store *postgres.Store) error {
				return in.revokeToken(ctx, store, credential)
			})
		}),
	}
	cmd.Flags().StringVar(&file, "file", "", "read the token from a `FILE`")
	cmd.Flags().BoolVar(&wide, "user-wide", false, "take back all tokens of the user that have no session")
	return cmd
}

// judged is what a token says that would be accepted under the settings.
func judged(raw string, s *config.Settings, now time.Time) (identity.Credential, error) {
	verifier, why := newVerifier(s)
	got, err := token.Inspect(raw, verifier, now)
	switch {
	case err != nil:
		return identity.Credential{}, err
	case !got.Judged:
		return identity.Credential{}, fmt.Errorf("the token cannot be judged: %w", why)
	case got.Refusal != nil:
		return identity.Credential{}, fmt.Errorf("the token is not accepted as it is: %w", got.Refusal)
	}
	return got.Credential, nil
}

func (in *invocation) revokeToken(ctx context.Context, store *postgres.Store, c identity.Credential) error {
	if c.HasSession {
		return in.endSession(ctx, store, c.User, c.Session)
	}
	err := store.RevokeSessionless(ctx, c.User)
	if errors.Is(err, identity.ErrNotFound) {
		return fmt.Errorf("no user %s", c.User)
	}
	if err != nil {
		return err
	}
	return write(in.stdout, fmt.Appendf(nil, "tokens of %s without a session, issued before, are revoked\n", c.User))
}
