package main

import (
	"context"
	"time"

	"github.com/atenex/gatehouse/cmd/internal/wiring"
	"github.com/atenex/gatehouse/internal/config"
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
		in.complain("warning: " + w)
	}
	if err != nil {
		return nil, &useError{err}
	}
	return s, nil
}

// newVerifier fails where no keys are configured, or keys that do not fit, or
// where those of another issuer cannot be fetched.
func newVerifier(s *config.Settings) (*token.Verifier, error) {
	rules, err := wiring.TokenRules(s.Tokens)
	if err != nil {
		return nil, err
	}
	if s.Tokens.JWKSURL != nil {
		if rules.Keys, err = fetchedKeys(context.Background(), s.Tokens); err != nil {
			return nil, err
		}
	}
	return token.NewVerifier(rules)
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
