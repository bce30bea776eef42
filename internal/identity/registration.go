package identity

import (
	"errors"
	"strings"
)

// Registration is somebody who wants to become a user.
type Registration struct {
	Email    string
	Password string // as it was typed
	FullName string // empty: not given
	Company  CompanyID
	// InvitationToken is the secret of an invitation to this address; empty: none. It
	// settles the company and the role, whatever stands here beside it.
	InvitationToken string
	Role            string // in the company; empty: the least
}

// Registered is a user that was just made.
type Registered struct {
	User UserID
	// Confirmed: nobody has to prove that the address is theirs.
	Confirmed bool
	// Recorded: the audit log has it, by the transaction that made the user.
	Recorded bool
}

// Refusals of a registration, beside ErrEmailTaken and ErrJoinRefused (the invitation
// is not good, or not to this address), by whoever keeps the users. Any
// other error says nothing but that it did not work.
var (
	ErrRegistrationData = errors.New("what was given cannot be registered")
	ErrRegistrationBusy = errors.New("too many registrations")
	// ErrRegistrationBroken needs somebody to look at it; trying again does not help.
	ErrRegistrationBroken = errors.New("registering is broken")
)

// WeakPasswordError is a password that another's rules refuse.
type WeakPasswordError struct{ Reasons []string } // short words

func (e *WeakPasswordError) Error() string {
	return "the password is too weak: " + strings.Join(e.Reasons, ", ")
}
