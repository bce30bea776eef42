package e2e

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"hash"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestOnlyOneBearerTokenIsACredential(t *testing.T) {
	s := shared(t)
	good := token(t, claimsOf(s.newMember()))
	for _, test := range []struct {
		name  string
		lines []string
		want  refusal
	}{
		{"no header", nil, anonymous},
		{"another scheme", []string{"Authorization: Basic dGVzdDp0ZXN0"}, anonymous},
		{"a token under another scheme", []string{"Authorization: Token " + good}, anonymous},
		{"a scheme that only begins like Bearer", []string{"Authorization: Bearerx " + good}, anonymous},
		{"the token alone", []string{"Authorization: " + good}, anonymous},
		{"the scheme alone", []string{"Authorization: Bearer"}, anonymous},
		{"the scheme and blanks", []string{"Authorization: Bearer   "}, anonymous},
		{"an empty header", []string{"Authorization:"}, anonymous},
		{"the same token twice", []string{"Authorization: Bearer " + good, "Authorization: Bearer " + good}, anonymous},
		{"a good token and another scheme", []string{"Authorization: Bearer " + good, "Authorization: Basic dGVzdDp0ZXN0"}, anonymous},
		{"another scheme and a good token", []string{"Authorization: Basic dGVzdDp0ZXN0", "authorization: Bearer " + good}, anonymous},
		// Which is how a proxy writes two headers.
		{"two tokens in one header", []string{"Authorization: Bearer " + good + ",Bearer " + good}, anonymous},
		{"a token and a comma", []string{"Authorization: Bearer " + good + ","}, anonymous},
		{"two tokens with a blank", []string{"Authorization: Bearer " + good + " " + good}, malformed},
		{"a quoted token", []string{`Authorization: Bearer "` + good + `"`}, malformed},
		{"a tab behind the scheme", []string{"Authorization: Bearer\t" + good}, anonymous},
		{"an empty header behind the token", []string{"Authorization: Bearer " + good, "Authorization:"}, accepted},
		{"an empty header before the token", []string{"Authorization:", "Authorization: Bearer " + good}, accepted},
		{"blanks around the token", []string{"Authorization:   Bearer   " + good + "  "}, accepted},
		{"the scheme in lower case", []string{"Authorization: bearer " + good}, accepted},
		{"the scheme in upper case", []string{"AUTHORIZATION: BEARER " + good}, accepted},
		{"the scheme in mixed case", []string{"authorization: bEaReR " + good}, accepted},
		{"the token in another header", []string{"X-Authorization: Bearer " + good}, anonymous},
		{"the token in a cookie", []string{"Cookie: access_token=" + good}, anonymous},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.in(t)
			s.query.forget()
			a := s.raw(rawGET(strictRoute, test.lines...))
			a.expect(t, test.want)
			if test.want != accepted {
				s.query.none(t)
			}
		})
	}
	if a := s.get(strictRoute+"?access_token="+good, nil); a.status != http.StatusUnauthorized {
		t.Errorf("a token in the query passed: %d", a.status)
	}
}

