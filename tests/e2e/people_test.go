package e2e

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// user is somebody in the database.
type user struct {
	id, email, password, company string
}

// obviousPassword and its bcrypt hashes protect nothing. The three spellings of
// the prefix mean the same algorithm.
const (
	obviousPassword = "test-password-for-e2e"
	bcryptCost4     = "04$OLsR/sYKrQ2J9OaXl.vwc.7RTiJLnTlWdusGVIYrv92U1upvV/KG2"
	bcryptCost5     = "05$Vm5x2aSIctr/2eDnBluxV.GF9YDlL5yTJbVv4tKfPOSTGpn9.vFse"
	bcryptCost6     = "06$syRnm4oRN7XJU0uilaCxf.s4QtYV2QN.SHptGR98KpFkkWLe0mhHC"

	// longPassword has 72 bytes, the most that bcrypt looks at.
	longPassword = "test-password-of-exactly-seventy-two-bytes-test-password-of-exactly-72by"
	longHash     = "$2b$04$uvpteCHEC6cIfE9rx8pgV.BrKZRKoYzs2D.ubu.sK0FO2J3VccKN2"
)

// sql runs a statement as an operator with psql would, and waits until every authz
// has heard of it.
func (s *stack) sql(statement string, args ...any) {
	s.t.Helper()
	s.row(statement, args...)
	s.heard()
}

// heard waits until every authz that remembers users has forgotten what the changes
// before it made untrue, as the operator's command does: it sends a number, which is
// told in the order of the commits, and each authz writes down the last that it heard.
func (s *stack) heard() {
	s.t.Helper()
	ctx := s.t.Context()
	c := s.connect()
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	var number int64
	if err := c.QueryRow(ctx, `UPDATE gatehouse_fence SET number = greatest(number + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
		RETURNING number, pg_notify('gatehouse_fence', number::text)::text`).Scan(&number, nil); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, "every authz has heard of the change", func() error {
		var deaf int
		err := c.QueryRow(ctx, `SELECT count(*) FROM gatehouse_replicas
			WHERE applied < $1 AND heartbeat_at > clock_timestamp() - interval '3 s' - proof_ms * interval '1 ms'`, number).Scan(&deaf)
		if err == nil && deaf > 0 {
			err = fmt.Errorf("%d have not", deaf)
		}
		return err
	})
}

func (s *stack) connect() *pgx.Conn {
	s.t.Helper()
	c, err := pgx.Connect(s.t.Context(), s.database)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// row runs a statement and returns its one row, nil if it gave none.
func (s *stack) row(statement string, args ...any) []any {
	s.t.Helper()
	ctx := s.t.Context()
	c := s.connect()
	defer func() { _ = c.Close(ctx) }()
	rows, err := c.Query(ctx, statement, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	defer rows.Close()
	var values []any
	if rows.Next() {
		if values, err = rows.Values(); err != nil {
			s.t.Fatal(err)
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		s.t.Fatalf("%s: %v", statement, err)
	}
	return values
}

// text is the first value of a row, as text.
func (s *stack) text(statement string, args ...any) string {
	s.t.Helper()
	r := s.row(statement, args...)
	if len(r) == 0 {
		s.t.Fatalf("no row: %s", statement)
	}
	return fmt.Sprint(r[0])
}

// newUUID is one that no row has.
func (s *stack) newUUID() string {
	s.t.Helper()
	return uuid.NewString()
}

// newCompany makes a company and returns its id.
func (s *stack) newCompany() string {
	s.t.Helper()
	return s.text(`INSERT INTO companies (name) VALUES ('Company ' || gen_random_uuid()) RETURNING id::text`)
}

// newUser makes an active user of that company (empty: of none) with no
// password.
func (s *stack) newUser(company string) user {
	s.t.Helper()
	var in any
	if company != "" {
		in = company
	}
	r := s.row(`INSERT INTO users (company_id, email, role, is_active)
		VALUES ($1::uuid, 'user-' || gen_random_uuid() || '@example.com', 'user', true) RETURNING id::text, email`, in)
	return user{id: fmt.Sprint(r[0]), email: fmt.Sprint(r[1]), company: company}
}

// newMember is a user of a new company.
func (s *stack) newMember() user {
	s.t.Helper()
	return s.newUser(s.newCompany())
}

// withPassword gives a user obviousPassword, as a cheap bcrypt hash.
func (s *stack) withPassword(u user) user {
	s.t.Helper()
	s.sql(`UPDATE users SET hashed_password = $2 WHERE id = $1::uuid`, u.id, "$2b$"+bcryptCost4)
	u.password = obviousPassword
	return u
}

// session is a row of sessions, as a login makes it.
type session struct {
	user      string
	validFrom time.Time
	notAfter  time.Time
	ended     bool
}

func (s *stack) newSession(in session) string {
	s.t.Helper()
	var ended any
	if in.ended {
		ended = time.Now()
	}
	return s.text(`INSERT INTO sessions (id, user_id, auth_time, valid_from, not_after, ended_at)
		VALUES (gen_random_uuid(), $1::uuid, $2, $2, $3, $4) RETURNING id::text`, in.user, in.validFrom, in.notAfter, ended)
}

// mixed changes letters to upper case.
func mixed(id string) string { return strings.ToUpper(id) }
