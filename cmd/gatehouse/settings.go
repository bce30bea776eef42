package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/cmd/internal/wiring"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/issuers"
	"github.com/atenex/gatehouse/internal/token"
)

// source is where this run's settings come from.
func (in *invocation) source() config.Source {
	return config.Source{Environ: in.environ, Dir: "."}
}

// settings loads what a command needs. All faults come together, one line each,
// and end the command with code 2.
func (in *invocation) settings(need config.Need) (*config.Settings, error) {
	s, warnings, err := config.Load(in.source(), need, wiring.Inspections()...)
	for _, w := range warnings {
		if !aboutService(w) {
			in.complain("warning: " + w)
		}
	}
	if err != nil {
		return nil, &useError{err}
	}
	return s, nil
}

// aboutService reports that a warning is about what a service lets happen while it
// runs. Those are told when one starts, and by doctor; a command that reads the same
// settings for something else does not repeat them each time. One that is not known
// here is told.
func aboutService(warning string) bool {
	for _, name := range []string{
		"LEGACY_TOKENS_UNTIL", "USER_CHECK", "COMPANY_JOIN_POLICY", "LOGIN_THROTTLE", "TRUSTED_PROXIES",
		"RESET_URL", "VERIFY_URL", "SMTP_URL",
	} {
		if strings.HasPrefix(warning, "GATEWAY_"+name+": ") {
			return true
		}
	}
	return false
}

// newVerifier fails where no keys are configured, or keys that do not fit, or
// where those of another issuer cannot be fetched. A token of an issuer in
// GATEWAY_ISSUERS_FILE whose keys cannot be fetched is then unavailable, as it is to
// authz.
func newVerifier(s *config.Settings) (*token.Verifier, error) {
	verifier, _, err := newVerifierNoted(s)
	return verifier, err
}

// newVerifierNoted says too which keys of those issuers could not be had.
func newVerifierNoted(s *config.Settings) (*token.Verifier, []string, error) {
	rules, err := wiring.TokenRules(s.Tokens)
	if err != nil {
		return nil, nil, err
	}
	if s.Tokens.JWKSURL != nil {
		if rules.Keys, err = fetchedKeys(context.Background(), s.Tokens); err != nil {
			return nil, nil, err
		}
	}
	verifier, err := token.NewVerifier(rules)
	if err != nil {
		return nil, nil, err
	}
	notes, err := trustIssuers(context.Background(), s, verifier)
	if err != nil {
		return nil, nil, err
	}
	return verifier, notes, nil
}

// trustIssuers are those of GATEWAY_ISSUERS_FILE, with their keys of now as far as
// they can be had; notes say which could not.
func trustIssuers(ctx context.Context, s *config.Settings, verifier *token.Verifier) (notes []string, err error) {
	book, err := openIssuers(s, verifier)
	if book == nil || err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchPatience)
	defer cancel()
	if err := book.Fetch(ctx); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			notes = append(notes, line+"; an authz that has fetched it knows more")
		}
	}
	return notes, nil
}

// openIssuers gives nil where there are none.
func openIssuers(s *config.Settings, verifier *token.Verifier) (*issuers.Book, error) {
	return wiring.Issuers(s, verifier, issuers.Options{
		Registerer: prometheus.NewRegistry(),
		Logger:     slog.New(slog.DiscardHandler), // what is wrong is the command's to say
	})
}

// newIssuer's errors are of the settings: Load has seen that a key is there, the
// issuer sees whether it can be used.
func newIssuer(s *config.Settings, ttl time.Duration) (*token.Issuer, error) {
	rules, err := wiring.TokenRules(s.Tokens)
	if err != nil {
		return nil, &useError{err}
	}
	issuer, err := token.NewIssuer(rules, ttl)
	if err != nil {
		return nil, &useError{err}
	}
	return issuer, nil
}
