package authz

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/atenex/gatehouse/internal/problem"
)

// largestMessage is four times what Envoy's headers may have. Whoever can reach the
// port may leave that much unfinished in each stream.
const largestMessage = 256 << 10

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
		grpc.ForceServerCodecV2(newCodec()),
		// Bodies are never sent here.
		grpc.MaxRecvMsgSize(largestMessage),
		// Windows of a fixed size spare the pings by which grpc-go would find a
		// better one. A check is one small message, so that they never fill.
		grpc.StaticStreamWindowSize(largestMessage),
		grpc.StaticConnWindowSize(8 * largestMessage),
		// Goroutines that stay keep their stacks. When all of them wait for the
		// database, grpc-go starts others.
		grpc.NumStreamWorkers(64),
		// The circuit breaker of the shipped configuration, so that Envoy is the
		// one that sheds load. One Envoy thread uses one connection.
		grpc.MaxConcurrentStreams(8192),
		grpc.ConnectionTimeout(10 * time.Second),
	}
}

// Register adds the authorization service to a gRPC server, which must have been
// made with ServerOptions.
func (g *Gate) Register(s grpc.ServiceRegistrar) {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
		HandlerType: (*checker)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Check", Handler: handle}},
		Metadata:    authv3.Authorization_ServiceDesc.Metadata,
	}, g)
}

// checker is what gRPC demands of the service.
type checker interface {
	check(ctx context.Context, asked string, into []byte) []byte
}

// answerSize is a little more than most answers take.
const answerSize = 640

// handle is one call. It answers whatever came, also what is no message at all: a
// gRPC error would be answered by Envoy with a body that is not ours.
func handle(gate any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // the order is gRPC's
	e := &exchange{}
	if err := decode(e); err != nil {
		return nil, err
	}
	answer := func(ctx context.Context, _ any) (any, error) {
		e.answered = gate.(checker).check(ctx, e.asked, make([]byte, 0, answerSize)) //nolint:forcetypeassert // gRPC looked when it was registered
		if len(e.answered) == 0 {
			// No bytes at all are a CheckResponse too, and to Envoy an allow.
			return nil, status.Error(codes.Internal, problem.Internal.Detail)
		}
		return e, nil
	}
	if intercept == nil {
		return answer(ctx, e)
	}
	return intercept(ctx, e, &grpc.UnaryServerInfo{Server: gate, FullMethod: authv3.Authorization_Check_FullMethodName}, answer)
}

// check answers one request: the bytes of a CheckRequest with those of a
// CheckResponse, which it appends to into.
func (g *Gate) check(ctx context.Context, asked string, into []byte) (out []byte) {
	var r request
	var d decision
	// decide does not panic; this is for what stands around it.
	defer func() {
		if thrown := recover(); thrown != nil {
			d = d.refused(problem.Internal.Because(fmt.Errorf("panic while answering: %v", thrown)))
			d.stack = debug.Stack()
			out = faulty(into, r, d)
			g.observer.salvage(ctx, &r, &d)
		}
	}()
	g.observer.inFlight.Add(1)
	defer g.observer.inFlight.Add(-1)

	var t *trail // nil: nobody asks what the decision went by
	span := spanOf(ctx)
	if g.recorder != nil || span.records() {
		t = &trail{span: span}
	}
	start := g.clock()
	err := g.read(asked, &r)
	if err != nil {
		d = d.refused(problem.Internal.Because(err))
	} else {
		g.locate(&r)
		d = g.decide(ctx, &r, start, t)
	}
	if out, err = g.write(into, &r, &d); err != nil {
		d = d.refused(problem.Internal.Because(err))
		out = faulty(into, r, d)
	}
	took := g.since(start)
	g.observer.decided(ctx, span, &r, &d, start, took)
	if t != nil {
		t.span.tell(r, d)
		g.record(ctx, r, d, t, start, took)
	}
	return out
}

// read takes the fast path, and where that gives up the ordinary one.
func (g *Gate) read(asked string, r *request) (err error) {
	if g.answers != nil && fastRequest(asked, r) {
		return nil
	}
	*r, err = decodeRequest(asked)
	return err
}

// write takes the fast path, and where that gives up the ordinary one.
func (g *Gate) write(into []byte, r *request, d *decision) ([]byte, error) {
	if g.answers != nil {
		if out, ok := g.answers.append(into, d); ok {
			return out, nil
		}
	}
	return encodeAnswer(into, *r, *d)
}
