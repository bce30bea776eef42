package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

const (
	registerPath  = "/api/v1/auth/register"
	registeredMsg = "Registration successful. Please check your email for confirmation."
	newPassword   = "test-password-of-somebody-new"
)

func (s *stack) register(source, email, more string) answer {
	s.t.Helper()
	return s.postJSON(registerPath, at(source), `{"email":"`+email+`","password":"`+newPassword+`"`+more+`}`)
}

func TestRegisteringInTheDatabase(t *testing.T) {
	t.Parallel()
	s := startStack(t, map[string]string{
		"GATEWAY_REGISTRATION": "postgres", "GATEWAY_DEFAULT_COMPANY_NAME": "Home", "GATEWAY_LOGIN_THROTTLE": "on",
	})
	s.register("198.51.100.1", "new@example.com", "").want(t, http.StatusBadRequest, "Required default company configuration ('Home') not found.")
	home := strings.Fields(s.command("company", "create", "Home"))[0]

	a := s.register("198.51.100.1", "new@example.com", `,"name":"Somebody New","role":"admin","company_id":null`)
	if err := a.is(http.StatusCreated); err != nil || a.field(t, "message") != registeredMsg {
		t.Fatalf("%v: %s", err, a.body)
	}
	in := s.guess("198.51.100.1", "NEW@example.com", newPassword)
	if err := in.is(http.StatusOK); err != nil {
		t.Fatal(err)
	}
	if in.field(t, "user_id") != a.field(t, "user_id") || in.field(t, "company_id") != home || in.field(t, "role") != "user" || in.field(t, "full_name") != "Somebody New" {
		t.Errorf("made %s", in.body)
	}
	if err := s.postJSON("/api/v1/query/ask", bearer(in.field(t, "access_token")), "{}").is(http.StatusOK); err != nil {
		t.Errorf("with the new user's token: %v", err)
	}
	s.register("198.51.100.1", "New@Example.com", "").want(t, http.StatusConflict, "A user with this email already exists.")
	s.do("GET", registerPath, nil, "").want(t, http.StatusMethodNotAllowed, "Method Not Allowed")
	if a := s.register("198.51.100.1", "common", ""); a.status != http.StatusUnprocessableEntity || strings.Contains(a.body, newPassword) {
		t.Errorf("got %d %s", a.status, a.body)
	}
	for _, email := range []string{"b@example.com", "c@example.com", "d@example.com"} {
		if err := s.register("198.51.100.1", email, "").is(http.StatusCreated); err != nil {
			t.Error(err)
		}
	}
	s.register("198.51.100.1", "e@example.com", "").want(t, http.StatusTooManyRequests, throttled)
	if err := s.register("198.51.100.2", "e@example.com", "").is(http.StatusCreated); err != nil {
		t.Error(err)
	}
	if strings.Contains(s.loginLog.tail(1<<20), newPassword) {
		t.Error("the password is in the log")
	}
}

func TestRegisteringAtSupabase(t *testing.T) {
	t.Parallel()
	const key, id = "test-service-key-of-obvious-words", "c7a90000-0000-4000-8000-000000000001"
	var mu sync.Mutex
	var calls []string
	taken, in := map[string]bool{}, map[string]map[string]any{}
	project := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, r.Method+" "+r.URL.Path)
		var body struct {
			Email string         `json:"email"`
			Meta  map[string]any `json:"app_metadata"`
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		switch {
		case r.Header.Get("Authorization") != "Bearer "+key:
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/rest/v1/companies":
			_, _ = io.WriteString(w, `[{"id":"cccccccc-0000-4000-8000-000000000001"}]`)
		case r.URL.Path == "/auth/v1/admin/users" && taken[body.Email]:
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"code":422,"error_code":"email_exists","msg":"A user with this email address has already been registered"}`)
		case r.URL.Path == "/auth/v1/admin/users":
			taken[body.Email], in[body.Email] = true, body.Meta
			_, _ = io.WriteString(w, `{"id":"`+id+`","email":"`+body.Email+`"}`)
		case r.URL.Path == "/auth/v1/resend":
			_, _ = io.WriteString(w, `{}`)
		default: // the profile
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer project.Close()
	s := startStack(t, map[string]string{
		"GATEWAY_REGISTRATION": "supabase", "GATEWAY_SUPABASE_URL": project.URL, "GATEWAY_SUPABASE_SERVICE_ROLE_KEY": key,
		"GATEWAY_DEFAULT_COMPANY_NAME": "Home",
	})
	a := s.register("198.51.100.1", "new@example.com", "")
	if err := a.is(http.StatusCreated); err != nil || a.field(t, "user_id") != id || a.field(t, "message") != registeredMsg {
		t.Errorf("%v: %s", err, a.body)
	}
	s.register("198.51.100.1", "new@example.com", "").want(t, http.StatusConflict, "A user with this email already exists.")
	// Whoever was invited by the company's own people comes into it, whatever Supabase
	// knows of companies.
	acme := strings.Fields(s.command("company", "create", "Acme"))[0]
	invitation := s.command("company", "invite", acme, "guest@example.com", "--role", "editor", "--output", "json")
	var invited struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal([]byte(invitation), &invited); err != nil || invited.Token == "" {
		t.Fatalf("%v: %s", err, invitation)
	}
	s.register("198.51.100.2", "guest@example.com", `,"invitation_token":"some words"`).want(t, http.StatusForbidden, notAllowed)
	if err := s.register("198.51.100.2", "guest@example.com", `,"invitation_token":"`+invited.Token+`"`).is(http.StatusCreated); err != nil {
		t.Error(err)
	}
	s.register("198.51.100.2", "other@example.com", `,"invitation_token":"`+invited.Token+`"`).want(t, http.StatusForbidden, notAllowed)
	mu.Lock()
	defer mu.Unlock()
	if got, want := fmt.Sprint(in["guest@example.com"]), "map[company_id:"+acme+" roles:[editor]]"; got != want {
		t.Errorf("made with %s, want %s", got, want)
	}
	want := "GET /rest/v1/companies POST /auth/v1/admin/users POST /auth/v1/resend POST /rest/v1/rpc/create_public_profile_for_user " +
		"GET /rest/v1/companies POST /auth/v1/admin/users " +
		"POST /auth/v1/admin/users POST /auth/v1/resend POST /rest/v1/rpc/create_public_profile_for_user"
	if got := strings.Join(calls, " "); got != want {
		t.Errorf("Supabase was asked\n%s, want\n%s", got, want)
	}
	if log := s.loginLog.tail(1 << 20); strings.Contains(log, key) || strings.Contains(log, newPassword) || !strings.Contains(log, "not welcomed in full") {
		t.Errorf("the log says %s", log)
	}
}
