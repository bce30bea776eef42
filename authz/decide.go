package authz

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/internal/token"
)

// outcome is how a check ended. The zero value is not an allow.
type outcome int

const (
	failed  outcome = iota // could not decide
	denied                 // decided no
	allowed                // decided yes
)

func (o outcome) String() string {
	switch o {
	case allowed:
		return "allow"
	case denied:
		return "deny"
	default:
		return "error"
	}
}

// reasonOK is the reason of every allow; problem.Decisions has the others.
const reasonOK = "ok"

// decision is the end of a check. The zero value is an internal fault.
type decision struct {
	outcome  outcome
	problem  *problem.Problem // nil with an allow
	cause    error            // for our log alone; nil: the problem says it all
	stack    []byte           // of a panic
	mode     mode
	identity identity.Identity // the verified one, on a denial too if it got so far
	// anonymous allows say nothing of the user to the upstream.
	anonymous bool
	// lasts is how long what was allowed may go on; zero: as long as it likes.
	lasts time.Duration
}

func (d decision) reason() string {
	switch {
	case d.outcome == allowed:
		return reasonOK
	case d.problem == nil:
		return problem.Internal.Reason
	default:
		return d.problem.Reason
	}
}

// refused ends a check with the problem in err, or with an internal fault if
// there is none in it.
func (d decision) refused(err error) decision {
	d.problem, d.cause, d.outcome = problem.From(err), nil, denied
	if d.problem.IsFault() {
		d.outcome = failed
	}
	if error(d.problem) != err { //nolint:errorlint // asks whether err says more than the problem itself
		d.cause = err
	}
	return d
}

// decide is the whole decision about one request. It knows nothing of Envoy and
// does not panic. Where t is not nil, it leaves behind what it went by.
func (g *Gate) decide(ctx context.Context, r *request, now time.Time, t *trail) (d decision) {
	defer func() {
		if thrown := recover(); thrown != nil {
			d = decision{mode: d.mode, identity: d.identity}.refused(problem.Internal.Because(fmt.Errorf("panic: %v", thrown)))
			d.stack = debug.Stack()
		}
	}()

	p := readPolicy(r.mode, r.roles)
	d.mode = p.mode
	t.asks(p)
	if p.mode == open {
		d.outcome, d.anonymous = allowed, true
		return d
	}
	raw, err := token.Bearer(r.authorization.all())
	if err != nil {
		return d.refused(err)
	}
	t.brought(raw)
	c, err := g.verify(ctx, raw, now, t)
	if err != nil {
		return d.refused(err)
	}
	t.proved(c)
	d.identity = identity.Identity{User: c.User, Company: c.Company, Email: c.Email}

	rules := g.rules.of(c.Issuer)
	var standing identity.Standing
	if !rules.skipUser && !c.User.IsZero() {
		if standing, err = g.look(ctx, &c, now, t); err != nil {
			return d.refused(problem.Unavailable.Because(err))
		}
		d.identity.Email = standing.Email
	}
	if refusal := rules.judge(p, &c, &standing, now); refusal != nil {
		return d.refused(refusal)
	}
	d.outcome = allowed
	d.lasts = g.lasts(c.ExpiresAt, now)
	// A preflight never comes here; any other OPTIONS needs a token like GET,
	// but upstreams that answer it do not expect a user.
	d.anonymous = r.method == http.MethodOptions
	return d
}

// leastLasting is what a request is given that brings a token about to expire: it
// was let in, and shall be answered. By so much a stream may outlive its token.
const leastLasting = 10 * time.Second

// lasts bounds what is let in by the time that the token has left, and by the one
// after which its user is to be judged again.
func (g *Gate) lasts(until, now time.Time) time.Duration {
	if g.streamMax == 0 || until.IsZero() {
		return g.streamMax
	}
	return min(g.streamMax, max(until.Sub(now), leastLasting))
}

// verify asks the verifier, in a span of its own where the check has one.
func (g *Gate) verify(ctx context.Context, raw string, now time.Time, t *trail) (identity.Credential, error) {
	if !t.traced() {
		return g.verifier.Verify(raw, now)
	}
	ctx, span := t.child(ctx, spanVerify)
	defer span.End()
	c, err := g.verifier.Verify(raw, now)
	if p, known := errors.AsType[*problem.Problem](err); err != nil && (!known || p.IsFault()) {
		t.failed(ctx, err) // such as keys that could never be fetched
	}
	return c, err
}

// look asks memory and then the directory, for no longer than the gate waits. An
// answer that comes later is no answer: Envoy may have given up by then.
func (g *Gate) look(ctx context.Context, c *identity.Credential, now time.Time, t *trail) (identity.Standing, error) {
	if t.traced() {
		inner, span := t.child(ctx, spanLookup)
		defer span.End()
		ctx = inner
	}
	if g.memory != nil {
		if standing, known := g.memory.Peek(c.User, c.Session, c.Company, now); known {
			t.learned(standing, sourceMemory)
			return standing, nil
		}
	}
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, g.lookupTimeout)
	defer cancel()
	start := g.clock()
	standing, err := g.directory.Standing(ctx, c.User, c.Session, c.Company)
	if err == nil {
		err = ctx.Err()
	}
	g.observer.lookedUp(g.since(start), err)
	if err == nil {
		if !g.ready.Load() {
			g.ready.Store(true)
		}
		t.learned(standing, sourceDatabase)
		return standing, nil
	}
	t.failed(caller, err)
	switch {
	case caller.Err() != nil:
		return identity.Standing{}, fmt.Errorf("the caller went away while the user was looked up: %w", err)
	case errors.Is(err, context.DeadlineExceeded):
		return identity.Standing{}, fmt.Errorf("looking the user up took longer than %s: %w", g.lookupTimeout, err)
	default:
		return identity.Standing{}, fmt.Errorf("looking the user up: %w", err)
	}
}
