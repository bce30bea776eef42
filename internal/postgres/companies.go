package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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
		err := s.pool.QueryRow(ctx, `
			WITH c AS (
			  INSERT INTO companies (id, name, is_active, created_at) VALUES ($1, $2, true, now()) RETURNING id, name, created_at),
			recorded AS (
			  INSERT INTO audit_log (event, outcome, operator, company_id) SELECT 'company.created', 'success', $3, id FROM c)
			SELECT name::text, created_at::timestamptz FROM c`,
			uuidOrNull(made.ID), name, plainOrNull(identity.OriginOf(ctx).Operator)).Scan(&made.Name, &at)
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

// belongsSQL reports whether anybody is in the company $1.
const belongsSQL = `(EXISTS (SELECT FROM users WHERE company_id = $1) OR EXISTS (SELECT FROM company_members WHERE company_id = $1))`

// SetSuspended suspends a company or resumes it, and reports whether that was a
// change. A company that has people but no row, as the current and the default
// one may, gets a row with its id for a name. identity.ErrNotFound: neither the
// companies table nor anybody knows it.
func (s *Store) SetSuspended(ctx context.Context, company identity.CompanyID, suspended bool) (bool, error) {
	changed := false
	set := func() error {
		return s.change(ctx, querySetSuspended, "suspending or resuming a company", func(tx pgx.Tx) error {
			var exists bool
			err := tx.QueryRow(ctx, `
				WITH changed AS (
				  UPDATE companies SET is_active = NOT $2::boolean
				   WHERE id = $1 AND (is_active IS DISTINCT FROM false) = $2::boolean RETURNING 1)
				SELECT EXISTS (SELECT FROM companies WHERE id = $1), EXISTS (SELECT FROM changed)`,
				uuidOrNull(company), suspended).Scan(&exists, &changed)
			if err != nil {
				return err
			}
			if exists {
				return auditSuspended(ctx, tx, company, suspended, changed)
			}
			var known bool
			if err := tx.QueryRow(ctx, `SELECT `+belongsSQL, uuidOrNull(company)).Scan(&known); err != nil {
				return err
			}
			if !known {
				return refusal{identity.ErrNotFound}
			}
			changed = suspended
			if !suspended {
				return nil // a company without a row is not suspended
			}
			// The id stands in for the name, cut to what an adopted column holds.
			_, err = tx.Exec(ctx, `
				INSERT INTO companies (id, name, is_active, created_at)
				SELECT $1::uuid, left($1::uuid::text, coalesce((SELECT a.atttypmod - 4 FROM pg_attribute a
				         WHERE a.attrelid = 'companies'::regclass AND a.attname = 'name' AND a.atttypmod > 4), 36)), false, now()`,
				uuidOrNull(company))
			if err != nil {
				return err
			}
			return auditSuspended(ctx, tx, company, suspended, changed)
		})
	}
	err := set()
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == codeUniqueViolation {
		err = set() // somebody else has just made the row
	}
	return changed, err
}

func auditSuspended(ctx context.Context, tx pgx.Tx, company identity.CompanyID, suspended, changed bool) error {
	switch {
	case !changed:
		return nil
	case suspended:
		return audit(ctx, tx, identity.Event{Name: "company.suspended", Company: company})
	default:
		return audit(ctx, tx, identity.Event{Name: "company.resumed", Company: company})
	}
}

// Member is somebody who belongs to a company, and how.
type Member struct {
	identity.User
	RoleThere string // in that company; User.Role is that in the current one
	Current   bool   // it is the user's current company
}

// ListMembers gives everybody in a company, by email. identity.ErrNotFound: the
// companies table does not know it and nobody is in it.
func (s *Store) ListMembers(ctx context.Context, company identity.CompanyID) ([]Member, error) {
	var found []Member
	known := true
	err := s.read(ctx, queryListMembers, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, `SELECT `+userColumns+`, b.role, b.current
			  FROM (SELECT id AS user_id, coalesce(role::text, '') AS role, true AS current FROM users WHERE company_id = $1
			        UNION ALL
			        SELECT cm.user_id, cm.role, false FROM company_members cm JOIN users o ON o.id = cm.user_id
			         WHERE cm.company_id = $1 AND o.company_id IS DISTINCT FROM $1) b
			  JOIN users u ON u.id = b.user_id
			 ORDER BY lower(u.email COLLATE "C"), u.id`, uuidOrNull(company))
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Member, error) {
			var r userRow
			var m Member
			err := row.Scan(r.into(&m.RoleThere, &m.Current)...)
			m.User = r.user()
			return m, err
		})
		if err != nil || len(found) > 0 {
			return err
		}
		return s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM companies WHERE id = $1)`, uuidOrNull(company)).Scan(&known)
	})
	if err != nil {
		return nil, fmt.Errorf("listing the members of a company: %w", err)
	}
	if !known {
		return nil, identity.ErrNotFound
	}
	return found, nil
}
