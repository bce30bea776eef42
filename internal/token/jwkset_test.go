package token_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/internal/token"
)

// The keys of RFC 8037 appendix A.1, RFC 7515 appendix A.3.1 and RFC 7638
// section 3.1: everybody knows their private halves.
const (
	rfcEd25519        = `"kty":"OKP","crv":"Ed25519","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`
	rfcEd25519Private = `,"d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"`
	rfcP256           = `"kty":"EC","crv":"P-256","alg":"ES256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"`
	rfcP256Private    = `,"d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"`
	rfcRSA            = `"kty":"RSA","alg":"RS256","e":"AQAB","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"`
)

// oct is a shared secret as a JWK.
func oct(alg, text string) string {
	return fmt.Sprintf(`"kty":"oct","alg":%q,"k":%q`, alg, b64(text))
}

// jwks is a set of keys, each given as its members.
func jwks(keys ...string) []byte {
	return []byte(`{"keys":[{` + strings.Join(keys, "},{") + `}]}`)
}

const (
	signing = `,"key_ops":["sign"]`
	named   = `,"kid":%q`
)

func kid(id string) string { return fmt.Sprintf(named, id) }

func TestAJWKSetIsReadStrictlyAndItsFaultsNameOnlyThePlace(t *testing.T) {
	ed, ec := rfcEd25519+rfcEd25519Private, rfcP256+rfcP256Private
	short := strings.Replace(rfcRSA, "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_", "", 1)
	cases := []struct {
		name string
		set  []byte
		want string // part of the error; empty: accepted
	}{
		{"a key of each type", jwks(ed+signing, ec, rfcRSA, oct("HS512", strings.Repeat("word", 16))), ""},
		{"public keys only", jwks(rfcEd25519, rfcP256, rfcRSA), ""},
		{"members that nobody here knows, and certificates", jwks(ed + `,"x5c":["!"],"x5u":7,"jku":"http://evil.test","own":{"a":1}`), ""},
		{"sign and verify", jwks(ed + `,"key_ops":["sign","verify"],"use":"sig"`), ""},
		{"null members are absent ones", jwks(ed + `,"kid":null,"use":null,"key_ops":null`), ""},
		{"a secret as long as its hash", jwks(oct("HS384", strings.Repeat("t", 48))), ""},
		{"a leading zero in n", jwks(strings.Replace(rfcRSA, `"e":"AQAB"`, `"e":"AAEAAQ"`, 1)), ""},

		{"nothing", []byte(" "), "not strict JSON"},
		{"an array, as GoTrue has it", []byte(`[{` + ed + `}]`), "is an object"},
		{"no set", []byte(`{"kty":"oct"}`), "not a JWK set"},
		{"keys of another type", []byte(`{"keys":{}}`), "not a JWK set"},
		{"no keys", []byte(`{"keys":[]}`), "the set has no key"},
		{"members twice", []byte(`{"keys":[],"keys":[]}`), "not strict JSON"},
		{"members of a key twice", jwks(ed + `,"kid":"a","kid":"b"`), "not strict JSON"},
		{"something behind the set", append(jwks(ed), '1'), "not strict JSON"},
		{"a key that is no object", []byte(`{"keys":[{` + ed + `},7]}`), "keys[1]: is no JSON object"},
		{"a member of another type", jwks(ed, `"kty":"RSA","n":7`), "keys[1]: n is not of its type"},
		{"an operation of another type", jwks(ed + `,"key_ops":"sign"`), "keys[0]: key_ops is not of its type"},
		{"no alg", jwks(strings.Replace(ed, `"alg":"EdDSA",`, "", 1)), "keys[0]: alg is missing"},
		{"none", jwks(strings.Replace(ed, "EdDSA", "none", 1)), "keys[0]: alg names no algorithm"},
		{"no kty", jwks(strings.Replace(ed, `"kty":"OKP",`, "", 1)), "keys[0]: kty is missing"},
		{"kty and alg of two kinds", jwks(strings.Replace(ed, "EdDSA", "ES256", 1)), "kty and alg do not belong together"},
		{"a public key as a secret", jwks(strings.Replace(rfcRSA, "RS256", "HS256", 1)), "kty and alg do not belong together"},
		{"a curve of another alg", jwks(strings.Replace(ec, "ES256", "ES384", 1)), "crv is not P-384"},
		{"another Edwards curve", jwks(strings.Replace(ed, "Ed25519", "Ed448", 1)), "crv is not Ed25519"},
		{"an empty kid", jwks(ed + `,"kid":""`), "kid is empty"},
		{"a kid without end", jwks(ed + kid(strings.Repeat("k", 257))), "kid is empty or longer"},
		{"for encryption", jwks(ed + `,"use":"enc"`), "do not let it verify"},
		{"for other operations", jwks(ed + `,"key_ops":["encrypt"]`), "do not let it verify"},
		{"two that sign", jwks(ed+signing, rfcRSA, ec+signing), "keys[2]: is to sign (key_ops), and so is keys[0]"},
		{"one that cannot sign", jwks(rfcEd25519 + signing), "is to sign (key_ops) and has no private half"},
		{"one kid twice", jwks(ed+kid("a"), ec+kid("a")), "keys[1]: has the kid of keys[0]"},
		{"one key twice", jwks(ed+kid("a"), rfcEd25519+kid("b")), "keys[1]: is the same key as keys[0]"},
		{"one key with two algorithms", jwks(rfcRSA+kid("a"), strings.Replace(rfcRSA, "RS256", "PS256", 1)+kid("b")), "keys[1]: is the same key as keys[0]"},
		{"one secret with two algorithms", jwks(oct("HS256", strings.Repeat("t", 64))+kid("a"), oct("HS512", strings.Repeat("t", 64))+kid("b")), "keys[1]: is the same key as keys[0]"},
		{"a short secret", jwks(oct("HS256", strings.Repeat("t", 31))), "k is shorter than the 32 bytes"},
		{"a secret shorter than its hash", jwks(oct("HS512", strings.Repeat("t", 63))), "k is shorter than the 64 bytes"},
		{"a short RSA key", jwks(short), "2048 to 8192 are accepted"},
		{"an even exponent", jwks(strings.Replace(rfcRSA, "AQAB", "AQAA", 1)), "e is not an odd number"},
		{"an exponent of one", jwks(strings.Replace(rfcRSA, "AQAB", "AQ", 1)), "e is not an odd number"},
		{"padding", jwks(strings.Replace(rfcRSA, "AQAB", "AQAB=", 1)), "e is not strict base64url"},
		{"bits that no byte needs", jwks(strings.Replace(ed, "HURo", "HURp", 1)), "x is not strict base64url"},
		{"a short x", jwks(strings.Replace(ed, "11qY", "", 1)), "x has 29 bytes instead of 32"},
		{"a private key of another", jwks(strings.Replace(ed, "nWGx", "nWGy", 1)), "the private half does not belong"},
		{"an EC private key of another", jwks(strings.Replace(ec, "jpsQ", "jpsR", 1)), "the private half does not belong"},
		{"an RSA private key without primes", jwks(rfcRSA + `,"d":"AQAB"`), "p is missing"},
		{"an RSA private key of another", jwks(rfcRSA + `,"d":"AQAB","p":"Aw","q":"BQ"`), "the private half does not belong"},
		{"three primes", jwks(rfcRSA + `,"d":"AQAB","p":"Aw","q":"BQ","oth":[]`), "more than two primes"},
		{"a point off the curve", jwks(strings.Replace(rfcP256, "f83O", "f83P", 1)), "no point of the curve"},
		{"a key that anybody signs with", jwks(`"kty":"OKP","crv":"Ed25519","alg":"EdDSA","x":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"`), "anybody can sign"},
		{"all faults at once", jwks(strings.Replace(ed, "EdDSA", "none", 1), ec, `"kty":"oct"`), "keys[0]: alg names no algorithm that is known here; keys[2]: alg is missing"},
		{"too many keys", jwks(strings.Split(strings.Repeat(ed+" ", 101), " ")[:101]...), "101 keys are too many"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := token.Sources{Algorithm: "HS256", JWKSet: c.set}.KeySet()
			switch {
			case c.want == "" && err != nil:
				t.Fatalf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
			noKeyMaterial(t, err, c.set)
		})
	}
}

