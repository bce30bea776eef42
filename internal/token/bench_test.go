package token_test

import (
	"testing"

	"github.com/atenex/gatehouse/internal/token"
)

// A token as login issues it, and one of Supabase's shape.
func BenchmarkVerify(b *testing.B) {
	for _, c := range []struct {
		name    string
		profile token.Profile
		payload string
	}{
		{"native", token.Native, native(`,"iat":1799990000,"email":"ana@example.com","company_id":"` + company + `","jti":"ABCDEFGHIJKLMNOPQRSTUVWXYZ","sid":"` + session + `","auth_time":1799990000`)},
		{"supabase", token.Supabase, native(`,"aal":"aal1","amr":[{"method":"password","timestamp":1799990000}],"app_metadata":{"company_id":"` + company + `","provider":"email","providers":["email"],"roles":["user"]},"aud":"authenticated","email":"ana@example.com","iat":1799990000,"is_anonymous":false,"iss":"https://project.supabase.co/auth/v1","phone":"","role":"authenticated","session_id":"` + session + `","user_metadata":{"name":"Ana"}`)},
	} {
		b.Run(c.name, func(b *testing.B) {
			v := verifier(b, token.Rules{Profile: c.profile})
			raw := signed(b, "HS256", []byte(secret), `{"alg":"HS256","kid":"ABCDEFGHIJK","typ":"JWT"}`, c.payload)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(raw, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
