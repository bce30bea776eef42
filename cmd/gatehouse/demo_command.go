package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/atomicfile"
	"github.com/atenex/gatehouse/internal/config"
)

// The commands of this file are for the compose file, whose containers have no
// shell to do what they do; `up` does the same by itself.

// Where the compose file's containers look for what newInitSecrets makes.
const (
	tokenSecretFile      = "jwt_secret"
	databasePasswordFile = "postgres_password"
)

// newInitSecrets makes the secrets that nobody has set, so that a stack can
// start by one command and none has a secret that others know.
func newInitSecrets(in *invocation) *cobra.Command {
	var tokens, database string
	cmd := &cobra.Command{
		Use:   "init-secrets --tokens DIR --database DIR",
		Short: "Keep the token secret and the database's password in files, made where they are not set",
		Long: `Write the token secret to jwt_secret in one directory and the database's
password to postgres_password in another. GATEWAY_JWT_SECRET and
GATEWAY_POSTGRES_PASSWORD give them; what is not set stays as an earlier run
wrote it, and is made at the first.`,
		Hidden: true,
		Args:   takes(),
		RunE: in.runs(func(context.Context, []string) error {
			if tokens == "" || database == "" {
				return misuse("--tokens and --database name directories")
			}
			return in.initSecrets(tokens, database)
		}),
	}
	cmd.Flags().StringVar(&tokens, "tokens", "", "`DIR` of the services that read tokens")
	cmd.Flags().StringVar(&database, "database", "", "`DIR` of the database and of all that use it")
	return cmd
}

func (in *invocation) initSecrets(tokens, database string) error {
	s, err := in.settings(config.NeedUp)
	if err != nil {
		return err
	}
	secret := s.Tokens.Secret.Reveal()
	if err := in.keepSecret("the token secret", filepath.Join(tokens, tokenSecretFile), secret, 0o400); err != nil {
		return err
	}
	password := ""
	if s.IsSet("POSTGRES_PASSWORD") {
		at, err := url.Parse(s.Database.URL.Reveal())
		if err != nil {
			return errors.New("reading the database's address") // the cause quotes it
		}
		password, _ = at.User.Password()
	}
	// The database runs as a user of its own, with a number that its image
	// chooses. What keeps others out is that the directory is mounted nowhere else.
	return in.keepSecret("the database's password", filepath.Join(database, databasePasswordFile), password, 0o444)
}

// keepSecret has file hold the given secret, or, where none is given, the one
// that it holds already, or else a new one.
func (in *invocation) keepSecret(what, file, given string, mode fs.FileMode) error {
	held, err := os.ReadFile(file)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("reading %s: %w", what, err)
	case err == nil && len(held) > 0 && (given == "" || given == string(held)):
		in.complain(what + ": as before")
		return nil
	case given != "" && len(held) > 0:
		in.complain(what + ": changed to the one that is set")
	case given != "":
		in.complain(what + ": the one that is set")
	default:
		given = rand.Text() + rand.Text() // 260 bits
		in.complain(what + ": made")
	}
	return atomicfile.Write(file, []byte(given), mode)
}

// newDemoUser makes what `up` makes in demo mode.
func newDemoUser(in *invocation) *cobra.Command {
	var stateDir, gateway string
	cmd := &cobra.Command{
		Use:   "demo-user --state-dir DIR --gateway URL",
		Short: "Make a demo user in a demo company, and print a login that works",
		Long: `Make a demo user in a demo company, with a password of its own that is kept
in the state directory, and print a login and a call that work. With an upstream
configured this is no demo, and none is made.`,
		Hidden: true,
		Args:   takes(),
		RunE: in.runs(func(ctx context.Context, _ []string) error {
			if stateDir == "" || gateway == "" {
				return misuse("--state-dir and --gateway are needed")
			}
			s, err := in.settings(config.NeedDatabase)
			if err != nil {
				return err
			}
			if s.IsSet("INGEST_SERVICE_URL") || s.IsSet("QUERY_SERVICE_URL") {
				in.complain("upstreams are configured: no demo user is made")
				return nil
			}
			d, err := openDemo(stateDir)
			if err != nil {
				return err
			}
			if err := d.seed(ctx, s.Database.URL.Reveal()); err != nil {
				return unmigrated(ctx, s, err)
			}
			return write(in.stdout, []byte(d.firstSteps(gateway)))
		}),
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", "", "keep the password in `DIR`")
	cmd.Flags().StringVar(&gateway, "gateway", "", "the `URL` that the printed commands call")
	return cmd
}
