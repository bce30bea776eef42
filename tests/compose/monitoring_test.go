package compose

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// prometheus answers one call of its API.
func (s *stack) prometheus(t *testing.T, path string, into any) {
	t.Helper()
	resp, err := http.Get(s.monitor + "/api/v1/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s (%v)", path, resp.StatusCode, text, err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

func (s *stack) prometheusSeesAll(t *testing.T) {
	s.compose(t, "up", "--wait", "--no-recreate", "prometheus")
	want := []string{"gatehouse-authz up", "gatehouse-authz up", "gatehouse-envoy up", "gatehouse-login up"}
	var got []string
	eventually(t, "all targets are up", func() bool {
		var targets struct {
			Data struct {
				ActiveTargets []struct {
					Labels struct{ Job string }
					Health string
				}
			}
		}
		s.prometheus(t, "targets?state=active", &targets)
		got = nil
		for _, target := range targets.Data.ActiveTargets {
			got = append(got, target.Labels.Job+" "+target.Health)
		}
		slices.Sort(got)
		return slices.Equal(got, want)
	})
	file, err := os.ReadFile(filepath.Join(root, "helm", "gatehouse", "rules", "gatehouse.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	inFile := len(regexp.MustCompile(`(?m)^ +- (alert|record):`).FindAll(file, -1))
	eventually(t, "the rules are loaded and can be evaluated", func() bool {
		var rules struct {
			Data struct {
				Groups []struct {
					Rules []struct{ Name, Health, LastError string }
				}
			}
		}
		s.prometheus(t, "rules", &rules)
		well := 0
		for _, g := range rules.Data.Groups {
			for _, r := range g.Rules {
				if r.Health == "err" {
					t.Fatalf("%s: %s", r.Name, r.LastError)
				}
				if r.Health == "ok" {
					well++
				}
			}
		}
		return inFile > 0 && well == inFile
	})
}

func (s *stack) bothAreAsked(t *testing.T) {
	token := s.signIn(t)
	eventually(t, "two replicas have counted checks", func() bool {
		for range 20 {
			if a := s.asks(t, http.MethodGet, "/api/v1/query/hello", token, ""); a.status != http.StatusOK {
				t.Fatalf("the call: %s", a)
			}
		}
		var result struct {
			Data struct {
				Result []struct {
					Metric map[string]string
					Value  []any
				}
			}
		}
		s.prometheus(t, "query?query="+url.QueryEscape(`sum by (instance) (gatehouse_authz_decisions_total{decision="allow",route="query"}) > 20`), &result)
		return len(result.Data.Result) == 2
	})
}

// grafana is looked at where its image can be had.
func (s *stack) grafana(t *testing.T) {
	image := strings.TrimSpace(s.compose(t, "--profile", "monitoring", "config", "--images", "grafana"))
	if i := slices.IndexFunc(strings.Fields(image), func(name string) bool { return strings.Contains(name, "grafana/") }); i >= 0 {
		image = strings.Fields(image)[i]
	}
	if _, err := s.tryDocker("image", "inspect", image); err != nil {
		if _, err := s.tryDocker("pull", "-q", image); err != nil {
			t.Skipf("NOT TESTED: %s cannot be had here", image)
		}
	}
	s.compose(t, "up", "--wait", "--no-recreate", "grafana")
	at := ""
	for _, entry := range s.environ {
		if value, ok := strings.CutPrefix(entry, "GATEHOUSE_GRAFANA="); ok {
			at = "http://" + value
		}
	}
	for _, path := range []string{"/api/dashboards/uid/gatehouse", "/api/datasources/uid/prometheus/health"} {
		resp, err := http.Get(at + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}
