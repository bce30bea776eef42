package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/password"
)

// passwordSource is where a new password comes from; a prompt if nothing is
// set. There is no flag that takes the password itself.
type passwordSource struct {
	stdin bool
	file  string
	none  bool
}

func (p *passwordSource) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.stdin, "password-stdin", false, "read the password from standard input")
	cmd.Flags().StringVar(&p.file, "password-file", "", "read the password from a `FILE`")
}

// check finds before anything is done whether there is one source, and one that
// can answer.
func (p *passwordSource) check(stdin io.Reader) error {
	ways := 0
	for _, way := range []bool{p.stdin, p.file != "", p.none} {
		if way {
			ways++
		}
	}
	if ways > 1 {
		return misuse("give only one of --password-stdin, --password-file and --no-password")
	}
	if _, terminal := asTerminal(stdin); ways == 0 && !terminal {
		return misuse("no password: there is no terminal to ask on; use --password-stdin or --password-file FILE")
	}
	return nil
}

func (p *passwordSource) read(ctx context.Context, in *invocation) (string, error) {
	switch {
	case p.stdin:
		return readSecret(in.stdin, "the password")
	case p.file != "":
		return readSecretFile(p.file, "the password")
	}
	tty, _ := asTerminal(in.stdin)
	first, err := ask(ctx, tty, in.stderr, "New password: ")
	if err != nil {
		return "", err
	}
	second, err := ask(ctx, tty, in.stderr, "Again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ")
	}
	return first, nil
}

// newHash reads a new password, holds it against the rules and hashes it the way
// the settings say. known are words about the user that make bad passwords.
func (in *invocation) newHash(ctx context.Context, s *config.Settings, source passwordSource, known ...string) (string, error) {
	secret, err := source.read(ctx, in)
	if err != nil {
		return "", err
	}
	if err := password.CheckNew(secret, append(known, s.ProjectName)...); err != nil {
		return "", fmt.Errorf("the password %w", err)
	}
	hasher, err := password.New(password.Options{Scheme: password.Scheme(s.Passwords.Scheme)})
	if err != nil {
		return "", err
	}
	return hasher.Hash(ctx, secret)
}

// schemeOf names how a stored password is hashed, for operators who plan an
// upgrade. The hash itself is never shown.
func schemeOf(hash string) string {
	switch {
	case hash == "":
		return "none"
	case strings.HasPrefix(hash, "$argon2id$"):
		return string(password.Argon2id)
	case strings.HasPrefix(hash, "$2a$"), strings.HasPrefix(hash, "$2b$"), strings.HasPrefix(hash, "$2y$"):
		return string(password.Bcrypt)
	}
	return "unusable"
}
