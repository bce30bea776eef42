package token_test

import (
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

func at(offset time.Duration) int64 { return now.Add(offset).Unix() }

// Each case has the fault of its name; "and" names a second fault of a later
// row, which must not be the one that is told.
//
// M8: a token without an end, and one that is issued in the future, are among them.
func TestVerifyTellsTheFirstFaultInTheOrderOfTheContract(t *testing.T) {
	nativeRules := token.Rules{Audience: "gatehouse", Issuer: "https://issuer.example"}
	supabaseRules := token.Rules{Profile: token.Supabase}
	past, future := at(-time.Hour), at(time.Hour)
	good := fmt.Sprintf(`"exp":%d,"aud":"gatehouse","iss":"https://issuer.example"`, future)

	cases := []struct {
		name    string
		rules   token.Rules
		payload string
		forged  bool // signed with a secret that is not ours
		want    error
	}{
		{"nothing is wrong", nativeRules, `{` + good + `,"sub":"` + user + `"}`, false, nil},
		{"a claim of the wrong type, and the signature", nativeRules, `{"sub":7}`, true, problem.TokenMalformed},
		{"a signature, and an end in the past", nativeRules, fmt.Sprintf(`{"exp":%d}`, past), true, problem.TokenSignature},
		{"an end in the past, and a start in the future", nativeRules, fmt.Sprintf(`{"exp":%d,"nbf":%d}`, past, future), false, problem.TokenExpired},
		{"an end that is now", nativeRules, fmt.Sprintf(`{"exp":%d}`, at(0)), false, problem.TokenExpired},
		{"a start in the future, and another audience", nativeRules, fmt.Sprintf(`{"nbf":%d,"aud":"x"}`, future), false, problem.TokenNotYetValid},
		{"issued in the future, and another audience", nativeRules, fmt.Sprintf(`{"iat":%d,"aud":"x"}`, at(time.Second)), false, problem.TokenNotYetValid},
		{"another audience, and another issuer", nativeRules, fmt.Sprintf(`{"exp":%d,"aud":"x","iss":"x"}`, future), false, problem.TokenAudience("gatehouse")},
		{"another audience, and no end", nativeRules, `{"aud":["x","y"]}`, false, problem.TokenAudience("gatehouse")},
		{"an empty list of audiences", nativeRules, `{"aud":[]}`, false, problem.TokenAudience("gatehouse")},
		{"another issuer, and no audience", nativeRules, `{"iss":"https://issuer.example/"}`, false, problem.TokenIssuer},
		{"no issuer, and no end", nativeRules, `{"aud":"gatehouse"}`, false, problem.TokenIssuer},
		{"an issuer of null, and no end", nativeRules, `{"iss":null}`, false, problem.TokenIssuer},
		{"another role, and no audience", supabaseRules, `{"role":"service_role"}`, false, problem.TokenRole},
		{"no role, and no end", supabaseRules, `{"aud":"authenticated"}`, false, problem.TokenRole},
		{"another audience than Supabase's, and another role", supabaseRules, `{"aud":"x","role":"anon"}`, false, problem.TokenAudience("authenticated")},
		{"an API key of Supabase", supabaseRules, fmt.Sprintf(`{"role":"anon","iss":"supabase","iat":%d,"exp":%d}`, past, future), false, problem.TokenRole},
		{"neither audience nor end, and no subject", nativeRules, `{"iss":"https://issuer.example"}`, false, problem.ClaimsMissing("aud", "exp")},
		{"no end, and no subject", nativeRules, `{"aud":"gatehouse","iss":"https://issuer.example"}`, false, problem.ClaimsMissing("exp")},
		{"an end of null", token.Rules{}, `{"exp":null,"sub":"` + user + `"}`, false, problem.ClaimsMissing("exp")},
		{"no subject, and a company that is no UUID", nativeRules, `{` + good + `,"company_id":"x"}`, false, problem.SubjectMissing},
		{"a subject of null", nativeRules, `{` + good + `,"sub":null}`, false, problem.SubjectMissing},
		{"a subject that is no UUID, and such a company", nativeRules, `{` + good + `,"sub":"x","company_id":"x"}`, false, problem.SubjectInvalid},
		{"an empty subject", nativeRules, `{` + good + `,"sub":""}`, false, problem.SubjectInvalid},
		{"a subject without hyphens", nativeRules, `{` + good + `,"sub":"` + strings.ReplaceAll(user, "-", "") + `"}`, false, problem.SubjectInvalid},
		{"a subject in braces", nativeRules, `{` + good + `,"sub":"{` + user + `}"}`, false, problem.SubjectInvalid},
		{"a subject as a URN", nativeRules, `{` + good + `,"sub":"urn:uuid:` + user + `"}`, false, problem.SubjectInvalid},
		{"a company that is no UUID", nativeRules, `{` + good + `,"sub":"` + user + `","company_id":"c-1"}`, false, problem.CompanyInvalid},
		{"a Supabase company that is no UUID", supabaseRules, fmt.Sprintf(`{"exp":%d,"aud":"authenticated","role":"authenticated","sub":%q,"app_metadata":{"company_id":"c-1"}}`, future, user), false, problem.CompanyInvalid},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			key := secret
			if c.forged {
				key = otherSecret
			}
			raw := signed(t, "HS256", []byte(key), `{"alg":"HS256","typ":"JWT"}`, c.payload)
			got, err := verifier(t, c.rules).Verify(raw, now)
			if c.want == nil {
				if err != nil {
					t.Fatalf("refused with %v", err)
				}
				return
			}
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if problem.From(err).Detail != c.want.Error() {
				t.Errorf("the client reads %q, want %q", problem.From(err).Detail, c.want)
			}
			if diff := cmp.Diff(identity.Credential{}, got); diff != "" {
				t.Errorf("a refused token left a credential: %s", diff)
			}
		})
	}
}

