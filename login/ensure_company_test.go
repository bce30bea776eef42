package login_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
	"github.com/atenex/gatehouse/login"
)

func nativeGrant() token.Grant {
	return token.Grant{User: ada, Email: adaEmail, Company: acme}
}

// tokenOf is a good token.
func (g *stage) tokenOf(grant token.Grant) string {
	g.t.Helper()
	minted, err := g.issuer.Issue(grant, time.Now())
	if err != nil {
		g.t.Fatal(err)
	}
	return minted.Token
}

// legacyToken is one of a replaced gateway: signed with our secret, but naming
// no key.
func legacyToken(t *testing.T) string {
	t.Helper()
	return signHS256(t, `{"alg":"HS256","typ":"JWT"}`, map[string]any{
		"sub": ada.String(), "email": adaEmail, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	})
}

// standing is of an active user whose session runs for another hour.
func standing() identity.Standing {
	return identity.Standing{
		Exists: true, Active: true, Email: adaEmail,
		Session: identity.Session{Exists: true, ValidFrom: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)},
	}
}

// joining is a store that admits by what it says of the user, and then answers.
func joining(now identity.Standing, answer func(ask identity.JoinRequest) (identity.JoinResult, error)) store {
	return store{join: func(_ context.Context, ask identity.JoinRequest) (identity.JoinResult, error) {
		if err := ask.Admit(now); err != nil {
			return identity.JoinResult{}, err
		}
		return answer(ask)
	}}
}

// moved answers that ada is in a company now.
func moved(to identity.CompanyID, changed bool) func(identity.JoinRequest) (identity.JoinResult, error) {
	return func(identity.JoinRequest) (identity.JoinResult, error) {
		u := adaWith("").User
		u.Company, u.Role, u.Email = to, "member", "ada.new@example.com"
		return identity.JoinResult{User: u, Session: standing().Session, Changed: changed}, nil
	}
}

