package identity

import (
	"errors"
	"time"

	"github.com/google/uuid"
)

// InvitationID names an invitation to a company.
type InvitationID uuid.UUID

// ParseInvitationID reads 36 characters with hyphens in any letter case.
func ParseInvitationID(text string) (InvitationID, error) {
	id, err := parse(text)
	return InvitationID(id), err
}

// String is the canonical lower-case form.
func (id InvitationID) String() string { return uuid.UUID(id).String() }

// IsZero reports that no invitation is named.
func (id InvitationID) IsZero() bool { return id == InvitationID{} }

// RoleAdmin is the role that may invite people to its company. Beside it, roles
// are the operator's own words.
const RoleAdmin = "admin"

// InvitationState is what became of an invitation.
type InvitationState string

// The states. An invitation that is not open never becomes so again.
const (
	InvitationOpen     InvitationState = "open"
	InvitationAccepted InvitationState = "accepted"
	InvitationRevoked  InvitationState = "revoked" // or declined
	InvitationExpired  InvitationState = "expired"
)

// Invitation lets one person into one company, once. It is bound to an account,
// or to an address together with a secret: an address alone is no proof of who
// reads its mail.
type Invitation struct {
	ID        InvitationID
	Company   CompanyID
	User      UserID // zero: bound to Email
	Email     string // empty: bound to User
	Role      string // that a new member gets
	InvitedBy UserID // zero: an operator
	CreatedAt time.Time
	ExpiresAt time.Time
	State     InvitationState
}

// InviteRequest asks for an invitation. Exactly one of User and Email is set.
type InviteRequest struct {
	Company  CompanyID
	User     UserID
	Email    string
	Role     string
	Lifetime time.Duration
	// MostOpen bounds the open invitations of the company, this one included;
	// zero: no bound.
	MostOpen int
	By       Inviter
}

// Inviter is who makes or takes back invitations to a company. The zero Inviter
// is an operator, whom nobody judges.
type Inviter struct {
	User    UserID
	Session SessionID
	// Admit is as in JoinRequest; required where there is a User.
	Admit func(Standing) error
}

// InvitationFilter says which invitations are wanted.
type InvitationFilter struct {
	Company CompanyID // zero: of every company
	User    UserID    // who is invited; zero: everybody
	// All wants those too that are not open any more.
	All bool
}

// DeclineRequest asks to give back invitations that a user holds: bound to its
// account, or to its address if that is verified or the secret is presented.
type DeclineRequest struct {
	User    UserID
	Session SessionID
	Company CompanyID // zero: to any company
	Token   string    // empty: whatever the user holds without one
	// Admit is as in JoinRequest.
	Admit func(Standing) error
}

// RemoveRequest asks to take a user out of a company.
type RemoveRequest struct {
	Company CompanyID
	User    UserID
}

// Removal is what was taken away.
type Removal struct {
	Member      bool // the user belonged to the company
	Current     bool // it was the one that the user acted for
	Invitations int  // open ones, revoked
}

// The ways in which an invitation is refused.
var (
	ErrMember           = errors.New("the user is a member of this company already")
	ErrInvited          = errors.New("an open invitation to this company exists already")
	ErrManyInvitations  = errors.New("the company has too many open invitations")
	ErrCompanySuspended = errors.New("the company is suspended")
)
