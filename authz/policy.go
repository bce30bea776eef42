package authz

import "strings"

// mode is what a route asks of its callers. The zero value is strict.
type mode int

const (
	strict  mode = iota // a user, acting for a company
	initial             // a user, perhaps without a company yet
	open                // nobody in particular ("none" on the wire)
)

func (m mode) String() string {
	switch m {
	case initial:
		return "initial"
	case open:
		return "none"
	default:
		return "strict"
	}
}

// policy is what a route asks for.
type policy struct {
	mode mode
	// restricted routes let only users with one of the roles pass. Without any
	// role to match, that is nobody.
	restricted bool
	roles      string // with commas between them, and perhaps spaces
}

// readPolicy understands exactly the words of the contract. Everything else, a
// misspelt mode above all, is strict, and roles that name nobody admit nobody:
// both are mistakes that must show as a refusal, not as an open door. A route
// that is open and asks for roles contradicts itself and is strict too.
func readPolicy(modeName, roles string) policy {
	p := policy{restricted: roles != "", roles: roles}
	switch modeName {
	case "initial":
		p.mode = initial
	case "none":
		if !p.restricted {
			p.mode = open
		}
	}
	return p
}

// admits reports that role is one of those asked for.
func (p policy) admits(role string) bool {
	for one := range strings.SplitSeq(p.roles, ",") {
		if one = strings.TrimSpace(one); one != "" && one == role {
			return true
		}
	}
	return false
}
