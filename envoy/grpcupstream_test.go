package envoy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/routes"
)

// grpcService is a real gRPC server behind the gate. It answers with what it was
// sent, and remembers with which metadata the last call came.
type grpcService struct {
	grpc_testing.UnimplementedTestServiceServer
	addr string
	stop func()

	mu   sync.Mutex
	last metadata.MD
}

// grpcPath is under which its methods are.
const grpcPath = "/grpc.testing.TestService"

func startGRPCService(t *testing.T) *grpcService {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	u := &grpcService{addr: l.Addr().String(), stop: s.Stop}
	grpc_testing.RegisterTestServiceServer(s, u)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return u
}

func (u *grpcService) came(ctx context.Context) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.last, _ = metadata.FromIncomingContext(ctx)
}

// sent is the metadata of the last call.
func (u *grpcService) sent(name string) []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.last.Get(name)
}

func (u *grpcService) UnaryCall(ctx context.Context, req *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	u.came(ctx)
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-early", "header"))
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-late", "trailer", "x-late-bin", "\x00\xff"))
	if e := req.GetResponseStatus(); e != nil {
		return nil, status.Error(codes.Code(e.GetCode()), e.GetMessage())
	}
	return &grpc_testing.SimpleResponse{Payload: req.GetPayload()}, nil
}

// FullDuplexCall answers each message as it comes, and the end with a trailer.
func (u *grpcService) FullDuplexCall(s grpc_testing.TestService_FullDuplexCallServer) error {
	u.came(s.Context())
	for {
		req, err := s.Recv()
		if errors.Is(err, io.EOF) {
			s.SetTrailer(metadata.Pairs("x-late", "trailer"))
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&grpc_testing.StreamingOutputCallResponse{Payload: req.GetPayload()}); err != nil {
			return err
		}
	}
}

// grpcGate has the service behind a strict route.
func grpcGate(t *testing.T, u *grpcService, change func(*routes.Upstream)) *gate {
	t.Helper()
	return newGate(t, options{
		table: func(table *routes.Table) {
			up := routes.Upstream{URL: "http://" + u.addr, HTTP2: true}
			if change != nil {
				change(&up)
			}
			table.Upstreams["calls"] = up
			table.Routes = append(table.Routes, routes.Route{
				Name: "calls", Match: routes.Match{Prefix: grpcPath}, Methods: []string{"POST"}, Mode: routes.Strict, Upstream: "calls",
			})
		},
		settings: func(s *envoy.Settings) { s.CORSOrigins = []string{"https://app.example"} },
	})
}

func (g *gate) dial(t *testing.T) grpc_testing.TestServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(g.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return grpc_testing.NewTestServiceClient(conn)
}

// withToken is a call's context, with a forged identity beside the token.
func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token,
		"x-user-id", "evil", "x_user_id", "evil", "x-custom", "kept")
}

func payload(text string) *grpc_testing.Payload {
	return &grpc_testing.Payload{Body: []byte(text)}
}

