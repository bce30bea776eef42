package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/atenex/gatehouse/internal/atomicfile"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/devstack"
)

// upSettings is the file in the state directory that has the settings of what runs, for
// a shell beside it.
const upSettings = "gate.env"

// shared are the settings of a running `up` without which the operator's commands would
// ask another database, other keys or other ports.
func (p *upPlan) shared(at devstack.Ready) []string {
	entries := []string{
		"GATEWAY_DATABASE_URL=" + at.DatabaseURL,
		"GATEWAY_LISTEN=" + at.Gateway[strings.LastIndex(at.Gateway, "/")+1:],
		"GATEWAY_AUTHZ_LISTEN=" + at.AuthzGRPC,
		"GATEWAY_LOGIN_LISTEN=" + strings.TrimPrefix(at.Login, "http://"),
		"GATEWAY_AUTHZ_OPS_LISTEN=" + strings.TrimPrefix(at.AuthzOps, "http://"),
		"GATEWAY_LOGIN_OPS_LISTEN=" + strings.TrimPrefix(at.LoginOps, "http://"),
		"GATEWAY_ENVOY_ADMIN_LISTEN=" + strings.TrimPrefix(at.EnvoyAdmin, "http://"),
	}
	if p.ownUpstreams {
		entries = append(entries, "GATEWAY_INGEST_SERVICE_URL="+p.upstreams.Ingest, "GATEWAY_QUERY_SERVICE_URL="+p.upstreams.Query)
	}
	for _, name := range []string{"GATEWAY_JWT_SECRET", "GATEWAY_DECISION_LOG"} {
		if value, amended := p.amend[name]; amended {
			entries = append(entries, name+"="+value)
		}
	}
	// By which the parts are spoken to.
	t := p.settings.TLS
	for name, file := range map[string]string{
		"TLS_CERT_FILE": t.CertFile, "TLS_KEY_FILE": t.KeyFile,
		"AUTHZ_TLS_CERT_FILE": t.Authz.CertFile, "AUTHZ_TLS_KEY_FILE": t.Authz.KeyFile, "AUTHZ_TLS_CLIENT_CA_FILE": t.Authz.ClientCAFile,
		"ENVOY_AUTHZ_TLS_CA_FILE": t.ToAuthz.CAFile, "ENVOY_AUTHZ_TLS_SERVER_NAME": t.ToAuthz.ServerName,
		"ENVOY_AUTHZ_TLS_CERT_FILE": t.ToAuthz.CertFile, "ENVOY_AUTHZ_TLS_KEY_FILE": t.ToAuthz.KeyFile,
	} {
		if file != "" {
			entries = append(entries, "GATEWAY_"+name+"="+file)
		}
	}
	slices.Sort(entries)
	return entries
}

// share writes them where only the user that runs `up` can read them, and returns how to
// take them up, in words. What comes of it does not stop what runs.
func (in *invocation) share(p *upPlan, at devstack.Ready) string {
	file, err := filepath.Abs(filepath.Join(p.stateDir, upSettings))
	if err == nil {
		var text bytes.Buffer
		for _, entry := range p.shared(at) {
			name, value, _ := strings.Cut(entry, "=")
			fmt.Fprintf(&text, "%s=%s\n", name, shellQuoted(value))
		}
		err = atomicfile.Write(file, text.Bytes(), 0o600)
	}
	if err != nil {
		in.complain("warning: the settings of what runs are in no file: " + err.Error())
		return ""
	}
	return fmt.Sprintf("For the operator's command in another shell:\n\n  set -a; . %s; set +a\n\n", shellQuoted(file))
}

// stale explains a start that failed because the shell still has the settings that an
// ended `up` left, whose database is gone; other faults are returned as they are.
func (p *upPlan) stale(fault error) error {
	file, left := leftIn(p.stateDir)
	if fault == nil || p.databaseURL == "" || left == nil || left.Database.URL.Reveal() != p.databaseURL {
		return fault
	}
	return fmt.Errorf("%w\nThe settings are those of an earlier 'gatehouse up', from %s. If its database has ended with it, use another shell, or first: unset $(cut -d= -f1 %s)", fault, file, shellQuoted(file))
}

// leftIn returns the file of settings in a state directory, and what it says; nil: none
// that can be read.
func leftIn(stateDir string) (string, *config.Settings) {
	file, err := filepath.Abs(filepath.Join(stateDir, upSettings))
	if err != nil {
		return "", nil
	}
	left, err := config.Overlay(config.Source{}, file)
	if err != nil {
		return "", nil
	}
	s, _, err := config.Load(left, config.NeedUp)
	if err != nil {
		return "", nil
	}
	return file, s
}

// demoUpstreams is true where no upstream is configured, or those are that an earlier
// `up` made and named in its file, which ended with it.
func demoUpstreams(s *config.Settings, stateDir string) bool {
	if !s.IsSet("INGEST_SERVICE_URL") && !s.IsSet("QUERY_SERVICE_URL") {
		return true
	}
	_, left := leftIn(stateDir)
	return left != nil && left.IsSet("QUERY_SERVICE_URL") &&
		fmt.Sprint(s.Upstreams.Ingest, s.Upstreams.Query) == fmt.Sprint(left.Upstreams.Ingest, left.Upstreams.Query)
}

// shellQuoted is a text that a POSIX shell, and the reader of .env files, take as it is.
func shellQuoted(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:@%+=,", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
