package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
)

// An operator sees whose a token is taken for, and why it is refused.
func TestInspectNamesTheIssuerOfAToken(t *testing.T) {
	const theirs = "test-secret-of-another-issuer-than-ourselves"
	dir := t.TempDir()
	t.Chdir(dir) // no .env
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("secret", theirs)
	entry := "issuers:\n  - { name: partner, issuer: https://id.partner.example/, algorithms: [HS256], keys: { secret_file: secret }, profile: native%s }\n"
	keys, err := token.Sources{Algorithm: "HS256", Secret: []byte(theirs)}.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	minted := func(iss string) string {
		t.Helper()
		i, err := token.NewIssuer(token.Rules{Keys: keys, Issuer: iss}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		m, err := i.Issue(token.Grant{User: identity.UserID{15: 1}}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return m.Token
	}
	for _, c := range []struct{ name, more, iss, want string }{
		{"another issuer's", "", "https://id.partner.example/", "issuer:  partner\nverdict: accepted\n"},
		{"after its time", ", until: 2021-01-01T00:00:00Z", "https://id.partner.example/", "issuer:  partner\nverdict: refused: Token has been revoked. (token_revoked, 401)\n"},
		{"its signature with another iss", "", "https://nobody.example", "issuer:  own\nverdict: refused: Invalid token signature. (token_signature, 401)\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			write("issuers.yaml", strings.Replace(entry, "%s", c.more, 1))
			var out, errs bytes.Buffer
			code := run(context.Background(), []string{"token", "inspect"},
				[]string{"GATEWAY_JWT_SECRET=test-secret-made-of-obvious-words-for-gatehouse", "GATEWAY_ISSUERS_FILE=issuers.yaml"},
				strings.NewReader(minted(c.iss)), &out, &errs)
			if code != 0 || !strings.HasSuffix(out.String(), c.want) {
				t.Errorf("it ends with %d and\n%s%s\nwant %s", code, out.String(), errs.String(), c.want)
			}
		})
	}
}
