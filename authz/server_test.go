package authz_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
)

// served is a gate behind a gRPC server with the options that we ship.
func served(t *testing.T, o authz.Options) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(authz.ServerOptions()...)
	newGate(t, o).Register(server)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///gate",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.GracefulStop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn
}

func TestTheServiceAnswersOverGRPC(t *testing.T) {
	var standing authz.Directory = saying(member())
	client := authv3.NewAuthorizationClient(served(t, options(t, token.Rules{}, directory(
		func(ctx context.Context, u identity.UserID, s identity.SessionID, c identity.CompanyID) (identity.Standing, error) {
			return standing.Standing(ctx, u, s, c)
		}))))
	cases := []struct {
		name string
		in   *authv3.CheckRequest
		user authz.Directory
		want string
		code codes.Code
	}{
		{"an allow", request(inCompany()), saying(member()), "ok", codes.OK},
		{"a denial is no gRPC error", request(""), saying(member()), "not_authenticated", codes.Unauthenticated},
		{"a missing role is no gRPC error", request(inCompany(), extension("roles", "owner")), saying(member()), "role_insufficient", codes.PermissionDenied},
		{"a failure is no gRPC error", request(inCompany()), failing(errors.New("down")), "unavailable", codes.Unavailable},
		{"a panic is no gRPC error", request(inCompany()), directory(nil), "internal", codes.Internal},
		{"the next check after a panic", request(inCompany()), saying(member()), "ok", codes.OK},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			standing = c.user
			out, err := client.Check(t.Context(), c.in)
			if err != nil {
				t.Fatal(err)
			}
			if got := codes.Code(out.GetStatus().GetCode()); reason(out) != c.want || got != c.code {
				t.Errorf("got %s and %s, want %s and %s", reason(out), got, c.want, c.code)
			}
		})
	}
}

func TestTheServerRefusesWhatEnvoyNeverSends(t *testing.T) {
	conn := served(t, options(t, token.Rules{}, saying(member())))
	huge := request("Bearer " + strings.Repeat("x", 1<<20))
	if _, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), huge); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message of more than 1 MiB: %v", err)
	}
	err := conn.Invoke(t.Context(), "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &authv3.CheckRequest{}, &authv3.CheckResponse{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("reflection: %v", err)
	}
}

func TestReadyComesWithTheFirstAnswerAndStays(t *testing.T) {
	var standing authz.Directory = failing(errors.New("down"))
	g := newGate(t, options(t, token.Rules{}, directory(
		func(ctx context.Context, u identity.UserID, s identity.SessionID, c identity.CompanyID) (identity.Standing, error) {
			return standing.Standing(ctx, u, s, c)
		})))
	steps := []struct {
		name string
		user authz.Directory
		in   *authv3.CheckRequest
		want bool
	}{
		{"before anything", nil, nil, false},
		{"after a failure", failing(errors.New("down")), request(inCompany()), false},
		{"after a refusal that needed no directory", saying(member()), request(""), false},
		{"after an answer, if only that nobody is known", saying(identity.Standing{}), request(inCompany()), true},
		{"when the directory fails again", failing(errors.New("down")), request(inCompany()), true},
	}
	for _, s := range steps {
		if s.in != nil {
			standing = s.user
			check(t, g, s.in)
		}
		if g.Ready() != s.want {
			t.Errorf("%s: ready is %v", s.name, g.Ready())
		}
	}

	o := options(t, token.Rules{Profile: token.Supabase}, nil)
	skipUser(&o)
	if !newGate(t, o).Ready() {
		t.Error("a gate that asks nobody is not ready at once")
	}
}

func TestWatchReadyAsksUntilTheFirstAnswer(t *testing.T) {
	g := newGate(t, options(t, token.Rules{}, saying(member())))
	var asked atomic.Int32
	called := make(chan int32, 2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	g.WatchReady(ctx, func(context.Context) error {
		if asked.Add(1) < 3 {
			return errors.New("down")
		}
		return nil
	}, func() { called <- asked.Load() })
	if len(called) != 1 || <-called != 3 || !g.Ready() {
		t.Error("not ready, once, with the third question")
	}

	ended, end := context.WithCancel(t.Context())
	end()
	never := newGate(t, options(t, token.Rules{}, saying(member())))
	never.WatchReady(ended, func(ctx context.Context) error { return ctx.Err() }, func() { t.Error("ready though it was ended") })
	if never.Ready() {
		t.Error("ready though nobody answered")
	}
}