// noKeyMaterial fails if an error repeats six characters of a key.
func noKeyMaterial(t *testing.T, err error, set []byte) {
	t.Helper()
	var read struct{ Keys []map[string]any }
	if err == nil || json.Unmarshal(set, &read) != nil {
		return
	}
	for _, key := range read.Keys {
		for _, name := range []string{"k", "d", "p", "q", "n", "x", "y", "kid"} {
			text, _ := key[name].(string)
			for i := 0; i+6 <= len(text); i++ {
				if strings.Contains(err.Error(), text[i:i+6]) {
					t.Fatalf("%q repeats something of %s", err, name)
				}
			}
		}
	}
}

func TestAKeyWithoutANameHasItsThumbprint(t *testing.T) {
	set := keySet(t, token.Sources{Algorithm: "HS256", JWKSet: jwks(rfcEd25519, rfcRSA, rfcP256+kid("mine"))})
	var got []string
	for _, k := range set.Keys() {
		got = append(got, k.ID())
	}
	// As RFC 8037 appendix A.3 and RFC 7638 section 3.1 have them.
	want := []string{"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", "mine"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// What the set publishes, member by member, against the texts of the RFCs.
func TestOnlyPublicHalvesOfOurOwnArePublished(t *testing.T) {
	set := keySet(t, token.Sources{
		Algorithm: "HS256", Secret: []byte(secret), Remote: true,
		JWKSet: jwks(rfcEd25519+rfcEd25519Private+kid("ed")+signing, rfcP256+rfcP256Private+kid("ec"), rfcRSA+kid("rsa"), oct("HS256", otherSecret)),
	})
	foreign, _, err := token.ReadPublishedSet(jwks(strings.Replace(rfcRSA, "RS256", "RS512", 1)+kid("foreign")), "")
	if err != nil {
		t.Fatal(err)
	}
	set, _ = set.Fetched(foreign)
	var got, want any
	if err := json.Unmarshal(set.JWKS(), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(jwks(rfcEd25519+kid("ed")+`,"use":"sig"`, rfcP256+kid("ec")+`,"use":"sig"`, rfcRSA+kid("rsa")+`,"use":"sig"`), &want); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := string(secretSet(t).JWKS()); got != `{"keys":[]}` {
		t.Errorf("a secret publishes %s", got)
	}
	pem := newPair(t, "ES384")
	if got := string(keySet(t, token.Sources{Algorithm: "ES384", PrivatePEM: pem.privatePEM}).JWKS()); !strings.Contains(got, `"crv":"P-384"`) || strings.Contains(got, `"d"`) {
		t.Errorf("a PEM key publishes %s", got)
	}
}

// D14: a key has one algorithm.
func TestAKidOfTheSetSelectsThatKeyAndEveryOtherTokenMeetsTheSecret(t *testing.T) {
	pair, retired := newPair(t, "ES256"), newPair(t, "ES256")
	own := []byte(`{"keys":[` + privateJWK(t, pair, "ES256", "now", "sign") + `,` + privateJWK(t, retired, "ES256", "before", "verify") + `,{` + oct("HS512", strings.Repeat("word", 16)) + kid("shared") + `}]}`)
	set := keySet(t, token.Sources{Algorithm: "HS256", Secret: []byte(secret), JWKSet: own})
	header := func(alg, kid string) string { return fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, kid) }
	cases := []struct {
		name   string
		alg    string
		key    any
		header string
		want   error
	}{
		{"the key that signs", "ES256", pair.private, header("ES256", "now"), nil},
		{"the key that only verifies", "ES256", retired.private, header("ES256", "before"), nil},
		{"a shared secret of the set", "HS512", []byte(strings.Repeat("word", 16)), header("HS512", "shared"), nil},
		{"the secret of the settings, not named", "HS256", []byte(secret), `{"alg":"HS256"}`, nil},
		{"the secret of the settings under a name of its issuer", "HS256", []byte(secret), header("HS256", "1111"), nil},
		{"a key under the other's name", "ES256", pair.private, header("ES256", "before"), problem.TokenSignature},
		{"a key of the set, not named", "ES256", pair.private, `{"alg":"ES256"}`, problem.TokenSignature},
		{"a key of the set, under an unknown name", "ES256", pair.private, header("ES256", "1111"), problem.TokenSignature},
		{"an empty name is none", "ES256", pair.private, header("ES256", ""), problem.TokenSignature},
		{"a shared secret of the set, not named", "HS512", []byte(strings.Repeat("word", 16)), `{"alg":"HS512"}`, problem.TokenSignature},
		{"the secret of the settings under a key's name", "HS256", []byte(secret), header("HS256", "now"), problem.TokenSignature},
		{"an algorithm that no key has", "ES384", newPair(t, "ES384").private, header("ES384", "now"), problem.TokenMalformed},
	}
	for _, rules := range []token.Rules{{Keys: set}, {Keys: set.VerifyOnly()}, {Keys: set.Counted(func(token.Key) func() { return func() {} })}} {
		v := verifier(t, rules)
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				if _, err := v.Verify(signed(t, c.alg, c.key, c.header, native("")), now); !errors.Is(err, c.want) {
					t.Fatalf("got %v, want %v", err, c.want)
				}
			})
		}
	}
}

