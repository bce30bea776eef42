package token

import (
	"strings"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
)

// Statement is what a token says, true or not: all that a judgement depends on,
// but for the signature. It can be kept and judged again, and is of no use to a
// thief. The email is not part of it: no judgement looks at that.
type Statement struct {
	// From is the name of the issuer that the token was taken for, and Claims says
	// how its claims were read: "native", "supabase" or a mapping.
	From, Claims string

	Algorithm string
	KeyID     string // empty: none named

	Subject, Session *string // nil: absent
	Issuer, Role     string
	Company          string
	Audience         []string
	HasAudience      bool
	Roles            []string

	IssuedAt, NotBefore, ExpiresAt *time.Time // nil: absent
}

// Read takes a token apart and judges nothing but its form; its error says what is
// wrong with that, as the cause of a [problem.TokenMalformed] does, and repeats
// nothing of the token. Then only From and Claims are known.
func (v *Verifier) Read(raw string) (Statement, error) {
	r, _ := v.readers.Get().(*reader)
	defer v.readers.Put(r)
	t, by, err := r.read(raw, &v.own, v.others.Load())
	if err != nil {
		return Statement{From: by.name, Claims: by.claims}, err
	}
	return t.statement(by), nil
}

// statement copies: what was read are parts of the token's own text.
func (t *unverified) statement(by *party) Statement {
	optional := func(x text) *string {
		if !x.present {
			return nil
		}
		value := strings.Clone(x.value)
		return &value
	}
	clones := func(values []string) []string {
		var out []string
		for _, value := range values {
			out = append(out, strings.Clone(value))
		}
		return out
	}
	when := func(x instant) *time.Time {
		if !x.present {
			return nil
		}
		return &x.at
	}
	c := &t.claims
	return Statement{
		From:        by.name,
		Claims:      by.claims,
		Algorithm:   strings.Clone(t.header.algorithm),
		KeyID:       strings.Clone(t.header.kid),
		Subject:     optional(c.subject),
		Session:     optional(c.session),
		Issuer:      strings.Clone(c.issuer.value),
		Role:        strings.Clone(c.role.value),
		Company:     strings.Clone(c.company.value),
		Audience:    clones(c.audience.values),
		HasAudience: c.audience.present,
		Roles:       clones(c.roles.values),
		IssuedAt:    when(c.issued),
		NotBefore:   when(c.notBefore),
		ExpiresAt:   when(c.expires),
	}
}

// claims is the way back.
func (s Statement) claims() claims {
	optional := func(x *string) text {
		if x == nil {
			return text{}
		}
		return text{value: *x, present: true}
	}
	given := func(x string) text { return text{value: x, present: x != ""} }
	when := func(x *time.Time) instant {
		if x == nil {
			return instant{}
		}
		return instant{at: *x, present: true}
	}
	return claims{
		subject:   optional(s.Subject),
		session:   optional(s.Session),
		issuer:    given(s.Issuer),
		role:      given(s.Role),
		company:   given(s.Company),
		audience:  list{values: s.Audience, present: s.HasAudience},
		roles:     list{values: append([]string(nil), s.Roles...), present: len(s.Roles) > 0},
		issued:    when(s.IssuedAt),
		notBefore: when(s.NotBefore),
		expires:   when(s.ExpiresAt),
	}
}

// Judge says what Verify would say of a token with this statement and a good
// signature, by the rules of the issuer that it would be taken for. Whether it has
// one is for the caller to know, and whether that issuer reads claims as they were
// read.
func (v *Verifier) Judge(s Statement, now time.Time) (identity.Credential, error) {
	claims := s.claims()
	c, err := v.Choose(s.Issuer, s.Algorithm).by.judge(&claims, now)
	if err != nil {
		return identity.Credential{}, err
	}
	c.KeyNamed = s.KeyID != ""
	return c, nil
}

// Place is what there is for a token with a certain header.
type Place struct {
	// Accepted is false where no key of ours has the algorithm, with which a token
	// is malformed.
	Accepted bool
	// Key is the one key that the token is held against, if Found.
	Key   Key
	Found bool
	// MayCome tells that another issuer may have published the key meanwhile.
	MayCome bool
}

// Authentic reports whether a token of which Verify said err has a good signature:
// everything that it refuses after the signature was found good, it refuses for
// what the issuer said.
func Authentic(err error) bool {
	if err == nil {
		return true
	}
	p := problem.From(err)
	return !p.IsFault() && p.Reason != problem.TokenMalformed.Reason && p.Reason != problem.TokenSignature.Reason && p.Reason != problem.NotAuthenticated.Reason
}
