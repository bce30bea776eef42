package monitoring

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// prometheus is a real one, with our rules.
type prometheus struct{ url string }

func startPrometheus(t *testing.T, g *gate) *prometheus {
	t.Helper()
	dir := t.TempDir()
	rulesPath, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	job := func(name, at, path string) string {
		return fmt.Sprintf("  - job_name: %s\n    metrics_path: %s\n    static_configs: [ { targets: [%q], labels: { namespace: test } } ]\n",
			name, path, strings.TrimPrefix(at, "http://"))
	}
	config := "global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }\nrule_files: [" + rulesPath + "]\nscrape_configs:\n" +
		job("gatehouse-authz", g.AuthzOps, "/metrics") + job("gatehouse-login", g.LoginOps, "/metrics") + job("gatehouse-envoy", g.EnvoyAdmin, "/stats/prometheus")
	file := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	_ = l.Close()
	start(t, exec.Command("prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+at, "--log.level=warn"))
	p := &prometheus{url: "http://" + at}
	eventually(t, "Prometheus is ready", func() bool {
		resp, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return p
}

// start runs a program until the test ends.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = out
	if cmd.Stdout == nil {
		cmd.Stdout = out
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			t.Errorf("%s did not stop", cmd.Path)
		}
		_ = out.Close()
		if text, err := os.ReadFile(log); t.Failed() && err == nil {
			t.Logf("%s said:\n%s", filepath.Base(cmd.Path), text[max(0, len(text)-2000):])
		}
	})
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %s", patience, what)
		case <-tick.C:
		}
	}
}

func (p *prometheus) get(t *testing.T, path string, values url.Values, into any) {
	t.Helper()
	resp, err := http.Get(p.url + "/api/v1/" + path + "?" + values.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: into}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if answer.Status != "success" {
		t.Errorf("%s %s: %s", path, values.Get("query"), answer.Error)
	}
}

// query is what an expression gives now.
func (p *prometheus) query(t *testing.T, expr string) (all []sample) {
	t.Helper()
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	p.get(t, "query", url.Values{"query": {expr}}, &data)
	for _, r := range data.Result {
		text, _ := r.Value[1].(string)
		all = append(all, sample{r.Metric, number(t, text)})
	}
	return all
}

// series are those of a selector, by their labels.
func (p *prometheus) series(t *testing.T, selector string) (all []map[string]string) {
	t.Helper()
	p.get(t, "series", url.Values{"match[]": {selector}}, &all)
	return all
}

func (p *prometheus) waitFor(t *testing.T, expr string) {
	t.Helper()
	eventually(t, expr, func() bool { return len(p.query(t, expr)) > 0 })
}

// rules are the loaded ones by name, with their health once they were evaluated.
func (p *prometheus) rules(t *testing.T) map[string]string {
	t.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	all := map[string]string{}
	eventually(t, "every rule is evaluated", func() bool {
		p.get(t, "rules", nil, &data)
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				if r.Health == "unknown" {
					return false
				}
				all[r.Name] = strings.TrimSpace(r.Health + " " + r.LastError)
			}
		}
		return true
	})
	if want := len(rules(t)); len(all) != want {
		t.Errorf("Prometheus has %d rules, want %d", len(all), want)
	}
	return all
}

func (p *prometheus) firing(t *testing.T) (names []string) {
	t.Helper()
	for _, s := range p.query(t, `ALERTS{alertstate="firing"}`) {
		names = append(names, s.labels["alertname"])
	}
	return names
}
