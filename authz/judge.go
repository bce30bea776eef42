package authz

import (
	"slices"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
)

// rules is what the operator chose not to ask, which by default is nothing.
type rules struct {
	skipUser          bool
	skipCompany       bool
	tokenRoles        bool
	legacyTokensUntil time.Time // zero: never
}

// of are the rules for the users of an issuer: of our own, where it is nil, they are
// these.
func (r *rules) of(i *identity.Issuer) rules {
	its := *r
	if i != nil {
		its.skipUser = r.skipUser || i.SkipUserCheck
		its.skipCompany = its.skipUser || i.SkipCompanyCheck
		its.tokenRoles = i.TokenRoles
	}
	return its
}

// judge goes down the rows of the contract's table that come after the token's
// own, and returns the first that fails or nil. It is all there is to know about
// who may pass; it asks nobody and remembers nothing.
func (r *rules) judge(p policy, c *identity.Credential, s *identity.Standing, now time.Time) *problem.Problem {
	switch {
	case !r.skipUser:
		if refusal := s.Admit(*c, r.legacyTokensUntil, now); refusal != nil {
			return refusal
		}
	case c.User.IsZero():
		return problem.UserNotFound
	case c.Outdated(r.legacyTokensUntil, now):
		return problem.TokenRevoked
	}
	if p.mode == strict {
		if c.Company.IsZero() {
			return problem.CompanyMissing
		}
		if _, belongs := s.In(c.Company); !belongs && !r.skipCompany {
			return problem.CompanyLeft
		}
		if s.Suspended {
			return problem.CompanySuspended
		}
	}
	if p.restricted && !r.hasRole(p, c, s) {
		return problem.RoleInsufficient
	}
	return nil
}

// hasRole asks for a role in the company that the token acts for. Where it acts
// for none there is no role; nor is there one in a company that is suspended,
// which an initial route does not ask about otherwise.
func (r *rules) hasRole(p policy, c *identity.Credential, s *identity.Standing) bool {
	if r.tokenRoles {
		return slices.ContainsFunc(c.Roles, p.admits)
	}
	m, belongs := s.In(c.Company)
	if !belongs || s.Suspended {
		return false
	}
	return p.admits(m.Role)
}
