// Package authz answers Envoy's question "may this request pass, and as whom?"
// (ext_authz v3 over gRPC), by the rules of the wire contract's section 4.
//
// One way leads through it: request (what Envoy said) - policy (what the route
// asks for) - token (who is asking) - memory and directory (what is true of them
// now) - judge - response. decide is its middle, and the only thing that decides.
// Its two ends, between Envoy's bytes and a request and between a decision and
// Envoy's bytes, exist twice: request.go and response.go are the ordinary path, by
// Envoy's own messages; fast_request.go and fast_response.go take nearly every
// check past those messages, and must say the same.
//
// It must never know how a token is spelled, where users are stored, or any
// setting by its name; it never sees a body or a query, and reads nothing out of a
// path itself. Doubt refuses:
// every zero value here is the strictest one, and nothing but an answer that was
// built as an allow leaves as an allow.
package authz

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

// Verifier says what a token says, or which problem it has. An error that
// carries no problem is an internal fault.
type Verifier interface {
	Verify(raw string, now time.Time) (identity.Credential, error)
}

// Directory knows what is true at this moment of a user, of its session and of
// the company that it acts for; a zero session or company is not asked about. An
// unknown user is the zero Standing and no error. It must give up when ctx ends.
type Directory interface {
	Standing(ctx context.Context, user identity.UserID, session identity.SessionID, company identity.CompanyID) (identity.Standing, error)
}

// DefaultLookupTimeout is shorter than the 2 s that the shipped Envoy
// configuration waits for an answer, so that the client gets our 503 and not
// Envoy's.
const DefaultLookupTimeout = 1500 * time.Millisecond

// Memory knows some users without asking anybody, so that most checks wait for
// nothing. What it says is true as if the Directory had been asked at now, which is
// when the check came, a moment ago; it may always say that it does not know. It must
// not wait.
type Memory interface {
	Peek(user identity.UserID, session identity.SessionID, company identity.CompanyID, now time.Time) (standing identity.Standing, known bool)
}

// Options is what a Gate is made of. Verifier, Registerer and Logger are
// needed, and Directory too unless SkipUserCheck is set.
type Options struct {
	Verifier  Verifier
	Directory Directory
	// Memory is asked before the Directory; nil: the Directory is asked each time.
	Memory Memory

	// SkipUserCheck asks the directory nothing: neither user, session, company
	// nor native roles. The email is then the token's.
	SkipUserCheck bool
	// SkipCompanyCheck lets a strict route pass without asking whether the user
	// still belongs to the token's company. That one is refused all the same
	// while it is suspended.
	SkipCompanyCheck bool
	// TokenRoles takes the roles from the token instead of the directory.
	TokenRoles bool
	// LegacyTokensUntil is when tokens that name no key end; zero: never.
	LegacyTokensUntil time.Time

	// StreamMax bounds what an allow lets in, a WebSocket or a stream included: Envoy
	// ends it after this time, and with the token at the latest. Zero: not at all.
	StreamMax time.Duration

	// LookupTimeout bounds one question to the directory; zero:
	// DefaultLookupTimeout.
	LookupTimeout time.Duration

	// Router says what a check asks for that comes without context extensions; nil:
	// such a check is strict.
	Router Router

	// Routes are the names whose metrics start at zero. Other names are counted
	// under their own label up to a bound, and as "other" past it.
	Routes []string

	// Recorder keeps decisions; nil: nobody does, which costs nothing.
	Recorder Recorder
	// Tokens reads what a token says, for Recorder and for Explain: the verifier
	// behind Verifier, whose own answer may come from memory and is short. nil:
	// Verifier itself, if it is one of package token.
	Tokens *token.Verifier
	// Instance names this replica in what is recorded.
	Instance string

	Registerer prometheus.Registerer
	Logger     *slog.Logger
	Clock      func() time.Time // nil: time.Now
}

// Recorder keeps decisions. It may be asked by any number of goroutines and must
// not wait.
//
// It is asked first, because what it is not interested in should cost no more than
// that question: what a token says is read only for a record.
type Recorder interface {
	// Wants reports whether a decision that ended like this is to be recorded.
	Wants(outcome gatehousev1.Outcome) bool
	// Record takes a decision over, which nobody else holds.
	Record(d *gatehousev1.Decision)
}

func (o Options) rules() rules {
	return rules{
		skipUser:          o.SkipUserCheck,
		skipCompany:       o.SkipCompanyCheck || o.SkipUserCheck,
		tokenRoles:        o.TokenRoles,
		legacyTokensUntil: o.LegacyTokensUntil,
	}
}

// Gate decides. It may be used by any number of goroutines and starts none.
type Gate struct {
	verifier      Verifier
	directory     Directory
	memory        Memory
	router        Router   // nil: none
	answers       *answers // nil: only the ordinary path is taken
	rules         rules
	lookupTimeout time.Duration
	streamMax     time.Duration // zero: no bound
	clock         func() time.Time
	since         func(time.Time) time.Duration

	observer *observer
	ready    atomic.Bool

	recorder Recorder        // nil: none
	tokens   *token.Verifier // nil: neither a recorder nor explanations
	instance string
}

// New makes a gate and registers its metrics.
func New(o Options) (*Gate, error) {
	switch {
	case o.Verifier == nil:
		return nil, errors.New("a gate needs a verifier")
	case o.Directory == nil && !o.SkipUserCheck:
		return nil, errors.New("a gate needs a directory of users")
	case o.Registerer == nil || o.Logger == nil:
		return nil, errors.New("a gate needs a metrics registry and a logger")
	case o.LookupTimeout < 0:
		return nil, errors.New("a negative lookup time-out")
	case o.StreamMax < 0:
		return nil, errors.New("a negative bound on streams")
	}
	if o.Tokens == nil {
		o.Tokens, _ = o.Verifier.(*token.Verifier)
	}
	if o.Recorder != nil && o.Tokens == nil {
		return nil, errors.New("a gate with a recorder needs to read tokens")
	}
	if o.LookupTimeout == 0 {
		o.LookupTimeout = DefaultLookupTimeout
	}
	since := time.Since // reads one of the machine's two clocks, which is half of what Now costs
	if o.Clock == nil {
		o.Clock = time.Now
	} else {
		since = func(t time.Time) time.Duration { return o.Clock().Sub(t) }
	}
	observer, err := newObserver(o.Registerer, o.Logger, o.Routes)
	if err != nil {
		return nil, err
	}
	answers, err := newAnswers()
	if err != nil {
		return nil, err
	}
	g := &Gate{
		verifier:      o.Verifier,
		directory:     o.Directory,
		memory:        o.Memory,
		router:        o.Router,
		answers:       answers,
		rules:         o.rules(),
		lookupTimeout: o.LookupTimeout,
		streamMax:     o.StreamMax,
		clock:         o.Clock,
		since:         since,
		observer:      observer,
		recorder:      o.Recorder,
		tokens:        o.Tokens,
		instance:      o.Instance,
	}
	g.ready.Store(o.SkipUserCheck)
	return g, nil
}
