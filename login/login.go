// Package login lets a person in, puts them in a company and lets them out again:
// the HTTP service behind /api/v1/users/login, /api/v1/users/logout and
// /api/v1/users/me with what lies below it; /health and / stand beside them.
//
// It believes no header about who is asking: where a token is needed, it judges
// the token itself. It must never know how users are stored, how a token or a
// password hash is spelled, or where a setting came from.
package login

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/internal/token"
)

// Accounts finds people and keeps their password hashes.
type Accounts interface {
	// AccountByEmail folds ASCII letters only. identity.ErrNotFound: nobody.
	AccountByEmail(ctx context.Context, email string) (identity.Account, error)
	// AccountByID is the same by id.
	AccountByID(ctx context.Context, user identity.UserID) (identity.Account, error)
	// ReplacePasswordHash reports false if the hash is no longer the old one.
	ReplacePasswordHash(ctx context.Context, user identity.UserID, oldHash, newHash string) (bool, error)
}

// Sessions begins and ends logins, each in one transaction under the lock of the
// user's row. identity.ErrChanged: the account is not what the password was
// proved against, and nothing was done.
type Sessions interface {
	StartSession(ctx context.Context, request identity.LoginRequest) (identity.Login, error)
	// Refresh presents a refresh token (identity.ErrRefreshRefused, ErrRefreshReused).
	Refresh(ctx context.Context, request identity.RefreshRequest) (identity.Login, error)
	ListSessions(ctx context.Context, user identity.UserID, all bool) ([]identity.SessionRecord, error)
	EndSessions(ctx context.Context, request identity.LogoutRequest) (ended int, err error)
	// EndOwnSession ends one login (identity.ErrNotFound: the user has no such one).
	EndOwnSession(ctx context.Context, request identity.EndRequest) (ended bool, err error)
	ChangePassword(ctx context.Context, request identity.PasswordChange) (login identity.Login, ended int, err error)
}

// Directory says what is known of a user now.
type Directory interface {
	Standing(ctx context.Context, user identity.UserID, session identity.SessionID, company identity.CompanyID) (identity.Standing, error)
	Profile(ctx context.Context, user identity.UserID, session identity.SessionID) (identity.Profile, error)
}

// Sweeper deletes sessions that were over long ago, a bounded number at a time.
type Sweeper interface {
	SweepSessions(ctx context.Context) (swept int, err error)
}

// Companies makes a company a user's current one, in one transaction.
type Companies interface {
	Join(ctx context.Context, ask identity.JoinRequest) (identity.JoinResult, error)
}

// Invitations lets people into companies, each act in one transaction that leaves
// its record.
type Invitations interface {
	// Invite returns the secret of an invitation that is bound to an address.
	Invite(ctx context.Context, request identity.InviteRequest) (made identity.Invitation, secret string, err error)
	ListInvitations(ctx context.Context, f identity.InvitationFilter) ([]identity.Invitation, error)
	// RevokeInvitation and DeclineInvitations close open ones only.
	RevokeInvitation(ctx context.Context, company identity.CompanyID, id identity.InvitationID, by identity.Inviter) (identity.Invitation, error)
	DeclineInvitations(ctx context.Context, request identity.DeclineRequest) (declined int, err error)
}

// Hashes counts the password hashes that are kept.
type Hashes interface {
	CountHashes(ctx context.Context) (identity.HashCounts, error)
}

// Auditor records what has no transaction of its own.
type Auditor interface {
	Audit(ctx context.Context, e identity.Event) error
}

// Pinger tells whether the store answers.
type Pinger interface {
	Ping(ctx context.Context) error
}

// Verifier judges tokens; its errors are problems of package problem.
type Verifier interface {
	Verify(raw string, now time.Time) (identity.Credential, error)
}

// Issuer makes tokens.
type Issuer interface {
	Issue(grant token.Grant, now time.Time) (token.Minted, error)
}

// Options are the parts and settings of a Service.
type Options struct {
	ProjectName string
	Accounts    Accounts
	Sessions    Sessions
	Directory   Directory
	Sweeper     Sweeper
	Companies   Companies
	Invitations Invitations
	Auditor     Auditor
	Database    Pinger
	Throttle    Throttle
	Budgets     Budgets
	Passwords   *password.Hasher
	Verifier    Verifier
	Issuer      Issuer
	Keys        Keys

	// SessionLifetime is how long a login may last, whatever happens in it.
	SessionLifetime time.Duration
	// RefreshIdle is how long a refresh token waits to be used; zero: there are none.
	RefreshIdle time.Duration
	// DefaultCompany is where users without one may go; zero: nowhere.
	DefaultCompany identity.CompanyID
	// AnyCompany is COMPANY_JOIN_POLICY=any: no invitation is needed.
	AnyCompany bool
	// InvitationRoles are those that a company's admin may give; empty: "user"
	// alone.
	InvitationRoles []string
	// Hashes are counted for a metric; nil: they are not.
	Hashes Hashes
	// Chores are done beside the sweeping of sessions.
	Chores []Chore
	// LegacyTokensUntil ends the time of tokens that name no key; zero: no end.
	LegacyTokensUntil time.Time
	// TrustedProxies are the peers whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix

	Registration Registration
	Mail         Mail

	// Limits hold for Throttle and Budgets.
	Limits Limits
	// ThrottleSecret keys what is counted, in all login services the same.
	ThrottleSecret []byte
	// Unthrottled lifts every limit (LOGIN_THROTTLE=off).
	Unthrottled bool

	Spans   Spans
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: nothing is exported
	Now     func() time.Time      // of tokens; nil: time.Now
}

