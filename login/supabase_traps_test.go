package login_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/atenex/gatehouse/login"
	"github.com/atenex/gatehouse/login/supabase"
)

const (
	supabaseKey    = "test-service-key-of-obvious-words"
	supabaseUser   = "c7a90000-0000-4000-8000-000000000001"
	supabaseCreate = "/auth/v1/admin/users"
	supabaseResend = "/auth/v1/resend"
	supabaseRPC    = "/rest/v1/rpc/create_public_profile_for_user"
	supabaseByName = "/rest/v1/companies"
)

// reply is what the stand-in for a Supabase project answers on one path.
type reply struct {
	status int
	body   string
}

// supabaseProject answers well but where it is told otherwise, and notes what it was
// asked for.
type supabaseProject struct {
	mu      sync.Mutex
	replies map[string]reply
	asked   []string
	created map[string]any
}

func (p *supabaseProject) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, r.Method+" "+r.URL.Path)
	if r.URL.Path == supabaseCreate {
		_ = json.NewDecoder(r.Body).Decode(&p.created)
	}
	w.Header().Set("Content-Type", "application/json")
	told, ok := p.replies[r.URL.Path]
	switch {
	case ok:
		w.WriteHeader(told.status)
		_, _ = io.WriteString(w, told.body)
	case r.URL.Path == supabaseCreate:
		_, _ = io.WriteString(w, `{"id":"`+supabaseUser+`","aud":"authenticated","role":"authenticated","email":"new@example.com","identities":[]}`)
	case r.URL.Path == supabaseResend:
		_, _ = io.WriteString(w, `{}`)
	case r.URL.Path == supabaseByName:
		_, _ = io.WriteString(w, `[{"id":"`+acme.String()+`"}]`)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// atSupabase is a service whose registration is the real client of a stand-in.
func atSupabase(t *testing.T, replies map[string]reply, confirm bool) (*stage, *supabaseProject) {
	t.Helper()
	p := &supabaseProject{replies: replies}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	client, err := supabase.New(supabase.Options{URL: at, ServiceRoleKey: supabaseKey, EmailConfirm: confirm})
	if err != nil {
		t.Fatal(err)
	}
	return newStage(t, store{}, registering(func(how *login.Registration) {
		how.Registrar, how.CompanyName = client, "Home"
	})), p
}

// What Supabase really answers (its shapes and traps are in the reference that the
// decisions name), and what a client of ours is told of it.
func TestEveryAnswerOfSupabaseBecomesOneOfOurs(t *testing.T) {
	const (
		taken    = `{"detail":"A user with this email already exists."}`
		refused  = `{"detail":"The registration was refused."}`
		internal = `{"detail":"Internal Server Error"}`
		busy     = `{"detail":"Too many requests."}`
		noHome   = `{"detail":"Required default company configuration ('Home') not found."}`
		made     = `{"message":"Registration successful. Please check your email for confirmation.","user_id":"` + supabaseUser + `"}`
		whole    = "GET " + supabaseByName + ", POST " + supabaseCreate + ", POST " + supabaseResend + ", POST " + supabaseRPC
		asked    = "GET " + supabaseByName + ", POST " + supabaseCreate
		byName   = "GET " + supabaseByName
	)
	for _, tt := range []struct {
		name, path string
		reply      reply
		status     int
		body       string
		retry      string
		asked      string
	}{
		{"made", "", reply{}, 201, made, "", whole},

		{"the address is taken", supabaseCreate, reply{422, `{"code":422,"error_code":"email_exists","msg":"A user with this email address has already been registered"}`}, 409, taken, "", asked},
		{"the phone is taken", supabaseCreate, reply{422, `{"code":422,"error_code":"phone_exists","msg":"…"}`}, 409, taken, "", asked},
		{"taken, in the versioned shape", supabaseCreate, reply{422, `{"code":"email_exists","message":"…"}`}, 409, taken, "", asked},
		{"two at once: a duplicate passed through", supabaseCreate, reply{500, `{"code":"23505","message":"duplicate key value violates unique constraint \"users_email_partial_key\"","detail":"Key (email)=(new@example.com) already exists.","hint":""}`}, 409, taken, "", asked},
		{"an id that is taken", supabaseCreate, reply{500, `{"code":"23505","message":"duplicate key value violates unique constraint \"users_pkey\""}`}, 409, taken, "", asked},
		{"a duplicate in the operator's own table", supabaseCreate, reply{500, `{"code":"23505","message":"duplicate key value violates unique constraint \"profiles_nick_key\""}`}, 500, internal, "", asked},
		{"a trigger of the operator's", supabaseCreate, reply{500, `{"code":"P0001","message":"no"}`}, 500, internal, "", asked},
		{"a trigger that says conflict", supabaseCreate, reply{409, `{"code":"PT409","message":"no"}`}, 500, internal, "", asked},
		{"a reference of the operator's", supabaseCreate, reply{500, `{"code":"23503","message":"no"}`}, 500, internal, "", asked},
		{"an address that it cannot read", supabaseCreate, reply{400, `{"code":400,"error_code":"validation_failed","msg":"Unable to validate email address: invalid format"}`}, 400, refused, "", asked},
		{"a body that it cannot read, which is our fault", supabaseCreate, reply{400, `{"code":400,"error_code":"bad_json","msg":"Could not parse request body as JSON: EOF"}`}, 500, internal, "", asked},
		{"too large", supabaseCreate, reply{413, `{"code":413,"error_code":"request_entity_too_large","msg":"Request body too large (max 1048576 bytes)"}`}, 400, refused, "", asked},
		{"a weak password", supabaseCreate, reply{422, `{"code":422,"error_code":"weak_password","msg":"…","weak_password":{"reasons":["length","characters"]}}`}, 422,
			`{"detail":[{"type":"value_error","loc":["body","password"],"msg":"Value error, the password is too weak: length, characters"}]}`, "", asked},
		{"no key", supabaseCreate, reply{401, `{"code":401,"error_code":"no_authorization","msg":"This endpoint requires a valid Bearer token"}`}, 503, unavailable, "1", asked},
		{"a wrong key", supabaseCreate, reply{403, `{"code":403,"error_code":"bad_jwt","msg":"invalid JWT: unable to parse or verify signature, token is expired"}`}, 503, unavailable, "1", asked},
		{"a key that is no admin's", supabaseCreate, reply{403, `{"code":403,"error_code":"not_admin","msg":"User not allowed"}`}, 503, unavailable, "1", asked},
		{"its rate limit", supabaseCreate, reply{429, `{"code":429,"error_code":"over_request_rate_limit","msg":"Request rate limit reached"}`}, 429, busy, "60", asked},
		{"its database is down", supabaseCreate, reply{500, `{"code":500,"error_code":"unexpected_failure","msg":"Database error checking email","error_id":"x"}`}, 503, unavailable, "1", asked},
		{"its database hangs", supabaseCreate, reply{504, `{"code":504,"error_code":"request_timeout","msg":"Processing this request timed out, please retry after a moment.","error_id":"x"}`}, 503, unavailable, "1", asked},
		{"a panic", supabaseCreate, reply{500, `{"code":500,"error_code":"unexpected_failure","msg":"Internal Server Error"}`}, 503, unavailable, "1", asked},
		{"its gateway does not know the key", supabaseCreate, reply{401, `Unauthorized`}, 503, unavailable, "1", asked},
		{"a path that is not there", supabaseCreate, reply{404, `404 page not found`}, 503, unavailable, "1", asked},
		{"no words at all", supabaseCreate, reply{405, ``}, 503, unavailable, "1", asked},
		{"a user without an id", supabaseCreate, reply{200, `{}`}, 500, internal, "", asked},

		// From here on the user is there, whatever comes after it.
		{"the mail was asked for a moment ago", supabaseResend, reply{429, `{"code":429,"error_code":"over_email_send_rate_limit","msg":"For security purposes, you can only request this after 59 seconds."}`}, 201, made, "", whole},
		{"the mail server refuses", supabaseResend, reply{500, `{"code":500,"error_code":"unexpected_failure","msg":"Error sending confirmation email","error_id":"x"}`}, 201, made, "", whole},
		{"the mail has another shape", supabaseResend, reply{400, `{"code":400,"error_code":"validation_failed","msg":"Missing one of these types: signup, email_change, sms, phone_change"}`}, 201, made, "", whole},
		{"the rpc is not there", supabaseRPC, reply{404, `{"code":"PGRST202","message":"Could not find the function public.create_public_profile_for_user(user_id) in the schema cache"}`}, 201, made, "", whole},
		{"the rpc fails", supabaseRPC, reply{500, `{"code":"P0001","message":"no"}`}, 201, made, "", whole},

		{"no such company", supabaseByName, reply{200, `[]`}, 400, noHome, "", byName},
		{"the companies are not for this key", supabaseByName, reply{401, `{"code":"PGRST301","message":"JWT expired"}`}, 503, unavailable, "1", byName},
		{"the companies are down", supabaseByName, reply{503, `{"code":"PGRST002","message":"Could not query the database for the schema cache. Retrying."}`}, 503, unavailable, "1", byName},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, p := atSupabase(t, map[string]reply{tt.path: tt.reply}, false)
			w := g.send(registration("new@example.com", newWords))
			if w.Code != tt.status || w.Body.String() != tt.body || w.Header().Get("Retry-After") != tt.retry {
				t.Errorf("got %d %s, Retry-After %q; want %d %s, %q", w.Code, w.Body, w.Header().Get("Retry-After"), tt.status, tt.body, tt.retry)
			}
			if got := strings.Join(p.asked, ", "); got != tt.asked {
				t.Errorf("asked %s, want %s", got, tt.asked)
			}
			// Nothing of what Supabase says, nor of what the client did, is in our log.
			for _, never := range []string{supabaseKey, newWords, "new@example.com", "users_email_partial_key", "Database error", "JWT expired"} {
				if strings.Contains(g.log.String(), never) {
					t.Errorf("the log says %q", never)
				}
			}
			failed := slices.Contains([]string{supabaseResend, supabaseRPC}, tt.path)
			if got := g.count("gatehouse_registration_faults_total"); (got == 1) != failed {
				t.Errorf("%d failures are counted", got)
			}
			if told := strings.Contains(g.log.String(), "a new user was not welcomed in full"); told != failed {
				t.Errorf("an operator is told of a failure: %t", told)
			}
		})
	}
}