// withMAC signs with another hash than the algorithm's name may say.
func withMAC(t *testing.T, alg string, h func() hash.Hash, c claims) string {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64([]byte(marshal(t, map[string]string{"alg": alg, "typ": "JWT"}))) + "." + b64([]byte(marshal(t, c)))
	mac := hmac.New(h, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + b64(mac.Sum(nil))
}

func TestATokenHasOneSpelling(t *testing.T) {
	s := shared(t)
	c := claimsOf(s.newMember())
	good := token(t, c)
	parts := strings.Split(good, ".")
	header, payload := marshal(t, map[string]string{"alg": "HS256"}), marshal(t, c)
	unsigned := func(alg any) string {
		signed := sign(t, map[string]any{"alg": alg}, c, secret)
		return signed[:strings.LastIndexByte(signed, '.')+1]
	}
	// The last character of 32 bytes holds four bits and two zeros.
	respelt := good[:len(good)-1] + string(good[len(good)-1]+1)
	std := base64.RawStdEncoding.EncodeToString([]byte(`{"alg":"HS256","x":"???>>>~~~"}`))
	for _, test := range []struct {
		name, token string
		want        refusal
	}{
		{"as it should be", good, accepted},
		{"header members nobody reads", sign(t, map[string]any{"alg": "HS256", "typ": "at+jwt", "jku": "https://evil.example", "jwk": map[string]any{}, "x5u": "x"}, c, secret), accepted},
		{"kid nobody knows", sign(t, map[string]any{"alg": "HS256", "kid": "nobody"}, c, secret), accepted}, // meets JWT_SECRET
		{"no type", signJSON(header, payload, secret), accepted},
		{"another order and blanks in the JSON", signJSON(` { "alg" : "HS256" } `, " "+payload+"\n", secret), accepted},

		{"one part", parts[0], malformed},
		{"two parts", parts[0] + "." + parts[1], malformed},
		{"four parts", good + ".", malformed},
		{"four parts with content", good + "." + parts[2], malformed},
		{"dots alone", "..", malformed},
		{"no word of base64", "not.a.token", malformed},
		{"five parts of an encrypted token", good + "." + parts[0] + "." + parts[1], malformed},
		{"padding", good + "=", malformed},
		{"padding in the header", parts[0] + "==." + parts[1] + "." + parts[2], malformed},
		{"trailing bits in the signature", respelt, malformed},
		{"the other alphabet", std + "." + parts[1] + "." + parts[2], malformed},
		{"a header that is no JSON", signJSON(`alg:HS256`, payload, secret), malformed},
		{"a header that is a list", signJSON(`["HS256"]`, payload, secret), malformed},
		{"an empty header", signJSON(``, payload, secret), malformed},
		{"a payload that is no JSON", signJSON(header, `sub`, secret), malformed},
		{"a payload that is null", signJSON(header, `null`, secret), malformed},
		{"a payload that is a list", signJSON(header, `[`+payload+`]`, secret), malformed},
		{"something behind the payload", signJSON(header, payload+`{}`, secret), malformed},
		{"a byte order mark", signJSON(header, "\ufeff"+payload, secret), malformed},
		{"a payload that is no UTF-8", signJSON(header, strings.Replace(payload, "@", "\xff", 1), secret), malformed},
		{"alg twice", signJSON(`{"alg":"none","alg":"HS256"}`, payload, secret), malformed},
		{"alg twice, once escaped", signJSON(`{"alg":"HS256","\u0061lg":"HS256"}`, payload, secret), malformed},
		{"sub twice", signJSON(header, `{"sub":"x",`+payload[1:], secret), malformed},
		{"a member nobody reads twice", signJSON(header, `{"x":1,"x":1,`+payload[1:], secret), malformed},
		{"a duplicate inside of a member", signJSON(header, `{"x":{"y":1,"y":2},`+payload[1:], secret), malformed},
		{"crit", sign(t, map[string]any{"alg": "HS256", "crit": []string{"exp"}, "exp": 1}, c, secret), malformed},
		{"crit that is empty", sign(t, map[string]any{"alg": "HS256", "crit": []string{}}, c, secret), malformed},
		{"crit that is null", sign(t, map[string]any{"alg": "HS256", "crit": nil}, c, secret), malformed},
		{"alg none", unsigned("none"), malformed},
		{"alg none with a signature", sign(t, map[string]any{"alg": "none"}, c, secret), malformed},
		{"alg None", unsigned("None"), malformed},
		{"alg NONE", unsigned("NONE"), malformed},
		{"alg empty", unsigned(""), malformed},
		{"alg null", unsigned(nil), malformed},
		{"alg a number", unsigned(256), malformed},
		{"no alg", sign(t, map[string]any{"typ": "JWT"}, c, secret), malformed},
		{"alg in lower case", sign(t, map[string]any{"alg": "hs256"}, c, secret), malformed},
		{"a good HS384", withMAC(t, "HS384", sha512.New384, c), malformed},
		{"a good HS512", withMAC(t, "HS512", sha512.New, c), malformed},
		{"RS256", sign(t, map[string]any{"alg": "RS256"}, c, secret), malformed},
		{"ES256", sign(t, map[string]any{"alg": "ES256"}, c, secret), malformed},
		{"EdDSA", sign(t, map[string]any{"alg": "EdDSA"}, c, secret), malformed},
		{"a kid that is a number", sign(t, map[string]any{"alg": "HS256", "kid": 1}, c, secret), malformed},
		{"a very long token", sign(t, map[string]any{"alg": "HS256"}, c.with("x", strings.Repeat("x", 20_000)), secret), accepted},

		{"sub a number", token(t, c.with("sub", 7)), malformed},
		{"exp a text", token(t, c.with("exp", "4102444800")), malformed},
		{"exp true", token(t, c.with("exp", true)), malformed},
		{"exp a list", token(t, c.with("exp", []int{1})), malformed},
		{"iat a text", token(t, c.with("iat", "1")), malformed},
		{"nbf a text", token(t, c.with("nbf", "1")), malformed},
		{"exp beyond all range", signJSON(header, strings.Replace(marshal(t, c.with("exp", 1)), `"exp":1`, `"exp":1e400`, 1), secret), malformed},
		{"company a number", token(t, c.with("company_id", 7)), malformed},
		{"company an object", token(t, c.with("company_id", map[string]any{})), malformed},
		{"email a number", token(t, c.with("email", 7)), malformed},
		{"sid a number", token(t, c.with("sid", 7)), malformed},
		{"iss a list", token(t, c.with("iss", []string{"x"})), malformed},
		{"aud a number", token(t, c.with("aud", 7)), malformed},
		{"aud a list of numbers", token(t, c.with("aud", []int{7})), malformed},

		{"a signature of another key", sign(t, map[string]any{"alg": "HS256"}, c, "test-secret-of-somebody-else-entirely"), wrongSignature},
		{"a signature with no key", sign(t, map[string]any{"alg": "HS256"}, c, ""), wrongSignature},
		{"no signature", parts[0] + "." + parts[1] + ".", wrongSignature},
		{"half a signature", parts[0] + "." + parts[1] + "." + parts[2][:22], malformedOrWrong(parts[2][:22])},
		{"another payload", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(marshal(t, c.with("role", "admin")))) + "." + parts[2], wrongSignature},
		{"another header", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + parts[1] + "." + parts[2], wrongSignature},
		{"a HS512 that says HS256", withMAC(t, "HS256", sha512.New, c), wrongSignature},
		{"the first character of the signature", parts[0] + "." + parts[1] + "." + otherLetter(parts[2][:1]) + parts[2][1:], wrongSignature},
	} {
		t.Run(test.name, func(t *testing.T) { s.decide(t, test.token, test.want) })
	}

	// Every single character of the signature counts.
	for i := range parts[2] {
		changed := parts[0] + "." + parts[1] + "." + parts[2][:i] + otherLetter(parts[2][i:i+1]) + parts[2][i+1:]
		if a := s.get(strictRoute, bearer(changed)); a.status != http.StatusUnauthorized {
			t.Errorf("with character %d of the signature changed: %d", i, a.status)
		}
	}
}

