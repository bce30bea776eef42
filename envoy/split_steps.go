package envoy

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// Step is one file to put in its place.
type Step struct {
	File    string
	Content []byte
	// Version is what Envoy calls this content when it has it; empty for the
	// bootstrap, which it does not read again.
	Version string
}

// Steps lead from the files that are there, as many as there are, to those that
// are wanted. Each has to be in force before the next: a route must not lead to a
// cluster that Envoy does not know yet, or no longer. So clusters come first, those
// that are to go among them, and go when no route leads there. Files that stay as
// they are have no step.
func Steps(before, after Files) ([]Step, error) {
	both, err := union(before[FileClusters], after[FileClusters])
	if err != nil {
		return nil, err
	}
	var out []Step
	there := Files{}
	for name, content := range before {
		there[name] = content
	}
	for _, next := range []struct {
		file    string
		content []byte
	}{
		{FileBootstrap, after[FileBootstrap]},
		{FileClusters, both},
		{FileListeners, after[FileListeners]},
		{FileRoutes, after[FileRoutes]},
		{FileClusters, after[FileClusters]},
	} {
		if bytes.Equal(there[next.file], next.content) {
			continue
		}
		there[next.file] = next.content
		step := Step{File: next.file, Content: next.content}
		if next.file != FileBootstrap {
			answer, err := readAnswer(next.file, next.content)
			if err != nil {
				return nil, err
			}
			step.Version = answer.GetVersionInfo()
		}
		out = append(out, step)
	}
	return out, nil
}

// union is all clusters of the second, and those of the first that it lacks.
func union(before, after []byte) ([]byte, error) {
	if before == nil {
		return after, nil
	}
	old, err := resources[clusterv3.Cluster](FileClusters, before)
	if err != nil {
		return nil, err
	}
	all, err := resources[clusterv3.Cluster](FileClusters, after)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, c := range all {
		known[c.GetName()] = true
	}
	for _, c := range old {
		if !known[c.GetName()] {
			all = append(all, c)
		}
	}
	return clustersFile(all)
}

// Effect says in words what Envoy is going to do about the difference between two
// split configurations.
func Effect(before, after Files) string {
	if len(before) == 0 {
		return "all files are new"
	}
	changed := func(name string) bool { return !bytes.Equal(before[name], after[name]) }
	var what []string
	if changed(FileBootstrap) {
		what = append(what, "bootstrap (restart Envoy for it)")
	}
	if changed(FileListeners) {
		what = append(what, "listener (connections are drained)")
	}
	if changed(FileClusters) {
		what = append(what, "clusters")
	}
	if changed(FileRoutes) {
		if len(what) == 0 {
			return "routes only"
		}
		what = append(what, "routes")
	}
	if len(what) == 0 {
		return "none"
	}
	return strings.Join(what, ", ")
}

// Join is the configuration that the files are together, in one. A file that is
// missing or that the bootstrap does not name is an error.
func (f Files) Join() (*bootstrapv3.Bootstrap, error) {
	for _, name := range SplitFiles() {
		if len(bytes.TrimSpace(f[name])) == 0 {
			return nil, fmt.Errorf("%s is missing or empty", name)
		}
	}
	b, err := ParseYAML(f[FileBootstrap])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", FileBootstrap, err)
	}
	listeners, err := resources[listenerv3.Listener](FileListeners, f[FileListeners])
	if err != nil {
		return nil, err
	}
	clusters, err := resources[clusterv3.Cluster](FileClusters, f[FileClusters])
	if err != nil {
		return nil, err
	}
	tables, err := resources[routev3.RouteConfiguration](FileRoutes, f[FileRoutes])
	if err != nil {
		return nil, err
	}
	if len(tables) != 1 || tables[0].GetName() != edgeRoutes {
		return nil, fmt.Errorf("%s: want one route configuration, of the name %s", FileRoutes, edgeRoutes)
	}
	faults := []error{
		leadsTo(FileBootstrap, b.GetDynamicResources().GetLdsConfig(), FileListeners),
		leadsTo(FileBootstrap, b.GetDynamicResources().GetCdsConfig(), FileClusters),
	}
	asked := false
	faults = append(faults, managers(listeners, func(m *managerv3.HttpConnectionManager) error {
		rds := m.GetRds()
		if rds == nil {
			return nil
		}
		asked = true
		if rds.GetRouteConfigName() != edgeRoutes {
			return fmt.Errorf("asks for routes %q, which nobody has", rds.GetRouteConfigName())
		}
		m.RouteSpecifier = &managerv3.HttpConnectionManager_RouteConfig{RouteConfig: tables[0]}
		return leadsTo(FileListeners, rds.GetConfigSource(), FileRoutes)
	}))
	if !asked {
		faults = append(faults, fmt.Errorf("%s: no listener asks for the routes", FileListeners))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	b.DynamicResources = nil
	if b.StaticResources == nil {
		b.StaticResources = &bootstrapv3.Bootstrap_StaticResources{}
	}
	b.StaticResources.Listeners = append(b.StaticResources.Listeners, listeners...)
	b.StaticResources.Clusters = append(b.StaticResources.Clusters, clusters...)
	if err := validateDeep(b); err != nil {
		return nil, err
	}
	return b, nil
}

// leadsTo checks which file is named, wherever Envoy sees its directory.
func leadsTo(in string, source *corev3.ConfigSource, want string) error {
	if got := filepath.Base(source.GetPathConfigSource().GetPath()); got != want {
		return fmt.Errorf("%s: names the file %q where %s belongs", in, got, want)
	}
	return nil
}

func readAnswer(name string, content []byte) (*discoveryv3.DiscoveryResponse, error) {
	text, err := yaml.YAMLToJSONStrict(bytes.TrimSpace(content))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	answer := new(discoveryv3.DiscoveryResponse)
	if err := protojson.Unmarshal(text, answer); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return answer, nil
}

// resources of a file, all of one kind.
func resources[T any, M interface {
	*T
	proto.Message
}](name string, content []byte) ([]M, error) {
	answer, err := readAnswer(name, content)
	if err != nil {
		return nil, err
	}
	var out []M
	for _, packed := range answer.GetResources() {
		m := M(new(T))
		if err := packed.UnmarshalTo(m); err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		out = append(out, m)
	}
	return out, nil
}
