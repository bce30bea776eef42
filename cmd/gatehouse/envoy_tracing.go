package main

import (
	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/tracing"
)

// envoySettings are the settings and what OpenTelemetry's own variables say.
func (in *invocation) envoySettings(s *config.Settings) (envoy.Settings, error) {
	e := envoySettings(s)
	traces, err := in.envoyTracing(s)
	e.Tracing = traces
	return e, err
}

// envoyTracing has Envoy trace as our own services do, from the same variables.
func (in *invocation) envoyTracing(s *config.Settings) (envoy.Tracing, error) {
	c, warnings, err := tracing.Read(in.environ, "gatehouse-envoy")
	for _, w := range warnings {
		in.complain("warning: " + w)
	}
	if err != nil {
		return envoy.Tracing{}, &useError{err}
	}
	if !c.On {
		return envoy.Tracing{}, nil
	}
	if c.Headers {
		// They are secrets, and a configuration of Envoy's has none.
		in.complain("warning: OTEL_EXPORTER_OTLP_HEADERS is not sent by Envoy: name a collector beside it that needs none")
	}
	return envoy.Tracing{
		Endpoint: c.Endpoint.String(), GRPC: c.GRPC,
		Service: c.Service, Attributes: c.Attributes,
		Ratio: c.Sampler.Ratio, FollowParent: c.Sampler.Parent,
		TrustClients: s.Edge.TrustTraceparent && !c.Alone,
		Timeout:      c.Timeout,
		CAFile:       c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile,
	}, nil
}
