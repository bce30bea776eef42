package lint

import (
	"fmt"
	"slices"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	// Where Envoy's log goes in most configurations.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
)

// Check reads a configuration and judges it: a bootstrap, a listener, an answer
// of LDS, RDS or CDS, or a config dump, in YAML or JSON.
func Check(config []byte) (Report, error) {
	src, err := read(config)
	if err != nil {
		return Report{}, err
	}
	c := &checker{src: src, clusters: map[string]place[*clusterv3.Cluster]{}}
	c.collect()
	c.judge()
	c.report.sort()
	if c.report.Findings == nil {
		c.report.Findings = []Finding{} // a list in JSON too
	}
	if c.report.Open == nil {
		c.report.Open = []Open{}
	}
	return c.report, nil
}

// place is a message and where it was found.
type place[M proto.Message] struct {
	m  M
	at string
}

type checker struct {
	src      *source
	report   Report
	managers []place[*managerv3.HttpConnectionManager]
	// loose are route configurations that stand by themselves: RDS answers.
	loose     []place[*routev3.RouteConfiguration]
	clusters  map[string]place[*clusterv3.Cluster]
	moreByCDS bool // clusters arrive by xDS too
}

// find adds a finding.
func (c *checker) find(id, at, found string, args ...any) {
	i := slices.IndexFunc(rules, func(r Rule) bool { return r.ID == id })
	if i < 0 {
		panic("lint: no rule " + id)
	}
	r := rules[i]
	c.report.Findings = append(c.report.Findings, Finding{
		ID: id, Severity: r.Severity, Line: c.src.line(at), Where: at, Found: fmt.Sprintf(found, args...), Why: r.Why, Mend: r.Mend,
	})
}

// collect finds what the rules are about, wherever it is.
func (c *checker) collect() {
	inManager := map[string]bool{}
	walk(c.src.root, "", func(m proto.Message, at string) {
		switch m := m.(type) {
		case *managerv3.HttpConnectionManager:
			c.managers = append(c.managers, place[*managerv3.HttpConnectionManager]{m, at})
			inManager[join(at, "route_config")] = true
		case *routev3.RouteConfiguration:
			if !inManager[at] {
				c.loose = append(c.loose, place[*routev3.RouteConfiguration]{m, at})
			}
		case *clusterv3.Cluster:
			c.clusters[m.GetName()] = place[*clusterv3.Cluster]{m, at}
		case *bootstrapv3.Bootstrap:
			c.moreByCDS = c.moreByCDS || m.GetDynamicResources().GetCdsConfig() != nil || m.GetDynamicResources().GetAdsConfig() != nil
			c.admin(m, at)
		case *tlsv3.UpstreamTlsContext:
			c.upstreamTLS(m, at)
		}
		c.accessLog(m, at)
		c.rateLimit(m, at)
	})
	// A listener or an RDS answer alone says nothing of clusters.
	c.moreByCDS = c.moreByCDS || len(c.clusters) == 0
}

func (c *checker) judge() {
	if c.src.odd != "" {
		c.find("unknown-field", "", "%s", c.src.odd)
	}
	for _, what := range c.src.unknown {
		c.find("not-looked-into", what[0], "type %s", what[1])
	}
	asked := 0
	for _, m := range c.managers {
		if c.manager(m.m, m.at) {
			asked++
		}
	}
	for _, m := range c.managers {
		if i, _ := authorizationOf(m.m); i >= 0 || !forwards(m.m) {
			continue
		}
		if asked == 0 {
			c.find("no-authorization", m.at, "no ext_authz in its http_filters")
		} else {
			c.find("listener-without-authorization", m.at, "no ext_authz in its http_filters")
		}
	}
	for _, r := range c.loose {
		c.routes(r.m, r.at)
	}
}

// forwards reports whether requests of a listener reach an upstream: by RDS we
// cannot know, so they do.
func forwards(m *managerv3.HttpConnectionManager) bool {
	if m.GetRouteConfig() == nil {
		return true
	}
	for _, host := range m.GetRouteConfig().GetVirtualHosts() {
		for _, r := range host.GetRoutes() {
			if r.GetRoute() != nil {
				return true
			}
		}
	}
	return false
}
