package authz

import (
	"github.com/atenex/gatehouse/internal/identity"
)

// Who said what is true of a user.
const (
	sourceMemory   = "memory"
	sourceDatabase = "database"
)

// trail is what a decision went by, for those who record or explain it. nil is a
// trail that nobody asked for, and takes nothing.
type trail struct {
	policy policy
	stage  stage

	raw        string // the token, which never leaves this package
	credential identity.Credential
	standing   identity.Standing
	source     string // of the standing; empty: nobody was asked, or could tell

	span span
}

// stage is how far a check came.
type stage int

const (
	atRoute  stage = iota // nothing is known yet
	atBearer              // what the route asks for is
	atToken               // a token was brought
	atUser                // and found good
	atJudge               // what is true of the user is known
)

func (t *trail) asks(p policy) {
	if t != nil {
		t.policy, t.stage = p, atBearer
	}
}

func (t *trail) brought(raw string) {
	if t != nil {
		t.raw, t.stage = raw, atToken
	}
}

func (t *trail) proved(c identity.Credential) {
	if t != nil {
		t.credential, t.stage = c, atUser
	}
}

func (t *trail) learned(s identity.Standing, source string) {
	if t != nil {
		t.standing, t.source, t.stage = s, source, atJudge
	}
}
