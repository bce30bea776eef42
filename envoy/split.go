package envoy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
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

	"github.com/atenex/gatehouse/envoy/routes"
)

// The files of a split configuration. Envoy starts with the first and watches the
// others.
const (
	FileBootstrap = "bootstrap.yaml"
	FileListeners = "lds.yaml"
	FileClusters  = "cds.yaml"
	FileRoutes    = "rds.yaml"
)

// SplitFiles are their names.
func SplitFiles() []string {
	return []string{FileBootstrap, FileClusters, FileListeners, FileRoutes}
}

// Files is a split configuration: the contents by the names of the files.
type Files map[string][]byte

// edgeRoutes is the one route configuration that moves into a file of its own.
// Envoy takes no second one from the same file.
const edgeRoutes = "edge"

// everything is a table that uses all that a table may say. The listener of a
// split configuration is the one that this table gets, whatever the real one
// says: a listener that changes loses its connections, and a filter that is off
// costs nothing.
const everything = `
upstreams:
  plain: { url: "http://plain.invalid", headers: { drop: [x] } }
  multiplexed: { url: "http://multiplexed.invalid", http2: true }
routes:
  - name: all
    prefix: /all
    methods: [GET, POST]
    mode: strict
    roles: [a]
    upstream: plain
    websocket: true
    max_body: 1KiB
    rate_limit: 1/s burst 1
    headers: { forward: [x] }
  - { name: calls, prefix: /calls, methods: [POST], mode: initial, upstream: multiplexed, max_body: 1KiB }
  - { name: open, path: /open, methods: [GET], mode: none, upstream: plain }
  - { name: fixed, path: /fixed, answer: { status: 410, detail: gone } }
`

// Split is Bootstrap in files, of which Envoy sees the directory as dir. The same
// table and settings always give the same bytes. What a table can change stands in
// the files of clusters and routes alone.
func Split(t routes.Table, s Settings, dir string) (Files, error) {
	own, err := Bootstrap(t, s)
	if err != nil {
		return nil, err
	}
	all, err := routes.ParseOf("everything", []byte(everything))
	if err != nil {
		return nil, fmt.Errorf("the table that uses everything: %w", err)
	}
	full, err := Bootstrap(all, s)
	if err != nil {
		return nil, fmt.Errorf("the table that uses everything: %w", err)
	}
	listeners := own.GetStaticResources().GetListeners()
	table, err := detach(listeners, dir)
	if err != nil {
		return nil, err
	}
	if _, err := detach(full.GetStaticResources().GetListeners(), dir); err != nil {
		return nil, err
	}
	// Otherwise the table has brought something into its listener that is not known
	// here. Its own listener is right, too; changes to it are then seen as such.
	if covers(full.GetStaticResources().GetListeners(), listeners) {
		listeners = full.GetStaticResources().GetListeners()
	}
	clusters := own.GetStaticResources().GetClusters()

	own.StaticResources = nil
	own.DynamicResources = &bootstrapv3.Bootstrap_DynamicResources{
		LdsConfig: watchedFile(dir, FileListeners),
		CdsConfig: watchedFile(dir, FileClusters),
	}
	// What is new since Bootstrap has looked at it all.
	faults := []error{validateDeep(own)}
	for _, l := range listeners {
		faults = append(faults, validateDeep(l))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("the rendering is not valid: %w", err)
	}
	out := Files{}
	if out[FileBootstrap], err = YAML(own); err != nil {
		return nil, err
	}
	if out[FileListeners], err = answerFile(listeners); err != nil {
		return nil, err
	}
	if out[FileClusters], err = clustersFile(clusters); err != nil {
		return nil, err
	}
	out[FileRoutes], err = answerFile([]*routev3.RouteConfiguration{table})
	return out, err
}

// watchedFile is read at the start, and again whenever a file is renamed into its
// directory.
func watchedFile(dir, name string) *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{PathConfigSource: &corev3.PathConfigSource{
			Path:             filepath.Join(dir, name),
			WatchedDirectory: &corev3.WatchedDirectory{Path: dir},
		}},
	}
}

