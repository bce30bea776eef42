package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestUpServesHTTPSAndTrustsItsPartsByCertificate has a certificate for a name that
// leads nowhere, as one of production does on a developer's machine.
func TestUpServesHTTPSAndTrustsItsPartsByCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	first := writeCertificate(t, dir, "edge", "*.gate.example")
	writeCertificate(t, dir, "authz")
	writeCertificate(t, dir, "envoy")
	u := up(t, map[string]string{
		"GATEWAY_TLS_CERT_FILE": at("edge.crt"), "GATEWAY_TLS_KEY_FILE": at("edge.key"), "GATEWAY_TLS_REDIRECT_LISTEN": "127.0.0.1:0",
		"GATEWAY_AUTHZ_TLS_CERT_FILE": at("authz.crt"), "GATEWAY_AUTHZ_TLS_KEY_FILE": at("authz.key"), "GATEWAY_AUTHZ_TLS_CLIENT_CA_FILE": at("envoy.crt"),
		"GATEWAY_ENVOY_AUTHZ_TLS_CA_FILE": at("authz.crt"), "GATEWAY_ENVOY_AUTHZ_TLS_CERT_FILE": at("envoy.crt"), "GATEWAY_ENVOY_AUTHZ_TLS_KEY_FILE": at("envoy.key"),
	}, "--state-dir", t.TempDir(), "--listen", "127.0.0.1:0")
	r := u.ready()
	address, secure := strings.CutPrefix(r.Gateway, "https://127.0.0.1:")
	if !secure {
		t.Fatalf("gateway = %s, want https:// on loopback", r.Gateway)
	}
	address = "127.0.0.1:" + address

	// The printed lines work as they are printed.
	var lines []string
	eventually(t, "the curl lines are printed", func() error {
		if lines = regexp.MustCompile(`(?m)^  curl .*$`).FindAllString(u.stdout.String(), -1); len(lines) != 2 {
			return fmt.Errorf("%d lines", len(lines))
		}
		return nil
	})
	said := func(line string) map[string]any {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput()
		var answer map[string]any
		if err != nil || json.Unmarshal(out, &answer) != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
		return answer
	}
	login := said(lines[0])
	echo, err := json.Marshal(said(lines[1]))
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := login["user_id"].(string); id == "" || !bytes.Contains(echo, []byte(id)) || bytes.Contains(echo, []byte("forged")) {
		t.Errorf("the demo upstream got %s from %v", echo, login["user_id"])
	}

	// So does the file of settings for a shell beside it.
	file := regexp.MustCompile(`set -a; \. \S+; set \+a`).FindString(u.stdout.String())
	beside := exec.CommandContext(t.Context(), "sh", "-c", file+`; "$0" doctor --running`, filepath.Join(binaries, "gatehouse"))
	beside.Dir = t.TempDir()
	found, _ := beside.CombinedOutput() // what else it finds on this machine is not of interest
	for _, want := range []string{`ok +envoy +answers on ` + regexp.QuoteMeta(address), `ok +authz +answers on ` + regexp.QuoteMeta(r.AuthzGRPC)} {
		if !regexp.MustCompile(want).Match(found) {
			t.Errorf("doctor beside it says nothing like %s:\n%s", want, found)
		}
	}

	// Who has no certificate of the other's is nobody to authz.
	stranger, err := tls.Dial("tcp", r.AuthzGRPC, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err == nil {
		_ = stranger.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err = stranger.Read(make([]byte, 1))
		stranger.Close()
	}
	if alert := tls.AlertError(0); !errors.As(err, &alert) && (err == nil || !strings.Contains(err.Error(), "certificate")) {
		t.Errorf("authz says %v to a client without a certificate, want an alert", err)
	}

	// A renewed certificate is taken up, and no request is lost meanwhile.
	var shown *x509.Certificate
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true,
		VerifyConnection: func(c tls.ConnectionState) error {
			shown = c.PeerCertificates[0]
			return nil
		},
	}}}
	ask := func() error {
		a, err := client.Get("https://" + address + "/api/v1/query/hello")
		if err != nil {
			return err
		}
		defer a.Body.Close()
		if a.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("%s, want authz' 401", a.Status)
		}
		_, err = io.Copy(io.Discard, a.Body)
		return err
	}
	if err := ask(); err != nil || !shown.Equal(first) {
		t.Errorf("at first: %v", err)
	}
	second := writeCertificate(t, dir, "edge", "*.gate.example")
	eventually(t, "the new certificate is shown", func() error {
		if err := ask(); err != nil {
			t.Errorf("a request was lost: %v", err)
		}
		if !shown.Equal(second) {
			return errors.New("still the old one")
		}
		return nil
	})
	u.signal(syscall.SIGTERM)
	if code := u.ended(20 * time.Second); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestUpRefusesCertificatesThatCannotWork(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	writeCertificate(t, dir, "one")
	writeCertificate(t, dir, "other")
	if err := os.WriteFile(at("empty.crt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name     string
		settings map[string]string
		want     []string
	}{
		{"files that are not there", map[string]string{"GATEWAY_TLS_CERT_FILE": at("none.crt"), "GATEWAY_TLS_KEY_FILE": at("none.key")}, []string{"GATEWAY_TLS_CERT_FILE: open "}},
		{"a key of another certificate", map[string]string{"GATEWAY_TLS_CERT_FILE": at("one.crt"), "GATEWAY_TLS_KEY_FILE": at("other.key")}, []string{"GATEWAY_TLS_CERT_FILE: tls: private key does not match"}},
		{
			"one side alone",
			map[string]string{"GATEWAY_AUTHZ_TLS_CERT_FILE": at("one.crt"), "GATEWAY_AUTHZ_TLS_KEY_FILE": at("one.key"), "GATEWAY_AUTHZ_TLS_CLIENT_CA_FILE": at("empty.crt")},
			[]string{"GATEWAY_ENVOY_AUTHZ_TLS_CA_FILE: is not set, but GATEWAY_AUTHZ_TLS_CERT_FILE is", "GATEWAY_ENVOY_AUTHZ_TLS_CERT_FILE: is not set", "GATEWAY_AUTHZ_TLS_CLIENT_CA_FILE: " + at("empty.crt") + " holds no certificate"},
		},
		{"the other side alone", map[string]string{"GATEWAY_ENVOY_AUTHZ_TLS_CA_FILE": at("one.crt")}, []string{"GATEWAY_AUTHZ_TLS_CERT_FILE: is not set"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := up(t, test.settings, "--state-dir", t.TempDir(), "--listen", "127.0.0.1:0")
			if code := u.ended(20 * time.Second); code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			for _, want := range test.want {
				if !strings.Contains(u.stderr.String(), want) {
					t.Errorf("no %q in: %s", want, u.stderr.String())
				}
			}
		})
	}
}
