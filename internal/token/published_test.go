package token_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/internal/token"
)

func TestOfAPublishedSetOnlyUsablePublicKeysAreTaken(t *testing.T) {
	cases := []struct {
		name      string
		set       string
		algorithm string
		want      []string // kid and alg
		refused   []string // begin of each
	}{
		{"nothing, as Supabase says with HS256 alone", `{"keys":[]}`, "", nil, nil},
		{"public keys", string(jwks(rfcEd25519+kid("a"), rfcP256+kid("b"), rfcRSA+kid("c"))), "", []string{"a EdDSA", "b ES256", "c RS256"}, nil},
		{"no alg where the curve says it", string(jwks(strings.Replace(rfcP256, `"alg":"ES256",`, "", 1)+kid("b"), strings.Replace(rfcEd25519, `"alg":"EdDSA",`, "", 1)+kid("a"))), "", []string{"b ES256", "a EdDSA"}, nil},
		{"no alg for RSA", string(jwks(strings.Replace(rfcRSA, `"alg":"RS256",`, "", 1) + kid("c"))), "", nil, []string{"keys[0]: alg is missing"}},
		{"no alg for RSA, and one is configured", string(jwks(strings.Replace(rfcRSA, `"alg":"RS256",`, "", 1) + kid("c"))), "PS384", []string{"c PS384"}, nil},
		{"a shared secret", string(jwks(oct("HS256", otherSecret)+kid("s"), rfcP256+kid("b"))), "", []string{"b ES256"}, []string{"keys[0]: is a secret"}},
		{"a private key", string(jwks(rfcP256 + rfcP256Private + kid("b"))), "", nil, []string{"keys[0]: is a secret"}},
		{"kinds that are not known, and for encryption", string(jwks(`"kty":"LMS","alg":"HSS"`, rfcRSA+kid("c")+`,"use":"enc"`, rfcP256+kid("b"))), "", []string{"b ES256"}, []string{"keys[0]: ", "keys[1]: "}},
		{"one name twice", string(jwks(rfcP256+kid("b"), rfcRSA+kid("b"), rfcEd25519+kid("a"))), "", []string{"a EdDSA"}, []string{"2 keys share a kid"}},
		{"an operation that signs is not ours", string(jwks(rfcP256 + kid("b") + signing)), "", []string{"b ES256"}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			keys, refused, err := token.ReadPublishedSet([]byte(c.set), c.algorithm)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, k := range keys {
				got = append(got, k.ID()+" "+k.Algorithm())
				if k.CanSign() {
					t.Error("a published key signs")
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if len(refused) != len(c.refused) {
				t.Fatalf("refused %q, want %q", refused, c.refused)
			}
			for i := range refused {
				if !strings.HasPrefix(refused[i], c.refused[i]) {
					t.Errorf("refused %q, want %q", refused[i], c.refused[i])
				}
			}
		})
	}
	for _, text := range []string{"", "null", "[]", "<html>", `{"keys":[],"keys":[]}`, `{"keys":null}`} {
		if _, _, err := token.ReadPublishedSet([]byte(text), ""); err == nil {
			t.Errorf("%q was taken for a set", text)
		}
	}
}

// Supabase's two ages side by side: HS256 by the secret, ES256 by the set.
func TestAFetchedSetStandsBesideTheSecretAndEachKeyHasItsAlgorithm(t *testing.T) {
	current, later := newPair(t, "ES256"), newPair(t, "ES256")
	published := func(p pairOf) []token.Key {
		t.Helper()
		set := keySet(t, token.Sources{Algorithm: "ES256", PublicPEM: p.pubPEM}).JWKS()
		keys, _, err := token.ReadPublishedSet([]byte(strings.Replace(string(set), `"kid":"`, `"kid":"`+p.id, 1)), "")
		if err != nil || len(keys) != 1 {
			t.Fatalf("%v, %v", keys, err)
		}
		return keys
	}
	first, second := published(pairOf{current, "first-"}), published(pairOf{later, "second-"})
	raw := func(p pair, k token.Key) string {
		return signed(t, "ES256", p.private, fmt.Sprintf(`{"alg":"ES256","kid":%q}`, k.ID()), native(""))
	}
	nameless := signed(t, "ES256", current.private, `{"alg":"ES256"}`, native(""))
	stranger := signed(t, "HS256", []byte(otherSecret), `{"alg":"HS256","kid":"x"}`, native(""))
	confused := signed(t, "HS256", current.pubPEM, fmt.Sprintf(`{"alg":"HS256","kid":%q}`, first[0].ID()), native(""))

	base := keySet(t, token.Sources{Algorithm: "HS256", Secret: []byte(secret), Remote: true})
	one, _ := base.Fetched(first)
	two, _ := one.Fetched(second)
	asked := []string{}
	v := verifier(t, token.Rules{Keys: base, Await: func(kid string) { asked = append(asked, kid) }})
	for _, step := range []struct {
		name string
		keys *token.KeySet
		want map[string]error
	}{
		{"never fetched", base, map[string]error{
			hs256(t, native("")): nil, raw(current, first[0]): problem.Unavailable, raw(later, second[0]): problem.Unavailable,
			nameless: problem.TokenSignature, stranger: problem.TokenSignature, confused: problem.TokenSignature,
		}},
		{"fetched", one, map[string]error{
			hs256(t, native("")): nil, raw(current, first[0]): nil, raw(later, second[0]): problem.TokenSignature,
			nameless: problem.TokenSignature, stranger: problem.TokenSignature, confused: problem.TokenSignature,
		}},
		{"rotated", two, map[string]error{
			hs256(t, native("")): nil, raw(current, first[0]): problem.TokenSignature, raw(later, second[0]): nil,
		}},
	} {
		v.Replace(step.keys)
		for raw, want := range step.want {
			if _, err := v.Verify(raw, now); !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", step.name, err, want)
			}
		}
	}
	// Asked about: two names before the first fetch, one after each.
	if len(asked) != 4 {
		t.Errorf("asked for %q", asked)
	}
	// Without a secret no HS token has a key that it could be meant for.
	alone := verifier(t, token.Rules{Keys: keySet(t, token.Sources{Algorithm: "HS256", Remote: true})})
	if _, err := alone.Verify(stranger, now); !errors.Is(err, problem.TokenMalformed) {
		t.Errorf("got %v", err)
	}
}

