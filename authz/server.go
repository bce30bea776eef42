package authz

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/atenex/gatehouse/internal/problem"
)

// ServerOptions are the gRPC settings that the service relies on.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		// The default allows a ping each 5 minutes and none without streams, and
		// closes every connection of an Envoy that keeps its idle ones alive.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             5 * time.Second,
			PermitWithoutStream: true,
		}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			// Connections are renewed now and then (grpc adds 10 % of jitter), so
			// that replicas that were added get their share. The grace is far
			// longer than a check can take.
			MaxConnectionAge:      30 * time.Minute,
			MaxConnectionAgeGrace: 30 * time.Second,
			// A peer that vanished without a word is noticed within 80 s.
			Time:    time.Minute,
			Timeout: 20 * time.Second,
		}),
		// Envoy's header block ends at 60 KiB and bodies are never sent here.
		grpc.MaxRecvMsgSize(1 << 20),
		// The circuit breaker of the shipped configuration, so that Envoy is the
		// one that sheds load. One Envoy thread uses one connection.
		grpc.MaxConcurrentStreams(8192),
		grpc.ConnectionTimeout(10 * time.Second),
	}
}

// Register adds the authorization service to a gRPC server.
func (g *Gate) Register(s grpc.ServiceRegistrar) {
	authv3.RegisterAuthorizationServer(s, service{gate: g})
}

// service is the face of a Gate that gRPC sees.
type service struct {
	authv3.UnimplementedAuthorizationServer
	gate *Gate
}

// Check answers one request of Envoy. It never returns an error: a gRPC error
// would be answered by Envoy with a body that is not ours.
func (s service) Check(ctx context.Context, in *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return s.gate.check(ctx, in), nil
}

func (g *Gate) check(ctx context.Context, in *authv3.CheckRequest) (out *authv3.CheckResponse) {
	var r request
	var d decision
	// decide does not panic; this is for what stands around it.
	defer func() {
		if thrown := recover(); thrown != nil {
			d = d.refused(problem.Internal.Because(fmt.Errorf("panic while answering: %v", thrown)))
			d.stack = debug.Stack()
			out = faulty(r, d)
			g.observer.salvage(ctx, r, d)
		}
	}()
	defer g.observer.enter()()

	start := g.clock()
	r = readRequest(in)
	d = g.decide(ctx, r, start)
	out, err := seal(answerTo(r, d))
	if err != nil {
		d = d.refused(problem.Internal.Because(err))
		out = faulty(r, d)
	}
	g.observer.decided(ctx, r, d, start, g.clock())
	return out
}
