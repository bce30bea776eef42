package login_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/internal/token"
	"github.com/atenex/gatehouse/login"
)

const (
	loginPath    = "/api/v1/users/login"
	logoutPath   = "/api/v1/users/logout"
	mePath       = "/api/v1/users/me"
	passwordPath = "/api/v1/users/me/password"
	ensurePath   = "/api/v1/users/me/ensure-company"

	secret      = "test-secret-made-of-plain-words-only"
	rightWords  = "the right words"
	wrongWords  = "the wrong words"
	adaEmail    = "ada@example.com"
	nobodyEmail = "nobody@example.com"
)

// Published vector of crypt_blowfish and variations of it.
const (
	bcryptCheap = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
	bcryptOld   = "$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
	bcryptDear  = "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
)

var (
	ada     = mustUser("0b9f4a52-6a1e-4c59-9d0e-3f3a1d2c4b5a")
	acme    = mustCompany("1c8e5b63-7b2f-4d6a-8e1f-402b2e3d5c6b")
	globex  = mustCompany("2d7f6c74-8c30-4e7b-9f20-513c3f4e6d7c")
	session = mustSession("3e608d85-9d41-4f8c-a031-624d405f7e8d")
)

func mustUser(text string) identity.UserID {
	id, err := identity.ParseUserID(text)
	if err != nil {
		panic(err)
	}
	return id
}

func mustCompany(text string) identity.CompanyID {
	id, err := identity.ParseCompanyID(text)
	if err != nil {
		panic(err)
	}
	return id
}

func mustSession(text string) identity.SessionID {
	id, err := identity.ParseSessionID(text)
	if err != nil {
		panic(err)
	}
	return id
}

var errUntested = errors.New("the store does not do this")

// store answers as its functions say. What a test leaves out must not be asked.
type store struct {
	accountByEmail func(ctx context.Context, email string) (identity.Account, error)
	accountByID    func(ctx context.Context, user identity.UserID) (identity.Account, error)
	startSession   func(ctx context.Context, request identity.LoginRequest) (identity.Login, error)
	endSessions    func(ctx context.Context, request identity.LogoutRequest) (int, error)
	changePassword func(ctx context.Context, request identity.PasswordChange) (identity.Login, int, error)
	standing       func(ctx context.Context) (identity.Standing, error)
	profile        func(ctx context.Context) (identity.Profile, error)
	sweep          func(ctx context.Context) (int, error)
	replaceHash    func(ctx context.Context, user identity.UserID, oldHash, newHash string) (bool, error)
	join           func(ctx context.Context, ask identity.JoinRequest) (identity.JoinResult, error)
	ping           func(ctx context.Context) error
	invite         func(ctx context.Context, ask identity.InviteRequest) (identity.Invitation, string, error)
	audit          func(ctx context.Context, e identity.Event) error
}

func (s store) AccountByEmail(ctx context.Context, email string) (identity.Account, error) {
	return s.accountByEmail(ctx, email)
}

func (s store) AccountByID(ctx context.Context, user identity.UserID) (identity.Account, error) {
	return s.accountByID(ctx, user)
}

func (s store) StartSession(ctx context.Context, request identity.LoginRequest) (identity.Login, error) {
	return s.startSession(ctx, request)
}

func (s store) EndSessions(ctx context.Context, request identity.LogoutRequest) (int, error) {
	return s.endSessions(ctx, request)
}

func (s store) ChangePassword(ctx context.Context, request identity.PasswordChange) (identity.Login, int, error) {
	return s.changePassword(ctx, request)
}

// Refreshing and the list of sessions are tested on a real database.
func (s store) Refresh(context.Context, identity.RefreshRequest) (identity.Login, error) {
	return identity.Login{}, errUntested
}

func (s store) ListSessions(context.Context, identity.UserID, bool) ([]identity.SessionRecord, error) {
	return nil, errUntested
}

func (s store) EndOwnSession(context.Context, identity.EndRequest) (bool, error) {
	return false, errUntested
}

func (s store) Standing(ctx context.Context, _ identity.UserID, _ identity.SessionID, _ identity.CompanyID) (identity.Standing, error) {
	return s.standing(ctx)
}

func (s store) Profile(ctx context.Context, _ identity.UserID, _ identity.SessionID) (identity.Profile, error) {
	return s.profile(ctx)
}

