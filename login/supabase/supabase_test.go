package supabase_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/login/supabase"
)

const (
	serviceKey = "test-service-key-of-obvious-words"
	aUser      = "c7a90000-0000-4000-8000-000000000001"
	aCompany   = "cccccccc-0000-4000-8000-000000000001"
)

// request is one that the project got.
type request struct {
	Method, URI string
	Body        map[string]any
}

// project answers as a Supabase project does.
type project struct {
	t      *testing.T
	status map[string]int    // by path; none: 200
	body   map[string]string // by path
	got    []request
}

func (p *project) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+serviceKey || r.Header.Get("Apikey") != serviceKey {
		p.t.Errorf("%s: keys %q and %q", r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("Apikey"))
	}
	if r.Header.Get("X-Supabase-Api-Version") != "" {
		p.t.Error("an API version is asked for")
	}
	one := request{Method: r.Method, URI: r.RequestURI}
	if raw, _ := io.ReadAll(r.Body); len(raw) > 0 {
		if err := json.Unmarshal(raw, &one.Body); err != nil || r.Header.Get("Content-Type") != "application/json" {
			p.t.Errorf("body %s of %s: %v", raw, r.Header.Get("Content-Type"), err)
		}
	}
	p.got = append(p.got, one)
	w.Header().Set("Content-Type", "application/json")
	if status := p.status[r.URL.Path]; status != 0 {
		w.Header().Set("Location", "http://elsewhere.invalid/")
		w.WriteHeader(status)
	}
	_, _ = io.WriteString(w, p.body[r.URL.Path])
}

func newProject(t *testing.T, confirm bool) (*project, *supabase.Client) {
	t.Helper()
	p := &project{t: t, status: map[string]int{}, body: map[string]string{
		createPath:  `{"id":"` + aUser + `","aud":"authenticated","role":"authenticated","email":"alice@x.test","phone":"","app_metadata":{},"user_metadata":{},"identities":[],"is_anonymous":false}`,
		resendPath:  `{}`,
		companyPath: `[{"id":"` + aCompany + `"}]`,
	}}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return p, newClient(t, server.URL+"/", confirm)
}

func newClient(t *testing.T, address string, confirm bool) *supabase.Client {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := supabase.New(supabase.Options{URL: u, ServiceRoleKey: serviceKey, EmailConfirm: confirm})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	createPath  = "/auth/v1/admin/users"
	resendPath  = "/auth/v1/resend"
	profilePath = "/rest/v1/rpc/create_public_profile_for_user"
	companyPath = "/rest/v1/companies"
)