// detach takes the routes of the edge out of the listeners, and has these ask the
// file for them.
func detach(listeners []*listenerv3.Listener, dir string) (*routev3.RouteConfiguration, error) {
	var table *routev3.RouteConfiguration
	err := managers(listeners, func(m *managerv3.HttpConnectionManager) error {
		config := m.GetRouteConfig()
		if config.GetName() != edgeRoutes {
			return nil // something fixed, which no table changes
		}
		if table != nil {
			was, err := printed(table)
			if err != nil {
				return err
			}
			if is, err := printed(config); err != nil || is != was {
				return errors.Join(err, errors.New("listeners with different routes cannot be split"))
			}
		}
		table = config
		m.RouteSpecifier = &managerv3.HttpConnectionManager_Rds{Rds: &managerv3.Rds{
			ConfigSource: watchedFile(dir, FileRoutes), RouteConfigName: edgeRoutes,
		}}
		return nil
	})
	if err == nil && table == nil {
		err = errors.New("no listener has the routes of the gate")
	}
	return table, err
}

// managers lets change see and alter every connection manager.
func managers(listeners []*listenerv3.Listener, change func(*managerv3.HttpConnectionManager) error) error {
	for _, l := range listeners {
		chains := l.GetFilterChains()
		if l.GetDefaultFilterChain() != nil {
			chains = append(slices.Clone(chains), l.GetDefaultFilterChain())
		}
		for _, c := range chains {
			for _, f := range c.GetFilters() {
				m := new(managerv3.HttpConnectionManager)
				if !f.GetTypedConfig().MessageIs(m) {
					continue
				}
				if err := f.GetTypedConfig().UnmarshalTo(m); err != nil {
					return fmt.Errorf("listener %q: %w", l.GetName(), err)
				}
				if err := change(m); err != nil {
					return fmt.Errorf("listener %q: %w", l.GetName(), err)
				}
				f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(m)}
			}
		}
	}
	return nil
}

// covers reports whether full differs from own by nothing but filters that are
// off.
func covers(full, own []*listenerv3.Listener) bool {
	type shape struct{ rest, chain, off []string }
	take := func(listeners []*listenerv3.Listener) (shape, error) {
		var s shape
		for _, l := range listeners {
			l = proto.CloneOf(l)
			err := managers([]*listenerv3.Listener{l}, func(m *managerv3.HttpConnectionManager) error {
				s.chain, s.off = append(s.chain, "---"), append(s.off, "")
				for _, f := range m.GetHttpFilters() {
					text, err := printed(f)
					if err != nil {
						return err
					}
					off := ""
					if f.GetDisabled() {
						off = text
					}
					s.chain, s.off = append(s.chain, text), append(s.off, off)
				}
				m.HttpFilters = nil
				return nil
			})
			if err != nil {
				return s, err
			}
			text, err := printed(l)
			if err != nil {
				return s, err
			}
			s.rest = append(s.rest, text)
		}
		return s, nil
	}
	all, err := take(full)
	if err != nil {
		return false
	}
	one, err := take(own)
	if err != nil || !slices.Equal(all.rest, one.rest) {
		return false
	}
	rest := one.chain
	for i, f := range all.chain {
		switch {
		case len(rest) > 0 && rest[0] == f:
			rest = rest[1:]
		case all.off[i] == "":
			return false // one that is on, and that the table did not ask for
		}
	}
	return len(rest) == 0
}

// clustersFile has them in the order of their names, so that the same clusters are
// the same bytes.
func clustersFile(clusters []*clusterv3.Cluster) ([]byte, error) {
	return answerFile(slices.SortedFunc(slices.Values(clusters), func(a, b *clusterv3.Cluster) int {
		return strings.Compare(a.GetName(), b.GetName())
	}))
}

// answerFile prints resources as Envoy reads them from a file. The version is made
// from what they say: Envoy shows it (version_text) once it has taken them.
func answerFile[M proto.Message](resources []M) ([]byte, error) {
	answer := &discoveryv3.DiscoveryResponse{}
	sum := sha256.New()
	for _, r := range resources {
		text, err := printed(r)
		if err != nil {
			return nil, err
		}
		_, _ = sum.Write([]byte(text)) // a hash takes everything
		answer.Resources = append(answer.Resources, pack(r))
	}
	answer.VersionInfo = "v-" + hex.EncodeToString(sum.Sum(nil)[:8])
	text, err := printed(answer)
	if err != nil {
		return nil, err
	}
	return []byte(renderedHeader + text), nil
}

// printed is one text for one message, which protojson's is not.
func printed(m proto.Message) (string, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err == nil {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		return "", fmt.Errorf("printing %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return string(text), nil
}
