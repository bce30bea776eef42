package e2e

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

// party is an issuer as the gate is told of it, and what it signs with.
type party struct {
	name, iss, aud string
	sign           func(header map[string]any, c claims) string
	header         map[string]any // of its good tokens
}

func (p party) token(c claims) string { return p.sign(p.header, c) }

// as is c in a token that says it is of another issuer, for the other's audience.
func (p party) as(other party, c claims) string {
	return p.token(c.with("iss", other.iss).with("aud", other.aud))
}

// parties is a gate that accepts tokens of three: its own and Supabase's by secrets,
// and a partner's by the keys that it publishes.
type parties struct {
	*stack
	own, supabase, partner party
	key                    *ecdsa.PrivateKey // the partner's
	published              *otherIssuer
	user                   user
}

const (
	supabaseSecret = "test-secret-made-of-obvious-words-for-supabase"
	partnerKid     = "partner-1"
)

func startParties(t *testing.T, publish bool) *parties {
	t.Helper()
	p := &parties{key: ecKey(t), published: newOtherIssuer(t)}
	if publish {
		p.published.publish(publicJWK(t, p.key, partnerKid))
	}
	hs256 := func(with string) func(map[string]any, claims) string {
		return func(header map[string]any, c claims) string { return sign(t, header, c, with) }
	}
	p.own = party{
		name: "own", iss: "https://gate.example", aud: "gate", sign: hs256(secret),
		header: map[string]any{"alg": "HS256", "typ": "JWT"},
	}
	p.supabase = party{
		name: "supabase", iss: "https://project.supabase.example/auth/v1", aud: "authenticated", sign: hs256(supabaseSecret),
		header: map[string]any{"alg": "HS256", "typ": "JWT"},
	}
	p.partner = party{
		name: "partner", iss: "https://id.partner.example/", aud: "gatehouse",
		sign:   func(header map[string]any, c claims) string { return signWith(t, p.key, header, c) },
		header: map[string]any{"alg": "ES256", "kid": partnerKid, "typ": "JWT"},
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"supabase-jwt-secret": supabaseSecret + "\n",
		"issuers.yaml": `issuers:
  - name: supabase
    issuer: ` + p.supabase.iss + `
    algorithms: [HS256]
    keys: { secret_file: supabase-jwt-secret }
    profile: supabase
    company_check: required
  - name: partner
    issuer: ` + p.partner.iss + `
    algorithms: [ES256]
    keys: { jwks_url: "` + p.published.url + `" }
    audience: ` + p.partner.aud + `
    claims: { user: account.id, company: org.id, email: contact }
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.stack = newStack(t, postgrestest.New(t), map[string]string{
		"GATEWAY_ISSUERS_FILE": filepath.Join(dir, "issuers.yaml"),
		"GATEWAY_JWT_ISSUER":   p.own.iss,
		"GATEWAY_JWT_AUDIENCE": p.own.aud,
	})
	p.run()
	p.user = p.newMember()
	return p
}

func (p *parties) all() []party { return []party{p.own, p.supabase, p.partner} }

// everything is a payload that each issuer's rules find good, but for iss and aud.
func (p *parties) everything() claims {
	u := p.user
	return claimsOf(u).with("role", "authenticated").
		with("app_metadata", map[string]any{"company_id": u.company, "roles": []string{"admin"}}).
		with("account", map[string]any{"id": u.id}).with("org", map[string]any{"id": u.company}).with("contact", u.email)
}

// good is a token that is what it says.
func (p *parties) good(by party) string { return by.as(by, p.everything()) }

// fetched waits until the partner's keys are in force in both services.
func (p *parties) fetched(t *testing.T) {
	t.Helper()
	raw := p.good(p.partner)
	within(t, 30*time.Second, "the partner's keys are fetched", func() error {
		return errors.Join(p.in(t).get(strictRoute, bearer(raw)).is(http.StatusOK), p.me(raw).is(http.StatusOK))
	})
}

// judged holds both who judge tokens to one answer: authz, and login by itself.
func (p *parties) judged(t *testing.T, raw string, want refusal) {
	t.Helper()
	p.decide(t, raw, want)
	if want == noCompany { // which login does not ask for
		want = accepted
	}
	p.me(raw).expect(t, want)
}

// me asks login past Envoy, so that it is not authz that judges.
func (p *parties) me(raw string) answer {
	return p.direct(http.MethodGet, "/api/v1/users/me", bearer(raw), "")
}

// Each issuer is held to its own algorithm, key, audience and claims, and none of
// what is another's makes a token good.
func TestNoIssuerSpeaksForAnother(t *testing.T) {
	t.Parallel()
	p := startParties(t, true)
	p.fetched(t)
	everything := p.everything()
	own, supabase, partner := p.own, p.supabase, p.partner

	for _, by := range p.all() {
		t.Run(by.name+" is taken for itself", func(t *testing.T) {
			p.judged(t, p.good(by), accepted)
			p.decide(t, p.good(by), accepted)
			h := p.query.only(t).Header
			for name, want := range map[string]string{"X-User-Id": p.user.id, "X-Company-Id": p.user.company, "X-User-Email": p.user.email} {
				if got := h.Values(name); !slices.Equal(got, []string{want}) {
					t.Errorf("%s = %q, want %q", name, got, want)
				}
			}
		})
		for _, other := range p.all() {
			if other.name == by.name {
				continue
			}
			t.Run(by.name+" signs as "+other.name, func(t *testing.T) {
				want := malformed // the algorithm is not that issuer's
				if by.header["alg"] == other.header["alg"] {
					want = wrongSignature
				}
				p.judged(t, by.as(other, everything), want)
			})
			t.Run(by.name+" signs for the audience of "+other.name, func(t *testing.T) {
				p.judged(t, by.token(everything.with("iss", by.iss).with("aud", other.aud)), refusesAudience(by.aud))
			})
		}
	}

	point, err := p.key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, public := range map[string]string{
		"as PEM": publicPEM(t, p.key), "as PEM without its last line break": strings.TrimSpace(publicPEM(t, p.key)),
		"as JWK": publicJWK(t, p.key, partnerKid), "as a point": string(point),
	} {
		for _, as := range p.all() {
			for _, kid := range []string{"", partnerKid} {
				t.Run(fmt.Sprintf("the public key %s is the secret of a token of %s, kid %q", name, as.name, kid), func(t *testing.T) {
					header := map[string]any{"alg": "HS256"}
					if kid != "" {
						header["kid"] = kid
					}
					want := wrongSignature
					if as.name == "partner" {
						want = malformed
					}
					p.judged(t, sign(t, header, everything.with("iss", as.iss).with("aud", as.aud), public), want)
				})
			}
		}
	}

	stranger := ecKey(t)
	of := func(by party, header map[string]any) string {
		return by.sign(header, everything.with("iss", by.iss).with("aud", by.aud))
	}
	spoofed := func(by party, iss any) string {
		return by.token(everything.with("iss", iss).with("aud", by.aud))
	}
	for _, test := range []struct {
		name, raw string
		want      refusal
	}{
		{"a stranger's key under the partner's kid", signWith(t, stranger, partner.header, everything.with("iss", partner.iss).with("aud", partner.aud)), wrongSignature},
		{"a stranger's key under a kid of its own", signWith(t, stranger, map[string]any{"alg": "ES256", "kid": "stranger"}, everything.with("iss", partner.iss).with("aud", partner.aud)), wrongSignature},
		{"the partner's key without its kid", of(partner, map[string]any{"alg": "ES256"}), wrongSignature},
		{"the partner's key and kid in a token of Supabase's", partner.as(supabase, everything), malformed},
		{"the partner's kid in a token of Supabase's with the right secret", of(supabase, map[string]any{"alg": "HS256", "kid": partnerKid}), accepted},
		{"a key that the token brings", signWith(t, stranger, map[string]any{"alg": "ES256", "jwk": map[string]any{"kty": "EC"}, "jku": p.published.url}, everything.with("iss", partner.iss).with("aud", partner.aud)), wrongSignature},

		{"none", of(supabase, map[string]any{"alg": "none"}), malformed},
		{"the alg in lower case", of(supabase, map[string]any{"alg": "hs256"}), malformed},
		{"a longer hash with Supabase's secret", of(supabase, map[string]any{"alg": "HS384"}), malformed},
		{"a longer hash with our own", of(own, map[string]any{"alg": "HS512"}), malformed},
		{"another algorithm for the partner's key", of(partner, map[string]any{"alg": "ES384", "kid": partnerKid}), malformed},
		{"RSA in the place of it", of(partner, map[string]any{"alg": "RS256", "kid": partnerKid}), malformed},

		{"no iss, with our own secret", own.token(everything.without("iss").with("aud", own.aud)), wrongIssuer},
		{"no iss, with Supabase's", supabase.token(everything.without("iss").with("aud", supabase.aud)), wrongSignature},
		{"no iss, with the partner's key", partner.token(everything.without("iss").with("aud", partner.aud)), malformed},
		{"an iss that is nobody's, with our own secret", spoofed(own, "https://nobody.example"), wrongIssuer},
		{"an iss that is nobody's, with Supabase's", spoofed(supabase, "https://nobody.example"), wrongSignature},
		{"Supabase's iss with a slash", spoofed(supabase, supabase.iss+"/"), wrongSignature},
		{"the partner's iss in capitals", spoofed(partner, strings.ToUpper(partner.iss)), malformed},
		{"two issuers", spoofed(partner, []string{partner.iss, own.iss}), malformed},
		{
			"iss twice",
			signJSON(`{"alg":"HS256"}`, strings.Replace(marshal(t, everything.with("iss", own.iss).with("aud", own.aud)), `"iss"`, `"iss":"`+supabase.iss+`","iss"`, 1), secret),
			malformed,
		},

		{"our own, with its company where Supabase has it", own.as(own, everything.without("company_id")), noCompany},
		{"Supabase's, with its company where ours have it", supabase.as(supabase, everything.without("app_metadata")), noCompany},
		{"the partner's, with its company where ours have it", partner.as(partner, everything.without("org")), noCompany},
		{"the partner's, with its user where ours have it", partner.as(partner, everything.without("account")), noSubject},
		{"Supabase's, of an API key", supabase.as(supabase, everything.with("role", "service_role")), wrongRole},
		{"the partner's, expired", partner.as(partner, everything.with("exp", 1)), expired},
		{"the partner's, without an end", partner.as(partner, everything.without("exp")), refusesMissing("exp")},
	} {
		t.Run(test.name, func(t *testing.T) { p.judged(t, test.raw, test.want) })
	}

	t.Run("which issuer, key and algorithm are in use is counted, and nothing that was refused", func(t *testing.T) {
		for _, series := range []string{
			`{alg="HS256",issuer="own",key="secret"}`, `{alg="HS256",issuer="supabase",key="secret"}`, `{alg="ES256",issuer="partner",key="` + partnerKid + `"}`,
		} {
			if got := metric(t, p.authzOps, "gatehouse_authz_tokens_verified_by_issuer_total"+series); got == "" || got == "0" {
				t.Errorf("%s = %q", series, got)
			}
		}
		before := metric(t, p.authzOps, `gatehouse_authz_tokens_verified_by_issuer_total{alg="ES256",issuer="partner",key="`+partnerKid+`"}`)
		p.decide(t, partner.as(supabase, everything), malformed)
		p.decide(t, partner.token(everything.with("iss", partner.iss).with("aud", own.aud)), refusesAudience(partner.aud))
		if after := metric(t, p.authzOps, `gatehouse_authz_tokens_verified_by_issuer_total{alg="ES256",issuer="partner",key="`+partnerKid+`"}`); after != before {
			t.Errorf("refused tokens are counted: %s, and %s before", after, before)
		}
		if got := metric(t, p.authzOps, "gatehouse_issuers"); got != "2" {
			t.Errorf("gatehouse_issuers = %q, want 2", got)
		}
	})
}

// The partner is out of order when the gate starts, is flooded with names of keys
// that nobody has, changes its key in the middle of that, and goes down again.
func TestAPartnersKeysAreFetchedWithinABudget(t *testing.T) {
	t.Parallel()
	p := startParties(t, false)
	everything := p.everything()
	unavailable := func(a answer) {
		t.Helper()
		a.want(t, http.StatusServiceUnavailable, "Authorization is temporarily unavailable.")
		if a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	// What is not the partner's does not wait for it.
	p.judged(t, p.good(p.own), accepted)
	p.judged(t, p.good(p.supabase), accepted)
	unavailable(p.get(strictRoute, bearer(p.good(p.partner))))
	unavailable(p.me(p.good(p.partner)))
	// Nothing has to be known to refuse these.
	p.judged(t, p.own.as(p.partner, everything), malformed)

	p.published.publish(publicJWK(t, p.key, partnerKid))
	p.fetched(t)

	// A flood: 200 names at once, past the patience of everybody.
	stranger, next := ecKey(t), ecKey(t)
	unknown := func(kid string) string {
		return signWith(t, stranger, map[string]any{"alg": "ES256", "kid": kid}, everything.with("iss", p.partner.iss).with("aud", p.partner.aud))
	}
	tokens := make([]string, 200)
	for i := range tokens {
		tokens[i] = unknown(fmt.Sprint("flood-", i))
	}
	before, began := p.published.asked.Load(), time.Now()
	var flood sync.WaitGroup
	for _, raw := range tokens {
		flood.Go(func() {
			// A machine with too much to do may also not answer in time.
			if a := p.in(t).get(strictRoute, bearer(raw)); a.status != http.StatusUnauthorized && a.status != http.StatusServiceUnavailable {
				t.Errorf("%v: %d %s", a.err, a.status, a.body)
			}
		})
	}
	flood.Wait()
	// One for a fetch that was due before, and one each ten seconds.
	if asked, budget := p.published.asked.Load()-before, int64(time.Since(began)/(10*time.Second))+2; asked > budget {
		t.Errorf("200 unknown kids caused %d fetches, want %d at most", asked, budget)
	}
	p.decide(t, tokens[0], wrongSignature)

	// The partner changes its key without a word, while the flood goes on.
	ended := make(chan struct{})
	var more sync.WaitGroup
	more.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-ended:
				return
			default:
				_ = p.in(t).get(strictRoute, bearer(tokens[i%len(tokens)])).is(http.StatusUnauthorized)
			}
		}
	})
	p.published.publish(publicJWK(t, p.key, partnerKid), publicJWK(t, next, "partner-2"))
	changed := signWith(t, next, map[string]any{"alg": "ES256", "kid": "partner-2"}, everything.with("iss", p.partner.iss).with("aud", p.partner.aud))
	within(t, 60*time.Second, "the new key is taken up in spite of the flood", func() error {
		return p.in(t).get(strictRoute, bearer(changed)).is(http.StatusOK)
	})
	close(ended)
	more.Wait()
	p.decide(t, p.good(p.partner), accepted)

	// Down again: what was known stays, and what was not is refused as before.
	p.published.set.Store(nil)
	if err := p.authzProcess.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "the outage is noticed", func() error {
		if got := metric(t, p.authzOps, `gatehouse_issuer_jwks_refreshes_total{issuer="partner",result="error"}`); got == "" || got == "0" {
			return errors.New("no failed fetch")
		}
		return nil
	})
	p.decide(t, p.good(p.partner), accepted)
	p.decide(t, changed, accepted)
	p.decide(t, unknown("never-there"), wrongSignature)
	for _, series := range []string{
		`gatehouse_issuer_jwks_keys{issuer="partner"}`, `gatehouse_issuer_jwks_unknown_kids_total{issuer="partner",result="awaited"}`,
		`gatehouse_issuer_jwks_age_seconds{issuer="partner"}`,
		`gatehouse_authz_tokens_verified_by_issuer_total{alg="ES256",issuer="partner",key="partner-2"}`,
	} {
		if got := metric(t, p.authzOps, series); got == "" || got == "0" || got == "+Inf" {
			t.Errorf("%s = %q", series, got)
		}
	}
}