// D9: whoever registers has not proved the address. It is not confirmed, and the mail
// is asked for, because creating a user sends none; the setting restores what was.
func TestD9AnAddressIsNotTakenForProved(t *testing.T) {
	for _, tt := range []struct {
		confirm bool
		body    string
		mails   int
	}{
		{false, `{"id":"` + supabaseUser + `"}`, 1},
		{true, `{"id":"` + supabaseUser + `","email_confirmed_at":"2026-11-22T02:01:35.166249606Z"}`, 0},
		// It was asked for, and is not so.
		{true, `{"id":"` + supabaseUser + `"}`, 1},
	} {
		g, p := atSupabase(t, map[string]reply{supabaseCreate: {200, tt.body}}, tt.confirm)
		if w := g.send(registration("new@example.com", newWords)); w.Code != http.StatusCreated {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
		mails := 0
		for _, one := range p.asked {
			if one == "POST "+supabaseResend {
				mails++
			}
		}
		if p.created["email_confirm"] != tt.confirm || mails != tt.mails {
			t.Errorf("confirm %t: asked for %v, and for %d mails; want %d", tt.confirm, p.created["email_confirm"], mails, tt.mails)
		}
	}
}

// A password of more than 72 bytes would be a 500 there: Supabase is not asked.
func TestAPasswordThatSupabaseCannotHoldIsNotSent(t *testing.T) {
	g, p := atSupabase(t, nil, false)
	w := g.send(registration("new@example.com", strings.Repeat("é", 36)+"x")) // 73 bytes, 37 characters
	if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "72 bytes") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if slices.Contains(p.asked, "POST "+supabaseCreate) {
		t.Error("it was sent")
	}
	if w := g.send(registration("new@example.com", strings.Repeat("é", 36))); w.Code != http.StatusCreated {
		t.Errorf("72 bytes: got %d %s", w.Code, w.Body)
	}
}