// Service is the login service.
type Service struct {
	with    Options
	routes  map[string]route
	metrics *metrics
	pings   singleflight.Group
	strange sync.Once // the warning of a proxy that is not trusted
	// welcomes are under way beside the answers.
	welcomes sync.WaitGroup
	notes    chan note // to be recorded by Record
	mails    *mailer
}

// storeTime bounds every single question to the store, so that the steps of one
// request stay within requestTime together.
const storeTime = 4 * time.Second

// New refuses to make a service that lacks a part.
func New(o Options) (*Service, error) {
	if o.Accounts == nil || o.Sessions == nil || o.Directory == nil || o.Sweeper == nil || o.Companies == nil ||
		o.Invitations == nil || o.Auditor == nil || o.Database == nil || o.Passwords == nil || o.Verifier == nil || o.Issuer == nil || o.Keys == nil || o.Logger == nil {
		return nil, errors.New("the login service lacks a part")
	}
	if !o.Unthrottled && (o.Throttle == nil || o.Budgets == nil || len(o.ThrottleSecret) == 0) {
		return nil, errors.New("the login service lacks what limits guessing")
	}
	if o.SessionLifetime < time.Second {
		return nil, errors.New("a session must last a second at least")
	}
	if m := o.Mail; m.Sender != nil && (m.Tokens == nil || m.ResetFor <= 0 || m.VerifyFor <= 0 ||
		!strings.Contains(m.ResetURL, mailToken) || !strings.Contains(m.VerifyURL, mailToken)) {
		return nil, errors.New("mail lacks tokens, or pages that they lead to")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if len(o.InvitationRoles) == 0 {
		o.InvitationRoles = []string{defaultRole}
	}
	s := &Service{with: o, metrics: newMetrics(o.Metrics), notes: make(chan note, mostNotes), mails: newMailer()}
	s.metrics.waiting(o.Metrics, func() float64 { return float64(len(s.mails.places)) })
	s.routes = map[string]route{
		"/api/v1/users/login":             {name: "login", method: http.MethodPost, serve: s.login, count: s.metrics.attempt},
		refreshPath:                       {name: "refresh", method: http.MethodPost, serve: s.refresh, count: s.metrics.refreshed},
		sessionsPath:                      {name: "sessions", method: http.MethodGet, serve: s.listSessions},
		"/api/v1/users/logout":            {name: "logout", method: http.MethodPost, serve: s.logout},
		"/api/v1/auth/register":           {name: "register", method: http.MethodPost, serve: s.register, count: s.metrics.registration},
		"/api/v1/users/me":                {name: "me", method: http.MethodGet, serve: s.me},
		"/api/v1/users/me/password":       {name: "password", method: http.MethodPost, serve: s.changePassword},
		"/api/v1/users/me/ensure-company": {name: "ensure_company", method: http.MethodPost, serve: s.ensureCompany, count: s.metrics.join},
		declinePath:                       {name: "invitations_decline", method: http.MethodPost, serve: s.declineInvitations},
		"/.well-known/jwks.json":          {name: "jwks", method: http.MethodGet, serve: s.jwks, quiet: true},
		openapiPath:                       {name: "openapi", method: http.MethodGet, serve: s.openapi},
		"/health":                         {name: "health", method: http.MethodGet, serve: s.health, quiet: true},
		"/":                               {name: "root", method: http.MethodGet, serve: s.root},
	}
	if o.Mail.Sender != nil {
		s.routes[forgotPath] = route{name: "password_forgot", method: http.MethodPost, serve: s.forgotPassword}
		s.routes[resetPath] = route{name: "password_reset", method: http.MethodPost, serve: s.resetPassword}
		s.routes[verifyPath] = route{name: "email_verify", method: http.MethodPost, serve: s.verifyEmail}
		s.routes[askVerifyPath] = route{name: "email_verify_ask", method: http.MethodPost, serve: s.askVerification}
	}
	for _, at := range s.routes {
		s.metrics.expect(at.name)
	}
	for _, name := range []string{routeInvite, routeListInvitations, routeRevokeInvitation, routeEndSession, routeUnmatched} {
		s.metrics.expect(name)
	}
	return s, nil
}
