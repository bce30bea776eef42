package identity

import (
	"errors"
	"time"
)

// User is one row of people, as the operator and the login service see it.
type User struct {
	ID        UserID
	Email     string
	FullName  string // empty: not given
	Role      string // in the current company
	Company   CompanyID
	Active    bool
	CreatedAt time.Time
	LastLogin time.Time // zero: never
}

// Account is a user together with what proves that it is them.
type Account struct {
	User
	PasswordHash string // empty: no password was ever set
}

// JoinRequest asks to make a company the user's current one (contract
// section 7). It is judged and carried out in one transaction.
type JoinRequest struct {
	User    UserID
	Session SessionID // whose state Admit wants to see; zero: none
	// Want is the company asked for; zero: none was named.
	Want CompanyID
	// InvitationToken is the secret of an invitation bound to an address.
	InvitationToken string
	// Default is the operator's company for users who have none; zero: not set.
	Default CompanyID
	// AnyCompany lifts the rule that a user must be invited.
	AnyCompany bool
	// Admit judges the user as it stands under the row lock; its error ends the
	// transaction and is returned as it is.
	Admit func(Standing) error
}

// JoinResult is the state that was committed.
type JoinResult struct {
	User    User
	Session Session
	Changed bool // false: the company was already the current one
}

// The ways in which a join can be refused.
var (
	ErrNoCompany      = errors.New("no company named and no default configured")
	ErrJoinRefused    = errors.New("the user may not join this company")
	ErrUnknownCompany = errors.New("no such company")
)

// HashCounts says how many users have a password hash of which scheme that can be
// verified.
type HashCounts struct{ Bcrypt, Argon2id int }

// ErrEmailTaken is returned where another user has the address already, without
// regard to the case of ASCII letters.
var ErrEmailTaken = errors.New("a user with this email already exists")

// ErrNotFound is returned where a user or company that was named does not exist.
var ErrNotFound = errors.New("not found")

// ErrChanged is returned where an account is no longer what was read of it, so
// that what was concluded from it has to be concluded again.
var ErrChanged = errors.New("the account was changed meanwhile")
