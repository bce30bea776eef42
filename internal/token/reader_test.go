package token_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/internal/token"
)

// A verifier keeps what it needs to read a token for the next one. Property: it
// says of a token what a new one says, whatever it read before, and what it said
// before does not change by it.
func FuzzWhatWasReadBeforeMakesNoDifference(f *testing.F) {
	app := `,"aud":"authenticated","role":"authenticated","app_metadata":{"company_id":"` + company + `","roles":["a\u0064min","user"]}`
	f.Add(`{"alg":"HS256","kid":"k"}`, native(`,"email":"ana@x.test"`+app), `{"alg":"HS256"}`, native(`,"email":"someone.else@x.test"`+app))
	f.Add(`{"alg":"HS256"}`, native(app), `{"alg":"HS256","crit":["x"]}`, native(app))
	f.Add(`{"alg":"HS256"}`, native(`,"x":[[[{"a":"`), `{"alg":"HS256"}`, native(`,"a":{"b":1,"b":2}`))
	f.Add(`{"alg":"HS256","kid":1}`, `{`, `{"kid":"k"}`, strings.Repeat(`[`, 50))
	f.Add(`{"alg":"HS256"`, native(`,"sub":1`), ``, `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"o":1,"p":1,"q":1}`)
	f.Fuzz(func(t *testing.T, header1, payload1, header2, payload2 string) {
		for _, profile := range []token.Profile{token.Native, token.Supabase} {
			used := verifier(t, token.Rules{Profile: profile})
			raws := []string{
				signed(t, "HS256", []byte(secret), header1, payload1), signed(t, "HS256", []byte(secret), header2, payload2),
				signed(t, "HS256", []byte(secret), header1, payload2), signed(t, "HS256", []byte(otherSecret), header2, payload1),
			}
			raws = append(raws, strings.Replace(raws[0], ".", "\n.", 1), raws[1]+".", "."+raws[0], raws[0])
			type verdict struct{ said, err any }
			var got []verdict
			for _, raw := range append(raws, raws...) {
				said, err := used.Verify(raw, now)
				got = append(got, verdict{said, err})
			}
			for i, raw := range append(raws, raws...) {
				said, err := verifier(t, token.Rules{Profile: profile}).Verify(raw, now)
				if want := (verdict{said, err}); !reflect.DeepEqual(got[i], want) {
					t.Errorf("%q after others:\n%+v, alone\n%+v", raw, got[i], want)
				}
			}
		}
	})
}

func TestVerifyFromManyGoroutines(t *testing.T) {
	v := verifier(t, token.Rules{})
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for n := range 200 {
				email := fmt.Sprintf("user%d-%d@x.test", g, n)
				kid := strings.Repeat("k", n%3)
				c, err := v.Verify(signed(t, "HS256", []byte(secret), `{"alg":"HS256","kid":"`+kid+`"}`, native(`,"email":"`+email+`"`)), now)
				if err != nil || c.Email != email || c.KeyNamed != (kid != "") {
					t.Errorf("%s: %+v, %v", email, c, err)
				}
			}
		})
	}
	all.Wait()
}

func TestASharedSecretAcceptsItsOneSignature(t *testing.T) {
	for _, alg := range []string{"HS256", "HS384", "HS512"} {
		v := verifier(t, token.Rules{Keys: keySet(t, token.Sources{Algorithm: alg, Secret: []byte(secret)})})
		good := signed(t, alg, []byte(secret), `{"alg":"`+alg+`"}`, native(""))
		input, signature := good[:strings.LastIndexByte(good, '.')+1], good[strings.LastIndexByte(good, '.')+1:]
		cases := []struct {
			name, raw string
			want      error
		}{
			{"the signature", good, nil},
			{"none", input, problem.TokenSignature},
			{"its beginning", input + signature[:len(signature)/8*4], problem.TokenSignature},
			{"more than it", input + signature[:len(signature)/4*4] + "AAAA", problem.TokenSignature},
			{"that of another secret", signed(t, alg, []byte(otherSecret), `{"alg":"`+alg+`"}`, native("")), problem.TokenSignature},
			{"that of another payload", input + strings.SplitN(signed(t, alg, []byte(secret), `{"alg":"`+alg+`"}`, native(`,"x":1`)), ".", 3)[2], problem.TokenSignature},
			{"the signature again", good, nil},
		}
		for _, c := range cases {
			t.Run(alg+", "+c.name, func(t *testing.T) {
				if _, err := v.Verify(c.raw, now); !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
			})
		}
	}
}

// An accepted token once cost 52 allocations. There are two now; the
// race detector throws some of what is kept away.
func TestAColdTokenCostsFewAllocations(t *testing.T) {
	v := verifier(t, token.Rules{})
	raw := hs256(t, native(`,"iat":1,"email":"ana@x.test","company_id":"`+company+`","jti":"x","sid":"`+session+`"`))
	if got := testing.AllocsPerRun(1000, func() { _, _ = v.Verify(raw, now) }); got > 12 {
		t.Errorf("%v allocations", got)
	}
}
