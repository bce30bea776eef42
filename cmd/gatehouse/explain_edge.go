package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/atenex/gatehouse/envoy/routes"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/problem"
)

// What the route table says of a request, in our words.
const (
	findingRoute       = "route"
	findingNoRoute     = "no_route"
	findingOtherMethod = "other_method"
	findingAmbiguous   = "ambiguous_path"
	findingTold        = "told"     // by --mode or --roles, in the table's place
	findingRecorded    = "recorded" // by the decision log
)

// placement is what the shipped Envoy does with a request before, or instead of,
// asking authz.
type placement struct {
	Finding  string  `json:"finding"`
	Name     *string `json:"name"`
	Upstream *string `json:"upstream"`
	// AsksAuthz is false where Envoy answers by itself and on routes of mode none.
	AsksAuthz bool `json:"asks_authz"`
	// Authorization says whether the client's token reaches the upstream.
	Authorization bool `json:"authorization_forwarded"`

	answer *routes.Answer // Envoy's own
	open   bool
}

// placed finds the route as Envoy does.
func placed(table routes.Table, s *config.Settings, method, path string) placement {
	route, found := table.Match(method, path)
	switch found {
	case routes.Unknown:
		return placement{Finding: findingNoRoute, answer: &routes.Answer{Status: http.StatusNotFound, Detail: "Not Found"}}
	case routes.OtherMethod:
		return placement{Finding: findingOtherMethod, answer: &routes.Answer{Status: http.StatusMethodNotAllowed, Detail: "Method Not Allowed"}}
	case routes.Unclear:
		return placement{Finding: findingAmbiguous, AsksAuthz: true}
	case routes.Matched:
	}
	p := placement{Finding: findingRoute, Name: &route.Name, answer: route.Answer, open: route.Mode == routes.None}
	if p.answer != nil {
		return p
	}
	p.Upstream = &route.Upstream
	upstream := table.Upstreams[route.Upstream]
	if upstream.Unset != nil && route.Upstream == "auth" && s.Upstreams.Auth == nil {
		p.answer = upstream.Unset
		return p
	}
	p.AsksAuthz = !p.open
	p.Authorization = upstream.Authorization || s.Edge.ForwardAuthorization
	return p
}

// headerView is a header of a message.
type headerView struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// replyView is what one kind of client sees of an answer that Envoy gives itself.
// It has the headers that belong to the answer; those of every answer of a route
// (x-request-id, x-process-time, CORS) are not among them.
type replyView struct {
	Status  int          `json:"status"`
	Headers []headerView `json:"headers"`
	Body    string       `json:"body"`
}

// clientsView is what clients see of a refusal; all nil where the upstream answers.
type clientsView struct {
	HTTP    *replyView `json:"http"`
	GRPC    *replyView `json:"grpc"`
	GRPCWeb *replyView `json:"grpc_web"`
}

const grpcStatusHeader = "grpc-status"

// clients tells what becomes of an answer that is JSON. Envoy turns it into
// trailers for a gRPC client, which it knows by application/grpc and what may
// follow after a plus sign; a grpc-web client is one of HTTP to an Envoy without
// the grpc_web filter.
//
// tests/e2e holds this to the real Envoy.
func clients(status int, headers []headerView, body string) clientsView {
	plain := replyView{Status: status, Headers: headers, Body: body}
	rpc := replyView{Status: http.StatusOK, Headers: []headerView{
		{"content-type", "application/grpc"},
		{grpcStatusHeader, strconv.Itoa(grpcStatus(status))},
		{"grpc-message", grpcMessage(body)},
	}}
	for _, h := range headers {
		if h.Name != "content-type" {
			rpc.Headers = append(rpc.Headers, h)
		}
	}
	web := plain
	return clientsView{HTTP: &plain, GRPC: &rpc, GRPCWeb: &web}
}

// answered is what clients see of an answer of Envoy's own.
func answered(a routes.Answer) clientsView {
	return clients(int(a.Status), []headerView{{"content-type", "application/json"}}, string((&problem.Problem{Detail: a.Detail}).Body()))
}

// grpcStatus is Envoy's reading of gRPC's "HTTP to gRPC status code mapping"
// (source/common/grpc/status.cc).
func grpcStatus(status int) int {
	switch status {
	case http.StatusBadRequest:
		return 13
	case http.StatusUnauthorized:
		return 16
	case http.StatusForbidden:
		return 7
	case http.StatusNotFound:
		return 12
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return 14
	}
	return 2
}

// grpcStatusName is gRPC's own name of a code that grpcStatus returns, or authz.
func grpcStatusName(code int) string {
	switch code {
	case 0:
		return "OK"
	case 7:
		return "PERMISSION_DENIED"
	case 12:
		return "UNIMPLEMENTED"
	case 13:
		return "INTERNAL"
	case 14:
		return "UNAVAILABLE"
	case 16:
		return "UNAUTHENTICATED"
	}
	return "UNKNOWN"
}

// grpcMessage escapes what may not stand in grpc-message.
func grpcMessage(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
