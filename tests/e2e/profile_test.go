package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAudienceAndIssuerAreAskedForWhereConfigured(t *testing.T) {
	t.Parallel()
	s := startStack(t, map[string]string{
		"GATEWAY_JWT_AUDIENCE": "gate",
		"GATEWAY_JWT_ISSUER":   "https://issuer.example",
		"GATEWAY_JWT_LEEWAY":   "30s",
	})
	c := claimsOf(s.newMember()).with("aud", "gate").with("iss", "https://issuer.example")
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	wrongAudience := refusesAudience("gate")
	for _, test := range []struct {
		name string
		c    claims
		want refusal
	}{
		{"both as asked", c, accepted},
		{"one audience of several", c.with("aud", []string{"x", "gate"}), accepted},
		{"another audience", c.with("aud", "gates"), wrongAudience},
		{"another case", c.with("aud", "Gate"), wrongAudience},
		{"several other audiences", c.with("aud", []string{"x", "y"}), wrongAudience},
		{"an empty list of audiences", c.with("aud", []string{}), wrongAudience},
		{"an empty audience", c.with("aud", ""), wrongAudience},
		{"no audience", c.without("aud"), refusesMissing("aud")},
		{"audience null", c.with("aud", nil), refusesMissing("aud")},
		{"another issuer", c.with("iss", "https://issuer.example/"), wrongIssuer},
		{"no issuer", c.without("iss"), wrongIssuer},
		{"issuer null", c.with("iss", nil), wrongIssuer},
		{"neither audience nor exp", c.without("aud", "exp"), refusesMissing("aud, exp")},
		{"no audience, another issuer", c.without("aud").with("iss", "x"), wrongIssuer},
		{"another audience, another issuer", c.with("aud", "x").with("iss", "x"), wrongAudience},
		{"another audience, expired", c.with("aud", "x").with("exp", at(-time.Hour)), expired},
		{"another audience, not yet valid", c.with("aud", "x").with("nbf", at(time.Hour)), notYetValid},
		{"neither audience nor sub", c.without("aud", "sub"), refusesMissing("aud")},
		{"expired within the leeway", c.with("exp", at(-5*time.Second)), accepted},
		{"expired beyond the leeway", c.with("exp", at(-40*time.Second)), expired},
		{"issued in the future within the leeway", c.with("iat", at(10*time.Second)), accepted},
		{"issued in the future beyond the leeway", c.with("iat", at(90*time.Second)), notYetValid},
		{"valid from a moment within the leeway", c.with("nbf", at(10*time.Second)), accepted},
	} {
		t.Run(test.name, func(t *testing.T) { s.decide(t, token(t, test.c), test.want) })
	}
	t.Run("a token from login has both", func(t *testing.T) {
		s := s.in(t)
		u := s.withPassword(s.newMember())
		s.decide(t, s.logIn(u), accepted)
	})
}

func TestLegacyTokensEndWhenTheOperatorSays(t *testing.T) {
	t.Parallel()
	s := startStack(t, map[string]string{"GATEWAY_LEGACY_TOKENS_UNTIL": "2020-01-01T00:00:00Z"})
	u := s.withPassword(s.newMember())
	c := claimsOf(u)
	legacy := token(t, c)
	s.decide(t, legacy, revoked)
	s.decide(t, token(t, c.with("company_id", s.newCompany())), revoked)
	s.decide(t, token(t, c.without("company_id")), revoked)
	s.decide(t, token(t, c.with("sub", s.newUUID())), unknownUser)
	s.decide(t, sign(t, map[string]any{"alg": "HS256", "kid": ""}, c, secret), revoked)
	s.postJSON(initialRoute, bearer(legacy), "").expect(t, revoked)
	// The login service itself, too.
	s.direct("POST", initialRoute, bearer(legacy), "").expect(t, revoked)
	fresh := s.logIn(u)
	s.decide(t, fresh, accepted)
	if err := s.postJSON(initialRoute, bearer(fresh), "").is(http.StatusOK); err != nil {
		t.Errorf("ensure-company with a token from login: %v", err)
	}
}

