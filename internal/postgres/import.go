package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/identity"
)

// MostImported bounds one call of MatchUsers and ImportUsers. Above 500 rows, a
// transaction has every authz forget all that it knows of users.
const MostImported = 500

// Match says what stands in the way of an account that is to be imported.
type Match struct {
	// User has the account's address already; zero: nobody has.
	User identity.UserID
	// IDTaken: somebody has the account's id, whatever the address.
	IDTaken bool
	// CompanyKnown is true for an account without a company too.
	CompanyKnown bool
}

// MatchUsers compares accounts, at most MostImported, with the users that there
// are, in the same order.
func (s *Store) MatchUsers(ctx context.Context, accounts []identity.Account) ([]Match, error) {
	columns, err := columnsOf(accounts)
	if err != nil {
		return nil, err
	}
	var found []Match
	err = s.read(ctx, queryMatchUsers, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, `
			SELECT named.id, owner.id IS NOT NULL,
			       w.company IS NULL OR EXISTS (SELECT FROM companies c WHERE c.id = w.company)
			  FROM unnest($1::uuid[], $2::text[], $3::uuid[]) WITH ORDINALITY AS w (id, email, company, n)
			  LEFT JOIN users named ON lower(named.email COLLATE "C") = lower(w.email COLLATE "C")
			  LEFT JOIN users owner ON owner.id = w.id
			 ORDER BY w.n`, columns.ids, columns.emails, columns.companies)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Match, err error) {
			var user pgtype.UUID
			err = row.Scan(&user, &m.IDTaken, &m.CompanyKnown)
			m.User = identity.UserID(user.Bytes)
			return m, err
		})
		return err
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("comparing users: %w", err)
	case len(found) != len(accounts):
		return nil, errors.New("comparing users: an address is had by two")
	}
	return found, nil
}

// ImportUsers makes users, at most MostImported, in one transaction, and returns
// how many: who is there already is left alone. Ids are made where there are none
// and dates are now where there are none; hashes are stored as they are.
func (s *Store) ImportUsers(ctx context.Context, accounts []identity.Account) (made int, err error) {
	columns, err := columnsOf(accounts)
	if err != nil {
		return 0, err
	}
	err = s.change(ctx, queryImportUsers, "importing users", func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			WITH u AS (
			  INSERT INTO users (id, email, company_id, hashed_password, full_name, role, is_active, created_at, updated_at, last_login)
			  SELECT coalesce(w.id, gen_random_uuid()), w.email, w.company, w.hash, w.name, coalesce(w.role, $9), w.active,
			         coalesce(w.created, now()), now(), w.seen
			    FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::timestamptz[], $10::timestamptz[])
			         AS w (id, email, company, hash, name, role, active, created, seen)
			  ON CONFLICT DO NOTHING
			  RETURNING id, company_id),
			recorded AS (
			  INSERT INTO audit_log (event, outcome, operator, subject_user, company_id)
			  SELECT 'user.imported', 'success', $11, id, company_id FROM u)
			SELECT count(*) FROM u`,
			columns.ids, columns.emails, columns.companies, columns.hashes, columns.names, columns.roles, columns.active,
			columns.created, defaultRole, columns.seen, plainOrNull(identity.OriginOf(ctx).Operator)).Scan(&made)
	})
	return made, err
}

// accountColumns are accounts turned on their side, as unnest wants them.
type accountColumns struct {
	ids, companies       []pgtype.UUID
	emails               []string
	hashes, names, roles []pgtype.Text
	active               []bool
	created, seen        []pgtype.Timestamptz
}

func columnsOf(accounts []identity.Account) (c accountColumns, err error) {
	if len(accounts) > MostImported {
		return c, fmt.Errorf("%d users at once, and %d are the most", len(accounts), MostImported)
	}
	for _, a := range accounts {
		for _, text := range []string{a.Email, a.FullName, a.Role, a.PasswordHash} {
			if !storable(text) {
				return c, ErrBadText
			}
		}
		c.ids = append(c.ids, uuidOrNull(a.ID))
		c.emails = append(c.emails, a.Email)
		c.companies = append(c.companies, uuidOrNull(a.Company))
		c.hashes = append(c.hashes, textOrNull(a.PasswordHash))
		c.names = append(c.names, textOrNull(a.FullName))
		c.roles = append(c.roles, textOrNull(a.Role))
		c.active = append(c.active, a.Active)
		c.created = append(c.created, timeOrNull(a.CreatedAt))
		c.seen = append(c.seen, timeOrNull(a.LastLogin))
	}
	return c, nil
}

func timeOrNull(t time.Time) pgtype.Timestamptz {
	return pgtype.Timestamptz{Time: t, Valid: !t.IsZero()}
}
