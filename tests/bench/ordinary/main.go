// Ordinary is the ext_authz server that one writes in an afternoon: golang-jwt
// parses and verifies the token, and pgx selects the user by its primary key, on
// every check; grpc-go and the pool on their defaults.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atenex/gatehouse/tests/bench/contender"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx)
	stop()
	os.Exit(code)
}

func run(ctx context.Context) int {
	env := map[string]string{}
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	pool, err := pgxpool.New(ctx, env["DATABASE_URL"])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer pool.Close()
	return contender.Run(ctx, os.Args[1:], os.Stderr, &ordinary{pool: pool, secret: []byte(env["JWT_SECRET"])})
}

type ordinary struct {
	pool   *pgxpool.Pool
	secret []byte
}

type claims struct {
	jwt.RegisteredClaims
	Email     string `json:"email"`
	CompanyID string `json:"company_id"`
}

// Check verifies, looks the user up and passes on who it is.
func (o *ordinary) Check(ctx context.Context, in *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	raw, found := strings.CutPrefix(in.GetAttributes().GetRequest().GetHttp().GetHeaders()["authorization"], "Bearer ")
	if !found {
		return contender.Deny(typev3.StatusCode_Unauthorized, "no token"), nil
	}
	var c claims
	_, err := jwt.ParseWithClaims(raw, &c, func(*jwt.Token) (any, error) { return o.secret, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired())
	if err != nil {
		return contender.Deny(typev3.StatusCode_Unauthorized, "a wrong token"), nil //nolint:nilerr // the refusal is the answer
	}
	var active bool
	var email string
	var company *string
	err = o.pool.QueryRow(ctx, `SELECT is_active, email, company_id::text FROM users WHERE id = $1`, c.Subject).Scan(&active, &email, &company)
	if err != nil {
		return nil, err
	}
	if !active || company == nil || *company != c.CompanyID {
		return contender.Deny(typev3.StatusCode_Forbidden, "not allowed"), nil
	}
	return contender.Allow(c.Subject, c.CompanyID, email), nil
}
