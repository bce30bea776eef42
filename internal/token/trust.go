package token

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
)

// Own is what our own issuer is called beside those that are trusted.
const Own = "own"

// Terms are what the tokens of one more issuer are held against.
type Terms struct {
	// Issuer is the iss of its tokens; empty: they have none.
	Issuer string
	// Algorithms are those that it signs with; whatever keys it has, its tokens have
	// no others.
	Algorithms []string
	Keys       *KeySet

	Profile Profile
	Claims  *Mapping // nil: as the profile has it
	// Role is what the claim "role" must be; empty: not asked for, but for the
	// profile Supabase, where it is "authenticated".
	Role     string
	Audience string        // empty: not asked for; Supabase: "authenticated"
	Leeway   time.Duration // clock skew allowed on exp, nbf and iat
	// Sessions: its sid names a session of ours. Otherwise a sid is somebody else's,
	// and is not looked at.
	Sessions bool

	// Await is that of [Rules].
	Await func(kid string)

	// Beyond is what is judged by those who get the credential.
	Beyond identity.Issuer
}

// Trusted is one more issuer, and its keys in force.
type Trusted struct{ party }

// NewTrusted refuses terms that contradict themselves or accept nothing.
func NewTrusted(t Terms) (*Trusted, error) {
	switch {
	case t.Beyond.Name == "" || t.Beyond.Name == Own:
		return nil, errors.New("an issuer without a name of its own")
	case t.Keys == nil:
		return nil, errors.New("an issuer needs keys")
	case len(t.Algorithms) == 0:
		return nil, errors.New("no algorithm")
	case t.Leeway < 0:
		return nil, errors.New("a negative leeway")
	case t.Profile != Native && t.Profile != Supabase:
		return nil, errors.New("an unknown token profile")
	case t.Profile == Supabase && (t.Claims != nil || t.Role != ""):
		return nil, errors.New("the profile supabase says itself what claims there are")
	}
	for _, alg := range t.Algorithms {
		if _, err := algorithmNamed(alg); err != nil {
			return nil, err
		}
	}
	rules := Rules{Profile: t.Profile, Audience: t.Audience, Issuer: t.Issuer, Leeway: t.Leeway, Await: t.Await}
	e := &Trusted{party{
		name:       t.Beyond.Name,
		rules:      rules.complete(),
		role:       t.Role,
		reading:    reading{profile: t.Profile, role: t.Role != ""},
		algorithms: slices.Clone(t.Algorithms),
		claims:     t.Profile.String(),
		sessions:   t.Sessions,
		beyond:     &t.Beyond,
	}}
	if t.Profile == Supabase {
		e.role = supabaseRole
	}
	if t.Claims != nil {
		tree, err := t.Claims.tree(t.Role != "")
		if err != nil {
			return nil, err
		}
		e.reading.mapped, e.claims = tree, t.Claims.String()
	}
	e.Replace(t.Keys)
	return e, nil
}

// Replace puts other keys in force; see [Verifier.Replace].
func (e *Trusted) Replace(keys *KeySet) { e.keys.Store(keys.VerifyOnly()) }

// Name is what the issuer is called here.
func (e *Trusted) Name() string { return e.name }

// Keys are those in force.
func (e *Trusted) Keys() *KeySet { return e.keys.Load() }

// party is whose tokens are judged by rules of its own: we, or one that is trusted.
type party struct {
	name    string
	rules   Rules // but for the keys
	reading reading
	claims  string // what the reading is called
	role    string // empty: not asked for
	// algorithms are the only ones; nil: those of the keys.
	algorithms []string
	sessions   bool
	beyond     *identity.Issuer // nil: we
	keys       atomic.Pointer[KeySet]
}

func (p *party) accepts(keys *KeySet, alg string) bool {
	return (p.algorithms == nil || pinned(p.algorithms, alg)) && keys.accepts(alg)
}

// trust is the issuers beside our own. It is immutable, but for their keys.
type trust struct {
	byIssuer map[string][]*party // by iss, of which each has a few; "": without
	all      []*Trusted
}

// choose says whose a token is by its own word: that of the one issuer with its iss
// and its alg. Nothing else is tried, whatever comes of it. Where the iss is nobody's
// the token is taken for our own, as it would be if nobody else were trusted; where
// somebody has the iss and another alg it is refused by that one.
func (t *trust) choose(own *party, iss, alg string) *party {
	theirs := t.byIssuer[iss]
	for _, p := range theirs {
		if pinned(p.algorithms, alg) {
			return p
		}
	}
	if len(theirs) > 0 {
		return theirs[0]
	}
	return own
}

// Conflict is why two issuers cannot be trusted side by side.
type Conflict struct {
	Index int // of the one that comes later
	Text  string
}

// Conflicts are an error.
type Conflicts []Conflict

func (c Conflicts) Error() string {
	texts := make([]string, len(c))
	for i, one := range c {
		texts[i] = one.Text
	}
	return strings.Join(texts, "; ")
}

// Trust has tokens of these issuers accepted beside our own from now on, and of no
// others; with none of them everything is as if Trust had never been called. It
// changes nothing if its error, [Conflicts], is not nil: which issuer a token is of
// must be told by its iss and its alg alone, and no key may be two issuers'.
func (v *Verifier) Trust(issuers []*Trusted) error {
	if found := v.Conflicts(issuers); len(found) > 0 {
		return found
	}
	if len(issuers) == 0 {
		v.others.Store(nil)
		return nil
	}
	t := &trust{byIssuer: make(map[string][]*party, len(issuers)), all: slices.Clone(issuers)}
	for _, e := range issuers {
		t.byIssuer[e.rules.Issuer] = append(t.byIssuer[e.rules.Issuer], &e.party)
	}
	v.others.Store(t)
	return nil
}

