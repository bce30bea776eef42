package identity

import (
	"time"

	"github.com/atenex/gatehouse/internal/problem"
)

// Outdated reports whether tokens that name no key have had their time, which
// ends at legacyUntil (zero: never), and c is of one.
func (c Credential) Outdated(legacyUntil, now time.Time) bool {
	return !c.KeyNamed && !legacyUntil.IsZero() && !now.Before(legacyUntil)
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
