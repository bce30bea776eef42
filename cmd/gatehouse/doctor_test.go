package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func TestDoctorTellsWhoIsOnAnAddress(t *testing.T) {
	page := func(path, body string) string {
		mux := http.NewServeMux()
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		return serveHTTP(t, mux)
	}
	const healthy = `{"status":"healthy","service":"Gatehouse","checks":{"database_connection":"ok"}}`
	unhealthy := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	silent := listen(t, "tcp", "127.0.0.1:0").Addr().String()
	serving := serveGRPC(t, "tcp", "127.0.0.1:0", grpc_health_v1.HealthCheckResponse_SERVING)
	notServing := serveGRPC(t, "tcp", "127.0.0.1:0", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	socket := serveGRPC(t, "unix", filepath.Join(t.TempDir(), "authz.sock"), grpc_health_v1.HealthCheckResponse_SERVING)

	tests := []struct {
		name    string
		setting string
		address string
		area    string
		want    mark
	}{
		{"our health page is ours", "GATEWAY_LISTEN", page("/health", healthy), "envoy", markOK},
		{"somebody else's health page is in the way", "GATEWAY_LISTEN", page("/health", `{"status":"UP"}`), "envoy", markFail},
		{"a service that is not healthy is reported", "GATEWAY_LOGIN_LISTEN", unhealthy, "login", markFail},
		{"a server without our pages is in the way", "GATEWAY_AUTHZ_OPS_LISTEN", page("/other", ""), "authz operations", markFail},
		{"readiness is asked for", "GATEWAY_LOGIN_OPS_LISTEN", page("/readyz", ""), "login operations", markOK},
		{"somebody who never answers is in the way", "GATEWAY_LOGIN_OPS_LISTEN", silent, "login operations", markFail},
		{"authz that serves answers over gRPC", "GATEWAY_AUTHZ_LISTEN", serving, "authz", markOK},
		{"and over a socket", "GATEWAY_AUTHZ_LISTEN", "unix://" + socket, "authz", markOK},
		{"authz that does not serve is reported", "GATEWAY_AUTHZ_LISTEN", notServing, "authz", markFail},
		{"an HTTP server in the place of authz is in the way", "GATEWAY_AUTHZ_LISTEN", page("/other", ""), "authz", markFail},
		{"a free port is free", "GATEWAY_LISTEN", "127.0.0.1:0", "envoy", markOK},
		{"an address that is not ours cannot be listened on", "GATEWAY_LISTEN", "192.0.2.1:0", "envoy", markFail},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// The last one counts.
			environ := append(elsewhereFree(), "GATEWAY_AUTHZ_OPS_LISTEN=127.0.0.1:0", tt.setting+"="+tt.address)
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), []string{"doctor", "--output", "json"}, environ, strings.NewReader(""), &stdout, &stderr)
			var got report
			if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
				t.Fatalf("%v: %s%s", err, stdout.String(), stderr.String())
			}
			found := false
			for _, f := range got.Findings {
				if f.Area != tt.area {
					continue
				}
				found = true
				if f.Status != tt.want {
					t.Errorf("%s is %q (%s), want %q", tt.area, f.Status, f.Detail, tt.want)
				}
			}
			if !found {
				t.Errorf("nothing is said of %s", tt.area)
			}
			if failed := code == exitFailed; failed != (tt.want == markFail) || got.OK == failed {
				t.Errorf("exit code %d and ok %t with %q", code, got.OK, tt.want)
			}
		})
	}
}

func TestDoctorLooksWhereUpRunsThings(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	ops := serveHTTP(t, mux)
	const elsewhere = "postgres://postgres@127.0.0.1:1/elsewhere"
	shared := "GATEWAY_AUTHZ_OPS_LISTEN=" + ops + "\nGATEWAY_DATABASE_URL=" + elsewhere + "\n"
	tests := []struct {
		name, file string
		environ    []string
		up, ops    finding
	}{
		{
			"no file", "", []string{"GATEWAY_AUTHZ_OPS_LISTEN=127.0.0.1:0"},
			finding{Status: markOK, Detail: "none runs"}, finding{Status: markOK, Detail: "is free"},
		},
		{
			"nobody runs any more at what a file says", "GATEWAY_AUTHZ_OPS_LISTEN=127.0.0.1:1\n", []string{"GATEWAY_AUTHZ_OPS_LISTEN=127.0.0.1:0"},
			finding{Status: markOK, Detail: "none runs"}, finding{Status: markOK, Detail: "is free"},
		},
		{
			"one runs, and the settings are others", shared, nil,
			finding{Status: markWarn, Detail: "take them up with: set -a; . "}, finding{Status: markOK, Detail: "answers on " + ops + ", of the 'gatehouse up' that runs"},
		},
		{
			"one runs, and its settings are taken up", shared, []string{"GATEWAY_DATABASE_URL=" + elsewhere, "GATEWAY_AUTHZ_OPS_LISTEN=" + ops},
			finding{Status: markOK, Detail: "runs, and these are its settings"}, finding{Status: markOK, Detail: "answers on " + ops},
		},
		{
			"an address that is set counts, whatever runs", shared, []string{"GATEWAY_AUTHZ_OPS_LISTEN=127.0.0.1:0"},
			finding{Status: markWarn, Detail: "take them up"}, finding{Status: markOK, Detail: "127.0.0.1:0 is free"},
		},
		{
			"a file that cannot be read", "GATEWAY_LISTEN='", []string{"GATEWAY_AUTHZ_OPS_LISTEN=127.0.0.1:0"},
			finding{Status: markWarn, Detail: "whether one runs is not known"}, finding{Status: markOK, Detail: "is free"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			state := t.TempDir()
			if tt.file != "" {
				if err := os.WriteFile(filepath.Join(state, upSettings), []byte(tt.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var stdout, stderr bytes.Buffer
			_ = run(t.Context(), []string{"doctor", "--output", "json", "--state-dir", state}, append(elsewhereFree(), tt.environ...), strings.NewReader(""), &stdout, &stderr)
			var got report
			if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
				t.Fatalf("%v: %s%s", err, stdout.String(), stderr.String())
			}
			for area, want := range map[string]finding{"gatehouse up": tt.up, "authz operations": tt.ops} {
				if !slices.ContainsFunc(got.Findings, func(f finding) bool {
					return f.Area == area && f.Status == want.Status && strings.Contains(f.Detail, want.Detail)
				}) {
					t.Errorf("%s: want %s %q in %s", area, want.Status, want.Detail, stdout.String())
				}
			}
		})
	}
}

// elsewhereFree keeps what else this machine runs out of it: port 0 is free anywhere.
func elsewhereFree() []string {
	return []string{
		"GATEWAY_LISTEN=127.0.0.1:0", "GATEWAY_ENVOY_ADMIN_LISTEN=127.0.0.1:0", "GATEWAY_AUTHZ_LISTEN=127.0.0.1:0",
		"GATEWAY_LOGIN_LISTEN=127.0.0.1:0", "GATEWAY_LOGIN_OPS_LISTEN=127.0.0.1:0",
	}
}

func serveHTTP(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func serveGRPC(t *testing.T, network, address string, status grpc_health_v1.HealthCheckResponse_ServingStatus) string {
	t.Helper()
	l := listen(t, network, address)
	server := grpc.NewServer()
	checks := health.NewServer()
	checks.SetServingStatus("", status)
	grpc_health_v1.RegisterHealthServer(server, checks)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return l.Addr().String()
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}
