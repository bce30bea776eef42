package authzd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/decisionlog"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
)

const partnerIss = "https://id.partner.example/"

// partnerToken is a good token of another issuer, signed with its secret.
func partnerToken(t *testing.T, secret string) string {
	t.Helper()
	keys, err := token.Sources{Algorithm: "HS256", Secret: []byte(secret)}.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := token.NewIssuer(token.Rules{Keys: keys, Issuer: partnerIss, Profile: token.Supabase}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	m, err := issuer.Issue(token.Grant{User: identity.UserID{15: 1}, Company: identity.CompanyID{15: 2}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + m.Token
}

// A running authz takes up a change of the file, and remembers nothing that was good
// before it.
func TestAnIssuerIsTrustedAsLongAsTheFileSaysSo(t *testing.T) {
	const first, later = "test-secret-of-a-partner-who-signs-tokens", "test-secret-of-the-partner-after-a-change"
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		whole := filepath.Join(dir, name)
		if err := os.WriteFile(whole+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(whole+".new", whole); err != nil {
			t.Fatal(err)
		}
	}
	put("secret", first)
	put("issuers.yaml", "issuers:\n  - { name: partner, issuer: \""+partnerIss+"\", algorithms: [HS256], keys: { secret_file: secret }, profile: supabase, user_check: \"off\" }\n")
	log := filepath.Join(t.TempDir(), "decisions.jsonl")
	p := start(t, "GATEWAY_ISSUERS_FILE="+filepath.Join(dir, "issuers.yaml"), "GATEWAY_DECISION_LOG="+log).serving()

	strict := map[string]string{"auth_mode": "strict"}
	last := func() (reason, by string) {
		t.Helper()
		f, err := os.Open(log)
		if err != nil {
			return "", ""
		}
		defer f.Close()
		for entry, err := range decisionlog.Read(f) {
			if err != nil {
				return "", ""
			}
			reason, by = entry.Decision.GetReason(), entry.Decision.GetToken().GetIssuedBy()
		}
		return reason, by
	}
	ends := func(raw, want string) func() bool {
		return func() bool {
			p.ask("/x", raw, strict)
			reason, by := last()
			return reason == want && by == "partner"
		}
	}
	p.until("the partner's token is good", ends(partnerToken(t, first), "ok"))
	p.until("another's is not", ends(partnerToken(t, later), "token_signature"))
	put("secret", later)
	p.until("the new secret is in force", ends(partnerToken(t, later), "ok"))
	p.until("what was remembered is forgotten", ends(partnerToken(t, first), "token_signature"))
	p.end()
	if text := p.stderr.text.String(); !strings.Contains(text, "users of an issuer are not looked up") || strings.Contains(text, later) {
		t.Error(text)
	}
}

func TestFaultsOfTheFileOfIssuersAreToldWithAllOthers(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "issuers.yaml")
	if err := os.WriteFile(file, []byte("issuers:\n  - { name: own, algorithms: [HS256], keys: {}, profile: native }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "GATEWAY_ISSUERS_FILE="+file, "GATEWAY_LOG_LEVEL=loud")
	if code := <-p.ended; code != 2 {
		t.Errorf("it ended with %d", code)
	}
	text := p.stderr.text.String()
	for _, want := range []string{
		"GATEWAY_LOG_LEVEL", `GATEWAY_ISSUERS_FILE issuers.yaml:2: issuer "own": name: own is what our own issuer is called`, "keys: want exactly one",
	} {
		if !strings.Contains(strings.ReplaceAll(text, "FILE: ", "FILE "), want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}
