package login_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/login"
)

const declinePath = "/api/v1/users/me/invitations/decline"

func invitationsOf(c identity.CompanyID) string {
	return "/api/v1/companies/" + c.String() + "/invitations"
}

// people is a stage with two companies: ada is admin of home and a member of
// away, where bob is admin; cy is in neither.
type people struct {
	*stage
	db         *postgres.Store
	home, away identity.CompanyID
	ids        map[string]identity.UserID
}

func newPeople(t *testing.T) *people {
	t.Helper()
	g, db := onPostgres(t, func(o *login.Options) { o.InvitationRoles = []string{"user", "admin"} })
	p := &people{stage: g, db: db, ids: map[string]identity.UserID{}}
	for _, c := range []struct {
		id   *identity.CompanyID
		name string
	}{{&p.home, "Home"}, {&p.away, "Away"}} {
		made, err := db.CreateCompany(t.Context(), c.name)
		if err != nil {
			t.Fatal(err)
		}
		*c.id = made.ID
	}
	hash := g.hash(rightWords)
	for name, in := range map[string]struct {
		company identity.CompanyID
		role    string
	}{"ada": {p.home, "admin"}, "bob": {p.away, "admin"}, "eve": {p.home, "user"}, "cy": {}} {
		account := person(name+"@example.com", hash)
		account.Company, account.Role = in.company, in.role
		p.ids[name] = create(t, db, account).ID
	}
	p.join("ada", p.away, "user")
	p.join("ada", p.home, "")
	return p
}

// join makes somebody a member of a company, by invitation unless role is empty.
func (p *people) join(name string, company identity.CompanyID, role string) {
	p.t.Helper()
	if role != "" {
		if _, _, err := p.db.Invite(p.t.Context(), identity.InviteRequest{Company: company, User: p.ids[name], Role: role, Lifetime: time.Hour}); err != nil {
			p.t.Fatal(err)
		}
	}
	_, err := p.db.Join(p.t.Context(), identity.JoinRequest{User: p.ids[name], Want: company, Admit: func(identity.Standing) error { return nil }})
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *people) token(name string) string {
	p.t.Helper()
	w := p.send(credentials(name+"@example.com", rightWords))
	raw, _ := decodeBody(p.t, w)["access_token"].(string)
	if raw == "" {
		p.t.Fatalf("%s: %d %s", name, w.Code, w.Body)
	}
	return raw
}

// as sends a request with somebody's token; body empty: none.
func (p *people) as(token, method, path, body string) *httptest.ResponseRecorder {
	p.t.Helper()
	r := post(path, body)
	if body == "" {
		r = httptest.NewRequest(method, path, nil)
	}
	r.Method = method
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return p.send(r)
}

