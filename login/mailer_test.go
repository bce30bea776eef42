package login_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/mail"
	"github.com/atenex/gatehouse/internal/mail/mailtest"
	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
	"github.com/atenex/gatehouse/login"
)

const (
	forgotPath    = "/api/v1/users/password/forgot"
	resetPath     = "/api/v1/users/password/reset"
	verifyPath    = "/api/v1/users/email/verify"
	askVerifyPath = "/api/v1/users/me/email/verify"

	otherWords = "quite other words"
	badToken   = `{"detail":"Invalid or expired token."}`
)

var aMailedToken = regexp.MustCompile(`#token=([A-Za-z0-9_-]{43})\n`)

// senderFunc is a Sender of three lines.
type senderFunc func(context.Context, identity.Mail) error

func (f senderFunc) Send(ctx context.Context, m identity.Mail) error { return f(ctx, m) }

// office is a stage on PostgreSQL from which people are written to.
type office struct {
	*stage
	db     *postgres.Store
	url    string
	server *mailtest.Server // nil: another sender
	used   []string         // tokens and addresses that no log may hold
}

// mailing is how people are written to by that sender.
func mailing(sender login.Sender, tokens login.OneTime) login.Mail {
	return login.Mail{
		Sender: sender, Tokens: tokens, ResetFor: time.Hour, VerifyFor: 24 * time.Hour,
		ResetURL: "https://app.example.com/reset#token={token}", VerifyURL: "https://app.example.com/verify#token={token}",
		Retries: []time.Duration{time.Millisecond, time.Millisecond},
	}
}

func newOffice(t *testing.T, with mailtest.Options, changes ...set) *office {
	t.Helper()
	server := mailtest.Listen(t, with)
	from, err := mail.ParseFrom("Gatehouse <no-reply@example.com>")
	if err != nil {
		t.Fatal(err)
	}
	sender, err := mail.NewSMTP(mail.Server{Host: "127.0.0.1", Port: server.Port(), Security: mail.Unprotected}, from)
	if err != nil {
		t.Fatal(err)
	}
	o := withMail(t, sender, changes...)
	o.server = server
	o.used = append(o.used, adaEmail, "Ada@Example.com")
	t.Cleanup(func() {
		o.flush()
		for _, secret := range o.used {
			if strings.Contains(o.log.String(), secret) {
				t.Errorf("the log holds %q", secret)
			}
		}
	})
	return o
}

// withMail is an office with that sender.
func withMail(t *testing.T, sender login.Sender, changes ...set) *office {
	t.Helper()
	o := &office{url: postgrestest.New(t)}
	if _, err := postgres.Migrate(t.Context(), o.url, postgres.MigrateOptions{}); err != nil {
		t.Fatal(err)
	}
	var err error
	if o.db, err = postgres.Open(t.Context(), postgres.Options{URL: o.url, MaxConns: 4}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.db.Close)
	o.stage = onStore(t, o.db, append([]set{func(p *login.Options) { p.Mail = mailing(sender, o.db) }}, changes...)...)
	return o
}

// onStore is a stage on that database; changes come after it.
func onStore(t *testing.T, db *postgres.Store, changes ...set) *stage {
	t.Helper()
	return newStageWith(t, store{}, password.Options{Upgrade: true, Processors: 5}, append([]set{func(o *login.Options) {
		o.Accounts, o.Sessions, o.Directory, o.Sweeper, o.Companies, o.Database = db, db, db, db, db, db
		o.Throttle, o.Budgets, o.Invitations, o.Auditor = db, db, db, db
	}}, changes...)...)
}

func (g *stage) flush() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if g.service.Flush(ctx); ctx.Err() != nil {
		g.t.Error("mails are left")
	}
}

// token is that of the next mail.
func (o *office) token() string {
	o.t.Helper()
	text := o.server.Next().Text
	found := aMailedToken.FindStringSubmatch(text)
	if found == nil {
		o.t.Fatalf("the mail holds no token: %s", text)
	}
	o.used = append(o.used, found[1])
	return found[1]
}

