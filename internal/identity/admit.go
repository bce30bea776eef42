package identity

import (
	"time"

	"github.com/atenex/gatehouse/internal/problem"
)

// Outdated reports whether c is of a token that has had its time, however long it
// still would be valid by itself: tokens of another issuer when that issuer's has
// ended, and those of our own that name no key at legacyUntil (zero: never).
func (c Credential) Outdated(legacyUntil, now time.Time) bool {
	until := legacyUntil
	switch {
	case c.Issuer != nil:
		until = c.Issuer.Until
	case c.KeyNamed:
		return false
	}
	return !until.IsZero() && !now.Before(until)
}

// Ends is when the token behind c ends, by itself or with the time of its issuer.
func (c Credential) Ends() time.Time {
	if c.Issuer != nil && !c.Issuer.Until.IsZero() && c.Issuer.Until.Before(c.ExpiresAt) {
		return c.Issuer.Until
	}
	return c.ExpiresAt
}

// Admit judges whether the user behind c may still come in with it: the rows on
// user and revocation of contract section 4, in their order. nil: it may.
func (s Standing) Admit(c Credential, legacyUntil, now time.Time) *problem.Problem {
	switch {
	// The zero user is nobody, whatever a table may hold.
	case !s.Exists, c.User.IsZero():
		return problem.UserNotFound
	case !s.Active:
		return problem.UserInactive
	case s.Revoked(c, now), c.Outdated(legacyUntil, now):
		return problem.TokenRevoked
	}
	return nil
}
