package token_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/token"
)

// scalar is the private half of a pair as a JWK has it.
func scalar(t testing.TB, p pair) []byte {
	t.Helper()
	switch k := p.private.(type) {
	case *ecdsa.PrivateKey:
		b, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return b
	case ed25519.PrivateKey:
		return k.Seed()
	}
	t.Fatalf("a %T has no single scalar", p.private)
	return nil
}

func TestAGeneratedKeyOfEveryAlgorithmSignsAndVerifies(t *testing.T) {
	for _, alg := range []string{"HS256", "HS384", "HS512", "RS256", "ES256", "ES384", "ES512", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			key, id, err := token.GenerateJWK(alg, "")
			if err != nil {
				t.Fatal(err)
			}
			set, err := token.AddJWK(nil, key)
			if err != nil {
				t.Fatal(err)
			}
			rules := token.Rules{Keys: keySet(t, token.Sources{Algorithm: "HS256", JWKSet: set})}
			issuer, err := token.NewIssuer(rules, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			minted, err := issuer.Issue(grant(), now)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := verifier(t, rules).Verify(minted.Token, now); err != nil {
				t.Error(err)
			}
			if k, _ := rules.Keys.Signer(); k.ID() != id || k.Algorithm() != alg {
				t.Errorf("signed with %s %s, want %s %s", k.Algorithm(), k.ID(), alg, id)
			}
		})
	}
	if _, _, err := token.GenerateJWK("none", ""); err == nil {
		t.Error("a key for none")
	}
}

func TestTheStepsOfARotation(t *testing.T) {
	one, _, err := token.GenerateJWK("EdDSA", "one")
	if err != nil {
		t.Fatal(err)
	}
	two, _, err := token.GenerateJWK("ES256", "two")
	if err != nil {
		t.Fatal(err)
	}
	var set []byte
	step := func(name string, edited []byte, err error, want string) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		set = edited
		var got []string
		for _, k := range keySet(t, token.Sources{Algorithm: "HS256", JWKSet: set}).Describe() {
			got = append(got, fmt.Sprintf("%s %s %s %v", k.ID, k.Algorithm, k.Type, k.Signs))
		}
		if d := cmp.Diff(want, strings.Join(got, ", ")); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	edited, err := token.AddJWK(nil, one)
	step("begin", edited, err, "one EdDSA OKP true")
	edited, err = token.AddJWK(set, two)
	step("add", edited, err, "one EdDSA OKP true, two ES256 EC false")
	if _, err := token.RemoveJWK(set, "one"); err == nil {
		t.Error("the key that signs was removed")
	}
	edited, err = token.PromoteJWK(set, "two")
	step("promote", edited, err, "one EdDSA OKP false, two ES256 EC true")
	edited, err = token.PromoteJWK(set, "one")
	step("back", edited, err, "one EdDSA OKP true, two ES256 EC false")
	edited, err = token.PromoteJWK(set, "two")
	step("promote again", edited, err, "one EdDSA OKP false, two ES256 EC true")
	edited, err = token.RemoveJWK(set, "one")
	step("remove", edited, err, "two ES256 EC true")

	for name, err := range map[string]error{
		"promote": second(token.PromoteJWK(set, "three")),
		"remove":  second(token.RemoveJWK(set, "three")),
	} {
		if !errors.Is(err, token.ErrNoKeyOfThatName) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := token.AddJWK(set, two); err == nil {
		t.Error("one key was added twice")
	}
	public := jwks(rfcP256 + kid("public"))
	if _, err := token.PromoteJWK(public, "public"); err == nil {
		t.Error("a public key was made to sign")
	}
}

func second(_ []byte, err error) error { return err }

func TestAnEditKeepsWhatItDoesNotUnderstand(t *testing.T) {
	before := `{"note":"ours","keys":[{` + rfcEd25519 + rfcEd25519Private + kid("ed") + signing + `,"x5t":"abc","ext":true},{` + rfcP256 + rfcP256Private + kid("ec") + `}]}`
	after, err := token.PromoteJWK([]byte(before), "ec")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(after, &got); err != nil {
		t.Fatal(err)
	}
	first := got["keys"].([]any)[0].(map[string]any)
	if got["note"] != "ours" || first["x5t"] != "abc" || first["ext"] != true || first["d"] == nil {
		t.Errorf("lost something: %s", after)
	}
}

// Property: whatever is read as a set, nothing panics; no error repeats what
// stands in a key; an accepted set means the same after an edit that changes
// nothing, and publishes no secret.
func FuzzAnAcceptedJWKSetRoundTrips(f *testing.F) {
	f.Add(jwks(rfcEd25519+rfcEd25519Private+kid("ed")+signing, rfcP256+rfcP256Private, rfcRSA+kid("rsa")))
	f.Add(jwks(oct("HS256", secret) + signing))
	f.Add(jwks(`"kty":"RSA","n":"AQ","e":"AQAB","alg":"RS256"`))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","x":"","y":""}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, refused, err := token.ReadPublishedSet(text, ""); err == nil && len(refused) > 0 {
			noKeyMaterial(t, refused, text)
		}
		set, err := token.Sources{Algorithm: "HS256", JWKSet: text}.KeySet()
		if err != nil {
			noKeyMaterial(t, err, text)
			return
		}
		for _, secret := range []string{`"d"`, `"k"`, `"p"`, `"q"`} {
			if strings.Contains(string(set.JWKS()), secret+":") {
				t.Fatalf("published: %s", set.JWKS())
			}
		}
		signer, signs := set.Signer()
		if !signs {
			return
		}
		again, err := token.PromoteJWK(text, signer.ID())
		if err != nil {
			t.Fatalf("the set is accepted and cannot be edited: %v", err)
		}
		if d := cmp.Diff(set.Describe(), keySet(t, token.Sources{Algorithm: "HS256", JWKSet: again}).Describe()); d != "" {
			t.Fatal(d)
		}
	})
}
