//go:build k8s

package k8s

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/tests/k8s/lab"
)

// Hooks never end without a controller, so what helm itself installs is without
// them; the next test has their manifests.
func TestEveryExampleInstallsAndUpgrades(t *testing.T) {
	defaults := examples(t)["default"]
	for name, file := range examples(t) {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t)
			on := []string{"--namespace", ns, "--no-hooks"}
			notes := cluster(t, append([]string{"install", "gate", chart, "-f", defaults}, on...)...)
			for _, want := range []string{"svc/gate-gatehouse-login", "helm test gate"} {
				if !strings.Contains(notes, want) {
					t.Errorf("the notes lack %q:\n%s", want, notes)
				}
			}
			// There and back: no field that cannot change may differ, whatever is turned on.
			notes = cluster(t, append([]string{"upgrade", "gate", chart, "-f", file}, on...)...)
			for _, never := range []string{"<no value>", "%!"} {
				if strings.Contains(notes, never) {
					t.Errorf("the notes have %q in them:\n%s", never, notes)
				}
			}
			cluster(t, append([]string{"upgrade", "gate", chart, "-f", defaults}, on...)...)
			cluster(t, "rollback", "gate", "2", "--namespace", ns, "--no-hooks")
			cluster(t, "uninstall", "gate", "--namespace", ns, "--no-hooks")
			cluster(t, append([]string{"install", "fresh", chart, "-f", file}, on...)...)
		})
	}
}

// A Deployment without replicas has one, until somebody counts again.
func TestAutoscalingTakesOverWithoutLosingPods(t *testing.T) {
	ns := namespace(t)
	replicas := func(name string) (n int) {
		text, err := server(t).Client.Get(t.Context(), "/apis/apps/v1/namespaces/"+ns+"/deployments/gate-gatehouse-"+name)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Spec struct {
				Replicas int `json:"replicas"`
			} `json:"spec"`
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		return d.Spec.Replicas
	}
	on := []string{"gate", chart, "--namespace", ns, "--no-hooks", "-f"}
	cluster(t, append(append([]string{"install"}, on...), examples(t)["default"], "--set", "login.replicas=5")...)
	for range 2 {
		cluster(t, append(append([]string{"upgrade"}, on...), examples(t)["scaling"])...)
		if authz, login := replicas("authz"), replicas("login"); authz != 3 || login != 5 {
			t.Errorf("%d pods of authz and %d of login, want 3, the least of its autoscaler, and 5 as before", authz, login)
		}
	}
}

func TestTwoReleasesLiveInOneNamespace(t *testing.T) {
	ns := namespace(t)
	for _, release := range []string{"one", "two"} {
		for _, example := range []string{"envoy", "network-policy-envoy", "monitoring", "scaling"} {
			verb := []string{"upgrade", "--install", release, chart, "--namespace", ns, "--no-hooks", "-f", examples(t)[example]}
			cluster(t, verb...)
		}
	}
	// One release's Services must find that release's pods only.
	a, b := render(t, "one", ns, "-f", examples(t)["envoy"]), render(t, "two", ns, "-f", examples(t)["envoy"])
	for _, o := range a {
		if slices.ContainsFunc(b, func(other object) bool { return other.String() == o.String() }) {
			t.Errorf("both releases have %s", o)
		}
		var spec struct {
			Selector map[string]any `json:"selector"`
		}
		if o.Kind == "Service" {
			if err := json.Unmarshal(o.Spec, &spec); err != nil {
				t.Fatal(err)
			}
			if spec.Selector["app.kubernetes.io/instance"] != "one" {
				t.Errorf("%s selects %v", o, spec.Selector)
			}
		}
	}
}

func TestEveryManifestIsTakenToTheLetter(t *testing.T) {
	for name, file := range examples(t) {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t)
			for _, o := range render(t, "gate", ns, "-f", file) {
				warnings, err := server(t).Client.Create(t.Context(), ns, o.text, true)
				if err != nil {
					t.Errorf("%s: %v", o, err)
				}
				for _, w := range warnings {
					t.Errorf("%s: warned: %s", o, w)
				}
				for _, label := range []string{"name", "instance", "component", "version", "part-of", "managed-by"} {
					if o.Metadata.Labels["app.kubernetes.io/"+label] == "" && !strings.Contains(o.Metadata.Name, "-extra") {
						t.Errorf("%s has no label app.kubernetes.io/%s", o, label)
					}
				}
			}
		})
	}
}

