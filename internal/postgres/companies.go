package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/identity"
)

// ErrBadCompanyName is returned for a name that is empty or too long.
var ErrBadCompanyName = errors.New("a company's name has 1 to 200 characters")

const longestCompanyName = 200

// Company is one row of companies.
type Company struct {
	ID        identity.CompanyID
	Name      string // empty: an adopted row without one
	Active    bool   // false: suspended
	CreatedAt time.Time
}

// CompanyUsers is a company with the number of its users, whether it is their
// current company or not.
type CompanyUsers struct {
	Company
	Users int
}

// CreateCompany makes a company, also if another one has the same name.
func (s *Store) CreateCompany(ctx context.Context, name string) (Company, error) {
	if !storable(name) {
		return Company{}, ErrBadText
	}
	if n := utf8.RuneCountInString(name); n < 1 || n > longestCompanyName {
		return Company{}, ErrBadCompanyName
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return Company{}, fmt.Errorf("making a company id: %w", err)
	}
	made := Company{ID: identity.CompanyID(id), Active: true}
	err = s.write(ctx, queryCreateCompany, func(ctx context.Context) error {
		var at pgtype.Timestamptz
		err := s.pool.QueryRow(ctx, `INSERT INTO companies (id, name, is_active, created_at) VALUES ($1, $2, true, now())
			RETURNING name::text, created_at::timestamptz`, uuidOrNull(made.ID), name).Scan(&made.Name, &at)
		if err != nil {
			return fmt.Errorf("creating a company: %w", err)
		}
		made.CreatedAt = instant(at)
		return nil
	})
	if err != nil {
		return Company{}, err
	}
	return made, nil
}

// ListCompanies gives every row of companies, by name.
func (s *Store) ListCompanies(ctx context.Context) ([]CompanyUsers, error) {
	var found []CompanyUsers
	err := s.read(ctx, queryListCompanies, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, `
			SELECT c.id, coalesce(c.name::text, ''), c.is_active IS DISTINCT FROM false, c.created_at::timestamptz,
			       coalesce(n.users, 0)
			  FROM companies c
			  LEFT JOIN (SELECT company_id, count(*) AS users
			               FROM (SELECT company_id, id AS user_id FROM users WHERE company_id IS NOT NULL
			                     UNION SELECT company_id, user_id FROM company_members) b
			              GROUP BY company_id) n ON n.company_id = c.id
			 ORDER BY c.name, c.id`)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (CompanyUsers, error) {
			var c CompanyUsers
			var id pgtype.UUID
			var at pgtype.Timestamptz
			err := row.Scan(&id, &c.Name, &c.Active, &at, &c.Users)
			c.ID, c.CreatedAt = identity.CompanyID(id.Bytes), instant(at)
			return c, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing companies: %w", err)
	}
	return found, nil
}