func TestWhoMayInviteWhomToWhat(t *testing.T) {
	p := newPeople(t)
	tokens := map[string]string{"": ""}
	for name := range p.ids {
		tokens[name] = p.token(name)
	}
	const (
		notAdmin   = "You are not allowed to invite people to this company."
		notThat    = "You are not allowed to give this role."
		memberHere = "This user is a member of the company already."
	)
	fresh := 0
	for _, c := range []struct {
		name   string
		who    string
		to     identity.CompanyID
		body   string // "" is a fresh address
		status int
		detail string
	}{
		{"the admin of the company", "ada", p.home, "", 201, ""},
		{"D2: an admin elsewhere, who is a member here", "ada", p.away, "", 403, notAdmin},
		{"D2: an admin elsewhere, who is a stranger here", "bob", p.home, "", 403, notAdmin},
		{"a member who is no admin", "eve", p.home, "", 403, notAdmin},
		{"somebody without a company", "cy", p.home, "", 403, notAdmin},
		{"D13: a company that nobody has, alike", "ada", acme, "", 403, notAdmin},
		{"the nil UUID is no company", "ada", identity.CompanyID{}, "", 403, notAdmin},
		{"nobody", "", p.home, "", 401, "Not authenticated"},
		{"to be an admin too", "ada", p.home, `{"email":"a1@example.com","role":"admin"}`, 201, ""},
		{"with no role named", "ada", p.home, `{"email":"a2@example.com","role":null}`, 201, ""},
		{"to a role above the admin's", "ada", p.home, `{"email":"a3@example.com","role":"owner"}`, 403, notThat},
		{"a stranger does not learn of roles", "bob", p.home, `{"email":"a3@example.com","role":"owner"}`, 403, notAdmin},
		{"an address with an account", "ada", p.home, `{"email":"cy@example.com"}`, 201, ""},
		{"the same address again, in another case", "ada", p.home, `{"email":"CY@example.com"}`, 409, "This address has an open invitation already."},
		{"an address without one, again", "ada", p.home, `{"email":"a2@example.com"}`, 409, "This address has an open invitation already."},
		{"a member", "ada", p.home, `{"email":"Eve@example.com"}`, 409, memberHere},
		{"oneself", "ada", p.home, `{"email":"ada@example.com"}`, 409, memberHere},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := c.body
			if body == "" {
				fresh++
				body = fmt.Sprintf(`{"email":"fresh%d@example.com"}`, fresh)
			}
			w := p.as(tokens[c.who], http.MethodPost, invitationsOf(c.to), body)
			got := decodeBody(t, w)
			if w.Code != c.status || c.detail != "" && got["detail"] != c.detail {
				t.Fatalf("got %d %s, want %d %s", w.Code, w.Body, c.status, c.detail)
			}
			if c.status != http.StatusCreated {
				return
			}
			if secret, _ := got["token"].(string); !regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`).MatchString(secret) {
				t.Errorf("the secret is %q", secret)
			}
		})
	}
}

func TestAnInvitationOverHTTPFromItsMakingToItsEnd(t *testing.T) {
	p := newPeople(t)
	ada, cy := p.token("ada"), p.token("cy")
	made := decodeBody(t, p.as(ada, http.MethodPost, invitationsOf(p.home), `{"email":"cy@example.com","role":"user"}`))
	stranger := decodeBody(t, p.as(ada, http.MethodPost, invitationsOf(p.home), `{"email":"who@example.com","role":"user"}`))
	// The answers tell nothing of who has an account.
	for _, field := range []string{"id", "token", "email", "created_at", "expires_at"} {
		if made[field] == nil || stranger[field] == nil {
			t.Errorf("no %s in %v", field, made)
		}
		if field != "id" {
			stranger[field] = made[field]
		}
	}
	want := map[string]any{
		"id": made["id"], "token": made["token"], "company_id": p.home.String(), "email": "cy@example.com", "user_id": nil, "role": "user",
		"invited_by": p.ids["ada"].String(), "created_at": made["created_at"], "expires_at": made["expires_at"],
	}
	if diff := cmp.Diff(want, made); diff != "" {
		t.Error(diff)
	}
	if want["id"] = stranger["id"]; !cmp.Equal(want, stranger) {
		t.Error(cmp.Diff(want, stranger))
	}
	created, _ := time.Parse(time.RFC3339, made["created_at"].(string))
	expires, _ := time.Parse(time.RFC3339, made["expires_at"].(string))
	if expires.Sub(created) != 7*24*time.Hour {
		t.Errorf("made %v, ends %v", created, expires)
	}

	list := func() []any {
		w := p.as(ada, http.MethodGet, invitationsOf(p.home), "")
		shown, _ := decodeBody(t, w)["invitations"].([]any)
		if w.Code != http.StatusOK || strings.Contains(w.Body.String(), "token") {
			t.Errorf("the list is %d %s", w.Code, w.Body)
		}
		return shown
	}
	if n := len(list()); n != 2 {
		t.Errorf("%d are listed, want 2", n)
	}
	one := invitationsOf(p.home) + "/" + stranger["id"].(string)
	for _, c := range []struct {
		name, token, path string
		status            int
	}{
		{"by somebody without the right", cy, one, 403},
		{"below another company", ada, invitationsOf(p.away) + "/" + stranger["id"].(string), 403},
		{"that is not there", ada, invitationsOf(p.home) + "/" + p.home.String(), 404},
		{"that is open", ada, one, 204},
		{"that is revoked", ada, one, 404},
	} {
		if w := p.as(c.token, http.MethodDelete, c.path, ""); w.Code != c.status {
			t.Errorf("revoking one %s: %d %s, want %d", c.name, w.Code, w.Body, c.status)
		}
	}
	if n := len(list()); n != 1 {
		t.Errorf("%d are listed, want 1", n)
	}

	// Accepted by the one whom it is for, with the secret, once.
	accept := `{"invitation_token":"` + made["token"].(string) + `"}`
	if w := p.as(p.token("eve"), http.MethodPost, ensurePath, accept); w.Code != http.StatusForbidden {
		t.Errorf("somebody else accepts: %d %s", w.Code, w.Body)
	}
	if w := p.as(cy, http.MethodPost, ensurePath, accept); w.Code != http.StatusOK || decodeBody(t, w)["company_id"] != p.home.String() {
		t.Errorf("accepting: %d %s", w.Code, w.Body)
	}
	if n := len(list()); n != 0 {
		t.Errorf("%d are listed, want none", n)
	}
}

func TestDecliningOverHTTP(t *testing.T) {
	p := newPeople(t)
	cy := p.token("cy")
	for _, c := range []struct{ name, body string }{
		{"nothing named", ""},
		{"the company named", `{"company_id":"` + p.home.String() + `"}`},
		{"of another company", `{"company_id":"` + p.away.String() + `"}`},
		{"of the nil UUID, which is no company", `{"company_id":"00000000-0000-0000-0000-000000000000"}`},
		{"of a secret that is none", `{"invitation_token":"wrong"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			made, _, err := p.db.Invite(t.Context(), identity.InviteRequest{Company: p.home, User: p.ids["cy"], Role: "user", Lifetime: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			if w := p.as(cy, http.MethodPost, declinePath, c.body); w.Code != http.StatusNoContent {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			left, err := p.db.ListInvitations(t.Context(), identity.InvitationFilter{Company: p.home})
			if want := strings.Contains(c.name, "of "); err != nil || (len(left) > 0) != want {
				t.Errorf("%d are left, %v; want one: %v", len(left), err, want)
			}
			_, _ = p.db.RevokeInvitation(t.Context(), p.home, made.ID, identity.Inviter{})
		})
	}
	if w := p.as("", http.MethodPost, declinePath, ""); w.Code != http.StatusUnauthorized {
		t.Errorf("nobody: %d %s", w.Code, w.Body)
	}
}

func TestASuspendedCompanyInvitesNobodyAndIsJoinedByNobody(t *testing.T) {
	p := newPeople(t)
	ada, cy := p.token("ada"), p.token("cy")
	made := decodeBody(t, p.as(ada, http.MethodPost, invitationsOf(p.home), `{"email":"cy@example.com"}`))
	if _, err := p.db.SetSuspended(t.Context(), p.home, true); err != nil {
		t.Fatal(err)
	}
	const suspended = `{"detail":"Company is suspended."}`
	for method, body := range map[string]string{http.MethodPost: `{"email":"new@example.com"}`, http.MethodGet: ""} {
		if w := p.as(ada, method, invitationsOf(p.home), body); w.Code != http.StatusForbidden || w.Body.String() != suspended {
			t.Errorf("%s: %d %s", method, w.Code, w.Body)
		}
	}
	if w := p.as(cy, http.MethodPost, ensurePath, `{"invitation_token":"`+made["token"].(string)+`"}`); w.Code != http.StatusForbidden {
		t.Errorf("accepting: %d %s", w.Code, w.Body)
	}
}

func TestABodyThatInvitesNobody(t *testing.T) {
	p := newPeople(t)
	ada := p.token("ada")
	for _, c := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"no address", `{}`, 422, `"email"`},
		{"no body", `null`, 422, `Field required`},
		{"an address that is none", `{"email":"x"}`, 422, `not a valid email address`},
		{"a role that is no text", `{"email":"x@example.com","role":1}`, 422, `"role"`},
		{"a role with a comma", `{"email":"x@example.com","role":"user,admin"}`, 422, `"role"`},
		{"a role with a space", `{"email":"x@example.com","role":"a b"}`, 422, `"role"`},
		{"an empty role", `{"email":"x@example.com","role":""}`, 422, `"role"`},
		{"a role without end", `{"email":"x@example.com","role":"` + strings.Repeat("r", 65) + `"}`, 422, `"role"`},
		{"what is not ours is ignored", `{"email":"x@example.com","company_id":"` + p.away.String() + `","expires_at":"2099-01-01"}`, 201, p.home.String()},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := p.as(ada, http.MethodPost, invitationsOf(p.home), c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("got %d %s, want %d with %s", w.Code, w.Body, c.status, c.want)
			}
		})
	}
}

