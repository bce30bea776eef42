package token_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
)

func grant() token.Grant {
	id, _ := identity.ParseUserID(user)
	co, _ := identity.ParseCompanyID(company)
	sid, _ := identity.ParseSessionID(session)
	return token.Grant{User: id, Email: "ana@x.test", Company: co, Session: sid, Roles: []string{"admin"}}
}

// decoded is the header and the claims of a token, as any client reads them.
func decoded(t *testing.T, raw string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(raw, ".")
	for i, into := range []*map[string]any{&header, &claims} {
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

func TestIssueSaysExactlyWhatWasGranted(t *testing.T) {
	iat, exp := float64(now.Unix()), float64(now.Unix()+3600)
	cases := []struct {
		name  string
		rules token.Rules
		grant token.Grant
		want  map[string]any // jti is taken out and judged by itself
	}{
		{
			"everything, native", token.Rules{Audience: "gatehouse", Issuer: "https://issuer.example"}, grant(),
			map[string]any{"sub": user, "exp": exp, "iat": iat, "email": "ana@x.test", "company_id": company, "sid": session, "aud": "gatehouse", "iss": "https://issuer.example"},
		},
		{
			"a user and nothing else", token.Rules{}, token.Grant{User: grant().User},
			map[string]any{"sub": user, "exp": exp, "iat": iat},
		},
		{
			"when the password was proved", token.Rules{}, token.Grant{User: grant().User, AuthTime: now.Add(-time.Hour)},
			map[string]any{"sub": user, "exp": exp, "iat": iat, "auth_time": iat - 3600},
		},
		{
			"a password proved by a clock that is ahead", token.Rules{}, token.Grant{User: grant().User, AuthTime: now.Add(time.Minute)},
			map[string]any{"sub": user, "exp": exp, "iat": iat, "auth_time": iat},
		},
		{
			"Supabase", token.Rules{Profile: token.Supabase}, grant(),
			map[string]any{
				"sub": user, "exp": exp, "iat": iat, "email": "ana@x.test", "company_id": company, "sid": session,
				"aud": "authenticated", "role": "authenticated",
				"app_metadata": map[string]any{"company_id": company, "roles": []any{"admin"}},
			},
		},
		{
			"Supabase without a company", token.Rules{Profile: token.Supabase}, token.Grant{User: grant().User},
			map[string]any{"sub": user, "exp": exp, "iat": iat, "aud": "authenticated", "role": "authenticated", "app_metadata": map[string]any{}},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.rules.Keys = secretSet(t)
			issuer, err := token.NewIssuer(c.rules, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			minted, err := issuer.Issue(c.grant, now.Add(999*time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
			header, claims := decoded(t, minted.Token)
			signer, _ := c.rules.Keys.Signer()
			if diff := cmp.Diff(map[string]any{"alg": "HS256", "typ": "JWT", "kid": signer.ID()}, header); diff != "" {
				t.Error(diff)
			}
			if id, _ := claims["jti"].(string); len(id) < 26 {
				t.Errorf("jti %q has less than 128 bits", id)
			}
			delete(claims, "jti")
			if diff := cmp.Diff(c.want, claims); diff != "" {
				t.Error(diff)
			}
			if want := now.Add(time.Hour); !minted.ExpiresAt.Equal(want) {
				t.Errorf("expires at %s, want %s", minted.ExpiresAt, want)
			}

			got, err := verifier(t, c.rules).Verify(minted.Token, now)
			if err != nil {
				t.Fatalf("our own token is refused: %v", err)
			}
			want := identity.Credential{
				User: c.grant.User, Company: c.grant.Company, Email: c.grant.Email,
				Session: c.grant.Session, HasSession: !c.grant.Session.IsZero(),
				IssuedAt: now, ExpiresAt: now.Add(time.Hour), KeyNamed: true,
			}
			if c.rules.Profile == token.Supabase {
				want.Roles = c.grant.Roles
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNoTokenOutlivesItsLogin(t *testing.T) {
	cases := []struct {
		name     string
		notAfter time.Time
		want     time.Time // zero: refused
	}{
		{"a login without an end", time.Time{}, now.Add(time.Hour)},
		{"a login that ends later", now.Add(2 * time.Hour), now.Add(time.Hour)},
		{"a login that ends sooner", now.Add(90*time.Second + 700*time.Millisecond), now.Add(90 * time.Second)},
		{"a login that ends within the second", now.Add(700 * time.Millisecond), time.Time{}},
		{"a login that is over", now.Add(-time.Second), time.Time{}},
	}
	issuer, err := token.NewIssuer(token.Rules{Keys: secretSet(t)}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g := grant()
			g.NotAfter = c.notAfter
			minted, err := issuer.Issue(g, now)
			if (err != nil) != c.want.IsZero() || !minted.ExpiresAt.Equal(c.want) {
				t.Errorf("got %s and %v, want %s", minted.ExpiresAt, err, c.want)
			}
		})
	}
}

func TestIssueRefusesWhatCannotBeMeant(t *testing.T) {
	issuer, err := token.NewIssuer(token.Rules{Keys: secretSet(t)}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	g := grant()
	g.User = identity.UserID{}
	if _, err := issuer.Issue(g, now); err == nil {
		t.Error("a token for nobody was made")
	}
	g = grant()
	g.Email = "ana\xff@x.test"
	if _, err := issuer.Issue(g, now); err == nil || strings.Contains(err.Error(), "ana") {
		t.Errorf("an e-mail that is not UTF-8: %v", err)
	}

	public := keySet(t, token.Sources{Algorithm: "EdDSA", PublicPEM: newPair(t, "EdDSA").pubPEM})
	for name, try := range map[string]func() error{
		"no keys":      func() error { _, err := token.NewIssuer(token.Rules{}, time.Hour); return err },
		"a public key": func() error { _, err := token.NewIssuer(token.Rules{Keys: public}, time.Hour); return err },
		"no life":      func() error { _, err := token.NewIssuer(token.Rules{Keys: secretSet(t)}, 0); return err },
	} {
		if try() == nil {
			t.Errorf("%s: an issuer was made", name)
		}
	}
}

func TestTheSecretSignsWhereThePEMKeyCannot(t *testing.T) {
	pair := newPair(t, "EdDSA")
	cases := []struct {
		name    string
		sources token.Sources
		want    string
	}{
		{"a public key and a secret", token.Sources{Algorithm: "EdDSA", PublicPEM: pair.pubPEM, Secret: []byte(secret)}, "HS256"},
		{"a private key and a secret", token.Sources{Algorithm: "EdDSA", PrivatePEM: pair.privatePEM, Secret: []byte(secret)}, "EdDSA"},
		{"a secret", token.Sources{Algorithm: "HS512", Secret: []byte(secret)}, "HS512"},
	}
	for _, c := range cases {
		if k, ok := keySet(t, c.sources).Signer(); !ok || k.Algorithm() != c.want {
			t.Errorf("%s: signs with %s, want %s", c.name, k.Algorithm(), c.want)
		}
	}
}

func TestInspectShowsATokenWithoutItsSignature(t *testing.T) {
	raw := hs256(t, native(`,"note":"\u001b[2J \u009b caf\u00e9 \ud83d\ude00"`))
	forged := signed(t, "HS256", []byte(otherSecret), `{"alg":"HS256","alg":"HS256","crit":["x"]}`, native(""))
	v := verifier(t, token.Rules{})
	cases := []struct {
		name    string
		raw     string
		v       *token.Verifier
		shows   string
		refusal string
	}{
		{"a good token", raw, v, `"sub": "` + user + `"`, ""},
		{"without keys", forged, nil, `"crit": [`, ""},
		{"a token that is refused", forged, v, `"crit": [`, "Invalid token format or structure."},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in, err := token.Inspect(c.raw, c.v, now)
			if err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprintf("%s %s %+v", in.Header, in.Claims, in)
			if !strings.Contains(text, c.shows) {
				t.Errorf("%q is not shown: %s", c.shows, text)
			}
			if strings.Contains(text, c.raw[strings.LastIndexByte(c.raw, '.')+1:]) {
				t.Error("the signature is shown")
			}
			if in.Judged != (c.v != nil) || (in.Refusal != nil) != (c.refusal != "") {
				t.Errorf("judged %v, refusal %v", in.Judged, in.Refusal)
			}
			for _, r := range string(in.Claims) {
				if r != '\n' && (r < ' ' || r > '~') {
					t.Errorf("%U reaches the terminal", r)
				}
			}
		})
	}
	for _, garbage := range []string{"", "a.b", "!.!.!", b64("x") + "." + b64("{}") + "."} {
		if _, err := token.Inspect(garbage, v, now); err == nil {
			t.Errorf("%q was inspected", garbage)
		}
	}
}
