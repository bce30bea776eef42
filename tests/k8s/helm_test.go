//go:build k8s

package k8s

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"sigs.k8s.io/yaml"
)

// cluster runs helm against the API server, and fails the test if it fails.
func cluster(t *testing.T, args ...string) string {
	t.Helper()
	return helm(t, append(args, "--kubeconfig", server(t).Kubeconfig)...)
}

// helm runs helm by itself, and fails the test if it fails or warns.
func helm(t *testing.T, args ...string) string {
	t.Helper()
	out, complaint, err := tryHelm(t, args...)
	if err != nil || strings.Contains(complaint, "warning") {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, complaint)
	}
	return out
}

func tryHelm(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), grounds.helm, args...)
	// Nobody's repositories, plugins or clusters.
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err = cmd.Run()
	return out.String(), complaint.String(), err
}

// render gives what the chart makes, hooks and tests included.
func render(t *testing.T, release, namespace string, args ...string) []object {
	t.Helper()
	return objects(t, helm(t, append([]string{"template", release, chart, "--namespace", namespace, "--kube-version", "v1.36.3"}, args...)...))
}

// object is one manifest.
type object struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name        string            `json:"name"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Data map[string]string `json:"data"`
	Spec json.RawMessage   `json:"spec"`

	text []byte // all of it, as JSON
}

func (o object) String() string { return o.Kind + "/" + o.Metadata.Name }

var separator = regexp.MustCompile(`(?m)^---.*$`)

func objects(t *testing.T, text string) []object {
	t.Helper()
	var list []object
	for _, part := range separator.Split(text, -1) {
		// A key that is there twice is two manifests run together.
		asJSON, err := yaml.YAMLToJSONStrict([]byte(part))
		if err != nil {
			t.Fatalf("%v in\n%s", err, part)
		}
		if bytes.Equal(asJSON, []byte("null")) {
			continue
		}
		o := object{text: asJSON}
		if err := json.Unmarshal(asJSON, &o); err != nil {
			t.Fatalf("%v in\n%s", err, part)
		}
		list = append(list, o)
	}
	return list
}

// find gives the object of a kind whose name ends so.
func find(t *testing.T, list []object, kind, suffix string) object {
	t.Helper()
	for _, o := range list {
		if o.Kind == kind && strings.HasSuffix(o.Metadata.Name, suffix) {
			return o
		}
	}
	t.Fatalf("no %s …%s among %v", kind, suffix, list)
	return object{}
}

// pod is as much of a pod as tests look at.
type pod struct {
	InitContainers []container `json:"initContainers"`
	Containers     []container `json:"containers"`
}

type container struct {
	Name    string   `json:"name"`
	Image   string   `json:"image"`
	Command []string `json:"command"`
	Args    []string `json:"args"`
	Env     []struct {
		Name      string `json:"name"`
		Value     string `json:"value"`
		ValueFrom *struct {
			SecretKeyRef *struct{ Name, Key string } `json:"secretKeyRef"`
		} `json:"valueFrom"`
	} `json:"env"`
	Lifecycle struct {
		PreStop struct {
			Exec struct {
				Command []string `json:"command"`
			} `json:"exec"`
		} `json:"preStop"`
	} `json:"lifecycle"`
}

// podSpec is the specification of the pods that an object makes; nil: it makes none.
func (o object) podSpec(t *testing.T) json.RawMessage {
	t.Helper()
	var spec struct {
		Template struct {
			Spec json.RawMessage `json:"spec"`
		} `json:"template"`
	}
	switch o.Kind {
	case "Pod":
		return o.Spec
	case "Deployment", "Job":
		if err := json.Unmarshal(o.Spec, &spec); err != nil {
			t.Fatalf("%s: %v", o, err)
		}
	}
	return spec.Template.Spec
}

func (o object) pod(t *testing.T) pod {
	t.Helper()
	var p pod
	if err := json.Unmarshal(o.podSpec(t), &p); err != nil {
		t.Fatalf("%s: %v", o, err)
	}
	return p
}

// examples are the values that come with the chart, by the name of their feature.
func examples(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chart, "ci", "*-values.yaml"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	byName := make(map[string]string)
	for _, f := range files {
		byName[strings.TrimSuffix(filepath.Base(f), "-values.yaml")] = f
	}
	return byName
}

var namespaces atomic.Int64

// namespace makes one in which Pod Security is "restricted".
func namespace(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("check-%d", namespaces.Add(1))
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q,"labels":{"pod-security.kubernetes.io/enforce":"restricted","pod-security.kubernetes.io/warn":"restricted"}}}`, name)
	if _, err := server(t).Client.Create(t.Context(), "", []byte(text), false); err != nil {
		t.Fatal(err)
	}
	return name
}