func TestWhatIsServedBelowCompanies(t *testing.T) {
	company := acme.String()
	for _, c := range []struct {
		method, target string
		status         int
		allow          string
	}{
		{"PUT", invitationsOf(acme), 405, "GET, POST"},
		{"HEAD", invitationsOf(acme), 405, "GET, POST"},
		{"GET", invitationsOf(acme) + "/" + company, 405, "DELETE"},
		{"GET", declinePath, 405, "POST"},
		{"GET", "/api/v1/companies", 404, ""},
		{"GET", "/api/v1/companies/" + company, 404, ""},
		{"GET", "/api/v1/companies/" + company + "/members", 404, ""},
		{"GET", "/api/v1/companies/x/invitations", 404, ""},
		{"GET", "/api/v1/companies/" + strings.ReplaceAll(company, "-", "") + "/invitations", 404, ""},
		{"GET", invitationsOf(acme) + "/", 404, ""},
		{"DELETE", invitationsOf(acme) + "/x", 404, ""},
		{"DELETE", invitationsOf(acme) + "/" + company + "/x", 404, ""},
		{"GET", strings.ToUpper(invitationsOf(acme)), 404, ""},
		{"GET", invitationsOf(acme), 401, ""},
		{"GET", "/api/v1/companies/" + strings.ToUpper(company) + "/invitations", 401, ""},
	} {
		w := newStage(t, store{}).send(httptest.NewRequest(c.method, c.target, nil))
		if w.Code != c.status || w.Header().Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, Allow %q; want %d, %q", c.method, c.target, w.Code, w.Header().Get("Allow"), c.status, c.allow)
		}
	}
}