// privateJWK writes a pair by way of the set that reads it.
func privateJWK(t testing.TB, p pair, alg, id, operation string) string {
	t.Helper()
	set := keySet(t, token.Sources{Algorithm: alg, PublicPEM: p.pubPEM})
	var published struct{ Keys []map[string]any }
	if err := json.Unmarshal(set.JWKS(), &published); err != nil {
		t.Fatal(err)
	}
	j := published.Keys[0]
	j["kid"], j["key_ops"] = id, []string{operation}
	j["d"] = base64.RawURLEncoding.EncodeToString(scalar(t, p))
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestOnlyTheKeyOfTheSetThatIsMarkedSigns(t *testing.T) {
	if _, err := token.NewIssuer(token.Rules{Keys: keySet(t, token.Sources{Algorithm: "HS256", Secret: []byte(secret), JWKSet: jwks(rfcEd25519 + rfcEd25519Private)})}, time.Hour); !errors.Is(err, token.ErrNoSigner) {
		t.Errorf("got %v: a set in which no key signs leaves it to the secret", err)
	}
	issuer, err := token.NewIssuer(token.Rules{Keys: keySet(t, token.Sources{Algorithm: "HS256", JWKSet: jwks(rfcEd25519+rfcEd25519Private, rfcP256+rfcP256Private+kid("ec")+signing)})}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := identity.ParseUserID(user)
	if got := headerOf(t, issuer, id); got != `{"alg":"ES256","typ":"JWT","kid":"ec"}` {
		t.Errorf("signed with %s", got)
	}
	if err := issuer.Replace(keySet(t, token.Sources{Algorithm: "HS256", JWKSet: jwks(rfcP256 + kid("ec"))})); !errors.Is(err, token.ErrNoSigner) {
		t.Errorf("got %v", err)
	}
	if err := issuer.Replace(keySet(t, token.Sources{Algorithm: "HS256", JWKSet: jwks(rfcEd25519 + rfcEd25519Private + kid("ed") + signing)})); err != nil {
		t.Fatal(err)
	}
	if got := headerOf(t, issuer, id); got != `{"alg":"EdDSA","typ":"JWT","kid":"ed"}` {
		t.Errorf("signed with %s", got)
	}
	// An issuer of tokens by JWT_JWKS_URL alone has the secret to sign with.
	remote := keySet(t, token.Sources{Algorithm: "ES256", Secret: []byte(secret), Remote: true})
	if k, ok := remote.Signer(); !ok || k.Algorithm() != "HS256" {
		t.Errorf("signs with %s, %v", k.Algorithm(), ok)
	}
	if _, signs := remote.VerifyOnly().Signer(); signs {
		t.Error("a set that only verifies signs")
	}
}

func headerOf(t *testing.T, issuer *token.Issuer, user identity.UserID) string {
	t.Helper()
	minted, err := issuer.Issue(token.Grant{User: user}, now)
	if err != nil {
		t.Fatal(err)
	}
	header, _, _ := strings.Cut(minted.Token, ".")
	text, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAPEMKeyHasNoPlaceBesideASet(t *testing.T) {
	pair := newPair(t, "ES256")
	for name, s := range map[string]token.Sources{
		"a set":           {Algorithm: "ES256", PublicPEM: pair.pubPEM, JWKSet: jwks(rfcEd25519)},
		"a fetched set":   {Algorithm: "ES256", PrivatePEM: pair.privatePEM, Remote: true},
		"not even signed": {Algorithm: "HS256", PublicPEM: pair.pubPEM, JWKSet: jwks(rfcEd25519)},
	} {
		if _, err := s.KeySet(); err == nil {
			t.Errorf("%s was accepted with a PEM key", name)
		}
	}
}

func TestKeysThatSwitchWhileTokensAreVerified(t *testing.T) {
	before, after := newPair(t, "ES256"), newPair(t, "ES256")
	set := func(p pair, id string) *token.KeySet {
		return keySet(t, token.Sources{Algorithm: "ES256", JWKSet: []byte(`{"keys":[` + privateJWK(t, p, "ES256", id, "sign") + `]}`)})
	}
	v := verifier(t, token.Rules{Keys: set(before, "before")})
	old := signed(t, "ES256", before.private, `{"alg":"ES256","kid":"before"}`, native(""))
	fresh := signed(t, "ES256", after.private, `{"alg":"ES256","kid":"after"}`, native(""))
	if _, err := v.Verify(old, now); err != nil {
		t.Fatal(err)
	}
	v.Replace(set(after, "after"))
	if _, err := v.Verify(old, now); !errors.Is(err, problem.TokenSignature) {
		t.Errorf("the key of before: %v", err)
	}
	if _, err := v.Verify(fresh, now); err != nil {
		t.Errorf("the key of now: %v", err)
	}
}

func TestAcceptedTokensAreCountedByTheirKey(t *testing.T) {
	pair := newPair(t, "ES256")
	counts := map[string]int{}
	set := keySet(t, token.Sources{Algorithm: "HS256", Secret: []byte(secret), JWKSet: []byte(`{"keys":[` + privateJWK(t, pair, "ES256", "ec", "sign") + `]}`)}).
		Counted(func(k token.Key) func() {
			name := string(k.Origin()) + " " + k.Algorithm()
			return func() { counts[name]++ }
		})
	v := verifier(t, token.Rules{Keys: set})
	for _, raw := range []string{
		hs256(t, native("")), hs256(t, native("")), hs256(t, `{"sub":"`+user+`","exp":1}`),
		signed(t, "ES256", pair.private, `{"alg":"ES256","kid":"ec"}`, native("")),
		signed(t, "ES256", newPair(t, "ES256").private, `{"alg":"ES256","kid":"ec"}`, native("")),
	} {
		_, _ = v.Verify(raw, now)
	}
	if d := cmp.Diff(map[string]int{"secret HS256": 2, "set ES256": 1}, counts); d != "" {
		t.Error(d)
	}
}
