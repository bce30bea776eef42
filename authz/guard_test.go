package authz

import (
	"slices"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

// Envoy let each of the refusals below through, or could be led to: its status
// is OK or absent, whatever else it says.
func TestTheLastGuardLetsOnlyWhatAllowBuiltBeAnAllow(t *testing.T) {
	yes := decision{outcome: allowed, identity: identity.Identity{User: identity.UserID{1}}}
	no := decision{}.refused(problem.TokenExpired)
	lost := decision{}.refused(problem.Unavailable)
	change := func(a answer, f func(*authv3.CheckResponse)) answer {
		a.response = proto.Clone(a.response).(*authv3.CheckResponse)
		f(a.response)
		return a
	}
	cases := []struct {
		name string
		a    answer
		want bool
	}{
		{"an allow", allow(request{}, yes), true},
		{"a denial", deny(request{}, no), true},
		{"a failure", fail(request{}, lost), true},
		{"nothing at all", answer{}, false},
		{"an empty message", answer{response: &authv3.CheckResponse{}}, false},
		{"an allow that was not built by allow", answer{response: allow(request{}, yes).response}, false},
		{"a decision that is no allow, built as one", allow(request{}, no), false},
		{"an allow without a message", answer{allowing: true}, false},
		{"an allow without a status, which Envoy takes for OK", change(allow(request{}, yes), func(r *authv3.CheckResponse) { r.Status = nil }), true},
		{"an allow with another status", change(allow(request{}, yes), func(r *authv3.CheckResponse) { r.Status.Code = int32(codes.Internal) }), false},
		{"an allow without its mark", change(allow(request{}, yes), func(r *authv3.CheckResponse) { r.DynamicMetadata = nil }), false},
		{"an allow without headers", change(allow(request{}, yes), func(r *authv3.CheckResponse) { r.HttpResponse = nil }), false},
		{"a denial with status OK", change(deny(request{}, no), func(r *authv3.CheckResponse) { r.Status = &rpcstatus.Status{} }), false},
		{"a denial without a status", change(deny(request{}, no), func(r *authv3.CheckResponse) { r.Status = nil }), false},
		{"a failure without a status", change(fail(request{}, lost), func(r *authv3.CheckResponse) { r.Status = nil }), false},
		{"a denial with the mark of an allow", change(deny(request{}, no), func(r *authv3.CheckResponse) { r.DynamicMetadata = allow(request{}, yes).response.DynamicMetadata }), false},
		{"a denial with the body of an allow", change(deny(request{}, no), func(r *authv3.CheckResponse) { r.HttpResponse = allow(request{}, yes).response.HttpResponse }), false},
		{"a denial without a body", change(deny(request{}, no), func(r *authv3.CheckResponse) { r.HttpResponse = nil }), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			out, err := seal(c.a)
			if (err == nil) != c.want || (out != nil) != c.want {
				t.Errorf("got %v and %v, want it to pass: %v", out, err, c.want)
			}
		})
	}
}

func TestTheZeroDecisionIsAnInternalFault(t *testing.T) {
	out, err := seal(answerTo(request{}, decision{}))
	if err != nil || out.GetErrorResponse().GetStatus().GetCode() != 500 || out.GetStatus().GetCode() != int32(codes.Internal) {
		t.Errorf("got %v and %v", out, err)
	}
	told := &authv3.CheckResponse{}
	if err := proto.Unmarshal(faulty(nil, request{}, decision{outcome: allowed}), told); err != nil || told.GetErrorResponse() == nil || told.GetStatus().GetCode() == 0 {
		t.Errorf("a faulty answer to an allow is %v (%v)", told, err)
	}
}

// A field that is added to the proto and not to metadata would never reach the
// access log, unless it is said here that it need not.
func TestTheMetadataHasEveryFieldOfTheProtoThatIsForEnvoy(t *testing.T) {
	d := &gatehousev1.Decision{}
	fields := d.ProtoReflect().Descriptor().Fields()
	// Envoy knows these itself, or they are for the decision log alone.
	elsewhere := []string{
		"route", "mode", "request_id", "time", "duration_ms", "method", "path", "status",
		"roles", "trace_id", "instance", "cause", "token", "standing", "path_altered",
	}
	for i := range fields.Len() {
		f := fields.Get(i)
		if slices.Contains(elsewhere, string(f.Name())) {
			continue
		}
		switch f.Kind() {
		case protoreflect.StringKind:
			d.ProtoReflect().Set(f, protoreflect.ValueOfString("value of "+string(f.Name())))
		case protoreflect.EnumKind:
			d.ProtoReflect().Set(f, protoreflect.ValueOfEnum(f.Enum().Values().ByName("OUTCOME_ALLOW").Number()))
		default:
			t.Fatalf("%s is of a kind that metadata cannot have yet", f.Name())
		}
	}
	got := metadata(d).GetFields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if slices.Contains(elsewhere, string(f.Name())) {
			continue
		}
		want := "value of " + string(f.Name())
		if f.Kind() == protoreflect.EnumKind {
			want = "allow"
		}
		if got[string(f.Name())].GetStringValue() != want {
			t.Errorf("%s is %v, want %q", f.Name(), got[string(f.Name())], want)
		}
	}
	if len(got) != fields.Len()-len(elsewhere) {
		t.Errorf("%d fields in the metadata, %d in the proto and %d of them not for it", len(got), fields.Len(), len(elsewhere))
	}
	if got := metadata(&gatehousev1.Decision{}).GetFields(); len(got) != 1 || got["outcome"].GetStringValue() != "error" {
		t.Errorf("an empty decision is published as %v", got)
	}
}

// The words are those of the proto's enum, so that the two cannot drift apart.
func TestTheWordsOfTheMetadataAreThoseOfTheProto(t *testing.T) {
	for word, o := range map[string]outcome{"ALLOW": allowed, "DENY": denied, "ERROR": failed} {
		value, known := gatehousev1.Outcome_value["OUTCOME_"+word]
		if got := published(request{}, decision{outcome: o}).GetOutcome(); !known || int32(got) != value {
			t.Errorf("%s is published as %v", o, got)
		}
	}
}
