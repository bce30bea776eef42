package rig

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
	"github.com/atenex/gatehouse/tests/bench/load"
	"github.com/atenex/gatehouse/tests/bench/tool"
)

// Person is a user with a login and two companies: its own, and one that it is a
// member of besides.
type Person struct {
	User    identity.UserID
	Session identity.SessionID
	Company identity.CompanyID // its current one
	Second  identity.CompanyID // zero for the many
	Email   string

	Token       string // of the login, acting for Company
	SecondToken string // acting for Second; empty for the many
}

// People are who asks for things in the benchmark.
type People struct {
	Few  []Person          // known by all their attributes
	Warm *load.Credentials // of the few
	Many *load.Credentials // of everybody else
}

// companySize is how many of the many share a company.
const companySize = 50

// Populate fills the database: few people that are going to be well known to
// caches, and many that nobody has seen yet, each with a login and a token of it.
//
// The users are there before the migrations, as in an installation that is taken
// over; their triggers would otherwise announce each row.
func (r *Rig) Populate(ctx context.Context, few, many int) (*People, error) {
	conn, err := pgx.Connect(ctx, r.database)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	people := newPeople(few, many)
	if err := adopt(ctx, conn, people); err != nil {
		return nil, fmt.Errorf("making users: %w", err)
	}
	if err := r.migrate(ctx); err != nil {
		return nil, err
	}
	if err := settle(ctx, conn, people, few); err != nil {
		return nil, fmt.Errorf("making logins and companies: %w", err)
	}
	return mint(people, few)
}

func newPeople(few, many int) []Person {
	people := make([]Person, few+many)
	var shared identity.CompanyID
	for i := range people {
		p := Person{User: identity.UserID(newID()), Session: identity.SessionID(newID()), Email: fmt.Sprintf("person%07d@example.com", i)}
		switch {
		case i < few:
			// Companies of their own: to suspend one must hit one.
			p.Company, p.Second = identity.CompanyID(newID()), identity.CompanyID(newID())
		default:
			if (i-few)%companySize == 0 {
				shared = identity.CompanyID(newID())
			}
			p.Company = shared
		}
		people[i] = p
	}
	return people
}

// newID is a random UUID (version 4), as gen_random_uuid() makes them: keys that
// lie side by side would be kinder to an index than real ones.
func newID() (id [16]byte) {
	rand.Read(id[:]) // never fails, by its documentation
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// adopt makes the users table as the replaced gateways have it.
func adopt(ctx context.Context, conn *pgx.Conn, people []Person) error {
	if _, err := conn.Exec(ctx, `CREATE TABLE users (
		id uuid PRIMARY KEY, company_id uuid NULL, email text NOT NULL, hashed_password text NULL, full_name text NULL,
		role text NOT NULL DEFAULT 'user', created_at timestamptz NOT NULL DEFAULT now(),
		updated_at timestamptz NOT NULL DEFAULT now(), last_login timestamptz NULL, is_active boolean NOT NULL DEFAULT true)`); err != nil {
		return err
	}
	_, err := conn.CopyFrom(ctx, pgx.Identifier{"users"}, []string{"id", "company_id", "email"},
		pgx.CopyFromSlice(len(people), func(i int) ([]any, error) {
			return []any{[16]byte(people[i].User), [16]byte(people[i].Company), people[i].Email}, nil
		}))
	return err
}

func (r *Rig) migrate(ctx context.Context) error {
	env := maps.Clone(r.options.Environ)
	env["GATEWAY_DATABASE_URL"], env["GATEWAY_JWT_SECRET"] = r.database, secret
	_, err := tool.Run(ctx, env, r.program("gatehouse"), "migrate")
	return err
}

// settle gives everybody a login and the few a second company, and leaves the
// tables as a vacuum leaves them: the first reader of a fresh row writes to it.
func settle(ctx context.Context, conn *pgx.Conn, people []Person, few int) error {
	start := time.Now().Add(-time.Minute)
	end := start.Add(30 * 24 * time.Hour)
	_, err := conn.CopyFrom(ctx, pgx.Identifier{"sessions"}, []string{"id", "user_id", "auth_time", "valid_from", "not_after"},
		pgx.CopyFromSlice(len(people), func(i int) ([]any, error) {
			return []any{[16]byte(people[i].Session), [16]byte(people[i].User), start, start, end}, nil
		}))
	if err != nil {
		return err
	}
	for i, p := range people[:few] {
		if _, err := conn.Exec(ctx, `INSERT INTO companies (id, name) VALUES ($1, $2)`, [16]byte(p.Second), fmt.Sprintf("second of %d", i)); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, `INSERT INTO company_members (user_id, company_id) VALUES ($1, $2)`, [16]byte(p.User), [16]byte(p.Second)); err != nil {
			return err
		}
	}
	for _, statement := range []string{"VACUUM ANALYZE users", "VACUUM ANALYZE sessions", "VACUUM ANALYZE companies", "VACUUM ANALYZE company_members", "CHECKPOINT"} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// mint makes the tokens as the login service does, with the issuer that it has.
func mint(people []Person, few int) (*People, error) {
	key, err := token.SecretKey([]byte(secret), "HS256")
	if err != nil {
		return nil, err
	}
	keys, err := token.NewKeySet(key)
	if err != nil {
		return nil, err
	}
	issuer, err := token.NewIssuer(token.Rules{Keys: keys}, 24*time.Hour)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	issue := func(p Person, company identity.CompanyID) (string, error) {
		m, err := issuer.Issue(token.Grant{
			User: p.User, Email: p.Email, Company: company, Session: p.Session, AuthTime: now.Add(-time.Minute),
		}, now)
		return m.Token, err
	}
	out := &People{Warm: &load.Credentials{}, Many: &load.Credentials{}}
	for i, p := range people {
		if p.Token, err = issue(p, p.Company); err != nil {
			return nil, err
		}
		into := out.Many
		if i < few {
			into = out.Warm
			if p.SecondToken, err = issue(p, p.Second); err != nil {
				return nil, err
			}
			out.Few = append(out.Few, p)
		}
		if err := into.Add(load.Credential{Token: p.Token, User: p.User.String()}); err != nil {
			return nil, err
		}
	}
	return out, nil
}