// malformedOrWrong is the refusal of a part of a signature, whose last
// character may or may not hold bits that nobody reads.
func malformedOrWrong(part string) refusal {
	if _, err := base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
		return malformed
	}
	return wrongSignature
}

func otherLetter(c string) string {
	if c == "A" {
		return "Q" // 16 apart: the bits that count in the last place too
	}
	return "A"
}

func TestClaimsAreJudgedInTheOrderOfTheContract(t *testing.T) {
	s := shared(t)
	c := claimsOf(s.newMember())
	past, future := time.Now().Add(-time.Hour).Unix(), time.Now().Add(time.Hour).Unix()
	id, company := c["sub"].(string), c["company_id"].(string)
	nobody := s.newUUID()
	for _, test := range []struct {
		name string
		c    claims
		want refusal
	}{
		{"nothing wrong", c, accepted},
		{"no iat", c.without("iat"), accepted},
		{"no email", c.without("email"), accepted},
		{"claims that are null", c.with("nbf", nil).with("iat", nil).with("iss", nil).with("aud", nil).with("sid", nil).with("email", nil), accepted},
		{"an audience that nobody asked for", c.with("aud", []string{"elsewhere"}).with("iss", "somebody"), accepted},
		{"times with a fraction", c.with("exp", float64(future)+0.5).with("iat", float64(past)+0.25), accepted},
		{"upper-case ids", c.with("sub", mixed(id)).with("company_id", mixed(company)), accepted},

		{"expired", c.with("exp", past), expired},
		{"expired in 1970", c.with("exp", 0), expired},
		{"expired before 1970", c.with("exp", -1), expired},
		{"expires this second", c.with("exp", time.Now().Unix()), expired},
		{"nbf in the future", c.with("nbf", future), notYetValid},
		{"iat in the future", c.with("iat", future), notYetValid},
		{"no exp", c.without("exp"), refusesMissing("exp")},
		{"exp null", c.with("exp", nil), refusesMissing("exp")},
		{"no sub", c.without("sub"), noSubject},
		{"sub null", c.with("sub", nil), noSubject},
		{"sub empty", c.with("sub", ""), wrongSubject},
		{"sub a name", c.with("sub", "ada"), wrongSubject},
		{"sub without hyphens", c.with("sub", strings.ReplaceAll(id, "-", "")), wrongSubject},
		{"sub in braces", c.with("sub", "{"+id+"}"), wrongSubject},
		{"sub as a URN", c.with("sub", "urn:uuid:"+id), wrongSubject},
		{"sub with a blank", c.with("sub", id+" "), wrongSubject},
		{"sub with a newline", c.with("sub", id+"\n"), wrongSubject},
		{"sub with the hyphens elsewhere", c.with("sub", id[:8]+id[9:19]+"-"+"-"+id[19:]), wrongSubject},
		{"company a name", c.with("company_id", "acme"), wrongCompany},
		{"company without hyphens", c.with("company_id", strings.ReplaceAll(company, "-", "")), wrongCompany},
		{"company in braces", c.with("company_id", "{"+company+"}"), wrongCompany},
		{"nobody", c.with("sub", nobody), unknownUser},
		{"the nil UUID", c.with("sub", "00000000-0000-0000-0000-000000000000"), unknownUser},
		{"no company", c.without("company_id"), noCompany},
		{"company null", c.with("company_id", nil), noCompany},
		{"company empty", c.with("company_id", ""), noCompany},
		{"somebody else's company", c.with("company_id", s.newCompany()), companyLeft},
		{"company elsewhere in the token", c.without("company_id").with("app_metadata", map[string]any{"company_id": company}), noCompany},

		// Two things wrong: the earlier row answers.
		{"expired, not yet valid", c.with("exp", past).with("nbf", future), expired},
		{"expired, no sub", c.with("exp", past).without("sub"), expired},
		{"not yet valid, no exp", c.with("nbf", future).without("exp"), notYetValid},
		{"no exp, no sub", c.without("exp", "sub"), refusesMissing("exp")},
		{"no sub, company no UUID", c.without("sub").with("company_id", "x"), noSubject},
		{"sub no UUID, company no UUID", c.with("sub", "x").with("company_id", "x"), wrongSubject},
		{"company no UUID, nobody", c.with("sub", nobody).with("company_id", "x"), wrongCompany},
		{"nobody, no company", c.with("sub", nobody).without("company_id"), unknownUser},
		{"nobody, sid no UUID", c.with("sub", nobody).with("sid", "x"), unknownUser},
		{"malformed, expired", c.with("exp", past).with("sub", 7), malformed},
	} {
		t.Run(test.name, func(t *testing.T) { s.decide(t, token(t, test.c), test.want) })
	}
	t.Run("signature before expiry", func(t *testing.T) {
		s.decide(t, sign(t, map[string]any{"alg": "HS256"}, c.with("exp", past), strings.Repeat("x", 32)), wrongSignature)
	})
	t.Run("algorithm before signature", func(t *testing.T) {
		s.decide(t, sign(t, map[string]any{"alg": "HS512"}, c, strings.Repeat("x", 32)), malformed)
	})
}