func mustUser(t *testing.T, text string) identity.UserID {
	t.Helper()
	id, err := identity.ParseUserID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func alice() identity.Registration {
	company, _ := identity.ParseCompanyID(aCompany)
	return identity.Registration{Email: "alice@x.test", Password: "Correct-horse-9", FullName: "Alice", Company: company}
}

func TestAUserIsMade(t *testing.T) {
	for _, tt := range []struct {
		name    string
		confirm bool
		answer  string // what stands beside the id
		want    []request
	}{
		{"whose address is to be confirmed", false, ``, []request{
			{"POST", createPath, map[string]any{
				"email": "alice@x.test", "password": "Correct-horse-9", "email_confirm": false, "user_metadata": map[string]any{"name": "Alice"},
				"app_metadata": map[string]any{"company_id": aCompany, "roles": []any{"user"}},
			}},
			{"POST", resendPath, map[string]any{"type": "signup", "email": "alice@x.test"}},
			{"POST", profilePath, map[string]any{"user_id": aUser}},
		}},
		{"whose address counts as confirmed", true, `,"email_confirmed_at":"2026-11-22T02:01:35.166249606Z"`, []request{
			{"POST", createPath, map[string]any{
				"email": "alice@x.test", "password": "Correct-horse-9", "email_confirm": true, "user_metadata": map[string]any{"name": "Alice"},
				"app_metadata": map[string]any{"company_id": aCompany, "roles": []any{"user"}},
			}},
			{"POST", profilePath, map[string]any{"user_id": aUser}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, c := newProject(t, tt.confirm)
			p.body[createPath] = `{"id":"` + aUser + `"` + tt.answer + `}`
			p.status[profilePath] = http.StatusNoContent
			made, even, err := c.Register(t.Context(), alice())
			if err != nil || made.User != mustUser(t, aUser) || made.Confirmed != tt.confirm {
				t.Fatalf("made %+v, %v", made, err)
			}
			if left := time.Until(even); left < 500*time.Millisecond || left > 3*time.Second {
				t.Errorf("answers are alike in %v", left)
			}
			if mail, profile := c.Welcome(t.Context(), made, "alice@x.test"); mail != nil || profile != nil {
				t.Errorf("welcoming: %v, %v", mail, profile)
			}
			if diff := cmp.Diff(tt.want, p.got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAUserWithoutANameOrACompany(t *testing.T) {
	p, c := newProject(t, false)
	if _, _, err := c.Register(t.Context(), identity.Registration{Email: "alice@x.test", Password: "Correct-horse-9"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"roles": []any{"user"}}, p.got[0].Body["app_metadata"]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]any{}, p.got[0].Body["user_metadata"]); diff != "" {
		t.Error(diff)
	}
}

// Whoever was invited has the role of the invitation; the invitation itself is not
// Supabase's to judge, and one that nobody has judged lets nobody in.
func TestAUserWhoWasInvited(t *testing.T) {
	p, c := newProject(t, false)
	invited := alice()
	invited.Role = "editor"
	if _, _, err := c.Register(t.Context(), invited); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"company_id": aCompany, "roles": []any{"editor"}}, p.got[0].Body["app_metadata"]); diff != "" {
		t.Error(diff)
	}
	invited.InvitationToken = "some words"
	if _, _, err := c.Register(t.Context(), invited); !errors.Is(err, identity.ErrRegistrationBroken) || len(p.got) != 1 {
		t.Errorf("got %v after %d requests", err, len(p.got))
	}
}

func TestWhatSupabaseRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   error // nil: one that says nothing but that it does not work
	}{
		{"an address that is taken", 422, `{"code":422,"error_code":"email_exists","msg":"A user with this email address has already been registered"}`, identity.ErrEmailTaken},
		{"in the newer shape", 422, `{"code":"email_exists","message":"…"}`, identity.ErrEmailTaken},
		{"an address that two ask for at once", 500, `{"code":"23505","message":"duplicate key value violates unique constraint \"users_email_partial_key\"","detail":"Key (email)=(alice@x.test) already exists.","hint":""}`, identity.ErrEmailTaken},
		{"a duplicate in a table of the operator's", 500, `{"code":"23505","message":"duplicate key value violates unique constraint \"profiles_nick_key\"","detail":"","hint":""}`, identity.ErrRegistrationBroken},
		{"a trigger of the operator's", 500, `{"code":"P0001","message":"no","detail":"","hint":""}`, identity.ErrRegistrationBroken},
		{"a trigger with a status of its own", 409, `{"code":"PT409","message":"no","detail":"","hint":""}`, identity.ErrRegistrationBroken},
		{"a reference of the operator's", 500, `{"code":"23503","message":"no","detail":"","hint":""}`, identity.ErrRegistrationBroken},
		{"an address that it does not like", 400, `{"code":400,"error_code":"validation_failed","msg":"Unable to validate email address: invalid format"}`, identity.ErrRegistrationData},
		{"a body that it cannot read", 400, `{"code":400,"error_code":"bad_json","msg":"Could not parse request body as JSON: …"}`, identity.ErrRegistrationBroken},
		{"a body that is too large", 413, `{"code":413,"error_code":"request_entity_too_large","msg":"Request body too large (max 1048576 bytes)"}`, identity.ErrRegistrationData},
		{"too many", 429, `{"code":429,"error_code":"over_request_rate_limit","msg":"Request rate limit reached"}`, identity.ErrRegistrationBusy},
		{"no key", 401, `{"code":401,"error_code":"no_authorization","msg":"This endpoint requires a valid Bearer token"}`, nil},
		{"a key that is wrong", 403, `{"code":403,"error_code":"bad_jwt","msg":"invalid JWT: unable to parse or verify signature"}`, nil},
		{"a key that is no admin's", 403, `{"code":403,"error_code":"not_admin","msg":"User not allowed"}`, nil},
		{"its database is down", 500, `{"code":500,"error_code":"unexpected_failure","msg":"Database error checking email","error_id":"x"}`, nil},
		{"its database hangs", 504, `{"code":504,"error_code":"request_timeout","msg":"Processing this request timed out, please retry after a moment.","error_id":"x"}`, nil},
		{"a panic", 500, `{"code":500,"error_code":"unexpected_failure","msg":"Internal Server Error"}`, nil},
		{"another path", 404, `404 page not found`, nil},
		{"nothing", 405, ``, nil},
		{"a redirect", 307, ``, nil},
		{"an answer without an id", 200, `{}`, identity.ErrRegistrationBroken},
		{"an answer that is no JSON", 200, `<html>`, identity.ErrRegistrationBroken},
		{"an answer without end", 200, `{"id":"` + strings.Repeat("a", 1<<20) + `"}`, identity.ErrRegistrationBroken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, c := newProject(t, false)
			p.status[createPath], p.body[createPath] = tt.status, tt.body
			_, _, err := c.Register(t.Context(), alice())
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			for _, kind := range []error{identity.ErrEmailTaken, identity.ErrRegistrationBroken, identity.ErrRegistrationBusy, identity.ErrRegistrationData} {
				if tt.want == nil && errors.Is(err, kind) {
					t.Errorf("got %v, which is more than is known", err)
				}
			}
			for _, not := range []string{serviceKey, "alice", "Correct-horse", "Database error", "127.0.0.1"} {
				if strings.Contains(err.Error(), not) {
					t.Errorf("%q says %q", err, not)
				}
			}
			if len(p.got) != 1 {
				t.Errorf("%d requests, want 1", len(p.got))
			}
		})
	}
}

func TestAPasswordThatSupabaseRefuses(t *testing.T) {
	p, c := newProject(t, false)
	p.status[createPath] = 422
	p.body[createPath] = `{"code":422,"error_code":"weak_password","msg":"Password should be at least 6 characters.","weak_password":{"reasons":["length","characters"]}}`
	_, _, err := c.Register(t.Context(), alice())
	var weak *identity.WeakPasswordError
	if !errors.As(err, &weak) || !cmp.Equal(weak.Reasons, []string{"length", "characters"}) {
		t.Errorf("got %v", err)
	}
}

func TestAPasswordThatSupabaseCannotTake(t *testing.T) {
	p, c := newProject(t, false)
	long := alice()
	long.Password = strings.Repeat("a", 71) + "é" // 73 bytes, 72 characters
	if _, _, err := c.Register(t.Context(), long); !errors.Is(err, password.ErrTooLong) || len(p.got) != 0 {
		t.Errorf("got %v after %d requests", err, len(p.got))
	}
	long.Password = strings.Repeat("a", 70) + "é"
	if _, _, err := c.Register(t.Context(), long); err != nil {
		t.Errorf("72 bytes: %v", err)
	}
}

func TestACompanyByItsName(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   error
	}{
		{"one", 0, `[{"id":"` + aCompany + `"}]`, nil},
		{"none", 0, `[]`, identity.ErrNotFound},
		{"one of another kind", 0, `[{"id":"7"}]`, identity.ErrRegistrationBroken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, c := newProject(t, false)
			p.body[companyPath] = tt.body
			id, err := c.CompanyByName(t.Context(), "Söhne & Co. +1,(x)")
			if !errors.Is(err, tt.want) || tt.want == nil && id.String() != aCompany {
				t.Errorf("got %v, %v", id, err)
			}
			want := companyPath + "?select=id&name=eq.S%C3%B6hne%20%26%20Co.%20%2B1%2C%28x%29&limit=1"
			if len(p.got) != 1 || p.got[0].URI != want || p.got[0].Method != http.MethodGet {
				t.Errorf("asked %+v, want %s", p.got, want)
			}
		})
	}
	p, c := newProject(t, false)
	p.status[companyPath], p.body[companyPath] = 401, `{"code":"PGRST301","details":null,"hint":null,"message":"JWT expired"}`
	if _, err := c.CompanyByName(t.Context(), "x"); err == nil || errors.Is(err, identity.ErrNotFound) || !strings.Contains(err.Error(), "401 (PGRST301)") {
		t.Errorf("a key that is refused: %v", err)
	}
}

