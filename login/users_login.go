package login

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/internal/token"
)

// The length of a password at login, in characters. What may be set is for
// others to say; here the bounds only keep nonsense from being hashed.
const (
	shortestPassword = 6
	longestPassword  = 1024
)

// defaultRole is that of rows which name none.
const defaultRole = "user"

// upgradeTime bounds how long the answer to a good login may wait for its hash
// to be replaced.
const upgradeTime = 2 * time.Second

// proofs is how often a password is proved for one request whose account keeps
// changing.
const proofs = 3

type credentials struct{ email, password string }

// loggedIn is the answer to a good login (contract section 6). Clients of the
// replaced gateways read every field but expires_in and those of refreshing.
type loggedIn struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"` // seconds
	refreshing
	UserID    string  `json:"user_id"`
	Email     string  `json:"email"`
	FullName  *string `json:"full_name"`
	Role      string  `json:"role"`
	CompanyID *string `json:"company_id"`
}

// login is POST /api/v1/users/login. Nothing is looked up before the body is
// known to be well formed, so that a 422 says nothing of who exists.
func (s *Service) login(ctx context.Context, x *exchange) (answer, error) {
	body, err := x.readBody()
	if err != nil {
		return answer{}, err
	}
	given, err := readCredentials(body)
	if err != nil {
		return answer{}, err
	}
	turn, err := s.reserve(ctx, x, given.email)
	if err != nil {
		return answer{}, err
	}
	defer turn.end(ctx)
	account, begun, better, err := s.logIn(ctx, x, turn, given)
	if err != nil {
		return answer{}, err
	}
	now := s.with.Now()
	minted, err := s.with.Issuer.Issue(grantTo(begun), now)
	if err != nil {
		return answer{}, err
	}
	if better != "" {
		s.upgrade(ctx, account, better)
	}
	u := begun.User
	x.company = u.Company
	return answer{status: http.StatusOK, result: "success", body: loggedIn{
		AccessToken: minted.Token,
		TokenType:   "bearer",
		ExpiresIn:   minted.ExpiresAt.Unix() - now.Unix(),
		refreshing:  refreshingWith(begun.Refresh, now),
		UserID:      u.ID.String(),
		Email:       u.Email,
		FullName:    orNull(u.FullName),
		Role:        roleOf(u),
		CompanyID:   companyOrNull(u.Company),
	}}, nil
}

// logIn proves the password and begins a session. What was proved is compared
// once more where the session is written, so that a password that is being
// changed at this moment lets nobody in; with another hash of the same password,
// such as the one that a login beside this one left, it is proved anew.
func (s *Service) logIn(ctx context.Context, x *exchange, turn *turn, given credentials) (identity.Account, identity.Login, string, error) {
	for range proofs {
		account, better, err := s.authenticate(ctx, x, turn, given)
		if err != nil {
			return identity.Account{}, identity.Login{}, "", err
		}
		begun, err := s.begin(ctx, x, account)
		switch {
		case err == nil:
			return account, begun, better, nil
		case !errors.Is(err, identity.ErrChanged):
			// A login that cannot be noted does not happen: a store that takes no
			// writes is down.
			return identity.Account{}, identity.Login{}, "", unanswered(err)
		}
	}
	return identity.Account{}, identity.Login{}, "", errUnavailable.Because(identity.ErrChanged)
}

func (s *Service) begin(ctx context.Context, x *exchange, account identity.Account) (identity.Login, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	return s.with.Sessions.StartSession(ctx, identity.LoginRequest{
		User:         account.ID,
		PasswordHash: account.PasswordHash,
		Lifetime:     s.with.SessionLifetime,
		RefreshIdle:  s.with.RefreshIdle,
		Client:       x.client(),
	})
}

// client is what is kept of where a session began.
func (x *exchange) client() identity.Client {
	return identity.Client{Address: x.source, UserAgent: x.r.UserAgent()}
}

