package token

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
)

// Verifier judges tokens. It may be used by several goroutines.
type Verifier struct {
	own     party
	others  atomic.Pointer[trust] // nil: nobody but us is trusted
	readers sync.Pool             // of *reader
}

// NewVerifier refuses rules under which no token could be verified.
func NewVerifier(rules Rules) (*Verifier, error) {
	switch {
	case rules.Keys == nil:
		return nil, errors.New("a verifier needs keys")
	case rules.Leeway < 0:
		return nil, errors.New("a negative leeway")
	case rules.Profile != Native && rules.Profile != Supabase:
		return nil, errors.New("an unknown token profile")
	}
	keys := rules.Keys
	rules.Keys = nil
	v := &Verifier{readers: sync.Pool{New: func() any { return newReader() }}}
	v.own.name, v.own.rules, v.own.sessions = Own, rules.complete(), true
	v.own.reading.profile, v.own.claims = rules.Profile, rules.Profile.String()
	if rules.Profile == Supabase {
		v.own.role = supabaseRole
	}
	v.own.keys.Store(keys)
	return v, nil
}

// Replace puts other keys of our own in force, for every Verify that begins from now on. One
// that has begun may still answer by the keys of before: whoever remembers what
// was verified must forget after the call, and must not take up an answer whose
// question was asked before it forgot.
func (v *Verifier) Replace(keys *KeySet) { v.own.keys.Store(keys) }

// Verify returns what the token says, or the first problem in the order of the
// contract's table (section 4). A problem of malformed tokens carries a cause
// for our log, which repeats nothing of the token.
//
// Nothing that only the database knows is judged here. A sub that names nobody
// (the nil UUID) passes as the zero user, who does not exist.
func (v *Verifier) Verify(raw string, now time.Time) (identity.Credential, error) {
	r, _ := v.readers.Get().(*reader)
	defer v.readers.Put(r)
	t, by, err := r.read(raw, &v.own, v.others.Load())
	keys := by.keys.Load()
	if err == nil && !by.accepts(keys, t.header.algorithm) {
		err = errAlgorithm
	}
	if err != nil {
		return identity.Credential{}, problem.TokenMalformed.Because(err)
	}
	key, ok := keys.find(t.header.kid, t.header.algorithm)
	if !ok && keys.mayCome(t.header.kid, t.header.algorithm) {
		if key, ok, err = by.await(t.header.kid, t.header.algorithm); err != nil {
			return identity.Credential{}, err
		}
	}
	if !ok || key.verify(t.signed, t.signature) != nil {
		return identity.Credential{}, problem.TokenSignature
	}
	c, err := by.judge(&t.claims, now)
	if err != nil {
		return identity.Credential{}, err
	}
	c.KeyNamed = t.header.kid != ""
	if key.counted != nil {
		key.counted()
	}
	return c, nil
}

// await asks for a key that is not known yet, and looks again. While the other
// issuer's keys could never be fetched there is no telling whether the token is
// good, and that is no refusal of it.
func (p *party) await(kid, alg string) (Key, bool, error) {
	if p.rules.Await != nil {
		p.rules.Await(kid)
	}
	keys := p.keys.Load()
	key, ok := keys.find(kid, alg)
	if !ok && !keys.fetched {
		return Key{}, false, problem.Unavailable.Because(errNeverFetched)
	}
	return key, ok, nil
}

var errNeverFetched = errors.New("the token names a key, and the set of keys to look for it in could not be fetched yet")

// judge goes down the rows of the table that come after the signature.
func (p *party) judge(t *claims, now time.Time) (identity.Credential, error) {
	none := identity.Credential{}
	if t.expires.present && !now.Before(t.expires.at.Add(p.rules.Leeway)) {
		return none, problem.TokenExpired
	}
	latest := now.Add(p.rules.Leeway)
	if t.notBefore.present && t.notBefore.at.After(latest) || t.issued.present && t.issued.at.After(latest) {
		return none, problem.TokenNotYetValid
	}
	if want := p.rules.Audience; want != "" && t.audience.present && !slices.Contains(t.audience.values, want) {
		return none, problem.TokenAudience(want)
	}
	if want := p.rules.Issuer; want != "" && t.issuer.value != want {
		return none, problem.TokenIssuer
	}
	if p.role != "" && t.role.value != p.role {
		return none, problem.TokenRole
	}
	if missing := p.missing(t); len(missing) > 0 {
		return none, problem.ClaimsMissing(missing...)
	}

	if !t.subject.present {
		return none, problem.SubjectMissing
	}
	user, err := identity.ParseUserID(t.subject.value)
	if err != nil {
		return none, problem.SubjectInvalid
	}
	c := identity.Credential{
		User:      user,
		Email:     strings.Clone(t.email.value), // a part of the payload, which it would keep
		Roles:     t.roles.values,
		IssuedAt:  t.issued.at,
		ExpiresAt: t.expires.at,
	}
	for i, role := range c.Roles {
		c.Roles[i] = strings.Clone(role) // likewise
	}
	if t.company.value != "" {
		if c.Company, err = identity.ParseCompanyID(t.company.value); err != nil {
			return none, problem.CompanyInvalid
		}
	}
	c.Issuer = p.beyond
	if t.session.present && p.sessions {
		// An unreadable name leaves the zero session, which no login ever has.
		c.HasSession = true
		if id, err := identity.ParseSessionID(t.session.value); err == nil {
			c.Session = id
		}
	}
	return c, nil
}

// missing names the required claims that are absent, in the contract's order.
func (p *party) missing(t *claims) []string {
	var names []string
	if p.rules.Audience != "" && !t.audience.present {
		names = append(names, "aud")
	}
	if !t.expires.present {
		names = append(names, "exp")
	}
	return names
}
