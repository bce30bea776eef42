package authz_test

import (
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/atenex/gatehouse/internal/token"
)

// The baseline of a check in process, with a directory that costs nothing:
// reading Envoy's message, deciding, building the answer and counting it.
func BenchmarkCheck(b *testing.B) {
	cases := []struct {
		name          string
		authorization string
		edits         []edit
	}{
		{"allow", inCompany(), nil},
		{"deny without a token", "", nil},
		{"open route", "", []edit{extension("auth_mode", "none")}},
	}
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) {
			s := inProcess(b, options(b, token.Rules{}, saying(member())))
			in := request(c.authorization, c.edits...)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Check(b.Context(), in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The same between bytes and bytes, as gRPC hands them over.
func BenchmarkCheckOnTheWire(b *testing.B) {
	s := inProcess(b, options(b, token.Rules{}, saying(member())))
	wire, err := proto.Marshal(request(inCompany()))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		in := &authv3.CheckRequest{}
		if err := proto.Unmarshal(wire, in); err != nil {
			b.Fatal(err)
		}
		out, err := s.Check(b.Context(), in)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := proto.Marshal(out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	o := options(b, token.Rules{}, saying(member()))
	raw := inCompany()[len("Bearer "):]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.Verifier.Verify(raw, now); err != nil {
			b.Fatal(err)
		}
	}
}