func TestAWelcomeThatFails(t *testing.T) {
	p, c := newProject(t, false)
	p.status[resendPath], p.body[resendPath] = 429, `{"code":429,"error_code":"over_email_send_rate_limit","msg":"For security purposes, you can only request this after 59 seconds."}`
	p.status[profilePath], p.body[profilePath] = 404, `{"code":"PGRST202","message":"Could not find the function public.create_public_profile_for_user(user_id) in the schema cache"}`
	mail, profile := c.Welcome(t.Context(), identity.Registered{User: mustUser(t, aUser)}, "alice@x.test")
	if mail == nil || profile == nil || len(p.got) != 2 {
		t.Errorf("got %v, %v after %d requests", mail, profile, len(p.got))
	}
}

func TestAProjectThatIsNotThere(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	c := newClient(t, gone.URL, false)
	if _, _, err := c.Register(t.Context(), alice()); err == nil || strings.Contains(err.Error(), createPath) {
		t.Errorf("got %v", err)
	}
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that the client goes
		<-r.Context().Done()
	}))
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := newClient(t, silent.URL, false).Register(ctx, alice()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v from one that is silent", err)
	}
}

func TestAClientWithoutAProject(t *testing.T) {
	for name, o := range map[string]supabase.Options{
		"no URL": {ServiceRoleKey: serviceKey},
		"no key": {URL: &url.URL{Scheme: "https", Host: "p.example"}},
	} {
		if _, err := supabase.New(o); err == nil {
			t.Errorf("%s: a client was made", name)
		}
	}
}
