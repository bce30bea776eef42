package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// The SQLSTATEs that someone branches on (PostgreSQL manual, appendix A).
const (
	codeUniqueViolation  = "23505"
	codeReadOnly         = "25006"
	codeDeadlock         = "40P01"
	codeDenied           = "42501"
	codeLockNotAvailable = "55P03"
	codeAdminShutdown    = "57P01"
	codeCrashShutdown    = "57P02"
	codeIdleTimeout      = "57P05"

	classDenied       = "42" // or there is no such table
	classIntervention = "57" // the server is being stopped or started
)

type proofKey struct{}

// withProof asks the pool for a connection that answers a ping first.
func withProof(ctx context.Context) context.Context { return context.WithValue(ctx, proofKey{}, true) }

func wantsProof(ctx context.Context) bool { return ctx.Value(proofKey{}) != nil }

// read runs a question that changes nothing, and once more if its connection
// turned out to be dead: after a restart of the server every idle connection is.
// The second try asks each connection for proof of life before it trusts it.
func (s *Store) read(ctx context.Context, q query, ask func(context.Context) error) error {
	start := time.Now()
	ctx, span := s.traced(ctx, q)
	err := ask(ctx)
	if connectionLost(err) && ctx.Err() == nil {
		err = ask(withProof(ctx))
	}
	ended(span, err)
	s.metrics.observe(ctx, q, time.Since(start), err)
	return once(err)
}

// write runs a change once, on a connection that has just answered. It is not
// tried again: whether a lost connection took the change along is unknown.
func (s *Store) write(ctx context.Context, q query, change func(context.Context) error) error {
	start := time.Now()
	ctx, span := s.traced(ctx, q)
	err := change(withProof(ctx))
	ended(span, err)
	s.metrics.observe(ctx, q, time.Since(start), err)
	return once(err)
}

// connectionLost tells a connection that broke from a server that answered and
// from one that cannot be reached at all.
func connectionLost(err error) bool {
	var refused *pgconn.PgError
	var unreachable *pgconn.ConnectError
	switch {
	case err == nil, errors.As(err, &unreachable):
		return false
	case errors.As(err, &refused):
		return refused.Code == codeAdminShutdown || refused.Code == codeCrashShutdown || refused.Code == codeIdleTimeout
	default:
		return pgconn.SafeToRetry(err) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
			errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	}
}
