package identity

import (
	"errors"
	"net/netip"
	"time"
)

// Client is where a request came from, as far as it is known.
type Client struct {
	Address   netip.Addr // the zero Addr: not known
	UserAgent string     // foreign text
}

// LoginRequest asks for a session of a user whose password was just proved.
type LoginRequest struct {
	User UserID
	// PasswordHash is what the password was proved against. If it is no longer
	// the user's, nothing was proved: ErrChanged.
	PasswordHash string
	// Lifetime is how long the session may last, whatever happens in it.
	Lifetime time.Duration
	// RefreshIdle asks for a refresh token that is good for this long, but not past
	// the session's end; zero: for none.
	RefreshIdle time.Duration
	Client      Client
}

// Login is a session that was begun or goes on, with the user as it was
// committed together with it.
type Login struct {
	User     User
	ID       SessionID
	AuthTime time.Time // when the password was proved
	NotAfter time.Time // the absolute end
	Refresh  RefreshToken
}

// RefreshToken is a secret that is good for one more token of its session. The zero
// value is none.
type RefreshToken struct {
	Secret    string
	ExpiresAt time.Time
}

// RefreshRequest presents a refresh token.
type RefreshRequest struct {
	Secret string
	Idle   time.Duration // of the successor, as in LoginRequest
	// Admit judges the session's user as it stands under the row lock; its error ends
	// the transaction and is returned as it is.
	Admit func(UserID, SessionID, Standing) error
}

// The ways in which a refresh can be refused.
var (
	// ErrRefreshRefused: nobody has this token, or its time is over.
	ErrRefreshRefused = errors.New("no such refresh token")
	// ErrRefreshReused: it was used long ago, by whoever. Its session has been ended.
	ErrRefreshReused = errors.New("a refresh token was presented again")
)

// SessionRecord is one login as it is kept.
type SessionRecord struct {
	ID         SessionID
	Client     Client
	CreatedAt  time.Time
	LastSeenAt time.Time // when it began, or was last refreshed
	NotAfter   time.Time // the absolute end
	EndedAt    time.Time // zero: not ended before that
	EndReason  string
	// Live reports that tokens of the session are accepted, as far as the session
	// decides it.
	Live bool
}

// EndRequest asks for the end of one session of the user who asks.
type EndRequest struct {
	User    UserID
	Session SessionID // that asks; zero: a token without one
	Target  SessionID
	// Admit is as in JoinRequest.
	Admit func(Standing) error
}

// LogoutScope says which of a user's logins are to end.
type LogoutScope int

const (
	// LogoutLocal ends the login that asks. Tokens without a session cannot be
	// told apart, so that one of them that asks ends all of them.
	LogoutLocal LogoutScope = iota
	// LogoutOthers ends all logins but the one that asks. A token without a
	// session ends with the others.
	LogoutOthers
	// LogoutGlobal ends all.
	LogoutGlobal
)

// LogoutRequest asks for the end of logins.
type LogoutRequest struct {
	User    UserID
	Session SessionID // that asks; zero: a token without one
	Scope   LogoutScope
	// Admit is as in JoinRequest.
	Admit func(Standing) error
}

// PasswordChange asks for a new password, and for the end of all logins but the
// one that asks.
type PasswordChange struct {
	User    UserID
	Session SessionID // that asks; zero: a token without one, which gets a session
	// OldHash is what the current password was proved against, as in
	// LoginRequest.
	OldHash, NewHash string
	// Lifetime and Client are of the session of a token that had none.
	Lifetime time.Duration
	Client   Client
	// RefreshIdle is as in LoginRequest. Refresh tokens of before are good no more.
	RefreshIdle time.Duration
	// Admit is as in JoinRequest.
	Admit func(Standing) error
}

// Profile is everything about a user that the user may see.
type Profile struct {
	User     User
	Standing Standing
	// CompanyNames are of the companies in Standing.Memberships that have one.
	CompanyNames map[CompanyID]string
}
