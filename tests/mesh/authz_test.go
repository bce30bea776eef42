package mesh

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/devstack"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

// secret signs the tokens of these tests; it protects nothing.
const secret = "test-secret-made-of-obvious-words-for-meshes"

// decider is our authz on a real database.
type decider struct {
	t        testing.TB
	database string
	address  string // host:port of gRPC
	settings []string
	process  *devstack.Process
}

// startDecider runs authz at the address, with these settings beside the
// needed ones.
func startDecider(t testing.TB, address string, settings ...string) *decider {
	t.Helper()
	d := &decider{t: t, database: postgrestest.New(t), address: address}
	d.settings = append([]string{
		"GATEWAY_DATABASE_URL=" + d.database,
		"GATEWAY_JWT_SECRET=" + secret,
		"GATEWAY_AUTHZ_LISTEN=" + address,
		"GATEWAY_POSTGRES_POOL_MIN=1",
		"GATEWAY_POSTGRES_POOL_MAX=5",
	}, settings...)
	migrate := exec.Command(filepath.Join(binaries, "gatehouse"), "migrate")
	migrate.Env, migrate.Dir = ordinary(d.settings...), t.TempDir()
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("gatehouse migrate: %v\n%s", err, out)
	}
	d.start()
	return d
}

func (d *decider) start() {
	d.t.Helper()
	ops := freeAddress(d.t)
	d.process = start(d.t, "authz", filepath.Join(binaries, "authz"),
		ordinary(append(d.settings, "GATEWAY_AUTHZ_OPS_LISTEN="+ops)...), "--drain=0s")
	await(d.t, d.process, "authz", "http://"+ops+"/readyz")
}

// user is somebody in the database.
type user struct{ id, email, company string }

// sql runs a statement as any operator with psql would, and returns its one row.
func (d *decider) sql(statement string, args ...any) []any {
	d.t.Helper()
	ctx := d.t.Context()
	c, err := pgx.Connect(ctx, d.database)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	rows, err := c.Query(ctx, statement, args...)
	if err != nil {
		d.t.Fatal(err)
	}
	defer rows.Close()
	var values []any
	if rows.Next() {
		if values, err = rows.Values(); err != nil {
			d.t.Fatal(err)
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		d.t.Fatalf("%s: %v", statement, err)
	}
	return values
}

func (d *decider) newUser(company any) user {
	d.t.Helper()
	r := d.sql(`INSERT INTO users (company_id, email, role, is_active)
		VALUES ($1::uuid, 'user-' || gen_random_uuid() || '@example.com', 'user', true) RETURNING id::text, email`, company)
	u := user{id: fmt.Sprint(r[0]), email: fmt.Sprint(r[1])}
	if company != nil {
		u.company = fmt.Sprint(company)
	}
	return u
}

// newMember is a user of a new company.
func (d *decider) newMember() user {
	d.t.Helper()
	return d.newUser(d.sql(`INSERT INTO companies (name) VALUES ('Company ' || gen_random_uuid()) RETURNING id::text`)[0])
}

type claims map[string]any

func (c claims) with(name string, value any) claims {
	out := maps.Clone(c)
	out[name] = value
	return out
}

// claimsOf is a good set for a user.
func claimsOf(u user) claims {
	c := claims{"sub": u.id, "email": u.email, "iat": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	if u.company != "" {
		c["company_id"] = u.company
	}
	return c
}

// token writes one by hand, as an issuer that is not Gatehouse would.
func token(t testing.TB, c claims) string {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	payload, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	signed := b64([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + b64(payload)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + b64(mac.Sum(nil))
}
