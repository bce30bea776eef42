package identity

import (
	"errors"
	"time"
)

// Mail is a plain message to one person. To is an address alone, without a name.
type Mail struct{ To, Subject, Text string }

// ErrMailRefused is returned for a mail that will not be taken however often it is
// sent.
var ErrMailRefused = errors.New("the mail was refused for good")

// OneTimePurpose says what a token that was mailed is good for. A token is good for
// one purpose alone.
type OneTimePurpose string

// The purposes, as the table one_time_tokens has them.
const (
	ResetPurpose  OneTimePurpose = "password_reset"
	VerifyPurpose OneTimePurpose = "email_verify"
)

// OneTimeRequest asks for a token for an active user, who is named by id or by
// address. It takes the place of the one before it.
type OneTimeRequest struct {
	Purpose  OneTimePurpose
	User     UserID
	Email    string // where User is zero; folded in ASCII only
	Lifetime time.Duration
}

// OneTimeToken is a secret that is good once, and whom it is to be mailed to.
type OneTimeToken struct {
	Secret string
	User   UserID
	Email  string // as the user's row has it
}

// ErrOneTimeRefused is returned for a token that nobody has, or that was used, is over,
// or was made for an address or a password that has changed since, or whose user is not
// active.
var ErrOneTimeRefused = errors.New("no such one-time token")