func TestTheBodyOfEnsureCompany(t *testing.T) {
	id := globex.String()
	tests := []struct {
		name   string
		body   string
		typ    string
		status int
		want   identity.JoinRequest // what is asked of the store
		kind   string               // of the fault
		field  string
	}{
		{"no body", "", "", 200, identity.JoinRequest{}, "", ""},
		{"no body of another type", "", "text/plain", 200, identity.JoinRequest{}, "", ""},
		{"null", `null`, "application/json", 200, identity.JoinRequest{}, "", ""},
		{"an empty object", `{}`, "application/json", 200, identity.JoinRequest{}, "", ""},
		{"no company", `{"company_id":null,"invitation_token":null}`, "application/json", 200, identity.JoinRequest{}, "", ""},
		{"a company", `{"company_id":"` + id + `"}`, "application/json", 200, identity.JoinRequest{Want: globex}, "", ""},
		{"a company in capital letters", `{"company_id":"` + strings.ToUpper(id) + `"}`, "application/json", 200, identity.JoinRequest{Want: globex}, "", ""},
		{"an invitation", `{"invitation_token":"some words"}`, "application/json", 200, identity.JoinRequest{InvitationToken: "some words"}, "", ""},
		{"unknown members", `{"role":"admin"}`, "application/json", 200, identity.JoinRequest{}, "", ""},
		{"an empty company", `{"company_id":""}`, "application/json", 422, identity.JoinRequest{}, "uuid_parsing", "company_id"},
		{"a company that is no UUID", `{"company_id":"acme"}`, "application/json", 422, identity.JoinRequest{}, "uuid_parsing", "company_id"},
		{"a UUID in braces", `{"company_id":"{` + id + `}"}`, "application/json", 422, identity.JoinRequest{}, "uuid_parsing", "company_id"},
		{"a company that is a number", `{"company_id":7}`, "application/json", 422, identity.JoinRequest{}, "uuid_type", "company_id"},
		{"an invitation that is a number", `{"invitation_token":7}`, "application/json", 422, identity.JoinRequest{}, "string_type", "invitation_token"},
		{"an invitation that is too long", `{"invitation_token":"` + strings.Repeat("x", 513) + `"}`, "application/json", 422, identity.JoinRequest{}, "string_too_long", "invitation_token"},
		{"an array", `[]`, "application/json", 422, identity.JoinRequest{}, "model_attributes_type", ""},
		{"no JSON", `{`, "application/json", 422, identity.JoinRequest{}, "json_invalid", ""},
		{"a member twice", `{"company_id":"` + id + `","company_id":null}`, "application/json", 422, identity.JoinRequest{}, "json_invalid", ""},
		{"a name in another case", `{"Company_ID":"` + id + `"}`, "application/json", 422, identity.JoinRequest{}, "json_invalid", ""},
		{"a body without a type", `{}`, "", 415, identity.JoinRequest{}, "", ""},
		{"a body that is too large", `{"x":"` + strings.Repeat("x", 64<<10) + `"}`, "application/json", 413, identity.JoinRequest{}, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var asked identity.JoinRequest
			g := newStage(t, joining(standing(), func(ask identity.JoinRequest) (identity.JoinResult, error) {
				asked = ask
				return moved(acme, false)(ask)
			}))
			r := post(ensurePath, tt.body)
			r.Header.Del("Content-Type")
			if tt.typ != "" {
				r.Header.Set("Content-Type", tt.typ)
			}
			r.Header.Set("Authorization", "Bearer "+g.tokenOf(nativeGrant()))
			w := g.send(r)
			if w.Code != tt.status {
				t.Fatalf("got %d %s, want %d", w.Code, w.Body, tt.status)
			}
			if tt.kind != "" {
				loc := `["body"]`
				if tt.field != "" {
					loc = `["body","` + tt.field + `"]`
				}
				if want := `{"detail":[{"type":"` + tt.kind + `","loc":` + loc; !strings.HasPrefix(w.Body.String(), want) {
					t.Errorf("got %s, want %s…", w.Body, want)
				}
			}
			if tt.status == http.StatusOK {
				tt.want.User = ada
			}
			if diff := cmp.Diff(tt.want, asked, cmpopts.IgnoreFields(identity.JoinRequest{}, "Admit")); diff != "" {
				t.Errorf("asked of the store (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhoMayAskForACompany(t *testing.T) {
	const invalid = `Bearer error="invalid_token"`
	gone, inactive, ended, late := standing(), standing(), standing(), standing()
	gone.Exists = false
	inactive.Active = false
	ended.Session.Ended = true
	late.Session.NotAfter = time.Now().Add(-time.Second)
	forgotten := standing()
	forgotten.Session = identity.Session{}
	marked := standing()
	marked.TokensValidAfter = time.Now().Add(time.Minute)
	over := func(o *login.Options) { o.LegacyTokensUntil = time.Now().Add(-time.Minute) }
	notYet := func(o *login.Options) { o.LegacyTokensUntil = time.Now().Add(time.Minute) }
	withSession := token.Grant{User: ada, Session: session}

	tests := []struct {
		name      string
		header    func(g *stage) []string
		standing  identity.Standing
		set       set
		status    int
		detail    string
		challenge string
	}{
		{"a token without a session", bearing(nativeGrant()), standing(), nil, 200, "", ""},
		{"a token with a session", bearing(withSession), standing(), nil, 200, "", ""},
		{"a token of a replaced gateway", legacy(t), standing(), nil, 200, "", ""},
		{"a token of a replaced gateway while those are good", legacy(t), standing(), notYet, 200, "", ""},
		{"a token of our own when those of the replaced gateways are not", bearing(nativeGrant()), standing(), over, 200, "", ""},
		{"no header", saying(), standing(), nil, 401, "Not authenticated", "Bearer"},
		{"another scheme", saying("Basic abc"), standing(), nil, 401, "Not authenticated", "Bearer"},
		{"two headers", saying("Bearer abc", "Bearer abc"), standing(), nil, 401, "Not authenticated", "Bearer"},
		{"no token", saying("Bearer "), standing(), nil, 401, "Not authenticated", "Bearer"},
		{"no JWT", saying("Bearer abc"), standing(), nil, 401, "Invalid token format or structure.", invalid + `, error_description="Malformed token"`},
		{"another key", saying("Bearer " + forged(t)), standing(), nil, 401, "Invalid token signature.", invalid + `, error_description="Invalid signature"`},
		{"an unknown user", bearing(nativeGrant()), gone, nil, 401, "User associated with token not found.", invalid},
		{"an inactive user", bearing(nativeGrant()), inactive, nil, 401, "User associated with token is inactive.", invalid},
		{"a session that has ended", bearing(withSession), ended, nil, 401, "Token has been revoked.", invalid + `, error_description="The token has been revoked"`},
		{"a session that is over", bearing(withSession), late, nil, 401, "Token has been revoked.", invalid + `, error_description="The token has been revoked"`},
		{"a session that does not exist", bearing(withSession), forgotten, nil, 401, "Token has been revoked.", invalid + `, error_description="The token has been revoked"`},
		{"a token from before the mark", bearing(nativeGrant()), marked, nil, 401, "Token has been revoked.", invalid + `, error_description="The token has been revoked"`},
		{"a token of a replaced gateway whose time is over", legacy(t), standing(), over, 401, "Token has been revoked.", invalid + `, error_description="The token has been revoked"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var changes []set
			if tt.set != nil {
				changes = append(changes, tt.set)
			}
			g := newStage(t, joining(tt.standing, moved(acme, false)), changes...)
			r := post(ensurePath, "")
			r.Header["Authorization"] = tt.header(g)
			w := g.send(r)
			if w.Code != tt.status || w.Header().Get("WWW-Authenticate") != tt.challenge {
				t.Errorf("got %d %s, WWW-Authenticate %q", w.Code, w.Body, w.Header().Get("WWW-Authenticate"))
			}
			result := "confirmed"
			if tt.status != http.StatusOK {
				result = "unauthenticated"
				if got := decodeBody(t, w)["detail"]; got != tt.detail {
					t.Errorf("detail %q, want %q", got, tt.detail)
				}
			}
			if n := g.count("gatehouse_company_joins_total", result); n != 1 {
				t.Errorf("%s was counted %d times", result, n)
			}
		})
	}
}

// The nil UUID is a UUID, of a company that nobody has; taken for "none" it
// would confirm the current one.
func TestTheNilCompanyIsRefusedLikeAnyUnknownOne(t *testing.T) {
	gone := standing()
	gone.Exists = false
	tests := []struct {
		name     string
		standing identity.Standing
		any      bool
		status   int
		body     string
	}{
		{"where invitations count", standing(), false, 403, `{"detail":"You are not allowed to join this company."}`},
		{"where any company will do", standing(), true, 404, `{"detail":"Company not found."}`},
		{"but the user is judged first", gone, true, 401, `{"detail":"User associated with token not found."}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newStage(t, joining(tt.standing, moved(acme, false)), func(o *login.Options) { o.AnyCompany = tt.any })
			r := post(ensurePath, `{"company_id":"00000000-0000-0000-0000-000000000000"}`)
			r.Header.Set("Authorization", "Bearer "+g.tokenOf(nativeGrant()))
			if w := g.send(r); w.Code != tt.status || w.Body.String() != tt.body {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Body, tt.status, tt.body)
			}
		})
	}
}

func saying(values ...string) func(*stage) []string {
	return func(*stage) []string { return values }
}

func bearing(grant token.Grant) func(*stage) []string {
	return func(g *stage) []string { return []string{"bearer " + g.tokenOf(grant)} }
}

func legacy(t *testing.T) func(*stage) []string {
	return saying("Bearer " + legacyToken(t))
}

func TestWhatEnsureCompanyAnswers(t *testing.T) {
	failing := func(err error) func(identity.JoinRequest) (identity.JoinResult, error) {
		return func(identity.JoinRequest) (identity.JoinResult, error) { return identity.JoinResult{}, err }
	}
	tests := []struct {
		name   string
		answer func(identity.JoinRequest) (identity.JoinResult, error)
		status int
		body   string // of a refusal
		text   string // the message of a good answer
		result string
	}{
		{"the company was the current one", moved(acme, false), 200, "", "Company association confirmed as " + acme.String() + ".", "confirmed"},
		{"the company is new", moved(globex, true), 200, "", "Company association successfully updated to " + globex.String() + ".", "joined"},
		{"no company is meant", failing(identity.ErrNoCompany), 400, `{"detail":"Cannot associate company: No company ID provided and no default is configured for the gateway."}`, "", "no_company"},
		{"the company is not allowed", failing(identity.ErrJoinRefused), 403, `{"detail":"You are not allowed to join this company."}`, "", "join_refused"},
		{"the company is unknown", failing(identity.ErrUnknownCompany), 404, `{"detail":"Company not found."}`, "", "unknown_company"},
		{"the user is gone", failing(identity.ErrNotFound), 401, `{"detail":"User associated with token not found."}`, "", "unauthenticated"},
		{"the store is down", failing(errors.New("connection refused")), 503, unavailable, "", "error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newStage(t, joining(standing(), tt.answer))
			r := post(ensurePath, "")
			r.Header.Set("Authorization", "Bearer "+g.tokenOf(nativeGrant()))
			w := g.send(r)
			if w.Code != tt.status || tt.body != "" && w.Body.String() != tt.body {
				t.Fatalf("got %d %s, want %d %s", w.Code, w.Body, tt.status, tt.body)
			}
			if n := g.count("gatehouse_company_joins_total", tt.result); n != 1 {
				t.Errorf("%s was counted %d times", tt.result, n)
			}
			if tt.status == http.StatusServiceUnavailable && w.Header().Get("Retry-After") != "1" {
				t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
			}
			if tt.status != http.StatusOK {
				return
			}
			got := decodeBody(t, w)
			raw, _ := got["new_access_token"].(string)
			delete(got, "new_access_token")
			now, err := tt.answer(identity.JoinRequest{})
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]any{
				"user_id": ada.String(), "company_id": now.User.Company.String(), "message": tt.text, "token_type": "bearer",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			c, err := g.verifier.Verify(raw, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if c.Company != now.User.Company || c.Email != now.User.Email || c.User != ada {
				t.Errorf("the token says %+v, which is not the row", c)
			}
		})
	}
}

func TestANewTokenNeverOutlivesTheOld(t *testing.T) {
	soon := time.Now().Add(10 * time.Minute).Truncate(time.Second)
	ending := standing()
	ending.Session.NotAfter = soon
	tests := []struct {
		name  string
		grant token.Grant
		want  time.Time
	}{
		{"a session's end is the end", token.Grant{User: ada, Session: session}, soon},
		{"without a session the token's own end is", token.Grant{User: ada, NotAfter: soon}, soon},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newStage(t, joining(ending, func(identity.JoinRequest) (identity.JoinResult, error) {
				return identity.JoinResult{User: adaWith("").User, Session: ending.Session}, nil
			}))
			r := post(ensurePath, "")
			r.Header.Set("Authorization", "Bearer "+g.tokenOf(tt.grant))
			w := g.send(r)
			if w.Code != http.StatusOK {
				t.Fatalf("got %d %s", w.Code, w.Body)
			}
			raw, _ := decodeBody(t, w)["new_access_token"].(string)
			c, err := g.verifier.Verify(raw, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if !c.ExpiresAt.Equal(tt.want) || c.Session != tt.grant.Session {
				t.Errorf("ends %v in session %v, want %v in %v", c.ExpiresAt, c.Session, tt.want, tt.grant.Session)
			}
		})
	}
}

type verifier func() (identity.Credential, error)

func (f verifier) Verify(string, time.Time) (identity.Credential, error) { return f() }

// Less than a second is left: a token of whole seconds no longer fits, and that
// is no fault of ours.
func TestNothingIsMintedFromWhatIsAllButOver(t *testing.T) {
	now := time.Unix(1_800_000_000, 200_000_000)
	end := now.Add(500 * time.Millisecond)
	tests := []struct {
		name       string
		credential identity.Credential
		want       string
	}{
		{"a session", identity.Credential{User: ada, Session: session, HasSession: true, ExpiresAt: now.Add(time.Hour), KeyNamed: true}, `{"detail":"Token has been revoked."}`},
		{"a token that only the leeway let pass", identity.Credential{User: ada, ExpiresAt: end.Add(-time.Second), KeyNamed: true}, `{"detail":"Token has expired."}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ending := standing()
			ending.Session.NotAfter = end
			g := newStage(t, joining(ending, func(identity.JoinRequest) (identity.JoinResult, error) {
				t.Error("was admitted")
				return identity.JoinResult{}, nil
			}), func(o *login.Options) {
				o.Now = func() time.Time { return now }
				o.Verifier = verifier(func() (identity.Credential, error) { return tt.credential, nil })
			})
			r := post(ensurePath, "")
			r.Header.Set("Authorization", "Bearer x")
			if w := g.send(r); w.Code != http.StatusUnauthorized || w.Body.String() != tt.want {
				t.Errorf("got %d %s, want %s", w.Code, w.Body, tt.want)
			}
		})
	}
}

func TestSettingsReachTheJoin(t *testing.T) {
	var asked identity.JoinRequest
	g := newStage(t, joining(standing(), func(ask identity.JoinRequest) (identity.JoinResult, error) {
		asked = ask
		return moved(globex, true)(ask)
	}), func(o *login.Options) { o.DefaultCompany, o.AnyCompany = globex, true })
	r := post(ensurePath, "")
	r.Header.Set("Authorization", "Bearer "+g.tokenOf(token.Grant{User: ada, Session: session}))
	if w := g.send(r); w.Code != http.StatusOK {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	want := identity.JoinRequest{User: ada, Session: session, Default: globex, AnyCompany: true}
	if diff := cmp.Diff(want, asked, cmpopts.IgnoreFields(identity.JoinRequest{}, "Admit")); diff != "" {
		t.Errorf("asked of the store (-want +got):\n%s", diff)
	}
	if lines := g.lines(); len(lines) != 2 || lines[0]["level"] != "WARN" || lines[0]["company_id"] != globex.String() {
		t.Errorf("no warning that the company was joined without an invitation: %s", g.log)
	}
}
