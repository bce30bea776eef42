package monitoring

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const root = "../.."

const (
	rulesFile     = root + "/helm/gatehouse/rules/gatehouse.yaml"
	dashboardFile = root + "/helm/gatehouse/dashboards/gatehouse.json"
	runbooks      = "docs/runbooks.md"
)

// rule is an alert, or a recording where it has no name as an alert.
type rule struct {
	Alert       string            `json:"alert"`
	Record      string            `json:"record"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []rule `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.Unmarshal(read(t, rulesFile), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no rules")
	}
	return all
}

type target struct {
	RefID        string     `json:"refId"`
	Expr         string     `json:"expr"`
	LegendFormat string     `json:"legendFormat"`
	Datasource   datasource `json:"datasource"`
}

type datasource struct {
	UID string `json:"uid"`
}

type panel struct {
	ID          int        `json:"id"`
	Type        string     `json:"type"`
	Title       string     `json:"title"`
	Description string     `json:"description"`
	Datasource  datasource `json:"datasource"`
	Targets     []target   `json:"targets"`
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
}

type board struct {
	UID        string  `json:"uid"`
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name       string `json:"name"`
			Type       string `json:"type"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
}

func dashboard(t *testing.T) (b board) {
	t.Helper()
	if err := json.Unmarshal(read(t, dashboardFile), &b); err != nil {
		t.Fatal(err)
	}
	if len(b.Panels) == 0 {
		t.Fatal("no panels")
	}
	return b
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestEveryAlertSaysWhatItIsAndWhatToDo(t *testing.T) {
	t.Parallel()
	pages := string(read(t, root+"/"+runbooks))
	cases := string(read(t, "rules_test.yaml"))
	seen := map[string]bool{}
	for _, r := range rules(t) {
		if r.Record != "" {
			continue
		}
		if seen[r.Alert] {
			t.Errorf("two alerts are called %s", r.Alert)
		}
		seen[r.Alert] = true
		for _, name := range []string{"summary", "description"} {
			if text := r.Annotations[name]; len(text) < 20 || !strings.HasSuffix(text, ".") {
				t.Errorf("%s: the %s is no sentence: %q", r.Alert, name, text)
			}
		}
		switch r.Labels["severity"] {
		case "critical", "warning", "info":
		default:
			t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
		}
		want := "https://github.com/atenex/gatehouse/blob/main/" + runbooks + "#" + strings.ToLower(r.Alert)
		if got := r.Annotations["runbook_url"]; got != want {
			t.Errorf("%s: the runbook is %q, want %q", r.Alert, got, want)
		}
		if !strings.Contains(pages, "\n## "+r.Alert+"\n") {
			t.Errorf("%s has no chapter in %s", r.Alert, runbooks)
		}
		fires := regexp.MustCompile(`exp_samples:.*\n?.*alertname="` + r.Alert + `",alertstate="firing"|alertname="` + r.Alert + `",alertstate="firing".* value: 1|alertname: ` + r.Alert + `\n.*\n +exp_alerts:\n`)
		if !fires.MatchString(cases) {
			t.Errorf("%s fires in no case of rules_test.yaml", r.Alert)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^## (Gatehouse\w+)$`).FindAllStringSubmatch(pages, -1) {
		if !seen[m[1]] {
			t.Errorf("%s has a chapter for %s, which is no alert", runbooks, m[1])
		}
	}
}

func TestTheDashboardIsOneThatCanBeProvisioned(t *testing.T) {
	t.Parallel()
	b := dashboard(t)
	if b.UID != "gatehouse" {
		t.Errorf("uid = %q: links to it break", b.UID)
	}
	variables := map[string]bool{}
	for _, v := range b.Templating.List {
		variables[v.Name] = true
	}
	for _, want := range []string{"datasource", "namespace", "job", "instance", "envoy"} {
		if !variables[want] {
			t.Errorf("there is no variable %s", want)
		}
	}
	ids := map[int]string{}
	titles := map[string]bool{}
	for _, p := range b.Panels {
		if other, taken := ids[p.ID]; taken {
			t.Errorf("%q and %q have one id", other, p.Title)
		}
		ids[p.ID] = p.Title
		if titles[p.Title] {
			t.Errorf("two panels are called %q", p.Title)
		}
		titles[p.Title] = true
		if p.GridPos.X+p.GridPos.W > 24 || p.GridPos.H == 0 {
			t.Errorf("%q does not stand in the grid", p.Title)
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("%q has no description, no unit or no query", p.Title)
		}
		for _, q := range p.Targets {
			if p.Datasource.UID != "${datasource}" || q.Datasource.UID != "${datasource}" {
				t.Errorf("%q names a data source of its own", p.Title)
			}
			for _, m := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(q.Expr, -1) {
				if !variables[m[1]] && m[1] != "__rate_interval" {
					t.Errorf("%q: there is no variable %s", p.Title, m[1])
				}
			}
		}
	}
}
