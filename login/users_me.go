package login

import (
	"context"
	"net/http"

	"github.com/atenex/gatehouse/internal/identity"
)

// profile is the answer of GET /api/v1/users/me (contract section 6).
type profile struct {
	UserID    string      `json:"user_id"`
	Email     string      `json:"email"`
	FullName  *string     `json:"full_name"`
	Role      string      `json:"role"` // in the current company
	CompanyID *string     `json:"company_id"`
	Companies []belonging `json:"companies"` // the current one first
}

type belonging struct {
	CompanyID string  `json:"company_id"`
	Name      *string `json:"name"`
	Role      string  `json:"role"`
}

// me is GET /api/v1/users/me: what the database says, not what the token said.
func (s *Service) me(ctx context.Context, x *exchange) (answer, error) {
	credential, err := s.bearer(x)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	found, err := s.with.Directory.Profile(ctx, credential.User, credential.Session)
	if err != nil {
		return answer{}, unanswered(err)
	}
	if err := s.admit(credential, found.Standing, s.with.Now()); err != nil {
		return answer{}, err
	}
	u := found.User
	x.company = u.Company
	shown := profile{
		UserID:    u.ID.String(),
		Email:     u.Email,
		FullName:  orNull(u.FullName),
		Role:      roleOf(u),
		CompanyID: companyOrNull(u.Company),
		Companies: make([]belonging, 0, len(found.Standing.Memberships)),
	}
	for _, m := range found.Standing.Memberships {
		shown.Companies = append(shown.Companies, belonging{
			CompanyID: m.Company.String(),
			Name:      orNull(found.CompanyNames[m.Company]),
			Role:      roleOf(identity.User{Role: m.Role}),
		})
	}
	return answer{status: http.StatusOK, result: "ok", body: shown}, nil
}
