package decisionlog

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

// What is read the quick way is what would be read the slow one.
func FuzzALineIsReadTheSameBothWays(f *testing.F) {
	for _, line := range []string{
		`{"kind":"decision","outcome":"deny","reason":"token_expired","status":401}`,
		`{"kind":"decision","outcome":"allow"}`,
		`{"kind":"decision","outcome":"error","time":"2031-05-17T10:00:00.250Z","later":{"a":[1]}}`,
		`{"kind":"decision","outcome":"allow","outcome":"deny"}`,
		`{"kind":"decision","outcome":"allow","kind":"other"}`,
		`{"kind":"decision","outcome":"OUTCOME_DENY"}`,
		`{"kind":"decision","outcome":"deny","status":401`,
		`{"kind":"decision","outcome":"deny","status":401} trailing`,
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		quick, ok := parseOurs([]byte(line))
		if !ok || strings.Contains(line, `\u`) { // with which a second kind can be spelt
			return
		}
		slow, err := parseAny([]byte(line))
		if err != nil || !proto.Equal(quick, slow) {
			t.Errorf("%q is %v, and %v (%v) the other way", line, quick, slow, err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	line := []byte(`{"kind":"decision","outcome":"deny","reason":"role_insufficient","route":"query","mode":"strict","user_id":"0a0a0a0a-1111-4222-8333-444444444444","company_id":"0b0b0b0b-1111-4222-8333-444444444444","request_id":"req-1","time":"2031-05-17T10:00:00.250Z","duration_ms":0.031,"method":"GET","path":"/api/v1/query/chats","status":403,"roles":["admin"],"instance":"authz-0:7","token":{"verified":true,"profile":"native","algorithm":"HS256","key_id":"k1","held_against":"k1","subject":"0a0a0a0a-1111-4222-8333-444444444444","issued_at":"2031-05-17T09:59:00Z","expires_at":"2031-05-17T11:00:00Z"},"standing":{"source":"memory","exists":true,"active":true}}`)
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			_, _ = Parse(line)
		}
	})
	b.Run("any", func(b *testing.B) {
		for b.Loop() {
			_, _ = parseAny(line)
		}
	})
}
