package mesh

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/structpb"
)

// impostor is a gRPC server on authz' address that is not authz.
type impostor struct {
	name   string
	answer func(context.Context) (*authv3.CheckResponse, error) // nil: it knows no ext_authz
	allows bool                                                 // to ext_authz its answer is an allow
}

func impostors(u user) []impostor {
	says := func(r *authv3.CheckResponse) func(context.Context) (*authv3.CheckResponse, error) {
		return func(context.Context) (*authv3.CheckResponse, error) { return r, nil }
	}
	allow := &authv3.CheckResponse{
		Status: &status.Status{Code: int32(codes.OK)},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{{
			Header: &corev3.HeaderValue{Key: "x-user-id", Value: u.id},
		}}}},
		DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"decision": structpb.NewStringValue("allow"), "allowed": structpb.NewBoolValue(true),
		}},
	}
	return []impostor{
		{"an empty answer", says(&authv3.CheckResponse{}), true},
		{"an allow with an identity and marks of its own", says(allow), true},
		{"an error", func(context.Context) (*authv3.CheckResponse, error) {
			return nil, errors.New("the impostor's own words")
		}, false},
		{"silence", func(ctx context.Context) (*authv3.CheckResponse, error) { <-ctx.Done(); return nil, ctx.Err() }, false},
		{"another service altogether", nil, false},
	}
}

type impostorServer struct {
	authv3.UnimplementedAuthorizationServer
	impostor
	asked *atomic.Int32
}

func (s impostorServer) Check(ctx context.Context, _ *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	s.asked.Add(1)
	return s.answer(ctx)
}

// run serves until stop is called, and counts how often it was asked.
func (i impostor) run(t *testing.T, address string) (asked *atomic.Int32, stop func()) {
	t.Helper()
	server := grpc.NewServer()
	asked = &atomic.Int32{}
	if i.answer != nil {
		authv3.RegisterAuthorizationServer(server, impostorServer{impostor: i, asked: asked})
	}
	healthv1.RegisterHealthServer(server, health.NewServer())
	var l net.Listener
	eventually(t, "the address is free", func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	go func() { _ = server.Serve(l) }()
	return asked, server.Stop
}
