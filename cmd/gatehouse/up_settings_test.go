package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/config"
)

func TestSettingsThatAnEndedUpLeftInAShellAreKnown(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, upSettings)
	if err := os.WriteFile(file, []byte("GATEWAY_DATABASE_URL='postgres://postgres:x@127.0.0.1:1/atenex?sslmode=disable'\n"+
		"GATEWAY_INGEST_SERVICE_URL=http://127.0.0.1:2\nGATEWAY_QUERY_SERVICE_URL=http://127.0.0.1:3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(environ ...string) *config.Settings {
		s, _, err := config.Load(config.Source{Environ: environ}, config.NeedUp)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}

	refused := errors.New("connection refused")
	for url, known := range map[string]bool{
		"": false, "postgres://db.example/atenex": false, "postgres://postgres:x@127.0.0.1:1/atenex?sslmode=disable": true,
	} {
		err := (&upPlan{stateDir: dir, databaseURL: url}).stale(refused)
		if !errors.Is(err, refused) || strings.Contains(err.Error(), "unset $(cut -d= -f1 "+file+")") != known {
			t.Errorf("with the database %q: %v", url, err)
		}
	}
	if err := (&upPlan{stateDir: t.TempDir(), databaseURL: "postgres://db.example/atenex"}).stale(refused); err.Error() != refused.Error() {
		t.Errorf("without a file: %v", err)
	}

	left := load("GATEWAY_INGEST_SERVICE_URL=http://127.0.0.1:2", "GATEWAY_QUERY_SERVICE_URL=http://127.0.0.1:3")
	others := load("GATEWAY_INGEST_SERVICE_URL=http://127.0.0.1:2", "GATEWAY_QUERY_SERVICE_URL=http://127.0.0.1:4")
	if !demoUpstreams(load(), dir) || !demoUpstreams(left, dir) || demoUpstreams(others, dir) || demoUpstreams(left, t.TempDir()) {
		t.Error("the demo's upstreams of an earlier run are not told from others")
	}
}
