package login_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/login"
)

const (
	newcomer    = "nick@example.com"
	joinRefused = `{"detail":"You are not allowed to join this company."}`
)

func registrationBy(secret, email string) *http.Request {
	body, _ := json.Marshal(map[string]string{"email": email, "password": newWords, "invitation_token": secret})
	return post(registerPath, string(body))
}

// invitation is one of an address to a company of its own, as an operator makes it.
func invitation(t *testing.T, db *postgres.Store, email string, lifetime time.Duration) (identity.Invitation, string) {
	t.Helper()
	company, err := db.CreateCompany(t.Context(), "Home of "+t.Name())
	if err != nil {
		t.Fatal(err)
	}
	made, secret, err := db.Invite(t.Context(), identity.InviteRequest{Company: company.ID, Email: email, Role: "editor", Lifetime: lifetime})
	if err != nil {
		t.Fatal(err)
	}
	return made, secret
}

func stateOf(t *testing.T, db *postgres.Store, made identity.Invitation) identity.InvitationState {
	t.Helper()
	list, err := db.ListInvitations(t.Context(), identity.InvitationFilter{Company: made.Company, All: true})
	if err != nil || len(list) != 1 {
		t.Fatalf("the invitations are %+v, %v", list, err)
	}
	return list[0].State
}

