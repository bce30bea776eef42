package authz

import (
	"maps"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// Effects are what an answer makes Envoy do, read off the answer itself.
type Effects struct {
	// Allowed: the request goes on to its upstream, with the headers below set and
	// removed. Otherwise the client is answered at once.
	Allowed bool
	// Code is the status of the CheckResponse, which alone decides in ext_authz.
	Code codes.Code
	// Status is the HTTP status of a refusal, and 200 of an allow.
	Status int
	// Set are headers of the request to the upstream, where that is allowed, and of
	// the answer to the client where it is not. Each takes the place of any other of
	// its name.
	Set []Header
	// Removed are headers that do not reach the upstream, whoever sent them.
	Removed []string
	// Email says what became of the user's email, which is shown nowhere: "set",
	// "not sendable" in a header, "none", "withheld" from an upstream that is told
	// nothing of the user, or "not recorded". Empty with a refusal.
	Email string
	// Body is what the client reads of a refusal.
	Body string
	// Metadata is what Envoy's access log and RBAC filter get, by name.
	Metadata []Header
}

// Header is a name and a value.
type Header struct{ Name, Value string }

// EmailSet stands in Effects for the value of x-user-email.
const EmailSet = "[the user's email]"

// effects reads an answer as Envoy does.
func effects(answer []byte) (Effects, error) {
	in := &authv3.CheckResponse{}
	if err := proto.Unmarshal(answer, in); err != nil {
		return Effects{}, err
	}
	out := Effects{Code: codes.Code(in.GetStatus().GetCode())}
	for _, name := range slices.Sorted(maps.Keys(in.GetDynamicMetadata().GetFields())) {
		out.Metadata = append(out.Metadata, Header{name, in.GetDynamicMetadata().GetFields()[name].GetStringValue()})
	}
	set := func(options []*corev3.HeaderValueOption) {
		for _, o := range options {
			h := Header{o.GetHeader().GetKey(), o.GetHeader().GetValue()}
			if h.Name == headerEmail {
				h.Value = EmailSet
			}
			out.Set = append(out.Set, h)
		}
	}
	if out.Code == codes.OK {
		out.Allowed, out.Status = true, 200
		set(in.GetOkResponse().GetHeaders())
		out.Removed = in.GetOkResponse().GetHeadersToRemove()
		return out, nil
	}
	refusal := in.GetDeniedResponse()
	if refusal == nil {
		refusal = in.GetErrorResponse()
	}
	out.Status, out.Body = int(refusal.GetStatus().GetCode()), refusal.GetBody()
	set(refusal.GetHeaders())
	return out, nil
}
