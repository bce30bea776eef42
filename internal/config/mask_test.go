package config_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/config"
)

func TestASecretPrintsRedacted(t *testing.T) {
	type holder struct {
		Shown  config.Secret
		hidden config.Secret // read by fmt, through reflection
	}
	secret := config.NewSecret(testSecret)
	for _, value := range []any{secret, &secret} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%10.3s"} {
			if got := fmt.Sprintf(verb, value); got != "[redacted]" {
				t.Errorf("%s of %T: %s, want [redacted]", verb, value, got)
			}
		}
	}
	if got := fmt.Sprintf("%+v %#v", holder{secret, secret}, []any{holder{secret, secret}}); strings.Contains(got, testSecret) {
		t.Errorf("inside a struct: %s", got)
	}
	asJSON, err := json.Marshal(map[string]any{"a": secret, "b": []config.Secret{secret}, "c": holder{Shown: secret}})
	if want := `{"a":"[redacted]","b":["[redacted]"],"c":{"Shown":"[redacted]"}}`; err != nil || string(asJSON) != want {
		t.Errorf("JSON %s, %v, want %s", asJSON, err, want)
	}
	asXML, err := xml.Marshal(holder{Shown: secret})
	if want := `<holder><Shown>[redacted]</Shown></holder>`; err != nil || string(asXML) != want {
		t.Errorf("XML %s, %v, want %s", asXML, err, want)
	}
	for _, out := range logs(slog.Any("a", secret), slog.Any("b", &secret), slog.Any("c", holder{secret, secret})) {
		if strings.Contains(out, testSecret) || !strings.Contains(out, "[redacted]") {
			t.Errorf("log line %s", out)
		}
	}
	if got := secret.Reveal(); got != testSecret {
		t.Errorf("Reveal gives %q", got)
	}
	if none := config.NewSecret(""); !none.IsZero() || none.Reveal() != "" || secret.IsZero() {
		t.Error("the empty secret is not the zero one")
	}
}

// logs is the attributes as both handlers write them.
func logs(attrs ...slog.Attr) []string {
	var asJSON, asText bytes.Buffer
	slog.New(slog.NewJSONHandler(&asJSON, nil)).LogAttrs(context.Background(), slog.LevelInfo, "m", attrs...)
	slog.New(slog.NewTextHandler(&asText, nil)).LogAttrs(context.Background(), slog.LevelInfo, "m", attrs...)
	return []string{asJSON.String(), asText.String()}
}

// spellings is every way in which settings are likely to be printed.
func spellings(t *testing.T, s *config.Settings) []string {
	t.Helper()
	asJSON, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	hidden := struct{ s config.Settings }{*s}
	out := []string{
		s.Masked(), string(asJSON),
		fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", *s), fmt.Sprintf("%+v", hidden),
		fmt.Sprintf("%+v %#v", s.Tokens, s.Tokens), fmt.Sprintf("%+v %#v", s.Database, s.Database),
	}
	return append(out, logs(slog.Any("settings", s), slog.Any("copy", *s), slog.Any("tokens", s.Tokens))...)
}

func TestTheStartLogLine(t *testing.T) {
	s, _ := mustLoad(t, config.Source{Environ: complete(
		"GATEWAY_POSTGRES_PASSWORD=test-word", "GATEWAY_SUPABASE_URL=https://p.example", "GATEWAY_LOGIN_THROTTLE=off")}, needAll)
	out := s.Masked()
	for _, want := range []string{
		`GATEWAY_PROJECT_NAME="Gatehouse"`, `GATEWAY_JWT_SECRET="[redacted]"`, `GATEWAY_JWT_ALGORITHM="HS256"`,
		`GATEWAY_DATABASE_URL="postgres://postgres:[redacted]@localhost:5432/atenex?sslmode=prefer"`,
		`GATEWAY_POSTGRES_PASSWORD="[redacted]"`, `GATEWAY_TOKEN_PROFILE="supabase"`, `GATEWAY_COMPANY_CHECK="off"`,
		`GATEWAY_JWT_AUDIENCE="authenticated"`, `GATEWAY_LOGIN_THROTTLE="off"`, `GATEWAY_INGEST_SERVICE_URL="http://ingest:8000"`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("settings %s\nwant %s", out, want)
		}
	}
	for _, not := range []string{"JWT_PRIVATE_KEY", "AUTH_SERVICE_URL", "JWT_ISSUER"} {
		if strings.Contains(out, not) {
			t.Errorf("settings %s\nshow %s, which is not set", out, not)
		}
	}
	if got := logs(slog.Any("settings", s))[0]; !strings.Contains(got, `"settings":{"GATEWAY_PROJECT_NAME":"Gatehouse",`) {
		t.Errorf("log line %s, want the settings as a group", got)
	}
	for _, text := range spellings(t, s) {
		if strings.Contains(text, testSecret) || strings.Contains(text, "test-word") {
			t.Errorf("%s shows a secret", text)
		}
	}
}