// supabaseClaims is a token as Supabase issues it.
func supabaseClaims(id, company string) claims {
	app := map[string]any{"provider": "email", "roles": []string{"user"}}
	if company != "" {
		app["company_id"] = company
	}
	return claims{
		"sub": id, "aud": "authenticated", "role": "authenticated", "email": "ada@example.com",
		"iss": "https://project.supabase.co/auth/v1", "app_metadata": app,
		"user_metadata": map[string]any{"company_id": "11111111-1111-4111-8111-111111111111", "roles": []string{"admin"}},
		"session_id":    "4b4b4b4b-1111-4111-8111-111111111111", "aal": "aal1", "is_anonymous": false, "phone": "",
		"amr": []map[string]any{{"method": "password", "timestamp": 1}},
		"iat": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
}

func TestSupabaseTokensWithoutALookUp(t *testing.T) {
	t.Parallel()
	s := startStackWithoutLogin(t, map[string]string{
		"GATEWAY_SUPABASE_URL": "https://project.supabase.co",
		"GATEWAY_USER_CHECK":   "off",
	})
	id, company := s.newUUID(), s.newUUID() // nobody asks whether they exist
	c := supabaseClaims(id, company)
	app := func(v any) claims { return c.with("app_metadata", v) }
	for _, test := range []struct {
		name string
		c    claims
		want refusal
	}{
		{"as Supabase issues it", c, accepted},
		{"a sid of no session", c.with("sid", "x"), accepted}, // neither user nor session is asked for
		{"another audience", c.with("aud", "anon"), refusesAudience("authenticated")},
		{"the role anon", c.with("role", "anon"), wrongRole},
		{"the service role", c.with("role", "service_role"), wrongRole},
		{"no role", c.without("role"), wrongRole},
		{"role null", c.with("role", nil), wrongRole},
		{"role a list", c.with("role", []string{"authenticated"}), malformed},
		{"no audience", c.without("aud"), refusesMissing("aud")},
		{"no audience, no exp", c.without("aud", "exp"), refusesMissing("aud, exp")},
		{"no role, no audience", c.without("role", "aud"), wrongRole},
		{"expired, no role", c.without("role").with("exp", 1), expired},
		{"no sub", c.without("sub"), noSubject},
		{"company at the top", c.without("app_metadata").with("company_id", company), noCompany},
		{"company that a user can write", c.without("app_metadata"), noCompany},
		{"no company", app(map[string]any{"roles": []string{"admin"}}), noCompany},
		{"company null", app(map[string]any{"company_id": nil}), noCompany},
		{"company empty", app(map[string]any{"company_id": ""}), noCompany},
		{"company no UUID", app(map[string]any{"company_id": "acme"}), wrongCompany},
		{"company a number", app(map[string]any{"company_id": 1}), malformed},
		{"app_metadata null", app(nil), noCompany},
		{"app_metadata a list", app([]string{company}), malformed},
		{"roles a text", app(map[string]any{"company_id": company, "roles": "admin"}), malformed},
	} {
		t.Run(test.name, func(t *testing.T) { s.decide(t, token(t, test.c), test.want) })
	}
	t.Run("company twice", func(t *testing.T) {
		payload := strings.Replace(marshal(t, c), `"company_id":"`+company, `"company_id":"`+id+`","company_id":"`+company, 1)
		s.decide(t, signJSON(`{"alg":"HS256"}`, payload, secret), malformed)
	})
	t.Run("the identity of the token", func(t *testing.T) {
		s.decide(t, token(t, c), accepted)
		h := s.query.only(t).Header
		for name, want := range map[string]string{"X-User-Id": id, "X-Company-Id": company, "X-User-Email": "ada@example.com"} {
			if got := h.Values(name); !slices.Equal(got, []string{want}) {
				t.Errorf("%s = %q, want %q", name, got, want)
			}
		}
	})
	t.Run("an email that cannot stand in a header", func(t *testing.T) {
		for _, email := range []string{"a@example.com\r\nX-Company-Id: 1", "ü@example.com", "a\u2028@example.com", "\x00"} {
			s.decide(t, token(t, c.with("email", email)), accepted)
			if got := s.query.only(t).Header.Values("X-User-Email"); len(got) != 0 {
				t.Errorf("the upstream got the email %q", got)
			}
		}
	})
}

func TestSupabaseTokensWithEveryCheck(t *testing.T) {
	t.Parallel()
	s := startStack(t, map[string]string{
		"GATEWAY_SUPABASE_URL":  "https://project.supabase.co",
		"GATEWAY_COMPANY_CHECK": "required",
	})
	u := s.withPassword(s.newMember())
	s.decide(t, token(t, supabaseClaims(u.id, u.company)), accepted)
	if got := s.query.only(t).Header.Get("X-User-Email"); got != u.email {
		t.Errorf("the upstream got the email %q, want the row's %q", got, u.email)
	}
	s.decide(t, token(t, supabaseClaims(s.newUUID(), u.company)), unknownUser)
	s.decide(t, token(t, supabaseClaims(u.id, s.newCompany())), companyLeft)
	s.decide(t, token(t, supabaseClaims(u.id, "")), noCompany)
	t.Run("a token of login itself is of that profile", func(t *testing.T) {
		s := s.in(t)
		raw := s.logIn(u)
		s.decide(t, raw, accepted)
		got := payloadOf(t, raw)
		if got["role"] != "authenticated" || got["aud"] == nil {
			t.Errorf("role %v, aud %v", got["role"], got["aud"])
		}
		app, _ := got["app_metadata"].(map[string]any)
		if app["company_id"] != u.company {
			t.Errorf("app_metadata = %v, want the company %s", app, u.company)
		}
	})
	t.Run("ensure-company takes and gives tokens of that profile", func(t *testing.T) {
		s := s.in(t)
		stranger := s.newUser("")
		company := s.newCompany()
		s.sql(`INSERT INTO company_invitations (company_id, user_id, expires_at) VALUES ($2::uuid, $1::uuid, now() + interval '1 day')`, stranger.id, company)
		a := s.ensure(token(t, supabaseClaims(stranger.id, "")), `{"company_id":"`+company+`"}`)
		s.wantCompany(t, a, stranger, company, true)
	})
	s.sql(`UPDATE users SET is_active = false WHERE id = $1::uuid`, u.id)
	s.decide(t, token(t, supabaseClaims(u.id, u.company)), inactiveUser)
}
