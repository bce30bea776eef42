package token

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Mapping says in which claims an issuer writes what: each a path of the names of
// members, joined by dots ("app_metadata.company_id"). An empty path is a thing
// that the issuer does not say.
type Mapping struct {
	User    string // needed
	Company string
	Email   string
	Roles   string // a list of texts, or one text
}

// String is the mapping in one line, the same for the same mapping alone.
func (m Mapping) String() string {
	return fmt.Sprintf("user=%s company=%s email=%s roles=%s", m.User, m.Company, m.Email, m.Roles)
}

// maxPath is how many members deep a claim may lie, and maxMember how long the name
// of each may be.
const (
	maxPath   = 8
	maxMember = 64
)

var member = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// registered are the claims that every token is judged by, and that mean nothing
// else therefore.
func registered(name string) bool {
	switch name {
	case "iss", "aud", "exp", "nbf", "iat", "jti", "sid":
		return true
	}
	return false
}

// ErrUserMetadata is that of a claim which the user itself can write.
var ErrUserMetadata = errors.New("user_metadata is the user's own to write: whoever reads an identity there lets everybody choose one")

// CheckPath says what is wrong with a path of a [Mapping].
func CheckPath(path string) error {
	parts := strings.Split(path, ".")
	for _, part := range parts {
		switch {
		case part == "":
			return errors.New("a name in the path is empty")
		case strings.EqualFold(part, "user_metadata"), strings.EqualFold(part, "raw_user_meta_data"):
			return ErrUserMetadata
		case len(part) > maxMember || !member.MatchString(part):
			return fmt.Errorf("a path is made of names of up to %d letters, digits, _ and -, joined by dots", maxMember)
		}
	}
	switch {
	case len(parts) > maxPath:
		return fmt.Errorf("a path of more than %d names", maxPath)
	case registered(parts[0]):
		return fmt.Errorf("%s has a meaning of its own in every token", parts[0])
	}
	return nil
}

// reading is how the claims of a token are read.
type reading struct {
	profile Profile
	mapped  *branch // nil: as the profile has it
	// role reads the claim "role" where the profile does not.
	role bool
}

// branch is what is looked for in one object of the payload.
type branch struct {
	below map[string]*branch // nil: this is a claim itself
	claim mapped
}

// mapped is a claim that a mapping can place. (Its reader is chosen by a switch and
// not a function: the claims of a token would have to be allocated for one.)
type mapped int

const (
	mappedUser mapped = iota
	mappedCompany
	mappedEmail
	mappedRoles
	mappedRole
)

func (m mapped) read(c *claims, d *document) error {
	switch m {
	case mappedUser:
		return c.subject.read(d)
	case mappedCompany:
		return c.company.read(d)
	case mappedEmail:
		return c.email.read(d)
	case mappedRoles:
		return c.roles.read(d, true)
	case mappedRole:
		return c.role.read(d)
	}
	return d.skip()
}

// tree makes the branches of a mapping. Two claims in one place, or one within
// another, are refused: a member cannot be a text and an object.
func (m Mapping) tree(role bool) (*branch, error) {
	root := &branch{below: map[string]*branch{}}
	type claim struct {
		what, path string
		is         mapped
	}
	wanted := []claim{
		{"user", m.User, mappedUser},
		{"company", m.Company, mappedCompany},
		{"email", m.Email, mappedEmail},
		{"roles", m.Roles, mappedRoles},
	}
	if m.User == "" {
		return nil, errors.New("no claim says who the user is")
	}
	if role {
		wanted = append(wanted, claim{"role", "role", mappedRole})
	}
	for _, w := range wanted {
		if w.path == "" {
			continue
		}
		if err := CheckPath(w.path); err != nil {
			return nil, fmt.Errorf("%s: %w", w.what, err)
		}
		if !root.grow(strings.Split(w.path, "."), w.is) {
			return nil, fmt.Errorf("%s: another claim lies at %s, or within it", w.what, w.path)
		}
	}
	return root, nil
}

func (b *branch) grow(path []string, is mapped) bool {
	name, rest := path[0], path[1:]
	next, taken := b.below[name]
	switch {
	case len(rest) == 0 && taken:
		return false
	case len(rest) == 0:
		b.below[name] = &branch{claim: is}
		return true
	case !taken:
		next = &branch{below: map[string]*branch{}}
		b.below[name] = next
	case next.below == nil:
		return false
	}
	return next.grow(rest, is)
}

// take reads the member name of the object that b is for.
func (b *branch) take(c *claims, d *document, name string) error {
	next := b.below[name]
	switch {
	case next == nil:
		return d.skip()
	case next.below == nil:
		return next.claim.read(c, d)
	}
	switch d.PeekKind() {
	case 'n':
		return d.skip()
	case '{':
	default:
		return errClaimType
	}
	return d.members(func(name string) error { return next.take(c, d, name) })
}

// pinned reports whether alg is one of those that were named.
func pinned(algorithms []string, alg string) bool { return slices.Contains(algorithms, alg) }
