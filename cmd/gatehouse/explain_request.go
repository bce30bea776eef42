package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/cmd/internal/authzd"
	"github.com/atenex/gatehouse/cmd/internal/routing"
	"github.com/atenex/gatehouse/cmd/internal/wiring"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/token"
)

// tokenLike reports a word that is probably a token, so that it is not repeated.
func tokenLike(word string) bool {
	return strings.HasPrefix(word, "eyJ") || strings.Count(word, ".") == 2 && !strings.ContainsAny(word, "/ ")
}

// explainRequest has the decision made by a gate of these settings.
func (in *invocation) explainRequest(ctx context.Context, f explainFlags) (explanationView, error) {
	now, err := instant(f.at)
	if err != nil {
		return explanationView{}, err
	}
	s, err := in.settings(config.NeedAuthz)
	if err != nil {
		return explanationView{}, err
	}
	table, err := wiring.RouteTable(s.Edge.Routes)
	if err != nil {
		return explanationView{}, &useError{err}
	}
	var authorization []string
	if !f.noToken {
		raw, err := in.readToken(ctx, f.tokenFile)
		if err != nil {
			return explanationView{}, err
		}
		authorization = []string{"Bearer " + raw}
	}
	verifier, notes, err := verifierNow(s)
	if err != nil {
		return explanationView{}, err
	}
	options := authzd.Rules(s, verifier)
	options.Registerer, options.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	options.Router = routing.New(table)
	if s.Checks.NeedStore() {
		store, err := postgres.Open(ctx, postgres.Options{URL: s.Database.URL.Reveal(), MaxConns: 1, AppName: appName})
		if err != nil {
			return explanationView{}, err
		}
		defer store.Close()
		// authz has its connections when a check arrives. A database that does not
		// answer is the check's to tell.
		warm, cancel := context.WithTimeout(ctx, checkTimeout)
		if store.Ping(warm) != nil {
			notes = append(notes, "the database of these settings does not answer from here; authz may still reach it")
		}
		cancel()
		options.Directory = store
	}
	gate, err := authz.New(options)
	if err != nil {
		return explanationView{}, err
	}
	told, err := gate.Explain(ctx, authz.Question{
		Method: f.method, Path: f.path, Authorization: authorization, RequestID: f.requestID,
		Mode: f.mode, Roles: f.roles,
	}, now)
	if err != nil {
		return explanationView{}, err
	}
	if err := ctx.Err(); err != nil {
		return explanationView{}, err
	}
	place := placed(table, s, f.method, f.path)
	if f.mode != "" || f.roles != "" {
		place = placement{Finding: findingTold, AsksAuthz: true}
	}
	if f.at != "" {
		notes = append(notes, "as of "+stamp(now)+", but users, sessions and companies are as of "+stamp(time.Now()))
	}
	view := newView(told, place)
	view.Notes = append(view.Notes, notes...)
	return view, nil
}

// verifierNow has the keys of another issuer as they are. Where they cannot be had
// it goes on without, as authz does.
func verifierNow(s *config.Settings) (*token.Verifier, []string, error) {
	verifier, notes, err := newVerifierNoted(s)
	if _, unfetched := errors.AsType[*fetchError](err); !unfetched {
		if err != nil {
			return nil, nil, &useError{err}
		}
		return verifier, notes, nil
	}
	note := err.Error() + "; an authz that has fetched it knows more"
	rules, err := wiring.TokenRules(s.Tokens)
	if err != nil {
		return nil, nil, &useError{err}
	}
	if verifier, err = token.NewVerifier(rules); err != nil {
		return nil, nil, err
	}
	notes, err = trustIssuers(context.Background(), s, verifier)
	if err != nil {
		return nil, nil, &useError{err}
	}
	return verifier, append(notes, note), nil
}