func TestAnInitialRouteAsksForNoCompany(t *testing.T) {
	s := shared(t)
	u := s.newUser("")
	post := func(c claims) answer { return s.postJSON(initialRoute, bearer(token(t, c)), "") }
	// 400: it came to the login service, which has no company to offer.
	post(claimsOf(u)).want(t, http.StatusBadRequest, "Cannot associate company: No company ID provided and no default is configured for the gateway.")
	post(claimsOf(u).with("company_id", s.newCompany())).want(t, http.StatusBadRequest,
		"Cannot associate company: No company ID provided and no default is configured for the gateway.")
	post(claimsOf(u).with("company_id", "x")).expect(t, wrongCompany)
	post(claimsOf(u).with("exp", 1)).expect(t, expired)
	s.postJSON(initialRoute, nil, "").expect(t, anonymous)
}

func TestTheUpstreamLearnsWhoAsks(t *testing.T) {
	s := shared(t)
	u := s.newMember()
	for _, test := range []struct {
		name  string
		email string // of the row
		c     claims
		want  http.Header
	}{
		{
			"the email of the row, not of the token", u.email, claimsOf(u).with("email", "somebody@else.example"),
			http.Header{"X-User-Id": {u.id}, "X-Company-Id": {u.company}, "X-User-Email": {u.email}},
		},
		{
			"canonical ids", u.email, claimsOf(u).with("sub", mixed(u.id)).with("company_id", mixed(u.company)),
			http.Header{"X-User-Id": {u.id}, "X-Company-Id": {u.company}, "X-User-Email": {u.email}},
		},
		{
			"no email that is not ASCII", "ünïcode@example.com", claimsOf(u),
			http.Header{"X-User-Id": {u.id}, "X-Company-Id": {u.company}},
		},
		{
			"no email with a line end", "a@example.com\r\nX-User-Id: 1", claimsOf(u),
			http.Header{"X-User-Id": {u.id}, "X-Company-Id": {u.company}},
		},
		{
			"no email with a control character", "a\x7f@example.com", claimsOf(u),
			http.Header{"X-User-Id": {u.id}, "X-Company-Id": {u.company}},
		},
		{
			"no email that is empty", "", claimsOf(u),
			http.Header{"X-User-Id": {u.id}, "X-Company-Id": {u.company}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.in(t)
			s.sql(`UPDATE users SET email = $2 WHERE id = $1::uuid`, u.id, test.email)
			for _, method := range []string{"GET", "POST"} {
				s.query.forget()
				if err := s.do(method, strictRoute, bearer(token(t, test.c)), "").is(http.StatusOK); err != nil {
					t.Fatal(err)
				}
				got, _ := json.Marshal(identityOf(s.query.only(t)))
				want, _ := json.Marshal(test.want)
				if string(got) != string(want) {
					t.Errorf("%s: the upstream got %s, want %s", method, got, want)
				}
			}
		})
	}
}
