package config_test

import (
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/config"
)

func TestSettingsOfTLSGoTogether(t *testing.T) {
	for _, c := range []struct {
		name    string
		environ []string
		want    string // a part of the faults; empty: none
	}{
		{"all of them", []string{
			"GATEWAY_TLS_CERT_FILE=/a", "GATEWAY_TLS_KEY_FILE=/b", "GATEWAY_TLS_REDIRECT_LISTEN=:80",
			"GATEWAY_AUTHZ_TLS_CERT_FILE=/a", "GATEWAY_AUTHZ_TLS_KEY_FILE=/b", "GATEWAY_AUTHZ_TLS_CLIENT_CA_FILE=/c",
			"GATEWAY_ENVOY_AUTHZ_TLS_CA_FILE=/a", "GATEWAY_ENVOY_AUTHZ_TLS_CERT_FILE=/a", "GATEWAY_ENVOY_AUTHZ_TLS_KEY_FILE=/b", "GATEWAY_ENVOY_AUTHZ_TLS_SERVER_NAME=authz",
		}, ""},
		{"a certificate without its key", []string{"GATEWAY_TLS_CERT_FILE=/a"}, "GATEWAY_TLS_KEY_FILE: is not set, but GATEWAY_TLS_CERT_FILE is"},
		{"a key without its certificate", []string{"GATEWAY_AUTHZ_TLS_KEY_FILE=/a"}, "GATEWAY_AUTHZ_TLS_CERT_FILE: is not set, but GATEWAY_AUTHZ_TLS_KEY_FILE is"},
		{"a redirect to https that is not there", []string{"GATEWAY_TLS_REDIRECT_LISTEN=:80"}, "GATEWAY_TLS_CERT_FILE: is not set, but GATEWAY_TLS_REDIRECT_LISTEN is"},
		{"a CA of clients for nothing", []string{"GATEWAY_AUTHZ_TLS_CLIENT_CA_FILE=/a"}, "GATEWAY_AUTHZ_TLS_CERT_FILE: is not set"},
		{"a client that verifies nobody", []string{"GATEWAY_ENVOY_AUTHZ_TLS_CERT_FILE=/a", "GATEWAY_ENVOY_AUTHZ_TLS_KEY_FILE=/b"}, "GATEWAY_ENVOY_AUTHZ_TLS_CA_FILE: is not set"},
		{"a relative name", []string{"GATEWAY_TLS_CERT_FILE=a.pem", "GATEWAY_TLS_KEY_FILE=/b"}, `GATEWAY_TLS_CERT_FILE: "a.pem" is not the absolute name of a file`},
		{"a socket", []string{"GATEWAY_AUTHZ_LISTEN=unix:///run/a", "GATEWAY_ENVOY_AUTHZ_TLS_CA_FILE=/a"}, "GATEWAY_ENVOY_AUTHZ_TLS_CA_FILE: is set, but GATEWAY_AUTHZ_LISTEN is a unix socket"},
		{"a name with a port", []string{"GATEWAY_ENVOY_AUTHZ_TLS_CA_FILE=/a", "GATEWAY_ENVOY_AUTHZ_TLS_SERVER_NAME=a:1"}, "neither a name nor an IP address"},
		{"a heap too small to run in", []string{"GATEWAY_ENVOY_MAX_HEAP=63"}, "GATEWAY_ENVOY_MAX_HEAP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := config.Load(config.Source{Environ: c.environ}, config.NeedUp)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