// M8: what the library that others use accepts by its defaults.
func TestVerifyRefusesStructuresWithMoreThanOneMeaning(t *testing.T) {
	header, payload := `{"alg":"HS256"}`, native("")
	good := signed(t, "HS256", []byte(secret), header, payload)
	parts := strings.Split(good, ".")
	with := func(header, payload string) string { return signed(t, "HS256", []byte(secret), header, payload) }
	nested := func(levels int) string {
		return native(`,"x":` + strings.Repeat(`[`, levels) + strings.Repeat(`]`, levels))
	}

	cases := []struct {
		name, raw string
		want      error
	}{
		{"the token that all others are made of", good, nil},
		{"nothing", "", problem.TokenMalformed},
		{"one part", parts[0], problem.TokenMalformed},
		{"two parts", parts[0] + "." + parts[1], problem.TokenMalformed},
		{"four parts", good + ".", problem.TokenMalformed},
		{"five parts, as JWE has", good + "." + parts[0] + "." + parts[1], problem.TokenMalformed},
		{"no header", "." + parts[1] + "." + parts[2], problem.TokenMalformed},
		{"no payload", parts[0] + ".." + parts[2], problem.TokenMalformed},
		{"no signature", parts[0] + "." + parts[1] + ".", problem.TokenSignature},
		{"padding", good + "=", problem.TokenMalformed},
		{"a line end inside", parts[0][:4] + "\n" + good[4:], problem.TokenMalformed},
		{"a carriage return at the end", good + "\r", problem.TokenMalformed},
		{"a space in front", " " + good, problem.TokenMalformed},
		{"a NUL at the end", good + "\x00", problem.TokenMalformed},
		{"standard base64 in the place of base64url", with(header, native(`,"x":"`+strings.Repeat("?>", 9)+`"`)), nil},
		{"the standard alphabet", strings.NewReplacer("-", "+", "_", "/").Replace(with(header, native(`,"x":"`+strings.Repeat("?>~", 9)+`"`))), problem.TokenMalformed},
		{"more than 64 KiB", with(header, native(`,"x":"`+strings.Repeat("x", 64<<10)+`"`)), problem.TokenMalformed},
		{"a header that is an array", with(`["HS256"]`, payload), problem.TokenMalformed},
		{"a payload that is a string", with(header, `"x"`), problem.TokenMalformed},
		{"a payload that is null", with(header, `null`), problem.TokenMalformed},
		{"two objects in the payload", with(header, payload+payload), problem.TokenMalformed},
		{"a cut payload", with(header, payload[:len(payload)-1]), problem.TokenMalformed},
		{"white space around the JSON", with(" "+header, "\n"+payload+" "), nil},
		{"a byte order mark", with(header, "\ufeff"+payload), problem.TokenMalformed},
		{"invalid UTF-8", with(header, native(",\"x\":\"\xff\"")), problem.TokenMalformed},
		{"a lone surrogate", with(header, native(`,"x":"\ud800"`)), problem.TokenMalformed},
		{"exp twice (the last would win)", with(header, native(fmt.Sprintf(`,"exp":%d`, at(2*time.Hour)))), problem.TokenMalformed},
		{"sub twice, once escaped", with(header, native(`,"s\u0075b":"`+user+`"`)), problem.TokenMalformed},
		{"an unknown claim twice", with(header, native(`,"x":1,"x":1`)), problem.TokenMalformed},
		{"a nested member twice", with(header, native(`,"x":[{"a":1,"a":2}]`)), problem.TokenMalformed},
		{"alg twice", with(`{"alg":"HS256","alg":"HS256"}`, payload), problem.TokenMalformed},
		{"claims in another letter case are other claims", with(header, native(`,"EXP":1,"Sub":1`)), nil},
		{"crit with an unknown name", with(`{"alg":"HS256","crit":["x"],"x":1}`, payload), problem.TokenMalformed},
		{"crit with b64", with(`{"alg":"HS256","b64":false,"crit":["b64"]}`, payload), problem.TokenMalformed},
		{"an empty crit", with(`{"alg":"HS256","crit":[]}`, payload), problem.TokenMalformed},
		{"a crit of null", with(`{"alg":"HS256","crit":null}`, payload), problem.TokenMalformed},
		{"no alg", with(`{"typ":"JWT"}`, payload), problem.TokenMalformed},
		{"an alg of null", with(`{"alg":null}`, payload), problem.TokenMalformed},
		{"an alg that is a number", with(`{"alg":256}`, payload), problem.TokenMalformed},
		{"alg in lower case", with(`{"alg":"hs256"}`, payload), problem.TokenMalformed},
		{"alg none without a signature", b64(`{"alg":"none"}`) + "." + parts[1] + ".", problem.TokenMalformed},
		{"alg none with a signature", with(`{"alg":"none"}`, payload), problem.TokenMalformed},
		{"alg None", b64(`{"alg":"None"}`) + "." + parts[1] + ".", problem.TokenMalformed},
		{"an algorithm that is not configured", signed(t, "HS512", []byte(secret), `{"alg":"HS512"}`, payload), problem.TokenMalformed},
		{"a kid that is a number", with(`{"alg":"HS256","kid":1}`, payload), problem.TokenMalformed},
		{"a kid of null", with(`{"alg":"HS256","kid":null}`, payload), problem.TokenMalformed},
		{"another typ", with(`{"alg":"HS256","typ":"anything"}`, payload), nil},
		{"a typ that is a number", with(`{"alg":"HS256","typ":7}`, payload), nil},
		{"a key that the token brings along", with(`{"alg":"HS256","jwk":{"kty":"oct","k":"eA"},"jku":"https://x.example","x5u":"https://x.example","x5c":["eA"]}`, payload), nil},
		{"JSON as deep as is allowed", with(header, nested(31)), nil},
		{"JSON that is too deep", with(header, nested(32)), problem.TokenMalformed},
		{"JSON that is absurdly deep", with(header, nested(20_000)), problem.TokenMalformed},
	}
	v := verifier(t, token.Rules{})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := v.Verify(c.raw, now); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestVerifyChecksTheTypeOfEveryClaimThatItReads(t *testing.T) {
	supabase := func(members string) string {
		return native(`,"aud":"authenticated","role":"authenticated"` + members)
	}
	bad, null := problem.TokenMalformed, error(nil)
	cases := []struct {
		name    string
		profile token.Profile
		payload string
		want    error
	}{
		{"sub as a number", token.Native, fmt.Sprintf(`{"sub":1,"exp":%d}`, at(time.Hour)), bad},
		{"exp as a string", token.Native, fmt.Sprintf(`{"sub":%q,"exp":"%d"}`, user, at(time.Hour)), bad},
		{"exp as true", token.Native, fmt.Sprintf(`{"sub":%q,"exp":true}`, user), bad},
		{"exp beyond the year 9999", token.Native, fmt.Sprintf(`{"sub":%q,"exp":253402300800}`, user), bad},
		{"exp at the end of the year 9999", token.Native, fmt.Sprintf(`{"sub":%q,"exp":253402300799}`, user), nil},
		{"exp as infinity", token.Native, fmt.Sprintf(`{"sub":%q,"exp":1e999}`, user), bad},
		{"exp with an exponent", token.Native, fmt.Sprintf(`{"sub":%q,"exp":2e9}`, user), nil},
		{"exp with a fraction", token.Native, fmt.Sprintf(`{"sub":%q,"exp":%d.5}`, user, at(0)), nil},
		{"exp with a leading zero", token.Native, fmt.Sprintf(`{"sub":%q,"exp":0%d}`, user, at(time.Hour)), bad},
		{"iat far before the epoch", token.Native, native(`,"iat":-253402300799`), nil},
		{"iat further before the epoch", token.Native, native(`,"iat":-253402300800`), bad},
		{"iat as a string", token.Native, native(`,"iat":"1"`), bad},
		{"nbf as an object", token.Native, native(`,"nbf":{}`), bad},
		{"iss as a number", token.Native, native(`,"iss":1`), bad},
		{"jti as a number", token.Native, native(`,"jti":1`), bad},
		{"aud as a number", token.Native, native(`,"aud":1`), bad},
		{"aud as a list with a number", token.Native, native(`,"aud":["x",1]`), bad},
		{"aud as a list with null", token.Native, native(`,"aud":[null]`), bad},
		{"aud as an object", token.Native, native(`,"aud":{}`), bad},
		{"email as a list", token.Native, native(`,"email":["a@x.test"]`), bad},
		{"company_id as a number", token.Native, native(`,"company_id":1`), bad},
		{"sid as a number", token.Native, native(`,"sid":1`), bad},
		{"every optional claim as null", token.Native, native(`,"iat":null,"nbf":null,"iss":null,"jti":null,"aud":null,"email":null,"company_id":null,"sid":null`), null},
		{"claims that the native profile does not read", token.Native, native(`,"role":1,"app_metadata":[]`), nil},
		{"Supabase's role as a number", token.Supabase, native(`,"aud":"authenticated","role":1`), bad},
		{"app_metadata as a list", token.Supabase, supabase(`,"app_metadata":[]`), bad},
		{"app_metadata as a string", token.Supabase, supabase(`,"app_metadata":"x"`), bad},
		{"app_metadata as null", token.Supabase, supabase(`,"app_metadata":null`), null},
		{"app_metadata with anything else in it", token.Supabase, supabase(`,"app_metadata":{"provider":1,"x":{"roles":1}}`), nil},
		{"a Supabase company as a number", token.Supabase, supabase(`,"app_metadata":{"company_id":1}`), bad},
		{"a Supabase company as null", token.Supabase, supabase(`,"app_metadata":{"company_id":null,"roles":null}`), null},
		{"Supabase's roles as a string", token.Supabase, supabase(`,"app_metadata":{"roles":"admin"}`), bad},
		{"Supabase's roles with a number", token.Supabase, supabase(`,"app_metadata":{"roles":["admin",1]}`), bad},
		{"claims that the Supabase profile does not read", token.Supabase, supabase(`,"company_id":1,"user_metadata":[],"session_id":1`), nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := verifier(t, token.Rules{Profile: c.profile})
			if _, err := v.Verify(hs256(t, c.payload), now); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestVerifyReturnsWhatTheTokenSaid(t *testing.T) {
	expires := now.Add(time.Hour)
	id, _ := identity.ParseUserID(user)
	co, _ := identity.ParseCompanyID(company)
	sid, _ := identity.ParseSessionID(session)
	supabase := `,"aud":["x","authenticated"],"role":"authenticated"`

	cases := []struct {
		name    string
		profile token.Profile
		header  string
		payload string
		want    identity.Credential
	}{
		{
			"a token of the replaced gateway", token.Native, `{"alg":"HS256","typ":"JWT"}`,
			native(fmt.Sprintf(`,"iat":%d.25,"email":"ana@x.test","company_id":%q`, at(-time.Minute), strings.ToUpper(company))),
			identity.Credential{User: id, Company: co, Email: "ana@x.test", IssuedAt: now.Add(-time.Minute + 250*time.Millisecond), ExpiresAt: expires},
		},
		{
			"a token with a session and a key id", token.Native, `{"alg":"HS256","kid":"of someone else"}`,
			native(fmt.Sprintf(`,"sid":%q`, session)),
			identity.Credential{User: id, Session: sid, HasSession: true, ExpiresAt: expires, KeyNamed: true},
		},
		{
			"an empty key id, which names no key", token.Native, `{"alg":"HS256","kid":""}`,
			native(""),
			identity.Credential{User: id, ExpiresAt: expires},
		},
		{
			"a session that is no UUID, which is one that never existed", token.Native, `{"alg":"HS256"}`,
			native(`,"sid":"s-1"`),
			identity.Credential{User: id, HasSession: true, ExpiresAt: expires},
		},
		{
			"an empty company, which is none", token.Native, `{"alg":"HS256"}`,
			native(`,"company_id":"","app_metadata":{"company_id":"` + company + `","roles":["admin"]}`),
			identity.Credential{User: id, ExpiresAt: expires},
		},
		{
			"a token of Supabase", token.Supabase, `{"alg":"HS256"}`,
			native(supabase + `,"email":"ana@x.test","session_id":"` + session + `","app_metadata":{"company_id":"` + company + `","roles":["admin","viewer"]}`),
			identity.Credential{User: id, Company: co, Email: "ana@x.test", Roles: []string{"admin", "viewer"}, ExpiresAt: expires},
		},
		{
			"what a user may write itself, which is not believed", token.Supabase, `{"alg":"HS256"}`,
			native(supabase + `,"company_id":"` + company + `","roles":["admin"],"user_metadata":{"company_id":"` + company + `","roles":["admin"]}`),
			identity.Credential{User: id, ExpiresAt: expires},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := verifier(t, token.Rules{Profile: c.profile})
			got, err := v.Verify(signed(t, "HS256", []byte(secret), c.header, c.payload), now)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLeewayCountsOnBothSidesOfEveryDate(t *testing.T) {
	cases := []struct {
		name    string
		payload string
		want    error
	}{
		{"ended just within the leeway", fmt.Sprintf(`{"sub":%q,"exp":%d}`, user, at(-59*time.Second)), nil},
		{"ended at the leeway", fmt.Sprintf(`{"sub":%q,"exp":%d}`, user, at(-60*time.Second)), problem.TokenExpired},
		{"starts at the leeway", native(fmt.Sprintf(`,"nbf":%d`, at(60*time.Second))), nil},
		{"starts past the leeway", native(fmt.Sprintf(`,"nbf":%d`, at(61*time.Second))), problem.TokenNotYetValid},
		{"issued at the leeway", native(fmt.Sprintf(`,"iat":%d`, at(60*time.Second))), nil},
		{"issued past the leeway", native(fmt.Sprintf(`,"iat":%d`, at(61*time.Second))), problem.TokenNotYetValid},
	}
	v := verifier(t, token.Rules{Leeway: time.Minute})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := v.Verify(hs256(t, c.payload), now); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestNewVerifierRefusesRulesThatCannotBeMeant(t *testing.T) {
	cases := map[string]token.Rules{
		"no keys":            {},
		"a negative leeway":  {Keys: secretSet(t), Leeway: -time.Second},
		"an unknown profile": {Keys: secretSet(t), Profile: 7},
	}
	for name, rules := range cases {
		if _, err := token.NewVerifier(rules); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
