package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

// impostor is a gRPC server on authz' address that is not authz.
type impostor func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error)

type impostorServer struct {
	authv3.UnimplementedAuthorizationServer
	answer impostor
	asked  *atomic.Int32
}

func (s impostorServer) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	s.asked.Add(1)
	return s.answer(ctx, r)
}

// run serves until stop is called, and counts how often it was asked.
func (i impostor) run(t *testing.T, address string, withHealth bool) (asked *atomic.Int32, stop func()) {
	t.Helper()
	server := grpc.NewServer()
	asked = &atomic.Int32{}
	if i != nil {
		authv3.RegisterAuthorizationServer(server, impostorServer{answer: i, asked: asked})
	}
	if withHealth {
		healthv1.RegisterHealthServer(server, health.NewServer())
	}
	var l net.Listener
	eventually(t, "the address is free", func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	go func() { _ = server.Serve(l) }()
	return asked, server.Stop
}

func TestNothingButAuthzOpensTheGate(t *testing.T) {
	t.Parallel()
	s := newStack(t, postgrestest.New(t), nil)
	s.command("migrate")
	s.startEnvoy()
	u := s.newMember()
	good := bearer(token(t, claimsOf(u)))
	good["X-User-Id"] = []string{u.id}
	t.Run("nothing is there", func(t *testing.T) { s.in(t).wantUndecided(t, good) })

	ok := func(r *authv3.CheckResponse) impostor {
		return func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) { return r, nil }
	}
	allow := func(names ...string) *authv3.CheckResponse {
		h := &authv3.OkHttpResponse{}
		for _, n := range names {
			h.Headers = append(h.Headers, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: n, Value: u.id}})
		}
		return &authv3.CheckResponse{Status: &status.Status{Code: int32(codes.OK)}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: h}}
	}
	foreign, err := structpb.NewStruct(map[string]any{"decision": "allow", "allowed": true})
	if err != nil {
		t.Fatal(err)
	}
	marked := allow("x-user-id", "x-company-id")
	marked.DynamicMetadata = foreign
	for _, test := range []struct {
		name string
		impostor
	}{
		{"an empty answer", ok(&authv3.CheckResponse{})},
		{"an allow without our mark", ok(allow())},
		{"an allow with an identity", ok(allow("x-user-id", "x-company-id"))},
		{"an allow with marks of its own", ok(marked)},
		{"an error", func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
			return nil, errors.New("the impostor's own words")
		}},
		{"silence", func(ctx context.Context, _ *authv3.CheckRequest) (*authv3.CheckResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}},
		{"another service altogether", nil},
	} {
		for health, with := range map[string]bool{"healthy": true, "of unknown health": false} {
			t.Run(test.name+", "+health, func(t *testing.T) {
				s := s.in(t)
				asked, stop := test.run(t, s.settings["GATEWAY_AUTHZ_LISTEN"], with)
				defer stop()
				s.query.forget()
				ask := func() {
					s.wantRetry(t, promptly(t, "a request", func() answer { return s.get(strictRoute, good) }), cannotDecide)
				}
				for range 3 {
					ask()
				}
				// Envoy takes a moment to find out that it is well.
				if with && test.impostor != nil {
					eventually(t, "the impostor is asked", func() error {
						ask()
						if n := asked.Load(); n < 2 {
							return fmt.Errorf("%d times so far", n)
						}
						return nil
					})
				}
				s.query.none(t)
			})
		}
	}
	t.Run("a refusal of somebody else", func(t *testing.T) {
		s := s.in(t)
		_, stop := ok(&authv3.CheckResponse{Status: &status.Status{Code: int32(codes.PermissionDenied)}}).run(t, s.settings["GATEWAY_AUTHZ_LISTEN"], true)
		defer stop()
		s.query.forget()
		if a := s.get(strictRoute, good); a.err != nil || a.status < 400 {
			t.Errorf("got %d %v", a.status, a.err)
		}
		s.query.none(t)
	})
	t.Run("authz at last", func(t *testing.T) {
		s.startAuthz()
		within(t, 5*time.Second, "the gate decides", func() error { return s.get(strictRoute, good).is(http.StatusOK) })
	})
}