func (s store) SweepSessions(ctx context.Context) (int, error) { return s.sweep(ctx) }

func (s store) ReplacePasswordHash(ctx context.Context, user identity.UserID, oldHash, newHash string) (bool, error) {
	return s.replaceHash(ctx, user, oldHash, newHash)
}

func (s store) Join(ctx context.Context, ask identity.JoinRequest) (identity.JoinResult, error) {
	return s.join(ctx, ask)
}

func (s store) Invite(ctx context.Context, ask identity.InviteRequest) (identity.Invitation, string, error) {
	return s.invite(ctx, ask)
}

// Lists, refusals and ends of invitations are tested on a real database.
func (s store) ListInvitations(context.Context, identity.InvitationFilter) ([]identity.Invitation, error) {
	return nil, errUntested
}

func (s store) RevokeInvitation(context.Context, identity.CompanyID, identity.InvitationID, identity.Inviter) (identity.Invitation, error) {
	return identity.Invitation{}, errUntested
}

func (s store) DeclineInvitations(context.Context, identity.DeclineRequest) (int, error) {
	return 0, errUntested
}

func (s store) Audit(ctx context.Context, e identity.Event) error { return s.audit(ctx, e) }

func (s store) Ping(ctx context.Context) error { return s.ping(ctx) }

// holding is a store with one account, which everything about succeeds.
func holding(account identity.Account) store {
	return store{
		accountByEmail: func(_ context.Context, email string) (identity.Account, error) {
			if !strings.EqualFold(email, account.Email) {
				return identity.Account{}, identity.ErrNotFound
			}
			return account, nil
		},
		startSession: func(context.Context, identity.LoginRequest) (identity.Login, error) {
			return begun(account.User, time.Now()), nil
		},
		replaceHash: func(context.Context, identity.UserID, string, string) (bool, error) { return true, nil },
		ping:        func(context.Context) error { return nil },
	}
}

// begun is a session that was begun at now.
func begun(user identity.User, now time.Time) identity.Login {
	return identity.Login{User: user, ID: session, AuthTime: now, NotAfter: now.Add(720 * time.Hour)}
}

// adaWith is an active account with a company and the given hash.
func adaWith(hash string) identity.Account {
	return identity.Account{
		User: identity.User{
			ID: ada, Email: adaEmail, FullName: "Ada Lovelace", Role: "admin", Company: acme, Active: true,
		},
		PasswordHash: hash,
	}
}

// stage is a service with everything around it.
type stage struct {
	t         *testing.T
	service   *login.Service
	handler   http.Handler
	passwords *password.Hasher
	verifier  *token.Verifier
	issuer    *token.Issuer
	registry  *prometheus.Registry
	log       *bytes.Buffer
}

// set changes the options of a service under test.
type set func(*login.Options)

func newStage(t *testing.T, s store, changes ...set) *stage {
	t.Helper()
	return newStageWith(t, s, password.Options{Upgrade: true}, changes...)
}

