package token_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
)

// Property: whatever comes in, Verify does not panic, and what is accepted with
// many keys is accepted with exactly one of them.
func FuzzAnAcceptedTokenVerifiesUnderExactlyOneKey(f *testing.F) {
	var sets []*token.KeySet
	var keys []token.Key
	for _, alg := range []string{"HS256", "HS512", "RS256", "ES256", "ES384", "EdDSA"} {
		set := keySet(f, sourcesFor(f, alg))
		key, _ := set.Signer()
		sets, keys = append(sets, set), append(keys, key)
		issuer, err := token.NewIssuer(token.Rules{Keys: set}, time.Hour)
		if err != nil {
			f.Fatal(err)
		}
		minted, err := issuer.Issue(grant(), now)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(minted.Token)
	}
	f.Add(hs256(f, native("")))
	f.Add("")
	f.Add("..")
	all, err := token.NewKeySet(keys...)
	if err != nil {
		f.Fatal(err)
	}
	many := verifier(f, token.Rules{Keys: all})
	var single []*token.Verifier
	for _, set := range sets {
		single = append(single, verifier(f, token.Rules{Keys: set}))
	}

	f.Fuzz(func(t *testing.T, raw string) {
		_, err := many.Verify(raw, now)
		accepting := 0
		for _, v := range single {
			if _, err := v.Verify(raw, now); err == nil {
				accepting++
			}
		}
		if accepting > 1 || (err == nil) != (accepting == 1) {
			t.Errorf("accepted by all: %v, by %d keys alone", err == nil, accepting)
		}
		if _, err := token.Inspect(raw, many, now); err == nil && strings.Count(raw, ".") != 2 {
			t.Error("inspected what is no token")
		}
	})
}

// Property: whatever is signed with our secret, an accepted token means to an
// ordinary JSON reader what it means to us, and has exactly one spelling.
func FuzzAnAcceptedTokenHasOneMeaningAndOneSpelling(f *testing.F) {
	f.Add(`{"alg":"HS256","typ":"JWT"}`, native(`,"iat":1,"email":"ana@x.test","company_id":"`+company+`"`), uint(7), byte('A'))
	f.Add(`{"alg":"HS256","kid":"k"}`, native(`,"sid":"x","x":[{"a":[1,2,{}]},"\u00e9"]`), uint(9999), byte('-'))
	f.Add(`{"alg":"HS256","alg":"none"}`, native(`,"exp":1`), uint(0), byte('\n'))
	v := verifier(f, token.Rules{})
	f.Fuzz(func(t *testing.T, header, payload string, place uint, char byte) {
		input := b64(header) + "." + b64(payload)
		signature, err := jwt.SigningMethodHS256.Sign(input, []byte(secret))
		if err != nil {
			t.Skip()
		}
		raw := input + "." + base64.RawURLEncoding.EncodeToString(signature)
		got, err := v.Verify(raw, now)
		if err != nil {
			return
		}
		var head, body map[string]any
		if json.Unmarshal([]byte(header), &head) != nil || json.Unmarshal([]byte(payload), &body) != nil {
			t.Fatalf("accepted, and no JSON: %q %q", header, payload)
		}
		text, _ := body["sub"].(string)
		if sub, err := identity.ParseUserID(text); err != nil || sub != got.User || head["alg"] != "HS256" {
			t.Fatalf("we read %s, others read %q signed with %v", got.User, text, head["alg"])
		}
		if i := int(place % uint(len(raw))); raw[i] != char {
			altered := raw[:i] + string([]byte{char}) + raw[i+1:]
			if _, err := v.Verify(altered, now); err == nil {
				t.Fatalf("accepted in a second spelling: %q", altered)
			}
		}
	})
}
