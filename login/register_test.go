package login_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/login"
)

const (
	registerPath = "/api/v1/auth/register"
	newWords     = "words that nobody has"
	welcome      = "Registration successful. Please check your email for confirmation."
)

func registration(email, words string) *http.Request {
	body, _ := json.Marshal(map[string]string{"email": email, "password": words})
	return post(registerPath, string(body))
}

// registering puts registration among people on a service. It stands behind the
// options that onPostgres sets, in the stage's own hands.
func registering(change func(*login.Registration)) set {
	return func(o *login.Options) {
		how := login.Registration{}
		change(&how)
		o.Registration = how
	}
}

// openTo is a stage on a real database on which strangers may register.
func openTo(t *testing.T, change func(*login.Registration), changes ...set) (*stage, *postgres.Store) {
	t.Helper()
	base, db := onPostgres(t)
	changes = append(changes, registering(func(how *login.Registration) {
		change(how)
		how.Registrar = login.RegisterAmong(db, base.passwords)
	}))
	return replica(t, db, changes...), db
}

func plainly(*login.Registration) {}

// registrar answers as its function says.
type registrar struct {
	register func() (identity.Registered, time.Time, error)
	company  error
	mail     error
	profile  error
	delay    time.Duration // of welcoming
	welcomed *[]identity.UserID
}

func (r registrar) CompanyByName(context.Context, string) (identity.CompanyID, error) {
	return acme, r.company
}

func (r registrar) Register(context.Context, identity.Registration) (identity.Registered, time.Time, error) {
	return r.register()
}

func (r registrar) Welcome(ctx context.Context, made identity.Registered, _ string) (mail, profile error) {
	<-time.After(r.delay)
	*r.welcomed = append(*r.welcomed, made.User)
	return errors.Join(r.mail, ctx.Err()), r.profile
}