func newStageWith(t *testing.T, s store, passwords password.Options, changes ...set) *stage {
	t.Helper()
	g := &stage{t: t, registry: prometheus.NewPedanticRegistry(), log: &bytes.Buffer{}}
	passwords.Argon2id = password.Argon2idCost{MemoryKiB: 64, Passes: 1, Lanes: 1}
	passwords.BcryptCost = 4
	passwords.Metrics = g.registry
	var err error
	if g.passwords, err = password.New(passwords); err != nil {
		t.Fatal(err)
	}
	key, err := token.SecretKey([]byte(secret), "HS256")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.NewKeySet(key)
	if err != nil {
		t.Fatal(err)
	}
	rules := token.Rules{Profile: token.Native, Keys: keys}
	if g.verifier, err = token.NewVerifier(rules); err != nil {
		t.Fatal(err)
	}
	if g.issuer, err = token.NewIssuer(rules, 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	o := login.Options{
		ProjectName: "Gatehouse",
		Accounts:    s, Sessions: s, Directory: s, Sweeper: s, Companies: s, Invitations: s, Auditor: s, Database: s,
		SessionLifetime: 720 * time.Hour,
		Unthrottled:     true, // but where it is the subject
		Passwords:       g.passwords, Verifier: g.verifier, Issuer: g.issuer, Keys: rules.Keys,
		Logger:  slog.New(slog.NewJSONHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: g.registry,
	}
	for _, change := range changes {
		change(&o)
	}
	if g.service, err = login.New(o); err != nil {
		t.Fatal(err)
	}
	g.handler = g.service.Handler()
	return g
}

// hash is of rightWords, in the current scheme unless there is a better reason.
func (g *stage) hash(text string) string {
	g.t.Helper()
	hash, err := g.passwords.Hash(context.Background(), text)
	if err != nil {
		g.t.Fatal(err)
	}
	return hash
}

// argonOf hashes like every stage does.
func argonOf(t *testing.T, text string) string {
	t.Helper()
	return newStage(t, store{}).hash(text)
}

// bcryptOf hashes at the least cost.
func bcryptOf(t *testing.T, text string) string {
	t.Helper()
	return newStageWith(t, store{}, password.Options{Scheme: password.Bcrypt}).hash(text)
}

// statusGone is for the log, where nobody hears the answer any more.
const statusGone = 499

// send makes a request and holds every answer against what all of them promise, and
// against the description of the interface.
func (g *stage) send(r *http.Request) *httptest.ResponseRecorder {
	g.t.Helper()
	w := httptest.NewRecorder()
	sent := overhear(r)
	g.handler.ServeHTTP(w, r)
	if w.Code != statusGone {
		if err := described(g.t).permits(r, sent.Bytes(), w); err != nil {
			g.t.Error(err)
		}
	}
	promised := map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
	}
	if w.Code == http.StatusOK && r.URL.Path == "/.well-known/jwks.json" {
		promised["Cache-Control"] = "public, max-age=300"
	}
	if w.Code == http.StatusNoContent {
		delete(promised, "Content-Type")
		if w.Body.Len() > 0 || w.Header().Get("Content-Type") != "" {
			g.t.Errorf("an answer without content has %q of %s", w.Body, w.Header().Get("Content-Type"))
		}
	}
	for name, want := range promised {
		if got := w.Result().Header.Values(name); len(got) != 1 || got[0] != want {
			g.t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if w.Code != http.StatusNoContent && !json.Valid(w.Body.Bytes()) {
		g.t.Errorf("the body is no JSON: %q", w.Body)
	}
	return w
}

// post makes a request with a JSON body.
func post(path, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// chunked hides the length of a body.
func chunked(r *http.Request) *http.Request {
	r.ContentLength = -1
	r.Body = io.NopCloser(struct{ io.Reader }{r.Body})
	return r
}

func credentials(email, words string) *http.Request {
	body, _ := json.Marshal(map[string]string{"email": email, "password": words})
	return post(loginPath, string(body))
}

// count reads a counter, or the number of observations of a histogram, summed
// over the labels that are not named.
func (g *stage) count(name string, labels ...string) int {
	g.t.Helper()
	families, err := g.registry.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	total := 0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			matched := 0
			for _, label := range m.GetLabel() {
				if slices.Contains(labels, label.GetValue()) {
					matched++
				}
			}
			if matched == len(labels) {
				total += int(m.GetCounter().GetValue()) + int(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return total
}

// lines are the log as objects.
func (g *stage) lines() []map[string]any {
	g.t.Helper()
	var all []map[string]any
	for text := range strings.Lines(g.log.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			g.t.Fatalf("the log line %q: %v", text, err)
		}
		all = append(all, line)
	}
	return all
}

func decodeBody(t *testing.T, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("%q: %v", w.Body, err)
	}
	return body
}

// signHS256 makes a token by hand, as no part of ours would.
func signHS256(t *testing.T, header string, claims map[string]any) string {
	t.Helper()
	return signWith(t, secret, header, claims)
}

// forged is a token of somebody who does not know the secret.
func forged(t *testing.T) string {
	t.Helper()
	return signWith(t, "test-secret-of-somebody-else-entirely", `{"alg":"HS256","typ":"JWT"}`, map[string]any{
		"sub": ada.String(), "exp": time.Now().Add(time.Hour).Unix(),
	})
}

func signWith(t *testing.T, key, header string, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding
	signed := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString(payload)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(signed))
	return signed + "." + b64.EncodeToString(mac.Sum(nil))
}