// Admission judges pods, not the Deployments and Jobs that would make them.
func TestEveryPodMeetsRestrictedPodSecurity(t *testing.T) {
	for name, file := range examples(t) {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t)
			made := 0
			for _, o := range render(t, "gate", ns, "-f", file) {
				spec := o.podSpec(t)
				if spec == nil {
					continue
				}
				made++
				if warnings, err := createPod(t, ns, o.Metadata.Name, spec); err != nil || len(warnings) > 0 {
					t.Errorf("%s: %v %v", o, err, warnings)
				}
			}
			if made < 2 {
				t.Errorf("%d pods, want authz and login at least", made)
			}
		})
	}
}

func TestTheCommandsPodIsMadeByHandAndMeetsRestricted(t *testing.T) {
	ns := namespace(t)
	for _, name := range []string{"default", "secrets", "jwk-set"} {
		list := render(t, "gate", ns, "-f", examples(t)[name], "--show-only", "templates/command.yaml", "--set", "command={user,list}")
		if len(list) != 1 {
			t.Fatalf("%s: %v, want one pod", name, list)
		}
		for range 2 { // each gets a name of its own
			if warnings, err := server(t).Client.Create(t.Context(), ns, list[0].text, false); err != nil || len(warnings) > 0 {
				t.Errorf("%s: %v %v", name, err, warnings)
			}
		}
		if got := list[0].pod(t).Containers[0].Args; !slices.Equal(got, []string{"user", "list"}) {
			t.Errorf("%s: arguments %v", name, got)
		}
	}
}

func TestAdmissionRefusesWhatIsNotRestricted(t *testing.T) {
	ns := namespace(t)
	for _, fault := range []string{
		"podSecurityContext.runAsNonRoot=false",
		"podSecurityContext.runAsUser=0",
		"podSecurityContext.seccompProfile.type=Unconfined",
		"securityContext.allowPrivilegeEscalation=true",
		"securityContext.capabilities.drop=null",
	} {
		for _, o := range render(t, "gate", ns, "-f", examples(t)["envoy"], "--set", fault) {
			spec := o.podSpec(t)
			if spec == nil {
				continue
			}
			_, err := createPod(t, ns, o.Metadata.Name, spec)
			refusal, ok := errors.AsType[*lab.Refusal](err)
			if !ok || refusal.Status != 403 || !strings.Contains(refusal.Message, "PodSecurity") {
				t.Errorf("%s with %s: %v, want a refusal by Pod Security", o, fault, err)
			}
		}
	}
}

func createPod(t *testing.T, ns, name string, spec json.RawMessage) ([]string, error) {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name}, "spec": spec,
	})
	if err != nil {
		t.Fatal(err)
	}
	return server(t).Client.Create(t.Context(), ns, text, false)
}