func jsonOf(pairs ...string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	text, _ := json.Marshal(m)
	return string(text)
}

func forgot(email string) *http.Request { return post(forgotPath, jsonOf("email", email)) }

func reset(token, words string) *http.Request {
	return post(resetPath, jsonOf("token", token, "new_password", words))
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it does not come to it that %s", what)
		}
	}
}

func TestAForgottenPasswordIsResetByMail(t *testing.T) {
	t.Parallel()
	o := newOffice(t, mailtest.Options{})
	account := person("Ada@Example.com", o.hash(rightWords))
	account.ID = ada
	create(t, o.db, account)
	disabled := person("disabled@example.com", o.hash(rightWords))
	disabled.Active = false
	create(t, o.db, disabled)
	raw, legacy := o.logIn(adaEmail, rightWords), legacyToken(t)
	if !o.accepted(raw) || !o.accepted(legacy) {
		t.Fatal("a token is refused before anything happened")
	}

	answers := map[string]bool{}
	for _, email := range []string{"ada@EXAMPLE.com", nobodyEmail, "disabled@example.com"} {
		w := o.send(forgot(email))
		if w.Code != http.StatusAccepted {
			t.Fatalf("%s: %d %s", email, w.Code, w.Body)
		}
		answers[w.Body.String()] = true
	}
	if len(answers) != 1 {
		t.Errorf("answers differ by who exists: %v", answers)
	}
	got := o.server.Next()
	found := aMailedToken.FindStringSubmatch(got.Text)
	if found == nil || got.To != "Ada@Example.com" || !strings.Contains(got.Text, "within 1 hour:") || !strings.Contains(got.Message.Header.Get("Subject"), "Gatehouse") {
		t.Fatalf("the mail to %s is %s", got.To, got.Raw)
	}
	token := found[1]
	o.used = append(o.used, token)
	eventually(t, "the others are done with", func() bool { return o.count("gatehouse_mails_total", "password_reset", "unneeded") == 2 })
	if !o.server.None() {
		t.Error("somebody else is written to")
	}

	for _, step := range []struct {
		name, token, words string
		want               int
		body               string
	}{
		{"a token that nobody has", strings.Repeat("A", 43), otherWords, 400, badToken},
		{"a token that is none", "x", otherWords, 400, badToken},
		{"no token", "", otherWords, 400, badToken},
		{"a token that is too long", strings.Repeat("x", 300), otherWords, 422, ""},
		{"a short password", token, "short", 422, ""},
		{"a common password", token, "password123", 422, ""},
		{"the address as a password", token, "Ada@Example.com", 422, ""},
		{"the product's name", token, "Gatehouse", 422, ""},
		{"a good one", token, otherWords, 200, ""},
		{"once more", token, otherWords, 400, badToken},
	} {
		w := o.send(reset(step.token, step.words))
		if w.Code != step.want || step.body != "" && w.Body.String() != step.body {
			t.Errorf("%s: %d %s, want %d %s", step.name, w.Code, w.Body, step.want, step.body)
		}
		if strings.Contains(w.Body.String(), token) {
			t.Errorf("%s: the answer holds the token", step.name)
		}
	}
	if o.accepted(raw) || o.accepted(legacy) {
		t.Error("a token from before is accepted")
	}
	if w := o.send(credentials(adaEmail, rightWords)); w.Code != http.StatusUnauthorized {
		t.Errorf("the old password: %d", w.Code)
	}
	o.logIn(adaEmail, otherWords)
	if n := o.count("gatehouse_sessions_ended_total", "password_reset"); n != 1 {
		t.Errorf("%d sessions ended, want 1", n)
	}
}

