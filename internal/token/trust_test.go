package token_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/internal/token"
)

const (
	supabaseIss = "https://project.supabase.example/auth/v1"
	partnerIss  = "https://id.partner.example/"

	supabaseSecret = "test-secret-of-a-project-at-supabase-example"
	legacySecret   = "test-secret-of-the-gateway-that-was-replaced"
)

// realm is our own issuer and several others, with what signs for each.
type realm struct {
	own             *token.Verifier
	trusted         []*token.Trusted
	signers         map[string]signer
	partnerKey      pair
	supabaseES256   pair
	partnerPEMasKey []byte
}

type signer struct {
	alg, iss string
	key      any
}

func trusted(t testing.TB, terms token.Terms) *token.Trusted {
	t.Helper()
	e, err := token.NewTrusted(terms)
	if err != nil {
		t.Fatalf("%s: %v", terms.Beyond.Name, err)
	}
	return e
}

func called(name string) identity.Issuer { return identity.Issuer{Name: name} }

func newRealm(t testing.TB, own token.Rules) realm {
	t.Helper()
	es, rs := newPair(t, "ES256"), newPair(t, "RS256")
	public := func(p pair, alg string) *token.KeySet {
		return keySet(t, token.Sources{Algorithm: alg, PublicPEM: p.pubPEM})
	}
	shared := func(text, alg string) *token.KeySet {
		return keySet(t, token.Sources{Algorithm: alg, Secret: []byte(text)})
	}
	r := realm{own: verifier(t, own), partnerKey: rs, supabaseES256: es, partnerPEMasKey: rs.pubPEM}
	r.trusted = []*token.Trusted{
		trusted(t, token.Terms{Issuer: supabaseIss, Algorithms: []string{"HS256"}, Keys: shared(supabaseSecret, "HS256"), Profile: token.Supabase, Beyond: called("supabase-hs256")}),
		trusted(t, token.Terms{Issuer: supabaseIss, Algorithms: []string{"ES256"}, Keys: public(es, "ES256"), Profile: token.Supabase, Beyond: called("supabase-es256")}),
		trusted(t, token.Terms{
			Issuer: partnerIss, Algorithms: []string{"RS256"}, Keys: public(rs, "RS256"), Audience: "gatehouse", Role: "member",
			Claims: &token.Mapping{User: "account.id", Company: "org.id", Email: "contact", Roles: "realm_access.roles"},
			Beyond: called("partner"),
		}),
	}
	r.signers = map[string]signer{
		"supabase-hs256": {"HS256", supabaseIss, []byte(supabaseSecret)},
		"supabase-es256": {"ES256", supabaseIss, es.private},
		"partner":        {"RS256", partnerIss, rs.private},
		"own":            {"HS256", own.Issuer, []byte(secret)},
	}
	if own.Issuer != "" {
		r.trusted = append(r.trusted, trusted(t, token.Terms{Algorithms: []string{"HS256"}, Keys: shared(legacySecret, "HS256"), Beyond: called("legacy")}))
		r.signers["legacy"] = signer{"HS256", "", []byte(legacySecret)}
	}
	if err := r.own.Trust(r.trusted); err != nil {
		t.Fatal(err)
	}
	return r
}

// everything is a payload that every issuer of a realm would accept, but for its iss.
func everything(iss, more string) string {
	if iss != "" {
		more += fmt.Sprintf(`,"iss":%q`, iss)
	}
	return native(`,"aud":["authenticated","gatehouse"],"role":%ROLE%,"account":{"id":"` + user + `"},"org":{"id":"` + company + `"},"app_metadata":{"company_id":"` + company + `","roles":["editor"]},"realm_access":{"roles":["owner"]},"contact":"ana@partner.test","email":"ana@x.test","company_id":"` + company + `","sid":"` + session + `"` + more)
}

func roleOf(issuer string) string {
	if issuer == "partner" {
		return `"member"`
	}
	return `"authenticated"`
}