func TestWrongValuesAreRefusedWithTheirNames(t *testing.T) {
	secret := "existingSecret=gatehouse"
	urls := "config.INGEST_SERVICE_URL=http://i,config.QUERY_SERVICE_URL=http://q"
	tests := []struct {
		name string
		set  string
		want []string
	}{
		{"no Secret at all", "", []string{"existingSecret (or jwt.existingSecret) is required"}},
		{"no Secret for the database", "jwt.existingSecret=keys", []string{"existingSecret (or database.existingSecret) is required"}},
		{"a value that nobody knows", secret + ",autz.replicas=3", []string{"autz"}},
		{"one below that nobody knows", secret + ",authz.replicaCount=3", []string{"/authz", "replicaCount"}},
		{"text for a number", secret + ",authz.replicas=many", []string{"/authz/replicas", "integer"}},
		{"a negative number", secret + ",login.replicas=-1", []string{"/login/replicas", "minimum"}},
		{"a secret among the settings", secret + ",config.JWT_SECRET=x", []string{"config.JWT_SECRET would put a secret into the release", "jwt.secretKey"}},
		{"one for a single service too", secret + ",login.config.POSTGRES_PASSWORD=x", []string{"login.config.POSTGRES_PASSWORD would put a secret into the release"}},
		{"a setting with its prefix", secret + ",config.GATEWAY_LOG_LEVEL=INFO", []string{"config.GATEWAY_LOG_LEVEL: leave out the prefix"}},
		{"a setting in lower case", secret + ",config.log_level=INFO", []string{"/config", "log_level"}},
		{"an address", secret + ",config.AUTHZ_LISTEN=:1", []string{"config.AUTHZ_LISTEN: addresses are the chart's own"}},
		{"a drain that is no number of seconds", secret + ",authz.drain=1m", []string{"/authz/drain"}},
		{"a drain longer than the grace", secret + ",login.drain=40s", []string{"login.terminationGracePeriodSeconds is 45", "needs 57"}},
		{"a pull policy that there is not", secret + ",image.pullPolicy=Sometimes", []string{"/image/pullPolicy", "IfNotPresent"}},
		{"half a digest", secret + ",image.digests.authz=sha256:12", []string{"/image/digests/authz"}},
		{"two route tables", secret + ",routes.table=x,routes.existingConfigMap=y", []string{"only one of them"}},
		{"a route table by two names", secret + ",routes.table=x,config.ROUTES=explicit", []string{"config.ROUTES and a table in routes"}},
		{"two files of issuers", secret + ",issuers.file=x,issuers.existingConfigMap=y", []string{"issuers.file and issuers.existingConfigMap: only one of them"}},
		{"a file of issuers by two names", secret + ",issuers.file=x,login.config.ISSUERS_FILE=/x", []string{"config.ISSUERS_FILE and a file in issuers"}},
		{"a password beside a URL", secret + ",database.passwordKey=p", []string{"database.passwordKey is for database.urlKey"}},
		{"Envoy without its upstreams", secret + ",envoy.enabled=true", []string{"config.INGEST_SERVICE_URL is required"}},
		{"Envoy whom login does not trust", secret + ",envoy.enabled=true," + urls, []string{"config.TRUSTED_PROXIES is required", "10.244.0.0/16"}},
		{"a certificate without its Secret", secret + ",config.TLS_CERT_FILE=/x", []string{"config.TLS_CERT_FILE: name the Secret of the certificate in envoy.tls"}},
		{"one for Envoy only", secret + ",envoy.config.ENVOY_AUTHZ_TLS_CA_FILE=/x", []string{"envoy.config.ENVOY_AUTHZ_TLS_CA_FILE", "authzTLS"}},
		{"a redirect to nowhere", secret + ",envoy.tls.redirectPort=80", []string{"envoy.tls.redirectPort leads to https, which envoy.tls.existingSecret turns on"}},
		{"a redirect to itself", secret + ",envoy.tls.existingSecret=x,envoy.tls.redirectPort=443", []string{"envoy.tls.redirectPort and envoy.service.port are both 443"}},
		{"authorities without a certificate", secret + ",authzTLS.clientCASecret=x", []string{"authzTLS.serverSecret is required"}},
		{"an Envoy that authz would refuse", secret + ",authzTLS.serverSecret=x,envoy.enabled=true," + urls, []string{"authzTLS.clientSecret is required"}},
		{"fewer pods at most than at least", secret + ",authz.autoscaling.enabled=true,authz.autoscaling.maxReplicas=1", []string{"authz.autoscaling: maxReplicas is less"}},
		{"a policy that lets nobody in", secret + ",networkPolicy.enabled=true", []string{"networkPolicy.ingressFrom is required"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, out, err := tryHelm(t, "template", "gate", chart, "--kube-version", "v1.36.3", "--set", tt.set)
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in:\n%s", want, out)
				}
			}
		})
	}
}

func TestTheDefaultInstallReadsOneSecret(t *testing.T) {
	secrets := map[string]bool{}
	for _, o := range render(t, "gate", "default", "-f", examples(t)["default"]) {
		if o.Kind == "Secret" {
			t.Errorf("%s: the chart makes no Secret", o)
		}
		if o.podSpec(t) == nil {
			continue
		}
		for _, c := range o.pod(t).Containers {
			for _, e := range c.Env {
				if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
					secrets[e.ValueFrom.SecretKeyRef.Name] = true
				}
			}
		}
	}
	if got := slices.Sorted(maps.Keys(secrets)); !slices.Equal(got, []string{"gatehouse"}) {
		t.Errorf("Secrets = %v, want only gatehouse", got)
	}
}