// Conflicts are those for which Trust would refuse these issuers.
func (v *Verifier) Conflicts(issuers []*Trusted) (found Conflicts) {
	own := v.own.rules.Issuer
	for i, e := range issuers {
		add := func(format string, args ...any) {
			found = append(found, Conflict{Index: i, Text: fmt.Sprintf(format, args...)})
		}
		switch iss := e.rules.Issuer; {
		case iss == "" && own == "":
			add("tokens without iss are our own: they can be another issuer's only where our own have one")
		case iss != "" && iss == own:
			add("our own tokens have this iss")
		}
		if shares(e.keys.Load(), v.own.keys.Load()) {
			add("has a key that is our own")
		}
		for _, before := range issuers[:i] {
			if before.name == e.name {
				add("the name is that of another issuer")
			}
			switch {
			case before.rules.Issuer != e.rules.Issuer:
			case e.rules.Issuer == "":
				add("%s has tokens without iss already", before.name)
			default:
				for _, alg := range e.algorithms {
					if pinned(before.algorithms, alg) {
						add("%s has the same iss with %s", before.name, alg)
					}
				}
			}
			if shares(e.keys.Load(), before.keys.Load()) {
				add("has a key of %s", before.name)
			}
		}
	}
	return found
}

// shares reports a key that both sets have.
func shares(a, b *KeySet) bool {
	_, taken := a.Without(b)
	return taken > 0
}

// Without returns the set without the keys that are in one of the others, whatever
// they are called there and whatever they are for, and how many those were.
func (s *KeySet) Without(others ...*KeySet) (set *KeySet, taken int) {
	foreign := map[string]bool{}
	for _, other := range others {
		for _, k := range other.keys {
			foreign[k.material] = true
		}
	}
	if !slices.ContainsFunc(s.keys, func(k Key) bool { return foreign[k.material] }) {
		return s, 0
	}
	set = emptySet()
	set.remote, set.fetched = s.remote, s.fetched
	if !foreign[s.signer.material] {
		set.signer = s.signer
	}
	for _, k := range s.keys {
		if foreign[k.material] {
			taken++
			continue
		}
		set.add(k)
	}
	for id, k := range s.byID {
		if !foreign[k.material] {
			set.byID[id] = k
		}
	}
	for alg, k := range s.unnamed {
		if !foreign[k.material] {
			set.unnamed[alg] = k
		}
	}
	return set, taken
}

// Choice is whose a token was taken for, before anything was verified.
type Choice struct {
	// Name is that of the issuer; Own for ours.
	Name string
	// Sole is false where other issuers are trusted beside our own.
	Sole bool
	// Known is false where the token was taken for ours because its iss is nobody's.
	Known bool
	// Claims says how the claims were read: "native", "supabase" or the mapping.
	Claims string
	// Role is what the claim "role" must be; empty: not asked for.
	Role string

	by *party
}

// Choose says whose a token with this iss (empty: none) and alg is taken for.
func (v *Verifier) Choose(iss, alg string) Choice {
	by, others := &v.own, v.others.Load()
	if others != nil {
		by = others.choose(&v.own, iss, alg)
	}
	return by.choice(others, by != &v.own || iss == v.own.rules.Issuer)
}

// Called is the choice of the issuer of that name; false: there is none.
func (v *Verifier) Called(name string) (Choice, bool) {
	others := v.others.Load()
	if name = cmp.Or(name, Own); name == Own {
		return v.own.choice(others, true), true
	}
	if others != nil {
		for _, e := range others.all {
			if e.name == name {
				return e.choice(others, true), true
			}
		}
	}
	return Choice{}, false
}

func (p *party) choice(others *trust, known bool) Choice {
	return Choice{Name: p.name, Sole: others == nil, Known: known, Claims: p.claims, Role: p.role, by: p}
}

// Foreign reports an issuer that is not our own.
func (c Choice) Foreign() bool { return c.by != nil && c.by.beyond != nil }

// Terms are the rules of that issuer, without the keys.
func (c Choice) Terms() Rules {
	terms := c.by.rules
	terms.Keys, terms.Await = nil, nil
	return terms
}

// Algorithms are those that its tokens may have; nil: whatever there are keys for.
func (c Choice) Algorithms() []string { return slices.Clone(c.by.algorithms) }

// Sessions reports whether a sid of its tokens is one of our sessions.
func (c Choice) Sessions() bool { return c.by.sessions }

// Locate looks for the key of a token as Verify does, but does not wait for one.
func (c Choice) Locate(algorithm, kid string) Place {
	keys := c.by.keys.Load()
	p := Place{Accepted: c.by.accepts(keys, algorithm)}
	if !p.Accepted {
		return p
	}
	p.Key, p.Found = keys.find(kid, algorithm)
	p.MayCome = !p.Found && keys.mayCome(kid, algorithm)
	if !p.Found {
		p.Key = Key{}
	}
	return p
}

// Named reports whether the issuer has a key of that name, of whatever algorithm.
func (c Choice) Named(kid string) (Key, bool) {
	k, ok := c.by.keys.Load().byID[kid]
	return k, ok
}

// Keys are those of our own that are in force.
func (v *Verifier) Keys() *KeySet { return v.own.keys.Load() }

// Trusts are the issuers beside our own.
func (v *Verifier) Trusts() []*Trusted {
	if others := v.others.Load(); others != nil {
		return slices.Clone(others.all)
	}
	return nil
}