func users(t *testing.T, db *postgres.Store) int {
	t.Helper()
	list, _, err := db.ListUsers(t.Context(), 100, "")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestAStrangerRegistersByInvitation(t *testing.T) {
	// Of the default company there is no row: the invited do not need it.
	g, db := openTo(t, func(how *login.Registration) { how.CompanyName = "Nowhere" })
	made, secret := invitation(t, db, "Nick@Example.com", time.Hour)
	r := registrationBy(secret, newcomer)
	r.Header.Set("X-Request-ID", "register-by-invitation")
	w := g.send(r)
	answer := decodeBody(t, w)
	if w.Code != http.StatusCreated || answer["message"] != welcome || len(answer) != 2 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	raw := g.logIn(newcomer, newWords)
	c, err := g.verifier.Verify(raw, time.Now())
	if err != nil || c.Company != made.Company || c.User.String() != answer["user_id"] {
		t.Errorf("the token says %+v, %v", c, err)
	}
	me := decodeBody(t, g.send(asUser(httptest.NewRequest(http.MethodGet, mePath, nil), raw)))
	want := []any{map[string]any{"company_id": made.Company.String(), "name": "Home of " + t.Name(), "role": "editor"}}
	if diff := cmp.Diff(want, me["companies"]); diff != "" || me["role"] != "editor" || me["company_id"] != made.Company.String() {
		t.Errorf("who I am: %v\n%s", me, diff)
	}
	if got := stateOf(t, db, made); got != identity.InvitationAccepted {
		t.Errorf("the invitation is %s", got)
	}
	records, err := db.AuditLog(t.Context(), postgres.AuditFilter{User: c.User, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, e := range records {
		if e.RequestID == "register-by-invitation" && e.Company == made.Company {
			told = append(told, e.Name)
		}
	}
	if got := strings.Join(told, " "); got != "invitation.accepted user.registered company.joined" {
		t.Errorf("the log tells of %s", got)
	}
	// The secret proves nothing about the mailbox: another company's invitation to the
	// address is not open to this user without its own.
	other, _ := invitationTo(t, db, "Other", newcomer)
	if w := g.send(asUser(post(ensurePath, `{"company_id":"`+other.Company.String()+`"}`), raw)); w.Code != http.StatusForbidden {
		t.Errorf("D1: an address that was not verified opens another company: %d %s", w.Code, w.Body)
	}
	if log := g.log.String(); strings.Contains(log, secret) || strings.Contains(strings.ToLower(log), newcomer) {
		t.Errorf("the log says too much: %s", log)
	}
}

func invitationTo(t *testing.T, db *postgres.Store, name, email string) (identity.Invitation, string) {
	t.Helper()
	company, err := db.CreateCompany(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	made, secret, err := db.Invite(t.Context(), identity.InviteRequest{Company: company.ID, Email: email, Role: "user", Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return made, secret
}

// Every cause has the same answer, makes nobody and is not told before the time that
// hides the cause.
func TestAnInvitationThatIsNotGoodMakesNobody(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, db *postgres.Store, made identity.Invitation)
		give  func(secret string) *http.Request
		state identity.InvitationState
	}{
		{"a secret of nobody", nil, func(string) *http.Request { return registrationBy("some words", newcomer) }, identity.InvitationOpen},
		{"a secret that is a NUL", nil, func(string) *http.Request { return registrationBy("\x00", newcomer) }, identity.InvitationOpen},
		{"a secret of another address", nil, func(secret string) *http.Request { return registrationBy(secret, "other@example.com") }, identity.InvitationOpen},
		{"D11: of an address that differs by more than the case of ASCII letters", nil,
			func(secret string) *http.Request { return registrationBy(secret, "nic\u212a@example.com") }, identity.InvitationOpen},
		{"of an address that is taken, with the secret of another", func(t *testing.T, db *postgres.Store, _ identity.Invitation) {
			create(t, db, person("other@example.com", ""))
		}, func(secret string) *http.Request { return registrationBy(secret, "other@example.com") }, identity.InvitationOpen},
		{"one that was revoked", func(t *testing.T, db *postgres.Store, made identity.Invitation) {
			if _, err := db.RevokeInvitation(t.Context(), made.Company, made.ID, identity.Inviter{}); err != nil {
				t.Fatal(err)
			}
		}, nil, identity.InvitationRevoked},
		{"one of a suspended company", func(t *testing.T, db *postgres.Store, made identity.Invitation) {
			if _, err := db.SetSuspended(t.Context(), made.Company, true); err != nil {
				t.Fatal(err)
			}
		}, nil, identity.InvitationOpen},
	} {
		for _, conceal := range []bool{false, true} {
			t.Run(tt.name+map[bool]string{true: ", concealed"}[conceal], func(t *testing.T) {
				g, db := openTo(t, func(how *login.Registration) { how.Company, how.Conceal = acme, conceal })
				made, secret := invitation(t, db, newcomer, time.Hour)
				if tt.spoil != nil {
					tt.spoil(t, db, made)
				}
				before := users(t, db)
				r := registrationBy(secret, newcomer)
				if tt.give != nil {
					r = tt.give(secret)
				}
				start := time.Now()
				w := g.send(r)
				if w.Code != http.StatusForbidden || w.Body.String() != joinRefused {
					t.Errorf("got %d %s", w.Code, w.Body)
				}
				if took := time.Since(start); took < g.passwords.Floor() {
					t.Errorf("answered after %v, the floor is %v", took, g.passwords.Floor())
				}
				if now := users(t, db); now != before {
					t.Errorf("%d users came", now-before)
				}
				if got := stateOf(t, db, made); got != tt.state {
					t.Errorf("the invitation is %s, want %s", got, tt.state)
				}
				if g.count("gatehouse_registrations_total", "join_refused") != 1 {
					t.Error("it is not counted")
				}
			})
		}
	}
}

func TestAnInvitationThatRanOutMakesNobody(t *testing.T) {
	g, db := openTo(t, plainly)
	_, secret := invitation(t, db, newcomer, time.Microsecond)
	if w := g.send(registrationBy(secret, newcomer)); w.Code != http.StatusForbidden || w.Body.String() != joinRefused || users(t, db) != 0 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestAnInvitationIsGoodForOneUser(t *testing.T) {
	for _, tt := range []struct {
		name    string
		conceal bool
		again   int // to whoever asks once more with the same address
	}{
		{"in the open", false, http.StatusConflict},
		{"concealed", true, http.StatusCreated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, db := openTo(t, func(how *login.Registration) { how.Conceal = tt.conceal })
			made, secret := invitation(t, db, newcomer, time.Hour)
			var mu sync.Mutex
			answers := map[int]int{}
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					w := g.send(registrationBy(secret, []string{newcomer, strings.ToUpper(newcomer)}[i%2]))
					mu.Lock()
					defer mu.Unlock()
					answers[w.Code]++
				})
			}
			all.Wait()
			want := map[int]int{http.StatusCreated: 1, tt.again: 7}
			if tt.conceal {
				want = map[int]int{http.StatusCreated: 8}
			}
			if diff := cmp.Diff(want, answers); diff != "" || users(t, db) != 1 || stateOf(t, db, made) != identity.InvitationAccepted {
				t.Errorf("%d users, the invitation is %s; the answers are %s", users(t, db), stateOf(t, db, made), diff)
			}
			if w := g.send(registrationBy(secret, "other@example.com")); w.Code != http.StatusForbidden || w.Body.String() != joinRefused {
				t.Errorf("for another address: %d %s", w.Code, w.Body)
			}
		})
	}
}

// Whoever has the address already is not made again, and can still use the
// invitation as the user that it is.
func TestAnInvitationOfSomebodyWhoIsThereStaysTheirs(t *testing.T) {
	for _, conceal := range []bool{false, true} {
		g, db := openTo(t, func(how *login.Registration) { how.Conceal = conceal })
		create(t, db, person("Nick@example.com", g.hash(rightWords)))
		made, secret := invitation(t, db, newcomer, time.Hour)
		want := http.StatusConflict
		if conceal {
			want = http.StatusCreated
		}
		if w := g.send(registrationBy(secret, newcomer)); w.Code != want {
			t.Errorf("got %d %s, want %d", w.Code, w.Body, want)
		}
		if got := stateOf(t, db, made); got != identity.InvitationOpen {
			t.Errorf("the invitation is %s", got)
		}
		w := g.send(asUser(post(ensurePath, `{"invitation_token":"`+secret+`"}`), g.logIn(newcomer, rightWords)))
		if w.Code != http.StatusOK || decodeBody(t, w)["company_id"] != made.Company.String() {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	}
}

func TestAnInvitationOpensNoRegistrationThatIsOff(t *testing.T) {
	g, db := onPostgres(t)
	made, secret := invitation(t, db, newcomer, time.Hour)
	w := g.send(registrationBy(secret, newcomer))
	if w.Code != http.StatusForbidden || w.Body.String() != `{"detail":"Registration is disabled."}` || stateOf(t, db, made) != identity.InvitationOpen {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// Guesses at secrets are limited as registrations are.
func TestGuessingInvitationsIsLimited(t *testing.T) {
	g, db := openTo(t, plainly, limited(func(*login.Limits) {}))
	_, secret := invitation(t, db, newcomer, time.Hour)
	for range 5 {
		if w := g.send(registrationBy("some words", newcomer)); w.Code != http.StatusForbidden {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
	}
	if w := g.send(registrationBy(secret, newcomer)); w.Code != http.StatusTooManyRequests || w.Body.String() != tooMany {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestTheInvitationOfABody(t *testing.T) {
	g, db := openTo(t, plainly)
	for _, tt := range []struct {
		name, token string
		status      int
		text        string
	}{
		{"a number", `7`, 422, "Input should be a valid string"},
		{"513 characters", `"` + strings.Repeat("é", 513) + `"`, 422, "String should have at most 512 characters"},
		{"512", `"` + strings.Repeat("é", 512) + `"`, 403, "You are not allowed to join this company."},
		{"null is none", `null`, 201, "Registration successful."},
	} {
		w := g.send(post(registerPath, `{"email":"`+newcomer+`","password":"`+newWords+`","invitation_token":`+tt.token+`}`))
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.text) {
			t.Errorf("%s: got %d %s", tt.name, w.Code, w.Body)
		}
	}
	if users(t, db) != 1 {
		t.Errorf("%d users", users(t, db))
	}
}

// elsewhere makes users as its function says, and remembers what it was asked.
type elsewhere struct {
	registrar
	asked *[]identity.Registration
}

func (e elsewhere) Register(_ context.Context, given identity.Registration) (identity.Registered, time.Time, error) {
	*e.asked = append(*e.asked, given)
	return e.register()
}

// Users of another service are made with the invitation's company and role, and the
// invitation is used up if, and only if, a user was made.
func TestAnInvitationWithUsersElsewhere(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		status int
		state  identity.InvitationState
	}{
		{"a user is made", nil, 201, identity.InvitationAccepted},
		{"the address is taken there", identity.ErrEmailTaken, 409, identity.InvitationOpen},
		{"it is refused there", identity.ErrRegistrationData, 400, identity.InvitationOpen},
		{"nobody answers there", errors.New("connection refused"), 503, identity.InvitationOpen},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked []identity.Registration
			var welcomed []identity.UserID
			_, db := onPostgres(t)
			there := elsewhere{asked: &asked, registrar: registrar{welcomed: &welcomed, register: func() (identity.Registered, time.Time, error) {
				if tt.err != nil {
					return identity.Registered{}, time.Time{}, tt.err
				}
				return identity.Registered{User: ada}, time.Time{}, nil // who has no row among ours
			}}}
			g := replica(t, db, registering(func(how *login.Registration) {
				how.Registrar = login.Redeeming(there, db, slog.New(slog.DiscardHandler))
			}))
			made, secret := invitation(t, db, newcomer, time.Hour)
			for _, wrong := range []*http.Request{registrationBy("some words", newcomer), registrationBy(secret, "other@example.com")} {
				if w := g.send(wrong); w.Code != http.StatusForbidden || w.Body.String() != joinRefused || len(asked) != 0 {
					t.Fatalf("got %d %s, and the other was asked %d times", w.Code, w.Body, len(asked))
				}
			}
			if w := g.send(registrationBy(secret, newcomer)); w.Code != tt.status {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			want := []identity.Registration{{Email: newcomer, Password: newWords, Company: made.Company, Role: "editor"}}
			if diff := cmp.Diff(want, asked); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
			if got := stateOf(t, db, made); got != tt.state {
				t.Errorf("the invitation is %s, want %s", got, tt.state)
			}
			if tt.err != nil {
				return
			}
			records, err := db.AuditLog(t.Context(), postgres.AuditFilter{User: ada, Limit: 10})
			if err != nil || len(records) != 2 || records[0].Name != "invitation.accepted" || records[1].Name != "user.registered" {
				t.Errorf("the log is %+v, %v", records, err)
			}
			// Once more: it is not asked there again.
			if w := g.send(registrationBy(secret, newcomer)); w.Code != http.StatusConflict || len(asked) != 1 {
				t.Errorf("again: got %d %s", w.Code, w.Body)
			}
		})
	}
}

// redeemer lets in and then fails, as a database does that dies between.
type redeemer struct{ after error }

func (r redeemer) RedeemInvitation(ctx context.Context, _, _ string, made func(context.Context, identity.CompanyID, string) (identity.UserID, error)) error {
	if _, err := made(ctx, acme, "user"); err != nil {
		return err
	}
	return r.after
}

func TestAUserWhoseInvitationStaysOpenStays(t *testing.T) {
	var log bytes.Buffer
	var asked []identity.Registration
	var welcomed []identity.UserID
	g := newStage(t, store{}, registering(func(how *login.Registration) {
		there := elsewhere{asked: &asked, registrar: registrar{welcomed: &welcomed, register: func() (identity.Registered, time.Time, error) {
			return identity.Registered{User: ada}, time.Time{}, nil
		}}}
		how.Registrar = login.Redeeming(there, redeemer{errors.New("the database went away")}, slog.New(slog.NewTextHandler(&log, nil)))
	}))
	w := g.send(registrationBy("some words", newcomer))
	if w.Code != http.StatusCreated || decodeBody(t, w)["user_id"] != ada.String() || len(welcomed) != 1 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if text := log.String(); !strings.Contains(text, "stays open") || !strings.Contains(text, ada.String()) || strings.Contains(text, "some words") || strings.Contains(text, newcomer) {
		t.Errorf("the log says %s", text)
	}
}

// A client that hangs up while the user is made elsewhere leaves both or neither.
func TestHangingUpLeavesNoUserWithAnOpenInvitation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, hangUp := context.WithCancel(t.Context())
		var asked []identity.Registration
		there := elsewhere{asked: &asked, registrar: registrar{register: func() (identity.Registered, time.Time, error) {
			hangUp()
			return identity.Registered{User: ada}, time.Time{}, nil
		}}}
		noted := errors.New("not reached")
		r := login.Redeeming(there, redeemFunc(func(ctx context.Context) { noted = ctx.Err() }), slog.New(slog.DiscardHandler))
		made, _, err := r.Register(ctx, identity.Registration{InvitationToken: "some words"})
		if err != nil || made.User != ada || noted != nil {
			t.Errorf("made %+v, %v; the context of the rest: %v", made, err, noted)
		}
	})
}

// redeemFunc sees the context in which it would note who was made.
type redeemFunc func(context.Context)

func (f redeemFunc) RedeemInvitation(ctx context.Context, _, _ string, made func(context.Context, identity.CompanyID, string) (identity.UserID, error)) error {
	_, err := made(ctx, acme, "user")
	f(ctx)
	return err
}
