package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/config"
)

// What a file of changes says counts over all else, and the rest stays as it is.
func TestAnOverlayChangesWhatItNames(t *testing.T) {
	secret := strings.Repeat("test-secret-", 4)
	for _, c := range []struct {
		name, dotenv, overlay string
		environ               []string
		judge                 func(*config.Settings) bool
	}{
		{"over the environment", "", "GATEWAY_JWT_AUDIENCE=new", []string{"GATEWAY_JWT_AUDIENCE=old", "GATEWAY_JWT_ISSUER=kept"},
			func(s *config.Settings) bool { return s.Tokens.Audience == "new" && s.Tokens.Issuer == "kept" }},
		{"over .env", "GATEWAY_JWT_AUDIENCE=old\nGATEWAY_JWT_ISSUER=kept\n", "export GATEWAY_JWT_AUDIENCE='new'", nil,
			func(s *config.Settings) bool { return s.Tokens.Audience == "new" && s.Tokens.Issuer == "kept" }},
		{"a name that is left empty is unset", "GATEWAY_JWT_AUDIENCE=old\n", "GATEWAY_JWT_AUDIENCE=", nil,
			func(s *config.Settings) bool { return s.Tokens.Audience == "" && !s.IsSet("JWT_AUDIENCE") }},
		{"a value in the place of a file", "", "GATEWAY_JWT_SECRET=another-" + secret, []string{"GATEWAY_JWT_SECRET_FILE=missing"},
			func(s *config.Settings) bool { return s.Tokens.Secret.Reveal() == "another-"+secret }},
		{"a file in the place of a value", "", "GATEWAY_JWT_SECRET_FILE=kept", []string{"GATEWAY_JWT_SECRET=old-" + secret},
			func(s *config.Settings) bool { return s.Tokens.Secret.Reveal() == "from-a-file-"+secret }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{".env": c.dotenv, "new.env": c.overlay, "kept": "from-a-file-" + secret} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			environ := append([]string{"GATEWAY_JWT_SECRET=" + secret}, c.environ...)
			if strings.Contains(strings.Join(c.environ, " "), "_FILE=") {
				environ = c.environ
			}
			src, err := config.Overlay(config.Source{Environ: environ, Dir: dir}, filepath.Join(dir, "new.env"))
			if err != nil {
				t.Fatal(err)
			}
			s, warnings, err := config.Load(src, config.NeedVerify)
			if err != nil || len(warnings) > 0 && !strings.Contains(warnings[0], "kid") {
				t.Fatalf("%v %q", err, warnings)
			}
			if !c.judge(s) {
				t.Errorf("%v", s)
			}
		})
	}
}

func TestAnOverlayThatCannotBeReadIsAFaultUnderItsName(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new.env")
	for _, c := range []struct{ text, want string }{
		{"", "names a file that cannot be read: no such file or directory"},
		{"GATEWAY_JWT_SECRET='test-secret", "cannot be parsed from line 1 on"},
		{"GATEWAY_JWT_SECRET=test$SECRET", "the value of GATEWAY_JWT_SECRET refers with $"},
	} {
		if c.text != "" {
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := config.Overlay(config.Source{}, file)
		faults, ok := errors.AsType[config.Faults](err)
		if !ok || faults[0].Setting != file || !strings.Contains(strings.Replace(faults[0].Problem, "is a file", "names a file", 1), c.want) || strings.Contains(err.Error(), "test-secret") {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}

func TestAnOverlayWithAMisspeltNameIsWarnedAbout(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new.env")
	if err := os.WriteFile(file, []byte("GATEWAY_JWT_AUDIENC=x\nOTHER=y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := config.Overlay(config.Source{}, file)
	if err != nil {
		t.Fatal(err)
	}
	_, warnings, err := config.Load(src, config.NeedUp)
	if err != nil || !strings.Contains(strings.Join(warnings, "\n"), "GATEWAY_JWT_AUDIENC") {
		t.Errorf("%q %v", warnings, err)
	}
}
