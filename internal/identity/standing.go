package identity

import "time"

// Credential is what a verified token said. It is made by the token package
// alone; a Credential that exists has a good signature and good dates.
type Credential struct {
	User    UserID
	Company CompanyID // zero: the token names none
	Email   string
	Roles   []string // only from token profiles that carry roles

	// Session names the session that the token belongs to. HasSession tells a
	// token without one (zero Session, false) from one whose session name was
	// unreadable (zero Session, true): the second belongs to no session that
	// exists and counts as revoked.
	Session    SessionID
	HasSession bool

	IssuedAt  time.Time // zero: the token does not say
	ExpiresAt time.Time

	// KeyNamed is false for tokens of the replaced gateways, which name no key.
	KeyNamed bool

	// Issuer is who issued the token, where that is not we; nil: we.
	Issuer *Issuer
}

// Issuer is what an operator says of another issuer whose tokens are accepted, and
// what is not judged by the token alone. The zero value asks for everything.
type Issuer struct {
	Name string
	// Until ends the time of its tokens; zero: it does not.
	Until time.Time
	// TokenRoles takes the roles of its users from the token instead of the database.
	TokenRoles bool
	// SkipUserCheck: its users are not in the database, and neither they nor their
	// sessions and companies are looked up.
	SkipUserCheck bool
	// SkipCompanyCheck: whether a user still belongs to the token's company is not
	// asked.
	SkipCompanyCheck bool
}

// Standing is what the database says of one user at one moment. The zero value
// is a user that does not exist.
type Standing struct {
	Exists           bool
	Active           bool
	Email            string
	TokensValidAfter time.Time // zero: never set
	Session          Session   // of the session that was asked for
	// Suspended is of the company that was asked about, whether or not the user
	// belongs to it.
	Suspended bool
	// Memberships lists every company the user belongs to; its current one, if
	// any, comes first.
	Memberships []Membership
}

// Session is the state of one login. The zero value is one that does not exist.
type Session struct {
	Exists    bool
	Ended     bool
	AuthTime  time.Time // when the password was proved
	ValidFrom time.Time
	NotAfter  time.Time
}

// Membership is one company of a user and the user's role there.
type Membership struct {
	Company   CompanyID
	Role      string
	Suspended bool
}

// In returns the user's membership of company.
func (s Standing) In(company CompanyID) (Membership, bool) {
	if company.IsZero() {
		return Membership{}, false
	}
	for _, m := range s.Memberships {
		if m.Company == company {
			return m, true
		}
	}
	return Membership{}, false
}

// Revoked reports whether the token behind c has been taken back, by the end of
// its session or by a "no token before this instant" mark on the user.
//
// A token with a session is judged by that session alone, exactly; the coarse
// mark is compared with the session's own start, never with the token's issue
// time, whose whole seconds cannot be ordered against a microsecond mark.
func (s Standing) Revoked(c Credential, now time.Time) bool {
	if c.HasSession {
		live := s.Session.Exists && !s.Session.Ended && now.Before(s.Session.NotAfter)
		return !live || s.Session.ValidFrom.Before(s.TokensValidAfter)
	}
	if s.TokensValidAfter.IsZero() {
		return false
	}
	return c.IssuedAt.Before(s.TokensValidAfter)
}