func TestAVariableOfOnesOwnReplacesOurs(t *testing.T) {
	authz := find(t, render(t, "gate", "default", "-f", examples(t)["extras"]), "Deployment", "-authz").pod(t)
	var got []string
	for _, e := range authz.Containers[0].Env {
		if e.Name == "GATEWAY_LOG_LEVEL" || e.Name == "GOGC" {
			got = append(got, e.Name+"="+e.Value)
		}
	}
	if want := []string{"GATEWAY_LOG_LEVEL=DEBUG", "GOGC=200"}; !slices.Equal(got, want) {
		t.Errorf("variables = %v, want %v", got, want)
	}
}

func TestNumbersReachTheServicesAsWritten(t *testing.T) {
	list := render(t, "gate", "default", "-f", examples(t)["config"])
	want := map[string]string{
		"-authz": "DEBUG 40 1.5 false", // what is its own wins
		"-login": "WARNING 20 1.5 false",
	}
	for suffix, want := range want {
		value := map[string]string{}
		for _, e := range find(t, list, "Deployment", suffix).pod(t).Containers[0].Env {
			value[strings.TrimPrefix(e.Name, "GATEWAY_")] = e.Value
		}
		got := fmt.Sprint(value["LOG_LEVEL"], " ", value["POSTGRES_POOL_MAX"], " ", value["HTTP_CLIENT_TIMEOUT"], " ", value["PASSWORD_UPGRADE"])
		if got != want {
			t.Errorf("%s has %q, want %q", suffix, got, want)
		}
	}
}

// What Grafana and Prometheus get is what lies in the chart, template marks and all.
func TestDashboardAndRulesArriveWhole(t *testing.T) {
	list := render(t, "gate", "default", "-f", examples(t)["monitoring"])
	want, err := os.ReadFile(filepath.Join(chart, "dashboards", "gatehouse.json"))
	if err != nil {
		t.Fatal(err)
	}
	got := find(t, list, "ConfigMap", "-dashboard").Data["gatehouse.json"]
	var a, b any
	if err := errors.Join(json.Unmarshal(want, &a), json.Unmarshal([]byte(got), &b)); err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(got) != strings.TrimSpace(string(want)) {
		t.Error("the dashboard differs from the file")
	}

	alerts := func(args ...string) (names []string, text string) {
		rule := find(t, render(t, "gate", "default", append(args, "-f", examples(t)["monitoring"])...), "PrometheusRule", "gatehouse")
		var spec struct {
			Groups []struct {
				Rules []struct {
					Alert string `json:"alert"`
				} `json:"rules"`
			} `json:"groups"`
		}
		if err := json.Unmarshal(rule.Spec, &spec); err != nil {
			t.Fatal(err)
		}
		for _, g := range spec.Groups {
			for _, r := range g.Rules {
				if r.Alert != "" {
					names = append(names, r.Alert)
				}
			}
		}
		return names, string(rule.text)
	}
	all, text := alerts()
	source, err := os.ReadFile(filepath.Join(chart, "rules", "gatehouse.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), "alert: ") + 1; len(all) != n || all[len(all)-1] != "GatehouseGone" {
		t.Errorf("%d alerts, want the file's and one of our own, %d: %v", len(all), n, all)
	}
	if strings.Contains(string(source), "{{ $") != strings.Contains(text, "{{ $") {
		t.Error("helm has taken Prometheus' templates for its own")
	}
	if less, _ := alerts("--set", "metrics.prometheusRule.disabled={"+all[0]+"}"); slices.Contains(less, all[0]) || len(less) != len(all)-1 {
		t.Errorf("without %s there are %v", all[0], less)
	}
}

func TestTheChartIsLintedAndPacked(t *testing.T) {
	for _, file := range examples(t) {
		helm(t, "lint", chart, "--strict", "--kube-version", "v1.36.3", "-f", file)
	}
	out := helm(t, "package", chart, "--destination", t.TempDir())
	shown := helm(t, "show", "values", strings.TrimSpace(out[strings.LastIndex(out, ": ")+2:]))
	if !strings.Contains(shown, "existingSecret") {
		t.Errorf("the package holds no values:\n%s", shown)
	}
}