func payloadOf(issuer, iss string) string {
	return strings.Replace(everything(iss, ""), "%ROLE%", roleOf(issuer), 1)
}

func (s signer) token(t testing.TB, payload string) string {
	t.Helper()
	return signed(t, s.alg, s.key, fmt.Sprintf(`{"alg":%q}`, s.alg), payload)
}

func TestATokenIsJudgedByTheIssuerOfItsIssAndAlgAlone(t *testing.T) {
	for _, own := range []token.Rules{{}, {Issuer: "https://gate.example"}} {
		r := newRealm(t, own)
		for signs, s := range r.signers {
			for claims, other := range r.signers {
				if signs != claims && s.iss == other.iss {
					continue // one iss in two entries: the algorithm tells them apart
				}
				t.Run(own.Issuer+signs+" signs a token of "+claims, func(t *testing.T) {
					raw := s.token(t, payloadOf(claims, other.iss))
					got, err := r.own.Verify(raw, now)
					if signs != claims {
						if err == nil {
							t.Fatalf("accepted as one of %+v", got.Issuer)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					name := token.Own
					if got.Issuer != nil {
						name = got.Issuer.Name
					}
					if name != claims {
						t.Errorf("taken for one of %s, want %s", name, claims)
					}
					if said, err := r.own.Read(raw); err != nil || said.From != claims {
						t.Errorf("read as one of %s, %v", said.From, err)
					}
					if got.HasSession != (claims == "own") {
						t.Errorf("has a session of ours: %t", got.HasSession)
					}
					if got.Company.String() != company || got.User.String() != user {
						t.Errorf("got %+v", got)
					}
				})
			}
		}
	}
}

func TestWhatIsWrongWithATokenOfAnotherIssuerIsToldInTheOrderOfTheContract(t *testing.T) {
	r := newRealm(t, token.Rules{Issuer: "https://gate.example"})
	partner, es := r.signers["partner"], r.signers["supabase-es256"]
	good := payloadOf("partner", partnerIss)
	without := func(part string) string {
		if !strings.Contains(good, part) {
			t.Fatalf("%s is no part of %s", part, good)
		}
		return strings.Replace(good, part, "", 1)
	}
	cases := []struct {
		name string
		raw  string
		want error
	}{
		{"nothing is wrong", partner.token(t, good), nil},
		{"an algorithm that is not that issuer's, though another has a key for it", r.signers["supabase-hs256"].token(t, good), problem.TokenMalformed},
		{"the public key of an issuer as a secret", signed(t, "HS256", r.partnerPEMasKey, `{"alg":"HS256"}`, good), problem.TokenMalformed},
		{"the public key of an issuer as the secret of another", signed(t, "HS256", r.partnerPEMasKey, `{"alg":"HS256"}`, payloadOf("", supabaseIss)), problem.TokenSignature},
		{"the public key of an issuer as our own secret", signed(t, "HS256", r.partnerPEMasKey, `{"alg":"HS256"}`, payloadOf("", "https://gate.example")), problem.TokenSignature},
		{"none", b64(`{"alg":"none"}`) + "." + b64(good) + ".", problem.TokenMalformed},
		{"the iss of another, and its algorithm", es.token(t, good), problem.TokenMalformed},
		{"a mapped claim of another type", partner.token(t, strings.Replace(good, `"org":{"id":"`+company+`"}`, `"org":{"id":7}`, 1)), problem.TokenMalformed},
		{"a text in the place of an object", partner.token(t, strings.Replace(good, `"org":{"id":"`+company+`"}`, `"org":"x"`, 1)), problem.TokenMalformed},
		{"an object of null", partner.token(t, strings.Replace(good, `"org":{"id":"`+company+`"}`, `"org":null`, 1)), nil},
		{"an iss that is a number", partner.token(t, strings.Replace(good, `"iss":"`+partnerIss+`"`, `"iss":7`, 1)), problem.TokenMalformed},
		{"iss twice", partner.token(t, strings.Replace(good, `"iss"`, `"iss":"https://gate.example","iss"`, 1)), problem.TokenMalformed},
		{"an iss in another spelling", partner.token(t, strings.Replace(good, partnerIss, "https://ID.partner.example/", 1)), problem.TokenMalformed},
		{"another audience", partner.token(t, strings.Replace(good, `"gatehouse"`, `"x"`, 1)), problem.TokenAudience("gatehouse")},
		{"another role", partner.token(t, strings.Replace(good, `"member"`, `"guest"`, 1)), problem.TokenRole},
		{"no role", partner.token(t, without(`"role":"member",`)), problem.TokenRole},
		{"no user where the mapping looks", partner.token(t, without(`"account":{"id":"`+user+`"},`)), problem.SubjectMissing},
		{"a company that is no UUID", partner.token(t, strings.Replace(good, `"org":{"id":"`+company+`"}`, `"org":{"id":"c-1"}`, 1)), problem.CompanyInvalid},
		{"an issuer that is nobody's, with our signature", r.signers["own"].token(t, payloadOf("", "https://nobody.example")), problem.TokenIssuer},
		{"an issuer that is nobody's, with another's signature", r.signers["legacy"].token(t, payloadOf("", "https://nobody.example")), problem.TokenSignature},
		{"an empty iss is none", r.signers["legacy"].token(t, strings.Replace(payloadOf("", "x"), `"iss":"x"`, `"iss":""`, 1)), nil},
		{"an iss of null is none", r.signers["legacy"].token(t, strings.Replace(payloadOf("", "x"), `"iss":"x"`, `"iss":null`, 1)), nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := r.own.Verify(c.raw, now); !errors.Is(err, c.want) || c.want != nil && problem.From(err).Detail != c.want.Error() {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestClaimsAreReadWhereTheMappingSays(t *testing.T) {
	r := newRealm(t, token.Rules{})
	got, err := r.own.Verify(r.signers["partner"].token(t, payloadOf("partner", partnerIss)), now)
	if err != nil {
		t.Fatal(err)
	}
	if got.Email != "ana@partner.test" || len(got.Roles) != 1 || got.Roles[0] != "owner" {
		t.Errorf("got %+v", got)
	}
	one := strings.Replace(payloadOf("partner", partnerIss), `"roles":["owner"]`, `"roles":"owner"`, 1)
	if got, err = r.own.Verify(r.signers["partner"].token(t, one), now); err != nil || len(got.Roles) != 1 {
		t.Errorf("one role as a text: %+v, %v", got.Roles, err)
	}
}

func TestWithoutOtherIssuersATokenIsJudgedAsEver(t *testing.T) {
	v := verifier(t, token.Rules{})
	raw := hs256(t, payloadOf("", supabaseIss)) // an iss that nobody asks for
	before, err := v.Verify(raw, now)
	if err != nil {
		t.Fatal(err)
	}
	r := newRealm(t, token.Rules{})
	if _, err := r.own.Verify(raw, now); !errors.Is(err, problem.TokenSignature) {
		t.Errorf("an issuer of that iss is trusted, and the token gets %v", err)
	}
	if err := r.own.Trust(nil); err != nil {
		t.Fatal(err)
	}
	after, err := r.own.Verify(raw, now)
	if err != nil || after.User != before.User || after.Issuer != nil || !after.HasSession {
		t.Errorf("got %+v, %v", after, err)
	}
}

func TestIssuersThatCannotBeToldApartAreNotTrusted(t *testing.T) {
	hs := func(name, iss, text string) token.Terms {
		return token.Terms{Issuer: iss, Algorithms: []string{"HS256"}, Keys: keySet(t, token.Sources{Algorithm: "HS256", Secret: []byte(text)}), Beyond: called(name)}
	}
	asSet, err := token.PinnedSet(jwks(oct("HS384", legacySecret+"-long-enough-for-it")), []string{"HS384"})
	if err != nil {
		t.Fatal(err)
	}
	in384 := token.Terms{Issuer: "c", Algorithms: []string{"HS384"}, Keys: asSet, Beyond: called("c")}
	cases := []struct {
		name   string
		own    string
		issuer []token.Terms
		want   string // "": they can
	}{
		{"two that differ in everything", "", []token.Terms{hs("a", "a", legacySecret), hs("b", "b", supabaseSecret)}, ""},
		{"two of one name", "", []token.Terms{hs("a", "a", legacySecret), hs("a", "b", supabaseSecret)}, "the name is that of another issuer"},
		{"two of one iss and algorithm", "", []token.Terms{hs("a", "a", legacySecret), hs("b", "a", supabaseSecret)}, "a has the same iss with HS256"},
		{"one secret", "", []token.Terms{hs("a", "a", legacySecret), hs("b", "b", legacySecret)}, "has a key of a"},
		{"one secret, in a set and for another algorithm", "", []token.Terms{hs("a", "a", legacySecret+"-long-enough-for-it"), in384}, "has a key of a"},
		{"our own secret", "", []token.Terms{hs("a", "a", secret)}, "has a key that is our own"},
		{"our own iss", "a", []token.Terms{hs("a", "a", legacySecret)}, "our own tokens have this iss"},
		{"no iss, and our own have none", "", []token.Terms{hs("a", "", legacySecret)}, "tokens without iss are our own"},
		{"no iss, and our own have one", "x", []token.Terms{hs("a", "", legacySecret)}, ""},
		{"no iss, twice", "x", []token.Terms{hs("a", "", legacySecret), hs("b", "", supabaseSecret)}, "a has tokens without iss already"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := verifier(t, token.Rules{Issuer: c.own})
			var all []*token.Trusted
			for _, terms := range c.issuer {
				all = append(all, trusted(t, terms))
			}
			err := v.Trust(all)
			if got := fmt.Sprint(err); (err == nil) != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && len(v.Trusts()) != 0 {
				t.Error("they are trusted all the same")
			}
		})
	}
}

func TestAMappingThatCannotBeMeantIsRefused(t *testing.T) {
	cases := []struct {
		name    string
		mapping token.Mapping
		role    string
		want    string // "": it can be
	}{
		{"members of objects", token.Mapping{User: "sub", Company: "app_metadata.company_id", Roles: "app_metadata.roles", Email: "email"}, "", ""},
		{"no user", token.Mapping{Company: "c"}, "", "who the user is"},
		{"what the user writes", token.Mapping{User: "sub", Company: "user_metadata.company_id"}, "", "user_metadata"},
		{"what the user writes, in another case and place", token.Mapping{User: "sub", Roles: "x.User_Metadata.roles"}, "", "user_metadata"},
		{"a claim of every token", token.Mapping{User: "iss"}, "", "a meaning of its own"},
		{"the session", token.Mapping{User: "sid"}, "", "a meaning of its own"},
		{"a place twice", token.Mapping{User: "sub", Email: "sub"}, "", "email: another claim"},
		{"a place within another", token.Mapping{User: "sub", Company: "org", Roles: "org.roles"}, "", "roles: another claim"},
		{"a place around another", token.Mapping{User: "sub", Company: "org.id.x", Roles: "org.id"}, "", "roles: another claim"},
		{"the role that is asked for", token.Mapping{User: "sub", Roles: "role"}, "member", "role: another claim"},
		{"an empty name", token.Mapping{User: "a..b"}, "", "empty"},
		{"a name that is none", token.Mapping{User: "a[0]"}, "", "letters"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := token.NewTrusted(token.Terms{Issuer: "x", Algorithms: []string{"HS256"}, Keys: secretSet(t), Claims: &c.mapping, Role: c.role, Beyond: called("x")})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestTheTokensOfAnIssuerEndWithItsTimeAndNotWithOurs(t *testing.T) {
	over := identity.Issuer{Name: "x", Until: now}
	for _, c := range []struct {
		name   string
		c      identity.Credential
		legacy time.Time
		want   bool
	}{
		{"our own without kid, after the time of such", identity.Credential{}, now, true},
		{"our own with kid", identity.Credential{KeyNamed: true}, now, false},
		{"another issuer's without kid", identity.Credential{Issuer: &identity.Issuer{}}, now, false},
		{"another issuer's, after its time", identity.Credential{Issuer: &over, KeyNamed: true}, time.Time{}, true},
		{"another issuer's, before its time", identity.Credential{Issuer: &identity.Issuer{Until: now.Add(1)}}, time.Time{}, false},
	} {
		if got := c.c.Outdated(c.legacy, now); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
	c := identity.Credential{Issuer: &over, ExpiresAt: now.Add(time.Hour)}
	if got := c.Ends(); !got.Equal(now) {
		t.Errorf("it ends at %s, want %s", got, now)
	}
}

// Property: with several issuers an accepted token is accepted by exactly one of them
// alone, the one whose iss it has; nothing that one of them signed is accepted with
// the iss of another, and a public key is nobody's secret.
func FuzzAnAcceptedTokenIsOfExactlyOneIssuer(f *testing.F) {
	r := newRealm(f, token.Rules{Issuer: "https://gate.example"})
	var signers []signer
	var names []string
	for _, name := range []string{"own", "legacy", "partner", "supabase-hs256", "supabase-es256"} {
		names, signers = append(names, name), append(signers, r.signers[name])
	}
	// A confused one: HS256 with what everybody knows.
	for _, known := range [][]byte{r.partnerPEMasKey, r.supabaseES256.pubPEM} {
		names, signers = append(names, ""), append(signers, signer{"HS256", "", known})
	}
	alone := map[string]*token.Verifier{}
	nobody := keySet(f, token.Sources{Algorithm: "HS256", Secret: []byte(otherSecret)})
	for _, e := range r.trusted {
		v := verifier(f, token.Rules{Issuer: "https://gate.example", Keys: nobody})
		if err := v.Trust([]*token.Trusted{e}); err != nil {
			f.Fatal(err)
		}
		alone[e.Name()] = v
	}
	for i, s := range signers {
		for _, c := range signers {
			f.Add(byte(i), fmt.Sprintf(`{"alg":%q,"kid":"x"}`, s.alg), payloadOf(names[i], c.iss))
		}
	}
	f.Fuzz(func(t *testing.T, by byte, header, payload string) {
		i := int(by) % len(signers)
		s := signers[i]
		input := b64(header) + "." + b64(payload)
		signature, err := jwt.GetSigningMethod(s.alg).Sign(input, s.key)
		if err != nil {
			t.Skip()
		}
		raw := input + "." + b64(string(signature))
		got, err := r.own.Verify(raw, now)
		var accepting []string
		for name, v := range alone {
			if _, err := v.Verify(raw, now); err == nil {
				accepting = append(accepting, name)
			}
		}
		own := verifier(t, token.Rules{Issuer: "https://gate.example"})
		if _, err := own.Verify(raw, now); err == nil {
			accepting = append(accepting, token.Own)
		}
		if err != nil {
			if len(accepting) != 0 {
				t.Fatalf("refused with %v, and accepted alone by %q", err, accepting)
			}
			return
		}
		name := token.Own
		if got.Issuer != nil {
			name = got.Issuer.Name
		}
		if len(accepting) != 1 || accepting[0] != name || name != names[i] {
			t.Fatalf("signed by %q, accepted as of %s, and alone by %q", names[i], name, accepting)
		}
		said, err := r.own.Read(raw)
		if err != nil || said.Issuer != s.iss || said.From != name {
			t.Fatalf("the iss is %q, of %s, and %s is %q", said.Issuer, said.From, name, s.iss)
		}
		again, err := r.own.Judge(said, now)
		if err != nil || again.User != got.User || again.Company != got.Company || again.Issuer != got.Issuer || again.HasSession != got.HasSession {
			t.Fatalf("judged again as %+v, %v; want %+v", again, err, got)
		}
	})
}