func readCredentials(body []byte) (credentials, error) {
	m, err := decode(body, "email", "password")
	if err != nil {
		return credentials{}, err
	}
	if m == nil {
		return credentials{}, wrongBody("missing", "Field required")
	}
	var wrong faults
	email, ok := m.required("email", &wrong)
	if ok && identity.CheckEmail(email) != nil {
		wrong.add("email", "value_error", "value is not a valid email address")
	}
	words, ok := m.required("password", &wrong)
	if ok {
		switch n := utf8.RuneCountInString(words); {
		case n < shortestPassword:
			wrong.add("password", "string_too_short", "String should have at least 6 characters")
		case n > longestPassword:
			wrong.tooLong("password")
		case strings.IndexByte(words, 0) >= 0:
			wrong.holdsNUL("password")
		}
	}
	return credentials{email: email, password: words}, wrong.err()
}

// authenticate finds whose credentials these are. Whatever is wrong with them,
// exactly one hash is computed and the refusal is the same, at the same time.
//
// The second value is a better hash of the same password, where one is due.
func (s *Service) authenticate(ctx context.Context, x *exchange, turn *turn, given credentials) (identity.Account, string, error) {
	permit, err := awaitPermit(ctx, s.with.Passwords)
	if err != nil {
		return identity.Account{}, "", unanswered(err)
	}
	defer permit.Release()
	// Asked for under the permit, the store sees no more of a flood than what is
	// going to be hashed.
	account, err := s.account(ctx, given.email)
	if err != nil {
		return identity.Account{}, "", unanswered(err)
	}
	x.user = account.ID
	match := verifyPassword(ctx, permit, account.PasswordHash, given.password)
	if !match.OK || !account.Active {
		s.noteFailure(ctx, account, match.OK)
		return identity.Account{}, "", refuse(ctx, permit, turn, account.ID, errBadCredentials)
	}
	turn.proved(account.ID)
	if !match.Upgrade {
		return account, "", nil
	}
	better, err := hashPassword(ctx, permit, given.password)
	if err != nil {
		// The old hash is as good as it was.
		s.with.Logger.LogAttrs(ctx, slog.LevelWarn, "password hash not upgraded",
			slog.String("user_id", account.ID.String()), slog.String("error", err.Error()))
	}
	return account, better, nil
}

// account is the zero Account, which has no hash and is not active, where
// nobody has that address.
func (s *Service) account(ctx context.Context, email string) (identity.Account, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	account, err := s.with.Accounts.AccountByEmail(ctx, email)
	if errors.Is(err, identity.ErrNotFound) {
		return identity.Account{}, nil
	}
	return account, err
}

// refuse gives the permit back, counts the failure, and waits until why may be
// told. It ends early where nobody waits for the answer any more.
func refuse(ctx context.Context, permit *password.Permit, turn *turn, user identity.UserID, why error) error {
	due := permit.FailureDue()
	permit.Release()
	if err := turn.failed(ctx, user, due); err != nil {
		return err
	}
	waitUntil(ctx, due)
	return why
}

// waitUntil returns at that time, or at the end of ctx.
func waitUntil(ctx context.Context, due time.Time) {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// upgrade puts better in the place of the account's hash. The login stands
// whatever comes of it, and a client that hangs up does not undo it.
func (s *Service) upgrade(ctx context.Context, account identity.Account, better string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), upgradeTime)
	defer cancel()
	id := slog.String("user_id", account.ID.String())
	switch replaced, err := s.with.Accounts.ReplacePasswordHash(ctx, account.ID, account.PasswordHash, better); {
	case err != nil:
		s.with.Logger.LogAttrs(ctx, slog.LevelWarn, "password hash not upgraded", id, slog.String("error", err.Error()))
	case !replaced:
		s.with.Logger.LogAttrs(ctx, slog.LevelInfo, "password hash not upgraded: it was changed meanwhile", id)
	}
}

// grantTo is the token that a session calls for.
func grantTo(l identity.Login) token.Grant {
	return token.Grant{
		User: l.User.ID, Email: l.User.Email, Company: l.User.Company, Roles: []string{roleOf(l.User)},
		Session: l.ID, AuthTime: l.AuthTime, NotAfter: l.NotAfter,
	}
}

func roleOf(u identity.User) string {
	if u.Role == "" {
		return defaultRole
	}
	return u.Role
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func companyOrNull(c identity.CompanyID) *string {
	if c.IsZero() {
		return nil
	}
	text := c.String()
	return &text
}
