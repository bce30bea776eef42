package monitoring

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestEveryQueryFindsWhatItNames runs the whole gate with every feature that
// measures something, puts load on it, has a real Prometheus scrape it with our
// rules, and asks for all that the rules and the dashboard name.
func TestEveryQueryFindsWhatItNames(t *testing.T) {
	if os.Getenv("GATEHOUSE_MONITORING") == "" {
		t.Skip("needs Prometheus: make check-monitoring")
	}
	gate := startGate(t)
	stop := gate.load(t)
	p := startPrometheus(t, gate)
	// Two scrapes of everything, so that rates have something to rise from, and
	// load in between.
	p.waitFor(t, `min(count_over_time(up[1m])) >= 8 and count(up == 1) == 3 and sum(rate(gatehouse_authz_decisions_total[10s])) > 5`)
	stop()

	t.Run("rules", func(t *testing.T) { checkRules(t, p) })
	t.Run("dashboard", func(t *testing.T) { checkDashboard(t, p) })
}

func checkRules(t *testing.T, p *prometheus) {
	for _, r := range rules(t) {
		name := r.Alert + r.Record
		labels := map[string]bool{}
		for _, s := range selectors(r.Expr) {
			found := p.series(t, s)
			if len(found) == 0 {
				t.Errorf("%s: no series is %s", name, s)
			}
			for _, one := range found {
				for label := range one {
					labels[label] = true
				}
			}
		}
		by := groups(r.Expr)
		for _, label := range by {
			if len(selectors(r.Expr)) > 0 && !labels[label] {
				t.Errorf("%s: none of its series has a label %s", name, label)
			}
		}
		// What a text shows must be left after grouping.
		for _, text := range r.Annotations {
			for _, m := range inText.FindAllStringSubmatch(text, -1) {
				if !labels[m[1]] && len(selectors(r.Expr)) > 0 || strings.Contains(r.Expr, "by (") && !slices.Contains(by, m[1]) {
					t.Errorf("%s: the text shows label %s, which the alert does not have", name, m[1])
				}
			}
		}
	}
	for name, health := range p.rules(t) {
		if health != "ok" {
			t.Errorf("rule %s: %s", name, health)
		}
	}
	for _, name := range p.firing(t) {
		t.Errorf("%s fires on a gate that is well", name)
	}
}

func checkDashboard(t *testing.T, p *prometheus) {
	b := dashboard(t)
	for _, v := range b.Templating.List {
		if v.Type != "query" {
			continue
		}
		what, label, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(v.Definition, "label_values("), ")"), ", ")
		if !ok {
			t.Errorf("variable %s: %q is no label_values", v.Name, v.Definition)
			continue
		}
		found := p.series(t, filled(what))
		if len(found) == 0 || found[0][label] == "" {
			t.Errorf("variable %s has no values", v.Name)
		}
	}
	panels, queries, samples := 0, 0, 0
	for _, panel := range b.Panels {
		if panel.Type != "row" {
			panels++
		}
		for _, q := range panel.Targets {
			place := fmt.Sprintf("panel %q, query %s", panel.Title, q.RefID)
			for _, s := range selectors(filled(q.Expr)) {
				if len(p.series(t, s)) == 0 {
					t.Errorf("%s: no series is %s", place, s)
				}
			}
			found := p.query(t, filled(q.Expr))
			queries++
			numbers := 0
			for _, sample := range found {
				if !math.IsNaN(sample.value) {
					numbers++
				}
			}
			samples += numbers
			if numbers == 0 {
				t.Errorf("%s: no data from %s", place, filled(q.Expr))
				continue
			}
			for _, m := range inLegend.FindAllStringSubmatch(q.LegendFormat, -1) {
				if !slices.ContainsFunc(found, func(s sample) bool { return s.labels[m[1]] != "" }) {
					t.Errorf("%s: the legend shows %s, which no series has", place, m[1])
				}
			}
		}
	}
	t.Logf("%d panels, %d queries, %d series with data", panels, queries, samples)
}

// filled is a query of the dashboard as Grafana sends it with everything chosen.
func filled(expr string) string {
	return strings.NewReplacer(
		"$__rate_interval", "20s", "$namespace", ".*", "$job", ".*", "$instance", ".*", "$envoy", ".*",
	).Replace(expr)
}

type sample struct {
	labels map[string]string
	value  float64
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

const patience = 90 * time.Second