// What is locked cannot be read: the answer is there before anybody is looked up.
func TestNobodyIsLookedUpForTheAnswer(t *testing.T) {
	t.Parallel()
	o := newOffice(t, mailtest.Options{}, throttled)
	create(t, o.db, person(adaEmail, o.hash(rightWords)))
	lock := o.locked()
	for _, email := range []string{adaEmail, nobodyEmail} {
		if w := o.send(forgot(email)); w.Code != http.StatusAccepted {
			t.Errorf("%s: %d %s", email, w.Code, w.Body)
		}
	}
	if !o.server.None() {
		t.Error("a mail went out past the lock")
	}
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.token()
}

// throttled has limits that some requests fit into.
func throttled(o *login.Options) {
	o.Unthrottled, o.ThrottleSecret = false, []byte("test-secret-of-the-throttle-in-words")
	o.Limits.MailSource = [2]identity.Quota{{Most: 6, Within: time.Hour}}
	o.Limits.MailAddress = [2]identity.Quota{{Most: 2, Within: time.Hour}}
}

// locked is a transaction that lets nobody read users.
func (o *office) locked() pgx.Tx {
	o.t.Helper()
	conn, err := pgx.Connect(o.t.Context(), o.url)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	tx, err := conn.Begin(o.t.Context())
	if err == nil {
		_, err = tx.Exec(o.t.Context(), `LOCK TABLE users IN ACCESS EXCLUSIVE MODE`)
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return tx
}

func TestMailsAreLimitedForThoseWhoExistAndThoseWhoDoNot(t *testing.T) {
	t.Parallel()
	o := newOffice(t, mailtest.Options{}, throttled)
	create(t, o.db, person(adaEmail, o.hash(rightWords)))
	for _, email := range []string{adaEmail, nobodyEmail} {
		for i, want := range []int{202, 202, 429} {
			spelt := email
			if i == 1 {
				spelt = strings.ToUpper(email)
			}
			w := o.send(forgot(spelt))
			if w.Code != want || want == 429 && (w.Header().Get("Retry-After") == "" || w.Body.String() != `{"detail":"Too many requests."}`) {
				t.Errorf("%s, %d: %d %s %v", email, i, w.Code, w.Body, w.Header())
			}
		}
	}
	for i, want := range []int{202, 202, 429} {
		if w := o.send(forgot(fmt.Sprintf("other%d@example.com", i))); w.Code != want {
			t.Errorf("the source's %d: %d %s", i+5, w.Code, w.Body)
		}
	}
	if n := o.count("gatehouse_login_throttle_blocks_total", "mail"); n != 3 {
		t.Errorf("%d blocks are counted, want 3", n)
	}
}

func TestForgettingWhileTheDatabaseIsDown(t *testing.T) {
	t.Parallel()
	var outage sync.RWMutex
	var down bool
	sent := make(chan identity.Mail, 10)
	g := withMail(t, senderFunc(func(_ context.Context, m identity.Mail) error { sent <- m; return nil }), throttled, func(o *login.Options) {
		away := flaky{Store: o.Accounts.(*postgres.Store), down: func() bool { outage.RLock(); defer outage.RUnlock(); return down }}
		o.Budgets, o.Mail.Tokens = away, away
		o.Mail.Retries = []time.Duration{5 * time.Millisecond, 5 * time.Millisecond, time.Minute}
	})
	create(t, g.db, person(adaEmail, g.hash(rightWords)))
	outage.Lock()
	down = true
	outage.Unlock()
	for range 3 {
		if w := g.send(forgot(adaEmail)); w.Code != http.StatusAccepted {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	if len(sent) != 0 {
		t.Fatal("a mail went out without the database")
	}
	outage.Lock()
	down = false
	outage.Unlock()
	g.flush()
	// The limit of two holds for what was asked for meanwhile.
	if len(sent) != 2 || g.count("gatehouse_mails_total", "sent") != 2 || g.count("gatehouse_mails_total", "throttled") != 1 {
		t.Errorf("%d mails were sent, %d throttled; want 2 and 1", len(sent), g.count("gatehouse_mails_total", "throttled"))
	}
	// And where it is not there at all.
	g.db.Close()
	if w := g.send(forgot(adaEmail)); w.Code != http.StatusAccepted {
		t.Errorf("with the pool closed: %d %s", w.Code, w.Body)
	}
	for name, r := range map[string]*http.Request{"reset": reset("x", otherWords), "verify": post(verifyPath, `{"token":"x"}`)} {
		if w := g.send(r); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s with the pool closed: %d %s", name, w.Code, w.Body)
		}
	}
}

// flaky is a store whose connections fail at times.
type flaky struct {
	*postgres.Store
	down func() bool
}

var errDown = errors.New("connection refused")

func (f flaky) Spend(ctx context.Context, budgets ...identity.Budget) (bool, time.Duration, error) {
	if f.down() {
		return false, 0, errDown
	}
	return f.Store.Spend(ctx, budgets...)
}

func (f flaky) MakeOneTime(ctx context.Context, request identity.OneTimeRequest) (identity.OneTimeToken, error) {
	if f.down() {
		return identity.OneTimeToken{}, errDown
	}
	return f.Store.MakeOneTime(ctx, request)
}

func TestAFullQueueIsToldToEverybody(t *testing.T) {
	t.Parallel()
	stuck := make(chan struct{})
	release := sync.OnceFunc(func() { close(stuck) })
	g := withMail(t, senderFunc(func(context.Context, identity.Mail) error { <-stuck; return nil }))
	defer release()
	create(t, g.db, person(adaEmail, g.hash(rightWords)))
	status := map[int]int{}
	for range 300 {
		w := g.send(forgot(adaEmail))
		status[w.Code]++
		if w.Code == http.StatusServiceUnavailable && (w.Header().Get("Retry-After") != "10" || w.Body.String() != unavailable) {
			t.Fatalf("a full queue says %s, Retry-After %q", w.Body, w.Header().Get("Retry-After"))
		}
	}
	if status[202] != 256 || status[503] != 44 {
		t.Errorf("the answers are %v, want 256 of 202 and 44 of 503", status)
	}
	if w := g.send(forgot(nobodyEmail)); w.Code != http.StatusServiceUnavailable {
		t.Errorf("somebody who does not exist: %d", w.Code)
	}
	if n := g.gauge("gatehouse_mails_waiting"); n != 256 {
		t.Errorf("%v mails wait, want 256", n)
	}
	release()
	eventually(t, "all are sent", func() bool { return g.count("gatehouse_mails_total", "sent") == 256 })
	eventually(t, "none waits", func() bool { return g.gauge("gatehouse_mails_waiting") == 0 })
	if w := g.send(forgot(adaEmail)); w.Code != http.StatusAccepted {
		t.Errorf("afterwards: %d", w.Code)
	}
	g.flush()
}

func (g *stage) gauge(name string) float64 {
	g.t.Helper()
	families, err := g.registry.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	g.t.Fatalf("there is no %s", name)
	return 0
}

func TestAServerThatDoesNotTakeTheMail(t *testing.T) {
	t.Parallel()
	said := " " + adaEmail
	var mu sync.Mutex
	var tries, times int
	var answer string
	o := newOffice(t, mailtest.Options{Answer: func(line string) string {
		mu.Lock()
		defer mu.Unlock()
		if !strings.HasPrefix(line, "RCPT") {
			return ""
		}
		if tries++; tries > times {
			return ""
		}
		return answer
	}})
	u := create(t, o.db, person(adaEmail, o.hash(rightWords)))
	for _, test := range []struct {
		name, answer string
		times        int // so often
		want         string
		tries        int
	}{
		{"a grey list, then the mail is taken", "450 4.2.0" + said, 2, "sent", 3},
		{"a server that is out of order", "450 4.2.0" + said, 99, "failed", 3},
		{"a mailbox that does not exist", "550 5.1.1" + said, 99, "refused", 1},
		{"a server that hangs up", "hang up", 99, "failed", 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			mu.Lock()
			tries, times, answer = 0, test.times, test.answer
			mu.Unlock()
			o.log.Reset()
			before := o.count("gatehouse_mails_total", "password_reset", test.want)
			if w := o.send(forgot(adaEmail)); w.Code != http.StatusAccepted {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			eventually(t, "it ends so", func() bool { return o.count("gatehouse_mails_total", "password_reset", test.want) == before+1 })
			mu.Lock()
			defer mu.Unlock()
			if tries != test.tries {
				t.Errorf("%d tries, want %d", tries, test.tries)
			}
			logged := strings.Contains(o.log.String(), `"mail not sent"`)
			if logged != (test.want != "sent") || logged && !strings.Contains(o.log.String(), u.ID.String()) || strings.Contains(o.log.String(), adaEmail) {
				t.Errorf("the log says %s", o.log)
			}
		})
	}
}

// What waits to be tried once more is tried at once when the service ends.
func TestTheEndFlushesMails(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	tries := 0
	g := withMail(t, senderFunc(func(context.Context, identity.Mail) error {
		mu.Lock()
		defer mu.Unlock()
		if tries++; tries == 1 {
			return errors.New("not now")
		}
		return nil
	}), func(o *login.Options) { o.Mail.Retries = []time.Duration{time.Hour} })
	create(t, g.db, person(adaEmail, g.hash(rightWords)))
	g.send(forgot(adaEmail))
	eventually(t, "it was tried", func() bool { mu.Lock(); defer mu.Unlock(); return tries == 1 })
	g.flush()
	if n := g.count("gatehouse_mails_total", "sent"); n != 1 {
		t.Errorf("%d mails sent, want 1", n)
	}
}

func TestAnAddressIsConfirmedByMail(t *testing.T) {
	t.Parallel()
	o := newOffice(t, mailtest.Options{}, throttled, func(o *login.Options) { o.Limits.MailAddress[0].Most = 2 })
	u := create(t, o.db, person(adaEmail, o.hash(rightWords)))
	raw := o.logIn(adaEmail, rightWords)
	ask := func() *httptest.ResponseRecorder { return o.send(asUser(post(askVerifyPath, ""), raw)) }
	confirm := func(token string) *httptest.ResponseRecorder { return o.send(post(verifyPath, jsonOf("token", token))) }

	if w := o.send(post(askVerifyPath, "")); w.Code != http.StatusUnauthorized {
		t.Errorf("without a token: %d %s", w.Code, w.Body)
	}
	if w := ask(); w.Code != http.StatusAccepted {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	first := o.token()
	if w := o.send(reset(first, otherWords)); w.Code != 400 || w.Body.String() != badToken {
		t.Errorf("used to reset the password: %d %s", w.Code, w.Body)
	}
	if w := ask(); w.Code != http.StatusAccepted {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	second := o.token()
	if w := ask(); w.Code != http.StatusTooManyRequests {
		t.Errorf("the third mail: %d %s", w.Code, w.Body)
	}
	for _, step := range []struct {
		name, token string
		want        int
	}{
		{"the mail before", first, 400},
		{"the last mail", second, 200},
		{"once more", second, 400},
	} {
		if w := confirm(step.token); w.Code != step.want || step.want == 400 && w.Body.String() != badToken {
			t.Errorf("%s: %d %s, want %d", step.name, w.Code, w.Body, step.want)
		}
	}
	for name, body := range map[string]string{"nothing": "", "no token": "{}", "a number": `{"token":1}`} {
		if w := o.send(post(verifyPath, body)); w.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if w := o.send(httptest.NewRequest(http.MethodGet, verifyPath+"?token="+second, nil)); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("a link that is followed: %d", w.Code)
	}
	// Whoever has confirmed is in without the invitation's token.
	home, err := o.db.CreateCompany(t.Context(), "Home")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.db.Invite(t.Context(), identity.InviteRequest{Company: home.ID, Email: adaEmail, Role: "user", Lifetime: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if w := o.send(asUser(post(ensurePath, jsonOf("company_id", home.ID.String())), raw)); w.Code != http.StatusOK {
		t.Errorf("%s is not let in: %d %s", u.ID, w.Code, w.Body)
	}
}

func TestWhoRegistersIsAskedToConfirm(t *testing.T) {
	t.Parallel()
	for _, conceal := range []bool{false, true} {
		o := newOffice(t, mailtest.Options{}, func(o *login.Options) {
			o.Registration = login.Registration{
				Registrar: login.RegisterAmong(o.Accounts.(*postgres.Store), o.Passwords), Confirm: true, Conceal: conceal,
			}
		})
		body := jsonOf("email", adaEmail, "password", rightWords, "name", "Win a prize at https://evil.example now")
		if w := o.send(post("/api/v1/auth/register", body)); w.Code != http.StatusCreated {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		got := o.server.Next()
		found := aMailedToken.FindStringSubmatch(got.Text)
		if found == nil || got.To != adaEmail || strings.Contains(got.Raw, "evil") {
			t.Fatalf("the mail is %s", got.Raw)
		}
		o.used = append(o.used, found[1])
		if w := o.send(post(verifyPath, jsonOf("token", found[1]))); w.Code != http.StatusOK {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		o.send(post("/api/v1/auth/register", body))
		o.service.Wait()
		if o.flush(); !o.server.None() {
			t.Error("who has the address is written to once more")
		}
	}
}

func TestWithoutMailThereIsNothingToAskFor(t *testing.T) {
	t.Parallel()
	g, db := onPostgres(t)
	create(t, db, person(adaEmail, g.hash(rightWords)))
	raw := g.logIn(adaEmail, rightWords)
	for _, path := range []string{forgotPath, resetPath, verifyPath, askVerifyPath} {
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			r := asUser(post(path, jsonOf("email", adaEmail, "token", "x", "new_password", otherWords)), raw)
			r.Method = method
			if w := g.send(r); w.Code != http.StatusNotFound || w.Body.String() != `{"detail":"Not Found"}` {
				t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
			}
		}
	}
}

func TestTwoResetsWithOneTokenAtOnce(t *testing.T) {
	t.Parallel()
	o := newOffice(t, mailtest.Options{})
	create(t, o.db, person(adaEmail, o.hash(rightWords)))
	o.send(forgot(adaEmail))
	token := o.token()
	status := make([]int, 4)
	var all sync.WaitGroup
	for i := range status {
		all.Go(func() { status[i] = o.send(reset(token, fmt.Sprintf("%s, number %d", otherWords, i))).Code })
	}
	all.Wait()
	won := 0
	for i, code := range status {
		switch code {
		case http.StatusOK:
			won++
			o.logIn(adaEmail, fmt.Sprintf("%s, number %d", otherWords, i))
		case http.StatusBadRequest:
		default:
			t.Errorf("number %d got %d", i, code)
		}
	}
	if won != 1 {
		t.Errorf("the answers are %v, want one of 200", status)
	}
}

// A row may hold an address that was never one.
func TestAnAddressThatIsNoneGetsNoMail(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "mail")
	from, err := mail.ParseFrom("no-reply@example.com")
	if err != nil {
		t.Fatal(err)
	}
	files, err := mail.NewFiles(dir, from)
	if err != nil {
		t.Fatal(err)
	}
	g := withMail(t, files)
	u := create(t, g.db, person(adaEmail, g.hash(rightWords)))
	raw := g.logIn(adaEmail, rightWords)
	conn, err := pgx.Connect(t.Context(), g.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(t.Context(), `UPDATE users SET email = E'ada@example.com\r\nBcc: eve@example.com'`); err != nil {
		t.Fatal(err)
	}
	if w := g.send(asUser(post(askVerifyPath, ""), raw)); w.Code != http.StatusAccepted {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	eventually(t, "it is refused", func() bool { return g.count("gatehouse_mails_total", "email_verify", "refused") == 1 })
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != 0 {
		t.Errorf("there is mail: %v", names)
	}
	if !strings.Contains(g.log.String(), u.ID.String()) || strings.Contains(g.log.String(), "eve@") {
		t.Errorf("the log says %s", g.log)
	}
}
