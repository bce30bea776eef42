package envoy_test

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

// authz is a server that answers what the client's token tells it to, so that
// tests can share it: "Authorization: Bearer <word>".
type authz struct {
	authv3.UnimplementedAuthorizationServer
	network, addr string
	options       []grpc.ServerOption
	server        *grpc.Server

	mu     sync.Mutex
	checks map[string][]*authv3.CheckRequest // by X-Request-ID
	drop   func()                            // closes every connection
}

const (
	userID    = "0a1b2c3d-0000-4000-8000-000000000001"
	companyID = "0a1b2c3d-0000-4000-8000-000000000002"
	userEmail = "person@example.com"
)

// startAuthz listens on host:port or unix:///path.
func startAuthz(t *testing.T, addr string, cleanup func(func())) *authz {
	t.Helper()
	a := &authz{network: "tcp", addr: addr}
	if path, ok := strings.CutPrefix(addr, "unix://"); ok {
		a.network, a.addr = "unix", path
	}
	a.begin(t, cleanup)
	return a
}

// begin is startAuthz for one that is told more than its address.
func (a *authz) begin(t *testing.T, cleanup func(func())) {
	t.Helper()
	a.checks = map[string][]*authv3.CheckRequest{}
	a.start(t)
	cleanup(func() { a.stop() })
}

func (a *authz) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen(a.network, a.addr)
	if err != nil {
		t.Fatal(err)
	}
	a.addr = l.Addr().String()
	conns := &conns{Listener: l}
	s := grpc.NewServer(append(a.options,
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}))...)
	authv3.RegisterAuthorizationServer(s, a)
	healthv1.RegisterHealthServer(s, health.NewServer())
	a.mu.Lock()
	a.server, a.drop = s, conns.closeAll
	a.mu.Unlock()
	go func() { _ = s.Serve(conns) }()
}

func (a *authz) stop() {
	a.mu.Lock()
	s := a.server
	a.mu.Unlock()
	s.Stop()
}

func (a *authz) target() string {
	if a.network == "unix" {
		return "unix://" + a.addr
	}
	return a.addr
}

// asked returns the check requests that carried a request id.
func (a *authz) asked(id string) []*authv3.CheckRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.checks[id]
}

func (a *authz) Check(ctx context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	h := req.GetAttributes().GetRequest().GetHttp().GetHeaders()
	a.mu.Lock()
	a.checks[h["x-request-id"]] = append(a.checks[h["x-request-id"]], req)
	drop := a.drop
	a.mu.Unlock()

	switch strings.TrimPrefix(h["authorization"], "Bearer ") {
	case "allow":
		return allowed("allow", set("x-user-id", userID), set("x-company-id", companyID), set("x-user-email", userEmail)), nil
	case "brief":
		return allowed("allow", set("x-user-id", userID), set("x-company-id", companyID), set("x-envoy-upstream-stream-duration-ms", strconv.Itoa(int(brief.Milliseconds())))), nil
	case "allow-nobody":
		return allowed("allow"), nil
	case "empty":
		return &authv3.CheckResponse{}, nil
	case "unmarked":
		r := allowed("allow", set("x-user-id", userID))
		r.DynamicMetadata = nil
		return r, nil
	case "marked-deny":
		return allowed("deny", set("x-user-id", userID)), nil
	case "denied-with-status-ok":
		r := refused(codes.OK, typev3.StatusCode_Forbidden, `{"detail":"no"}`)
		return r, nil
	case "foreign-header":
		return allowed("allow", set("x-user-id", userID), set("x-admin", "true")), nil
	case "foreign-path":
		return allowed("allow", set("x-user-id", userID), set(":path", "/api/v1/ingest/other")), nil
	case "line-break":
		return allowed("allow", set("x-user-id", "a\r\nx-admin: true")), nil
	case "forbidden":
		return refused(codes.PermissionDenied, typev3.StatusCode_Forbidden, detail("User is no longer associated with the company in this token."),
			set("www-authenticate", `Bearer error="insufficient_scope"`)), nil
	case "unavailable":
		return failed(typev3.StatusCode_ServiceUnavailable, detail("Authorization is temporarily unavailable."), set("retry-after", "1")), nil
	case "internal":
		return failed(typev3.StatusCode_InternalServerError, detail("An internal error occurred during token verification.")), nil
	case "stranger":
		r := refused(codes.PermissionDenied, typev3.StatusCode_Forbidden, `{"by":"something else"}`)
		r.DynamicMetadata = nil
		return r, nil
	case "stranger-error":
		r := failed(typev3.StatusCode_InternalServerError, "stack trace of something else")
		r.DynamicMetadata = nil
		return r, nil
	case "rpc-error":
		return nil, status.Error(codes.Internal, "internal text of authz")
	case "rpc-unauthenticated":
		return nil, status.Error(codes.Unauthenticated, "internal text of authz")
	case hang:
		<-ctx.Done()
		return nil, ctx.Err()
	case "drop":
		drop()
		<-ctx.Done()
		return nil, ctx.Err()
	default:
		return refused(codes.Unauthenticated, typev3.StatusCode_Unauthorized, detail("Not authenticated"), set("www-authenticate", "Bearer")), nil
	}
}

func set(key, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: key, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

func decision(outcome, reason string) *structpb.Struct {
	s, _ := structpb.NewStruct(map[string]any{
		"outcome": outcome, "reason": reason, "user_id": userID, "company_id": companyID,
	})
	return s
}

func allowed(outcome string, headers ...*corev3.HeaderValueOption) *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status:          &rpcstatus.Status{Code: int32(codes.OK)},
		HttpResponse:    &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{Headers: headers}},
		DynamicMetadata: decision(outcome, "ok"),
	}
}

func refused(code codes.Code, http typev3.StatusCode, body string, headers ...*corev3.HeaderValueOption) *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &rpcstatus.Status{Code: int32(code)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status:  &typev3.HttpStatus{Code: http},
			Headers: append(headers, set("content-type", "application/json")),
			Body:    body,
		}},
		DynamicMetadata: decision("deny", "test_reason"),
	}
}

func failed(http typev3.StatusCode, body string, headers ...*corev3.HeaderValueOption) *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &rpcstatus.Status{Code: int32(codes.Unavailable)},
		HttpResponse: &authv3.CheckResponse_ErrorResponse{ErrorResponse: &authv3.DeniedHttpResponse{
			Status:  &typev3.HttpStatus{Code: http},
			Headers: append(headers, set("content-type", "application/json")),
			Body:    body,
		}},
		DynamicMetadata: decision("error", "test_fault"),
	}
}

// conns remembers what it accepted, to cut it off.
type conns struct {
	net.Listener
	mu  sync.Mutex
	all []net.Conn
}

func (c *conns) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		c.all = append(c.all, conn)
		c.mu.Unlock()
	}
	return conn, err
}

func (c *conns) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.all {
		conn.Close()
	}
	c.all = nil
}