type pairOf struct {
	pair
	id string
}

func TestAnAwaitedKeyIsUsedAtOnce(t *testing.T) {
	pair := newPair(t, "EdDSA")
	keys, _, err := token.ReadPublishedSet(keySet(t, token.Sources{Algorithm: "EdDSA", PublicPEM: pair.pubPEM}).JWKS(), "")
	if err != nil {
		t.Fatal(err)
	}
	base := keySet(t, token.Sources{Algorithm: "HS256", Remote: true})
	var v *token.Verifier
	v = verifier(t, token.Rules{Keys: base, Await: func(string) {
		set, _ := base.Fetched(keys)
		v.Replace(set)
	}})
	raw := signed(t, "EdDSA", pair.private, fmt.Sprintf(`{"alg":"EdDSA","kid":%q}`, keys[0].ID()), native(""))
	if _, err := v.Verify(raw, now); err != nil {
		t.Error(err)
	}
}

func TestAFetchedKeyNeverTakesTheNameOfOneOfOurOwn(t *testing.T) {
	own := newPair(t, "EdDSA")
	base := keySet(t, token.Sources{Algorithm: "HS256", Remote: true, JWKSet: jwks(rfcEd25519 + kid("one"))})
	foreign, _, err := token.ReadPublishedSet(keySet(t, token.Sources{Algorithm: "EdDSA", PublicPEM: own.pubPEM}).JWKS(), "")
	if err != nil {
		t.Fatal(err)
	}
	taken, _, err := token.ReadPublishedSet(jwks(rfcP256+kid("one")), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, n := base.Fetched(append(taken, foreign...)); n != 1 {
		t.Errorf("%d keys taken, want the one whose name was free", n)
	}
}
