package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/atenex/gatehouse/cmd/internal/wiring"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/devstack"
	"github.com/atenex/gatehouse/internal/token"
)

func (r *findings) build() {
	r.add("gatehouse", markOK, "%s", thisVersion())
}

// settings tells every fault, every warning and what is in force, secrets
// masked.
func (r *findings) settings(s *config.Settings, warnings []string, err error) {
	faults, faulty := errors.AsType[config.Faults](err)
	for _, f := range faults {
		r.add(areaSettings, markFail, "%s: %s", f.Setting, f.Problem)
	}
	if err != nil && !faulty {
		r.add(areaSettings, markFail, "%v", err)
	}
	for _, w := range warnings {
		r.add(areaSettings, markWarn, "%s", w)
	}
	if s == nil {
		return
	}
	for _, attr := range s.LogValue().Group() {
		origin := "default"
		if s.IsSet(strings.TrimPrefix(attr.Key, "GATEWAY_")) {
			origin = "set"
			r.set++
		} else {
			r.fallen++
		}
		r.list = append(r.list, finding{
			Area: areaSettings, Status: markOK, Detail: fmt.Sprintf("%s=%s (%s)", attr.Key, attr.Value, origin), value: true,
		})
	}
}

// missing tells what the parts need that nobody gave, which is no failure: `up` has
// demo values for all of it. What they would warn of at their start is told too,
// unless it is among told.
func (r *findings) missing(src config.Source, told []string) {
	parts := []struct {
		name string
		need config.Need
	}{
		{"authz", config.NeedAuthz},
		{"login", config.NeedLogin},
		{"Envoy's configuration", config.NeedEnvoy},
	}
	var order []config.Fault
	wanting := make(map[config.Fault][]string)
	for _, part := range parts {
		_, warnings, err := config.Load(src, part.need)
		for _, w := range warnings {
			if !slices.Contains(told, w) {
				told = append(told, w)
				r.add(areaSettings, markWarn, "%s", w)
			}
		}
		faults, _ := errors.AsType[config.Faults](err)
		for _, f := range faults {
			if wanting[f] == nil {
				order = append(order, f)
			}
			wanting[f] = append(wanting[f], part.name)
		}
	}
	for _, f := range order {
		r.add(areaSettings, markWarn, "%s: %s (for %s; 'gatehouse up' makes one up for a demo)",
			f.Setting, f.Problem, strings.Join(wanting[f], ", "))
	}
}

// keys tells what tokens are verified and signed with, by key id only.
func (r *findings) keys(ctx context.Context, s *config.Settings) {
	t := s.Tokens
	if t.Secret.IsZero() && t.PublicKey == "" && t.PrivateKey.IsZero() && t.Keys.IsZero() && t.JWKSURL == nil {
		r.add("token keys", markWarn, "none configured; 'gatehouse up' makes a demo secret, the services by themselves do not start")
		return
	}
	rules, err := wiring.TokenRules(t)
	if err != nil {
		r.add("token keys", markFail, "%v", err)
		return
	}
	verifier, err := token.NewVerifier(rules)
	if err != nil {
		r.add("token keys", markFail, "%v", err)
		return
	}
	r.issuers(ctx, s, verifier)
	if t.JWKSURL != nil {
		r.foreignKeys(ctx, t)
	}
	key, signs := rules.Keys.Signer()
	if !signs {
		r.add("token keys", markWarn, "tokens of the profile %s can be verified, but not signed: login cannot run", t.Profile)
		return
	}
	r.add("token keys", markOK, "%s tokens of the profile %s are signed with the key %s; keys that verify: %d", key.Algorithm(), t.Profile, printable(key.ID()), len(rules.Keys.Keys()))
}

// issuers tells of each issuer of GATEWAY_ISSUERS_FILE what is accepted from it, and
// asks those that publish their keys for them.
func (r *findings) issuers(ctx context.Context, s *config.Settings, verifier *token.Verifier) {
	book, err := openIssuers(s, verifier)
	if err != nil {
		r.add("issuers", markFail, "%v", err)
		return
	}
	if book == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, fetchPatience)
	defer cancel()
	if err := book.Fetch(ctx); err != nil {
		r.add("issuers", markFail, "%v", err)
	}
	for _, i := range book.Issuers() {
		mark, until := markOK, ""
		switch {
		case len(i.Keys) == 0:
			mark = markWarn
		case !i.Until.IsZero() && !time.Now().Before(i.Until):
			mark, until = markWarn, ", refused since "+stamp(i.Until)
		case !i.Until.IsZero():
			until = ", until " + stamp(i.Until)
		}
		whose := "tokens without iss"
		if i.Issuer != "" {
			whose = "tokens of " + printable(i.Issuer)
		}
		r.add("issuers", mark, "%s: %s with %s, keys: %d%s", i.Name, whose, strings.Join(i.Algorithms, " or "), len(i.Keys), until)
	}
}

// foreignKeys asks the other issuer for its keys, as the services do.
func (r *findings) foreignKeys(ctx context.Context, t config.Tokens) {
	set, err := fetchedKeys(ctx, t)
	if err != nil {
		r.add("token keys", markFail, "%v", err)
		return
	}
	count := 0
	for _, k := range set.Describe() {
		if k.Origin == token.OriginFetched {
			count++
		}
	}
	mark := markOK
	if count == 0 {
		mark = markWarn // as Supabase answers while it signs with its secret alone
	}
	r.add("token keys", mark, "of another issuer, at %s: %d", t.JWKSURL, count)
}

// programs tells where Envoy and PostgreSQL were looked for and found. Nothing is
// fetched, so a machine that would fetch them only gets a warning.
func (r *findings) programs(ctx context.Context, s *config.Settings) {
	var o devstack.FindOptions
	databaseGiven := false
	if s != nil {
		o.EnvoyBin, o.PostgresBin = s.EnvoyBin, s.PGBin
		databaseGiven = hasDatabase(s)
	}
	o.Offline = true
	r.program("Envoy", devstack.FindEnvoy(ctx, o), o.EnvoyBin != "")
	if databaseGiven {
		r.add("PostgreSQL", markOK, "not needed: a database is configured")
		return
	}
	r.program("PostgreSQL", devstack.FindPostgres(ctx, o), o.PostgresBin != "")
}

func (r *findings) program(name string, found devstack.Found, named bool) {
	var looked strings.Builder
	for _, l := range found.Looked {
		if l.Why != "" {
			fmt.Fprintf(&looked, "\nnot from %s: %s", strings.TrimSpace(l.Where+" "+l.Path), l.Why)
		}
	}
	switch {
	case found.Err == nil:
		r.add(name, markOK, "%s at %s (from %s)%s", found.Binary.Version, found.Binary.Path, found.Binary.Source, looked.String())
	case named:
		r.add(name, markFail, "%v", found.Err)
	default:
		r.add(name, markWarn, "not found on this machine; 'gatehouse up' would try to fetch it%s", looked.String())
	}
}

// cache tells where fetched programs are kept, without making the directory.
func (r *findings) cache() {
	dir, err := devstack.DefaultCacheDir()
	if err != nil {
		r.add("cache", markWarn, "%v", err)
		return
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		r.add("cache", markOK, "%s (made at the first use)", dir)
	case err != nil:
		r.add("cache", markWarn, "%v", err)
	case !info.IsDir():
		r.add("cache", markFail, "%s is not a directory", dir)
	default:
		r.add("cache", markOK, "%s", dir)
	}
}