func TestRegistrationIsOffUnlessAskedFor(t *testing.T) {
	g := newStage(t, store{})
	for _, body := range []string{`{"email":"new@example.com","password":"words that nobody has"}`, ``, `{`} {
		w := g.send(post(registerPath, body))
		if w.Code != http.StatusForbidden || w.Body.String() != `{"detail":"Registration is disabled."}` {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	}
	if n := g.count("gatehouse_registrations_total", "registration_off"); n != 3 {
		t.Errorf("%d are counted", n)
	}
}

func TestRegisteringOnPostgres(t *testing.T) {
	g, db := openTo(t, func(how *login.Registration) { how.Company = acme }) // which has no row
	body := `{"email":"New@Example.com","password":"` + newWords + `","name":"Néw Person",
		"role":"admin","company_id":"` + globex.String() + `","is_active":false,"id":"` + ada.String() + `","user_id":1,"email_verified_at":"now"}`
	w := g.send(post(registerPath, body))
	answer := decodeBody(t, w)
	if w.Code != http.StatusCreated || answer["message"] != welcome || len(answer) != 2 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	u, err := db.FindUser(t.Context(), "new@example.com")
	if err != nil {
		t.Fatal(err)
	}
	if answer["user_id"] != u.ID.String() || u.Email != "New@Example.com" || u.FullName != "Néw Person" ||
		u.Role != "user" || u.Company != acme || !u.Active || u.ID == ada {
		t.Errorf("made %+v", u)
	}
	account, err := db.AccountByEmail(t.Context(), "new@example.com")
	if err != nil || !strings.HasPrefix(account.PasswordHash, "$argon2id$") {
		t.Errorf("hash %q, %v", account.PasswordHash, err)
	}
	g.logIn("new@example.com", newWords)
	for _, taken := range []string{"new@example.com", "NEW@EXAMPLE.COM"} {
		w := g.send(registration(taken, newWords))
		if w.Code != http.StatusConflict || w.Body.String() != `{"detail":"A user with this email already exists."}` {
			t.Errorf("%s: got %d %s", taken, w.Code, w.Body)
		}
	}
	if log := g.log.String(); strings.Contains(log, newWords) || strings.Contains(strings.ToLower(log), "new@example.com") {
		t.Errorf("the log says too much: %s", log)
	}
}

func TestTheDefaultCompanyOfARegistration(t *testing.T) {
	named := func(how *login.Registration) { how.CompanyName = "Home & 'Hearth'" }
	g, db := openTo(t, named)
	missing := `{"detail":"Required default company configuration ('Home & 'Hearth'') not found."}`
	if w := g.send(registration("new@example.com", newWords)); w.Code != http.StatusBadRequest || w.Body.String() != missing {
		t.Errorf("without the company: got %d %s", w.Code, w.Body)
	}
	home, err := db.CreateCompany(t.Context(), "Home & 'Hearth'")
	if err != nil {
		t.Fatal(err)
	}
	if w := g.send(registration("new@example.com", newWords)); w.Code != http.StatusCreated {
		t.Fatalf("with it: got %d %s", w.Code, w.Body)
	}
	if u, err := db.FindUser(t.Context(), "new@example.com"); err != nil || u.Company != home.ID {
		t.Errorf("made %+v, %v", u, err)
	}
	if _, err := db.CreateCompany(t.Context(), "Home & 'Hearth'"); err != nil {
		t.Fatal(err)
	}
	if w := g.send(registration("other@example.com", newWords)); w.Code != http.StatusBadRequest || w.Body.String() != missing {
		t.Errorf("with two of the name: got %d %s", w.Code, w.Body)
	}
	if !strings.Contains(g.log.String(), "more than one company has this name") {
		t.Error("the log does not say why")
	}
	without, db := openTo(t, plainly)
	if w := without.send(registration("new@example.com", newWords)); w.Code != http.StatusCreated {
		t.Fatalf("with no default: got %d %s", w.Code, w.Body)
	}
	if u, err := db.FindUser(t.Context(), "new@example.com"); err != nil || !u.Company.IsZero() {
		t.Errorf("made %+v, %v", u, err)
	}
}

func TestTheBodyOfARegistration(t *testing.T) {
	refused := errors.New("it must not come to this")
	g := newStage(t, store{}, registering(func(how *login.Registration) {
		how.Registrar = registrar{register: func() (identity.Registered, time.Time, error) { return identity.Registered{}, time.Time{}, refused }}
	}))
	of := func(email, words, name string) string {
		body, _ := json.Marshal(map[string]string{"email": email, "password": words, "name": name})
		return string(body)
	}
	for _, tt := range []struct {
		name, body string
		field, msg string
	}{
		{"no body", ``, "", "Field required"},
		{"null", `null`, "", "Field required"},
		{"a list", `[]`, "", "Input should be a valid dictionary or object to extract fields from"},
		{"a name twice", `{"email":"a@b.example","email":"c@d.example","password":"` + newWords + `"}`, "", "JSON decode error"},
		{"a name in another case", `{"Email":"a@b.example","password":"` + newWords + `"}`, "", "JSON decode error"},
		{"something behind it", `{"email":"a@b.example","password":"` + newWords + `"} {}`, "", "JSON decode error"},
		{"half a character", `{"email":"a@b.example","password":"` + newWords + `\ud800"}`, "", "JSON decode error"},
		{"no address", `{"password":"` + newWords + `"}`, "email", "Field required"},
		{"no password", `{"email":"a@b.example"}`, "password", "Field required"},
		{"an address that is none", of("a@b", newWords, "Ada"), "email", "value is not a valid email address"},
		{"a short password", of("a@b.example", "seven77", "Ada"), "password", "String should have at least 8 characters"},
		{"a long one", of("a@b.example", strings.Repeat("a", 1025), "Ada"), "password", "String should have at most 1024 characters"},
		{"one with a NUL", of("a@b.example", newWords+"\x00", "Ada"), "password", "Value error, a NUL character is not allowed"},
		{"a common one", of("a@b.example", "PassWord1", "Ada"), "password", "Value error, the password is one of the most common passwords"},
		{"the address", of("Ada@b.example", "aDA@B.example", "Ada"), "password", "Value error, the password equals the user's email, the user's name or the product's name"},
		{"the name", of("a@b.example", "ada lovelace", "Ada Lovelace"), "password", "Value error, the password equals the user's email, the user's name or the product's name"},
		{"the product", of("a@b.example", "gateHouse", "Ada"), "password", "Value error, the password equals the user's email, the user's name or the product's name"},
		{"a name of one letter", of("a@b.example", newWords, "A"), "name", "String should have at least 2 characters"},
		{"a name of 201", of("a@b.example", newWords, strings.Repeat("é", 201)), "name", "String should have at most 200 characters"},
		{"a name with a line break", of("a@b.example", newWords, "Ada\nLovelace"), "name", "Value error, a control character is not allowed"},
		{"a name that is a number", `{"email":"a@b.example","password":"` + newWords + `","name":7}`, "name", "Input should be a valid string"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := g.send(post(registerPath, tt.body))
			var got struct {
				Detail []struct {
					Loc []string `json:"loc"`
					Msg string   `json:"msg"`
				} `json:"detail"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusUnprocessableEntity || len(got.Detail) != 1 {
				t.Fatalf("got %d %s", w.Code, w.Body)
			}
			loc := strings.TrimSuffix("body "+tt.field, " ")
			if strings.Join(got.Detail[0].Loc, " ") != loc || got.Detail[0].Msg != tt.msg {
				t.Errorf("got %+v, want %s: %s", got.Detail[0], loc, tt.msg)
			}
		})
	}
	if w := g.send(post(registerPath, `{"email":"a@b.example","password":"`+newWords+`","name":null}`)); w.Code != http.StatusServiceUnavailable {
		t.Errorf("a name of null: got %d %s", w.Code, w.Body)
	}
}

func TestTwoRegisterAtOnce(t *testing.T) {
	g, db := openTo(t, plainly)
	var mu sync.Mutex
	answers := map[int]int{}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			w := g.send(registration([]string{"new@example.com", "NEW@example.com"}[i%2], newWords))
			mu.Lock()
			defer mu.Unlock()
			answers[w.Code]++
		})
	}
	all.Wait()
	if answers[http.StatusCreated] != 1 || answers[http.StatusConflict] != 7 {
		t.Errorf("the answers are %v", answers)
	}
	if users, _, err := db.ListUsers(t.Context(), 10, ""); err != nil || len(users) != 1 {
		t.Errorf("%d users, %v", len(users), err)
	}
}

// A taken address is answered like a free one: the same words, and not before the
// time that hides the rest.
func TestConcealingWhoIsThere(t *testing.T) {
	g, db := openTo(t, func(how *login.Registration) { how.Conceal = true })
	ids := map[any]bool{}
	for _, email := range []string{"new@example.com", "new@example.com", "NEW@example.com", "other@example.com"} {
		start := time.Now()
		w := g.send(registration(email, newWords))
		body := decodeBody(t, w)
		if w.Code != http.StatusCreated || body["message"] != welcome || len(body) != 2 {
			t.Fatalf("%s: got %d %s", email, w.Code, w.Body)
		}
		if took := time.Since(start); took < g.passwords.Floor() {
			t.Errorf("%s: answered after %v, the floor is %v", email, took, g.passwords.Floor())
		}
		id, _ := body["user_id"].(string)
		if _, err := identity.ParseUserID(id); err != nil || ids[id] || id[14] != '4' {
			t.Errorf("%s: user_id %q, %v", email, id, err)
		}
		ids[id] = true
	}
	if users, _, err := db.ListUsers(t.Context(), 10, ""); err != nil || len(users) != 2 {
		t.Errorf("%d users, %v", len(users), err)
	}
	if n := g.count("gatehouse_registrations_concealed_total"); n != 2 {
		t.Errorf("%d are counted as concealed, want 2", n)
	}
}

func TestWelcomingIsHiddenToo(t *testing.T) {
	for name, taken := range map[string]bool{"a free address": false, "a taken one": true} {
		synctest.Test(t, func(t *testing.T) {
			var welcomed []identity.UserID
			g := newStage(t, store{}, registering(func(how *login.Registration) {
				how.Conceal = true
				how.Registrar = registrar{delay: 3 * time.Second, welcomed: &welcomed, register: func() (identity.Registered, time.Time, error) {
					even := time.Now().Add(time.Second)
					if taken {
						return identity.Registered{}, even, identity.ErrEmailTaken
					}
					<-time.After(90 * time.Millisecond) // on the bubble's clock
					return identity.Registered{User: ada}, even, nil
				}}
			}))
			start := time.Now()
			w := g.send(registration("new@example.com", newWords))
			if took := time.Since(start); w.Code != http.StatusCreated || took != time.Second {
				t.Errorf("%s: got %d after %v", name, w.Code, took)
			}
			g.service.Wait()
			if (len(welcomed) == 0) != taken {
				t.Errorf("%s: welcomed %v", name, welcomed)
			}
		})
	}
}

func TestWhatARegistrarSays(t *testing.T) {
	busy := `{"detail":"Too many requests."}`
	for _, tt := range []struct {
		name   string
		err    error
		status int
		body   string
		retry  string
	}{
		{"taken", identity.ErrEmailTaken, 409, `{"detail":"A user with this email already exists."}`, ""},
		{"refused", identity.ErrRegistrationData, 400, `{"detail":"The registration was refused."}`, ""},
		{"weak", &identity.WeakPasswordError{Reasons: []string{"length", "<script>", "pwned"}}, 422,
			`{"detail":[{"type":"value_error","loc":["body","password"],"msg":"Value error, the password is too weak: length, pwned"}]}`, ""},
		{"too long", password.ErrTooLong, 422,
			`{"detail":[{"type":"value_error","loc":["body","password"],"msg":"Value error, the password has more than 72 bytes"}]}`, ""},
		{"busy", identity.ErrRegistrationBusy, 429, busy, "60"},
		{"broken", identity.ErrRegistrationBroken, 500, `{"detail":"Internal Server Error"}`, ""},
		{"not there", errors.New("connection refused"), 503, unavailable, "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newStage(t, store{}, registering(func(how *login.Registration) {
				how.Registrar = registrar{register: func() (identity.Registered, time.Time, error) { return identity.Registered{}, time.Time{}, tt.err }}
			}))
			w := g.send(registration("new@example.com", newWords))
			if w.Code != tt.status || w.Body.String() != tt.body || w.Header().Get("Retry-After") != tt.retry {
				t.Errorf("got %d %s, Retry-After %q", w.Code, w.Body, w.Header().Get("Retry-After"))
			}
		})
	}
}

func TestAUserThatIsNotWelcomedStays(t *testing.T) {
	var welcomed []identity.UserID
	g := newStage(t, store{}, registering(func(how *login.Registration) {
		how.Registrar = registrar{
			welcomed: &welcomed, mail: errors.New("Supabase answered 429"), profile: errors.New("Supabase answered 404"),
			register: func() (identity.Registered, time.Time, error) {
				return identity.Registered{User: ada}, time.Time{}, nil
			},
		}
	}))
	w := g.send(registration("new@example.com", newWords))
	if w.Code != http.StatusCreated || decodeBody(t, w)["user_id"] != ada.String() || len(welcomed) != 1 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	for _, step := range []string{"mail", "profile"} {
		if g.count("gatehouse_registration_faults_total", step) != 1 {
			t.Errorf("%s is not counted", step)
		}
	}
	if log := g.log.String(); strings.Count(log, `"ERROR"`) != 2 || !strings.Contains(log, ada.String()) {
		t.Errorf("the log says %s", log)
	}
}

func TestRegistrationsAreLimited(t *testing.T) {
	g, _ := openTo(t, plainly, limited(func(l *login.Limits) { l.Register = identity.Quota{Most: 7, Within: time.Hour} }))
	one := func(n int, source string) int {
		t.Helper()
		w := g.send(from(registration("new"+string(rune('a'+n))+"@example.com", newWords), source))
		if w.Code == http.StatusTooManyRequests && (w.Body.String() != tooMany || len(w.Header().Get("Retry-After")) != 4) {
			t.Errorf("got %s, Retry-After %q", w.Body, w.Header().Get("Retry-After"))
		}
		return w.Code
	}
	for n := range 5 {
		if got := one(n, "198.51.100.1"); got != http.StatusCreated {
			t.Fatalf("%d: got %d", n, got)
		}
	}
	if w := g.send(from(registration("new", newWords), "198.51.100.2")); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("one that is wrong, and costs nothing: got %d", w.Code)
	}
	for _, step := range []struct {
		name, source string
		want         int
	}{
		{"a sixth from one source", "198.51.100.1", 429},
		{"from another", "198.51.100.2", 201},
		{"the seventh of all", "198.51.100.3", 201},
		{"the eighth", "198.51.100.4", 429},
	} {
		if got := one(5+int(step.source[len(step.source)-1]-'0'), step.source); got != step.want {
			t.Errorf("%s: got %d, want %d", step.name, got, step.want)
		}
	}
	if g.count("gatehouse_login_throttle_blocks_total", "register") != 2 || g.count("gatehouse_registrations_total", "throttled") != 2 {
		t.Error("the refusals are not counted")
	}
}

func TestWhatFailsByNoFaultOfTheClientCostsNothing(t *testing.T) {
	g, db := openTo(t, func(how *login.Registration) { how.CompanyName = "Home" }, limited(func(l *login.Limits) { l.Register.Most = 1 }))
	for range 3 {
		if w := g.send(registration("new@example.com", newWords)); w.Code != http.StatusBadRequest {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
	}
	if _, err := db.CreateCompany(t.Context(), "Home"); err != nil {
		t.Fatal(err)
	}
	if w := g.send(registration("new@example.com", newWords)); w.Code != http.StatusCreated {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if w := g.send(registration("other@example.com", newWords)); w.Code != http.StatusTooManyRequests {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