// Whatever surrounds a secret, wherever it is given, and whatever else is wrong:
// the secret is not in a fault, a warning, or the settings as printed.
func FuzzNoSecretIsPrinted(f *testing.F) {
	const (
		marker     = "Zq7hunter7qZ"
		entryKinds = 34 // below: what is given alone
	)
	for _, seed := range [][3]string{
		{"", "", ""}, {"a long beginning, longer than 32 bytes", "", "DEBUG"}, {" ", "\n", "x"}, {"'", "", "$A"},
		{"\"", "$B", "é"}, {"-----BEGIN PRIVATE KEY-----\n", "\n-----END PRIVATE KEY-----", "ES256"},
		{"1/", "", "true"}, {"1?a=", "", "HS512"}, {"1#", "", "RS256"}, {"%", "%41", "off"}, {"@", ":", "\x00"},
		{"1?application_name=", "", "unix:///x"}, {placeholder, "", "supabase"},
	} {
		for which := range uint8(entryKinds) {
			f.Add(seed[0], seed[1], seed[2], which)
		}
	}
	secrets := []string{"JWT_SECRET", "JWT_PRIVATE_KEY", "POSTGRES_PASSWORD", "JWT_KEYS", "SUPABASE_SERVICE_ROLE_KEY"}
	urls := []string{"INGEST_SERVICE_URL", "AUTH_SERVICE_URL", "SUPABASE_URL", "NGROK_URL", "VERCEL_FRONTEND_URL", "CORS_ALLOWED_ORIGINS", "JWT_JWKS_URL"}
	dir := f.TempDir()

	f.Fuzz(func(t *testing.T, before, after, other string, which uint8) {
		secret := before + marker + after
		raw := "://u:" + secret + "@host/x"
		escaped := "://u:" + url.QueryEscape(secret) + "@host:5432/x"
		inQuery := "://u@host/x?password=" + url.QueryEscape(secret)

		var entries []string
		for _, name := range secrets {
			entries = append(entries, "GATEWAY_"+name+"="+secret, "GATEWAY_"+name+"_FILE="+secret)
		}
		for _, tail := range []string{raw, escaped, inQuery} {
			entries = append(entries, "GATEWAY_DATABASE_URL=postgres"+tail)
			for _, name := range urls {
				entries = append(entries, "GATEWAY_"+name+"=https"+tail)
			}
		}
		others := []string{"GATEWAY_JWT_ALLOW_SHORT_SECRET=true", "GATEWAY_JWT_ALGORITHM=" + other, "GATEWAY_LOG_LEVEL=" + other}

		if len(entries) != entryKinds {
			t.Fatalf("%d entries, want %d", len(entries), entryKinds)
		}

		// One alone, so that many are accepted and printed; all at once; and
		// through .env.
		judge := func(environ []string, dir string) {
			t.Helper()
			for _, need := range []config.Need{config.NeedDatabase, config.NeedUp} {
				s, warnings, err := config.Load(config.Source{Environ: environ, Dir: dir}, need)
				texts := append([]string{fmt.Sprintf("%v %+v %#v", err, err, err)}, warnings...)
				if err == nil {
					texts = append(texts, spellings(t, s)...)
				} else if faults, ok := errors.AsType[config.Faults](err); !ok || strings.Count(err.Error(), "\n")+1 != len(faults) {
					t.Fatalf("not one line for each of %d faults: %v", len(faults), err)
				}
				for _, text := range texts {
					if strings.Contains(text, marker) {
						t.Fatalf("%q\nshows the secret of %q", text, environ)
					}
				}
			}
		}
		entry := entries[int(which)%entryKinds]
		judge([]string{entry, others[0]}, "")
		judge(append(entries, others...), "")
		if !strings.ContainsAny(secret, "\r\n") {
			for _, lines := range []string{entry, "export " + entry + "\nnonsense"} {
				if err := os.WriteFile(filepath.Join(dir, ".env"), []byte(others[0]+"\n"+lines+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				judge(nil, dir)
			}
		}
	})
}
