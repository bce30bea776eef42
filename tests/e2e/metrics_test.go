package e2e

import (
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// printedMetric is one of the page, or one that is printed.
type printedMetric struct {
	kind string
	// labels are the values that each has; none for one whose values are open.
	labels map[string][]string
}

// scrape returns what is printed in a format.
func scrape(t testing.TB, base, format string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/metrics", nil)
	if strings.HasSuffix(base, "/stats") {
		r, err = http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/prometheus", nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", format)
	a, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Body.Close() }()
	body, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", r.URL, a.Status, err)
	}
	return string(body)
}

var (
	typeLine   = regexp.MustCompile(`^# TYPE (\w+) (\w+)$`)
	sampleLine = regexp.MustCompile(`^(\w+)(?:\{(.*)\})? `)
	labelPair  = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
	histogram  = regexp.MustCompile(`_(bucket|sum|count)$`)
)

func printed(text string) map[string]printedMetric {
	out := map[string]printedMetric{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := typeLine.FindStringSubmatch(line); m != nil {
			out[m[1]] = printedMetric{kind: m[2], labels: map[string][]string{}}
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil || line[0] == '#' {
			continue
		}
		of, known := out[m[1]]
		if !known {
			of = out[histogram.ReplaceAllString(m[1], "")]
		}
		for _, pair := range labelPair.FindAllStringSubmatch(m[2], -1) {
			if pair[1] != "le" && !slices.Contains(of.labels[pair[1]], pair[2]) {
				of.labels[pair[1]] = append(of.labels[pair[1]], pair[2])
			}
		}
	}
	return out
}

// page is docs/metrics.md by chapter and name.
func page(t testing.TB) map[string]map[string]printedMetric {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]printedMetric{}
	chapter := ""
	for line := range strings.Lines(string(text)) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			chapter = strings.TrimSpace(title)
			out[chapter] = map[string]printedMetric{}
		}
		cells := strings.Split(line, "|")
		if len(cells) < 6 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		m := printedMetric{kind: strings.TrimSpace(cells[2]), labels: map[string][]string{}}
		for part := range strings.SplitSeq(cells[4], ";") {
			name, values, closed := strings.Cut(strings.TrimSpace(part), ":")
			if name = strings.Trim(name, "`"); name == "" {
				continue
			}
			m.labels[name] = nil
			if closed {
				for v := range strings.SplitSeq(values, ",") {
					m.labels[name] = append(m.labels[name], strings.TrimSpace(v))
				}
			}
		}
		out[chapter][strings.Trim(cells[1], " `")] = m
	}
	return out
}

// TestTheMetricsPageIsWhatRunningServicesPrint holds docs/metrics.md to the gate,
// both ways: names, types, labels, and the values of labels that are closed sets,
// all of which have to be there before anything has happened to them.
func TestTheMetricsPageIsWhatRunningServicesPrint(t *testing.T) {
	s := commons().in(t)
	said := page(t)
	for service, base := range map[string]string{"authz": s.authzOps, "login": s.loginOps} {
		got := printed(scrape(t, base, "text/plain"))
		want := maps.Clone(said["authz and login"])
		maps.Copy(want, said[service])
		for name := range got {
			if !strings.HasPrefix(name, "gatehouse_") {
				if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") && !strings.HasPrefix(name, "promhttp_") {
					t.Errorf("%s prints %s, which is neither ours nor Go's", service, name)
				}
				continue
			}
			if _, ok := want[name]; !ok {
				t.Errorf("%s prints %s, which the page has not", service, name)
			}
		}
		for name, m := range want {
			compare(t, service, name, m, got)
		}
		for _, name := range []string{"process_resident_memory_bytes", "process_open_fds", "process_max_fds", "go_goroutines", "go_gc_duration_seconds"} {
			if _, ok := got[name]; !ok {
				t.Errorf("%s does not print %s", service, name)
			}
		}
	}

	// Some of Envoy's are there once they have been needed.
	s.get(strictRoute, nil)
	s.get(strictRoute, bearer(token(t, claimsOf(s.newMember()))))
	s.get("/health", nil)
	got := printed(scrape(t, "http://"+s.settings["GATEWAY_ENVOY_ADMIN_LISTEN"]+"/stats", "text/plain"))
	for name, m := range said["Envoy"] {
		compare(t, "Envoy", name, m, got)
	}
	if len(said["Envoy"]) < 20 {
		t.Errorf("the page has %d metrics of Envoy", len(said["Envoy"]))
	}
}

func compare(t *testing.T, service, name string, want printedMetric, got map[string]printedMetric) {
	t.Helper()
	is, ok := got[name]
	if !ok {
		t.Errorf("%s does not print %s, which the page has", service, name)
		return
	}
	if is.kind != want.kind {
		t.Errorf("%s is a %s, and on the page a %s", name, is.kind, want.kind)
	}
	if have, want := slices.Sorted(maps.Keys(is.labels)), slices.Sorted(maps.Keys(want.labels)); !slices.Equal(have, want) && !(name == "gatehouse_authz_tokens_verified_total" && len(have) == 0) {
		t.Errorf("%s of %s has the labels %q, and on the page %q", name, service, have, want)
	}
	for label, values := range want.labels {
		slices.Sort(is.labels[label])
		if values != nil && !slices.Equal(is.labels[label], values) {
			t.Errorf("%s of %s has %s %q, and on the page %q", name, service, label, is.labels[label], values)
		}
	}
}

// TestTheMetricsPageHasThoseOfEverySetting reads the names out of the source: some
// are printed only with a setting.
func TestTheMetricsPageHasThoseOfEverySetting(t *testing.T) {
	t.Parallel()
	said := page(t)
	all := map[string]bool{}
	for _, chapter := range said {
		for name := range chapter {
			all[name] = true
		}
	}
	whole := regexp.MustCompile(`"(gatehouse_[a-z_]*[a-z])"`)
	found := map[string]bool{}
	for _, room := range []string{"authz", "login", "internal", "cmd"} {
		err := filepath.WalkDir("../../"+room, func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil || !strings.Contains(string(text), "prometheus") {
				return err
			}
			for _, m := range whole.FindAllStringSubmatch(string(text), -1) {
				found[m[1]] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(found) < 20 {
		t.Errorf("only %d names were found", len(found))
	}
	for name := range found {
		if !all[name] {
			t.Errorf("%s is made somewhere, and not on the page", name)
		}
	}
	for name := range said["Only with a setting"] {
		if !found[name] {
			t.Errorf("%s is on the page, and made nowhere", name)
		}
	}
}
