package token_test

import (
	"encoding/base64"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/internal/token"
)

func TestAKeyIsLocatedAsVerifyFindsIt(t *testing.T) {
	own := keySet(t, token.Sources{Algorithm: "HS256", Secret: []byte(secret), JWKSet: jwks(rfcEd25519)})
	v := verifier(t, token.Rules{Keys: own})
	kid := own.Keys()[0].ID()
	cases := []struct {
		name, algorithm, kid string
		want                 token.Place // but for the key
		named                bool
	}{
		{"a name of the set, with its algorithm", "EdDSA", kid, token.Place{Accepted: true, Found: true}, true},
		{"a name of the set, with another that is accepted", "HS256", kid, token.Place{Accepted: true}, true},
		{"an algorithm of no key", "RS256", kid, token.Place{}, true},
		{"no name", "HS256", "", token.Place{Accepted: true, Found: true}, false},
		{"another name, for the secret", "HS256", "other", token.Place{Accepted: true, Found: true}, false},
		{"another name, for the set", "EdDSA", "other", token.Place{Accepted: true}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := v.Choose("", c.algorithm).Locate(c.algorithm, c.kid)
			if got.Found != (got.Key.ID() != "") {
				t.Errorf("found %t, with the key %q", got.Found, got.Key.ID())
			}
			_, named := v.Choose("", c.algorithm).Named(c.kid)
			if got.Key = (token.Key{}); !reflect.DeepEqual(got, c.want) || named != c.named {
				t.Errorf("got %+v and named %t, want %+v and %t", got, named, c.want, c.named)
			}
		})
	}
}

func TestAnUnknownKeyMayComeWhileAnotherIssuerIsAsked(t *testing.T) {
	set, err := token.Sources{Algorithm: "HS256", Secret: []byte(secret), Remote: true}.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	asked := false
	v := verifier(t, token.Rules{Keys: set, Await: func(string) { asked = true }})
	if got := v.Choose("", "RS256").Locate("RS256", "new"); !got.MayCome || got.Found || !got.Accepted {
		t.Errorf("got %+v", got)
	}
	if asked {
		t.Error("the other issuer is asked")
	}
}

func TestWhatIsRefusedAfterTheSignatureIsAuthentic(t *testing.T) {
	before := []error{problem.NotAuthenticated, problem.TokenMalformed, problem.TokenMalformed.Because(errors.New("x")), problem.TokenSignature, problem.Unavailable.Because(errors.New("x")), problem.Internal, errors.New("x")}
	after := []error{nil, problem.TokenExpired, problem.TokenNotYetValid, problem.TokenAudience("x"), problem.TokenIssuer, problem.TokenRole, problem.ClaimsMissing("exp"), problem.SubjectMissing, problem.SubjectInvalid, problem.CompanyInvalid}
	for want, errs := range map[bool][]error{false: before, true: after} {
		for _, err := range errs {
			if got := token.Authentic(err); got != want {
				t.Errorf("%v: %t, want %t", err, got, want)
			}
		}
	}
}

func TestTheTermsHaveNoKeys(t *testing.T) {
	v := verifier(t, token.Rules{Profile: token.Supabase, Leeway: time.Second, Await: func(string) {}})
	got := v.Choose("", "HS256").Terms()
	if got.Keys != nil || got.Await != nil || got.Audience != "authenticated" || got.Leeway != time.Second {
		t.Errorf("got %+v", got)
	}
}

// Property: of every token with a good signature, Verify says what Judge says of
// what Read gives; what Read refuses, Verify calls malformed for the same reason.
func FuzzAStatementIsJudgedAsTheTokenIs(f *testing.F) {
	f.Add(`{"alg":"HS256"}`, native(`,"iat":1,"email":"ana@x.test","company_id":"`+company+`"`), byte(0))
	f.Add(`{"alg":"HS256","kid":"k"}`, `{"exp":1e11,"sub":null,"sid":"","aud":[],"iss":"x"}`, byte(1))
	f.Add(`{"alg":"HS256"}`, `{"exp":-253402300799.5,"nbf":0,"aud":["a","authenticated"],"role":"authenticated","app_metadata":{"roles":["x"],"company_id":""}}`, byte(2))
	f.Fuzz(func(t *testing.T, header, payload string, rules byte) {
		input := b64(header) + "." + b64(payload)
		signature, err := jwt.SigningMethodHS256.Sign(input, []byte(secret))
		if err != nil {
			t.Skip()
		}
		raw := input + "." + base64.RawURLEncoding.EncodeToString(signature)
		r := token.Rules{Profile: token.Profile(rules >> 1 & 1)}
		if rules&1 != 0 {
			r.Audience, r.Issuer, r.Leeway = "a", "x", time.Hour
		}
		v := verifier(t, r)
		want, wantErr := v.Verify(raw, now)
		s, err := v.Read(raw)
		if err != nil {
			if !errors.Is(wantErr, problem.TokenMalformed) || !errors.Is(wantErr, err) {
				t.Fatalf("read says %v, Verify %v", err, wantErr)
			}
			return
		}
		if !v.Choose(s.Issuer, s.Algorithm).Locate(s.Algorithm, s.KeyID).Found {
			return // the header names another algorithm
		}
		got, gotErr := v.Judge(s, now)
		if !sameProblem(gotErr, wantErr) {
			t.Fatalf("Judge says %v, Verify %v", gotErr, wantErr)
		}
		if got.Email, want.Email = "", ""; !reflect.DeepEqual(got, want) {
			t.Fatalf("Judge says %+v, Verify %+v", got, want)
		}
	})
}

func sameProblem(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	p, q := problem.From(a), problem.From(b)
	return p.Reason == q.Reason && p.Detail == q.Detail
}
