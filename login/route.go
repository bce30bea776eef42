package login

import (
	"context"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
)

// route is one path. It is matched whole: no cleaning of paths and no redirect
// stands between what the gate in front judged and what is served; the paths that
// hold ids are read segment by segment (companyRoutes).
type route struct {
	name   string // metric label and log field
	method string // HEAD is not GET: it is a method that was not asked for
	serve  endpoint
	// count tells the metrics of the route how it ended; nil: none.
	count func(a answer, err error)
	// quiet routes are logged at debug level while they answer well.
	quiet bool
}

// The names of what is not found by its whole path.
const (
	routeUnmatched        = "unmatched"
	routeListInvitations  = "invitations_list"
	routeInvite           = "invitations_create"
	routeRevokeInvitation = "invitations_revoke"
	routeEndSession       = "sessions_end"
)

// endpoint answers a request, or says with which problem it is refused.
type endpoint func(ctx context.Context, x *exchange) (answer, error)

// answer is what goes out if nothing was wrong.
type answer struct {
	status int
	body   any
	result string // what the log and the metrics call it
	cause  error  // why it is no better, for the log; nil: nothing was wrong
	// caching is the Cache-Control of what is nobody's own; empty: no-store.
	caching string
}

// exchange is one request and what the log is to say of it.
type exchange struct {
	w http.ResponseWriter
	r *http.Request
	// pending: the client may still be sending a body.
	pending bool
	user    identity.UserID    // once known
	company identity.CompanyID // that the answer's token acts for, or that the path names
	// invitation is the one that the path names.
	invitation identity.InvitationID
	session    identity.SessionID // likewise
	source     netip.Addr         // who asks, as far as it is known
	requestID  string
}

// Handler serves the endpoints.
func (s *Service) Handler() http.Handler { return http.HandlerFunc(s.serve) }

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(r.Context(), requestTime)
	defer cancel()
	x := &exchange{w: w, r: r, source: source(r, s.with.TrustedProxies), requestID: requestID(r)}
	x.expectBody()
	ctx = identity.WithOrigin(ctx, identity.Origin{Address: x.source, RequestID: x.requestID})
	at, allow := s.find(x)
	ctx, span := s.with.Spans.begin(ctx, r, at)
	var a answer
	var err error
	switch {
	case len(allow) == 0:
		err = errNotFound
	case !slices.Contains(allow, r.Method):
		w.Header().Set("Allow", strings.Join(allow, ", "))
		err = errMethod
	default:
		a, err = s.guarded(ctx, at, x)
		if at.count != nil {
			at.count(a, err)
		}
	}
	a = s.write(x, a, err)
	s.observe(ctx, x, at, a, time.Since(start))
	x.tell(span, at, a)
}

// find is the route of a request, and the methods that its path has: none for a
// path that is not served. With another method it is any route of the path.
func (s *Service) find(x *exchange) (at route, allow []string) {
	routes := s.companyRoutes(x)
	if routes == nil {
		routes = s.sessionRoutes(x)
	}
	if exact, known := s.routes[x.r.URL.Path]; known {
		routes = []route{exact}
	}
	if len(routes) == 0 {
		return route{name: routeUnmatched}, nil
	}
	at = routes[0]
	for _, one := range routes {
		allow = append(allow, one.method)
		if one.method == x.r.Method {
			at = one
		}
	}
	return at, allow
}

// guarded turns a panic into a refusal that is logged with its place. The value
// of a panic may hold anything, so that only the runtime's own are repeated.
func (s *Service) guarded(ctx context.Context, at route, x *exchange) (a answer, err error) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		cause := panicked{stack: debug.Stack()}
		if fault, ok := v.(runtime.Error); ok {
			cause.text = fault.Error()
		}
		a, err = answer{}, errInternal.Because(cause)
	}()
	return at.serve(ctx, x)
}

type panicked struct {
	text  string
	stack []byte
}

func (p panicked) Error() string { return "panic: " + p.text + "\n" + string(p.stack) }

// refusal finds what to answer for err.
func refusal(err error) *problem.Problem {
	if p := problem.From(err); p != problem.Internal {
		return p
	}
	return errInternal
}