// authorized adds ada's token.
func authorized(g *stage, r *http.Request) *http.Request {
	r.Header.Set("Authorization", "Bearer "+g.tokenOf(nativeGrant()))
	return r
}

func TestTheBoundOnOpenInvitationsIsA409(t *testing.T) {
	g := newStage(t, store{invite: func(_ context.Context, ask identity.InviteRequest) (identity.Invitation, string, error) {
		if ask.MostOpen != 100 || ask.Lifetime != 7*24*time.Hour {
			t.Errorf("asked for %+v", ask)
		}
		return identity.Invitation{}, "", identity.ErrManyInvitations
	}})
	w := g.send(authorized(g, post(invitationsOf(acme), `{"email":"x@example.com"}`)))
	if w.Code != http.StatusConflict || w.Body.String() != `{"detail":"The company has too many open invitations."}` {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	g = newStage(t, store{invite: func(context.Context, identity.InviteRequest) (identity.Invitation, string, error) {
		return identity.Invitation{}, "", errors.New("connection refused")
	}})
	if w = g.send(authorized(g, post(invitationsOf(acme), `{"email":"x@example.com"}`))); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// holds reports what of the log is not as it should be for somebody: the records
// of what they did or had done through HTTP, in order.
func (p *people) holds(name string, want ...string) {
	p.t.Helper()
	records, err := p.db.AuditLog(p.t.Context(), postgres.AuditFilter{User: p.ids[name], Limit: 100})
	if err != nil {
		p.t.Fatal(err)
	}
	var got []string
	for _, r := range records {
		if r.RequestID != "" { // the rest was set up
			got = append(got, r.Name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		p.t.Errorf("%s: %s", name, diff)
	}
}