func TestAGRPCServiceIsCalledWithIdentityAndAnswersInFull(t *testing.T) {
	t.Parallel()
	u := startGRPCService(t)
	c := grpcGate(t, u, nil).dial(t)
	var header, trailer metadata.MD
	got, err := c.UnaryCall(withToken(t.Context(), "allow"), &grpc_testing.SimpleRequest{Payload: payload("ping")}, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil {
		t.Fatal(err)
	}
	if string(got.GetPayload().GetBody()) != "ping" {
		t.Errorf("answer %q", got)
	}
	for name, want := range map[string]string{"x-user-id": userID, "x-company-id": companyID, "x-user-email": userEmail, "x-custom": "kept", "authorization": "", "x_user_id": ""} {
		if got := strings.Join(u.sent(name), "|"); got != want {
			t.Errorf("the service got %s %q, want %q", name, got, want)
		}
	}
	if !slices.Equal(header.Get("x-early"), []string{"header"}) || len(header.Get("x-request-id")) != 1 || len(header.Get("x-process-time")) != 1 {
		t.Errorf("headers %v, want the service's and the gate's", header)
	}
	if !slices.Equal(trailer.Get("x-late"), []string{"trailer"}) || !slices.Equal(trailer.Get("x-late-bin"), []string{"\x00\xff"}) {
		t.Errorf("trailers %v, want the service's", trailer)
	}
	_, err = c.UnaryCall(withToken(t.Context(), "allow"), &grpc_testing.SimpleRequest{ResponseStatus: &grpc_testing.EchoStatus{Code: int32(codes.DataLoss), Message: "of the service: ä"}}, grpc.Trailer(&trailer))
	if s := status.Convert(err); s.Code() != codes.DataLoss || s.Message() != "of the service: ä" || len(trailer.Get("x-late")) != 1 {
		t.Errorf("the service's own error arrived as %v, with trailers %v", err, trailer)
	}
}

// TestAGRPCStreamMovesBothWays waits for each answer before it sends the next
// message, so that nothing between the two may hold one back.
func TestAGRPCStreamMovesBothWays(t *testing.T) {
	t.Parallel()
	u := startGRPCService(t)
	c := grpcGate(t, u, nil).dial(t)
	ctx, cancel := context.WithTimeout(withToken(t.Context(), "allow"), patience)
	defer cancel()
	s, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two", strings.Repeat("three", 100_000)} {
		if err := s.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload(text)}); err != nil {
			t.Fatal(err)
		}
		got, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if string(got.GetPayload().GetBody()) != text {
			t.Fatalf("%d bytes came back of %d", len(got.GetPayload().GetBody()), len(text))
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v, want EOF", err)
	}
	if got := s.Trailer().Get("x-late"); !slices.Equal(got, []string{"trailer"}) {
		t.Errorf("trailer %v", got)
	}
	if got := u.sent("x-user-id"); !slices.Equal(got, []string{userID}) {
		t.Errorf("the service saw the user %v", got)
	}
}

// TestAGRPCClientIsRefusedInItsOwnWords asks with grpc-go, whose only sight of a
// refusal is the status.
func TestAGRPCClientIsRefusedInItsOwnWords(t *testing.T) {
	t.Parallel()
	u := startGRPCService(t)
	g := grpcGate(t, u, nil)
	c := g.dial(t)
	gone := startGRPCService(t)
	gone.stop()
	dead := grpcGate(t, gone, nil).dial(t)
	for _, r := range []struct {
		name, token string
		client      grpc_testing.TestServiceClient
		code        codes.Code
		message     string
		header      string // a name that the trailers have
	}{
		{"no token that is good: 401", "nope", c, codes.Unauthenticated, detail("Not authenticated"), "www-authenticate"},
		{"not this user: 403", "forbidden", c, codes.PermissionDenied, detail("User is no longer associated with the company in this token."), "www-authenticate"},
		{"authz cannot decide: 503", "unavailable", c, codes.Unavailable, detail("Authorization is temporarily unavailable."), "retry-after"},
		{"authz broke: 500", "internal", c, codes.Unknown, detail("An internal error occurred during token verification."), ""},
		{"an allow that is not authz's", "unmarked", c, codes.Unavailable, detail("Authorization is temporarily unavailable."), "retry-after"},
		{"no service there: 503", "allow", dead, codes.Unavailable, detail("Could not connect to upstream service."), ""},
	} {
		var trailer metadata.MD
		_, err := r.client.UnaryCall(withToken(t.Context(), r.token), &grpc_testing.SimpleRequest{}, grpc.Trailer(&trailer))
		if s := status.Convert(err); s.Code() != r.code || s.Message() != r.message {
			t.Errorf("%s: %v, want %v %s", r.name, err, r.code, r.message)
		}
		if r.header != "" && len(trailer.Get(r.header)) != 1 {
			t.Errorf("%s: trailers %v, want %s", r.name, trailer, r.header)
		}
		stream, err := r.client.FullDuplexCall(withToken(t.Context(), r.token))
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != r.code {
			t.Errorf("%s: a stream ended with %v, want %v", r.name, err, r.code)
		}
	}
	conn, err := grpc.NewClient(g.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = conn.Invoke(t.Context(), "/nobody.Knows/It", &grpc_testing.Empty{}, &grpc_testing.Empty{})
	if s := status.Convert(err); s.Code() != codes.Unimplemented || s.Message() != detail("Not Found") {
		t.Errorf("a path of no route: %v", err)
	}
}
