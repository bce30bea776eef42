package envoy_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/routes"
)

//go:generate go test . -run ^TestEnvoyYAMLIsTheRenderingWithDefaults$ -update

var update = flag.Bool("update", false, "write envoy.yaml anew")

// defaultsHeader tells a reader of envoy.yaml which installation it shows.
const defaultsHeader = `#
# This file is the rendering with defaults: the table "prefix", authz at
# 127.0.0.1:9191, login at 127.0.0.1:8081, ingest at http://127.0.0.1:8001, query
# at http://127.0.0.1:8002, no auth service, browser origins localhost:3000-3009.
# To write it anew: go generate ./envoy
`

func TestEnvoyYAMLIsTheRenderingWithDefaults(t *testing.T) {
	table, err := routes.Load("prefix")
	if err != nil {
		t.Fatal(err)
	}
	b, err := envoy.Bootstrap(table, envoy.DefaultSettings())
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := envoy.YAML(b)
	if err != nil {
		t.Fatal(err)
	}
	// The comment goes between the header of every rendering and its first key.
	at := bytes.Index(rendered, []byte("\nadmin:")) + 1
	want := append(append(append([]byte{}, rendered[:at]...), defaultsHeader...), rendered[at:]...)
	if *update {
		if err := os.WriteFile("envoy.yaml", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("envoy.yaml is not the rendering with defaults: run go generate ./envoy")
	}
}
