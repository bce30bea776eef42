package tracing

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config is what the standard variables say. The zero value is: off.
type Config struct {
	// On is false until an endpoint is named (or OTEL_TRACES_EXPORTER says otlp).
	On bool
	// Endpoint is where spans are sent: the whole URL for HTTP, scheme and host
	// for gRPC.
	Endpoint *url.URL
	GRPC     bool // else HTTP with protobuf bodies
	Sampler  Sampler
	// Service is the name under which the spans of this process are found.
	Service string
	// Attributes are those of the resource, service.name apart.
	Attributes map[string]string
	// Alone: what others say about a trace is neither read nor believed.
	Alone bool
	// Headers says that OTEL_EXPORTER_OTLP_HEADERS is set. The values are secrets,
	// which only the exporter reads.
	Headers bool
	// CAFile, CertFile and KeyFile name PEM files for https; empty: the system's.
	CAFile, CertFile, KeyFile string
	Timeout                   time.Duration // of one export
}

// Sampler is which traces are kept.
type Sampler struct {
	// Ratio of the traces that begin here, from 0 to 1.
	Ratio float64
	// Parent: whoever began a trace has decided for all of it.
	Parent bool
}

func (s Sampler) String() string {
	text := strconv.FormatFloat(s.Ratio, 'g', -1, 64)
	if s.Parent {
		return "parentbased " + text
	}
	return text
}

// Fault is one variable and what is wrong with it.
type Fault struct {
	Variable string
	Problem  string
}

func (f Fault) Error() string { return f.Variable + ": " + f.Problem }

// environment is the standard variables. An empty one counts as unset, as the
// specification has it.
type environment struct {
	values   map[string]string
	faults   []error
	warnings []string
}

// Read reads the standard variables of OpenTelemetry; service is the name where
// none is configured. What is malformed or not built is refused, all of it at
// once: the SDK on its own would go on without, and nobody would notice before
// the night in which the traces are needed. A process that is not to send any
// looks at nothing but what says so.
func Read(environ []string, service string) (Config, []string, error) {
	e := &environment{values: map[string]string{}}
	for _, entry := range environ {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "OTEL_") {
			e.values[name] = strings.TrimSpace(value)
		}
	}
	if e.flag("OTEL_SDK_DISABLED") {
		return Config{}, nil, errors.Join(e.faults...)
	}
	on := false
	switch exporter := e.get("OTEL_TRACES_EXPORTER"); exporter {
	case "":
		on = e.get(tracesOr("ENDPOINT")...) != ""
	case "none":
		return Config{}, nil, errors.Join(e.faults...)
	case "otlp":
		on = true
	default:
		e.refuse("OTEL_TRACES_EXPORTER", "%q is not built: want otlp or none", exporter)
	}
	if !on {
		for _, name := range []string{"OTEL_TRACES_SAMPLER", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"} {
			if e.get(name) != "" {
				e.warn("%s is set, but nothing is traced without OTEL_EXPORTER_OTLP_ENDPOINT", name)
			}
		}
		return Config{}, e.warnings, errors.Join(e.faults...)
	}
	c := Config{On: true, GRPC: e.grpc(), Sampler: e.sampler(), Timeout: e.milliseconds(10*time.Second, tracesOr("TIMEOUT")...)}
	c.Endpoint = e.endpoint(c.GRPC)
	c.Service, c.Attributes = e.resource(service)
	c.Alone = e.alone()
	c.Headers = e.headers()
	e.tls(&c)
	e.tail()
	if len(e.faults) > 0 {
		return Config{}, e.warnings, errors.Join(e.faults...)
	}
	return c, e.warnings, nil
}

// tracesOr is the variable of traces alone, and that of every signal.
func tracesOr(what string) []string {
	return []string{"OTEL_EXPORTER_OTLP_TRACES_" + what, "OTEL_EXPORTER_OTLP_" + what}
}

func (e *environment) refuse(variable, problem string, a ...any) {
	e.faults = append(e.faults, Fault{Variable: variable, Problem: fmt.Sprintf(problem, a...)})
}

func (e *environment) warn(text string, a ...any) {
	e.warnings = append(e.warnings, fmt.Sprintf(text, a...))
}

// get is the first of names that is set.
func (e *environment) get(names ...string) string { return e.values[e.which(names...)] }

func (e *environment) which(names ...string) string {
	for _, name := range names {
		if e.values[name] != "" {
			return name
		}
	}
	return names[len(names)-1]
}

func (e *environment) flag(name string) bool {
	switch value := strings.ToLower(e.get(name)); value {
	case "true":
		return true
	case "false", "":
		return false
	default:
		e.refuse(name, "%q: want true or false", value)
		return false
	}
}

func (e *environment) grpc() bool {
	name := e.which(tracesOr("PROTOCOL")...)
	switch value := e.get(name); value {
	case "grpc":
		return true
	case "http/protobuf", "":
		return false
	default:
		e.refuse(name, "%q is not built: want grpc or http/protobuf", value)
		return false
	}
}

// endpoint follows the specification's rules for paths: that of all signals is a
// base, that of traces is taken as it is.
func (e *environment) endpoint(grpc bool) *url.URL {
	name := e.which(tracesOr("ENDPOINT")...)
	text := e.get(name)
	if text == "" {
		text = "http://localhost:4318"
		if grpc {
			text = "http://localhost:4317"
		}
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		// Not quoted: a URL that cannot be read may hold a password anywhere.
		e.refuse(name, "want a URL such as http://collector:4317, with http:// or https://")
		return nil
	case u.User != nil:
		e.refuse(name, "a user or password in the URL is not sent: use OTEL_EXPORTER_OTLP_HEADERS")
		return nil
	case u.RawQuery != "" || u.Fragment != "":
		e.refuse(name, "a query or fragment is not sent")
		return nil
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			e.refuse(name, "%q is no port", port)
			return nil
		}
	}
	if grpc {
		if u.Path != "" && u.Path != "/" {
			e.warn("%s: the path means nothing to grpc", name)
		}
		return &url.URL{Scheme: u.Scheme, Host: hostPort(u)}
	}
	if u.Port() == "4317" && e.get(tracesOr("PROTOCOL")...) == "" {
		e.warn("%s: port 4317 is gRPC's by custom, and spans go there over HTTP: set OTEL_EXPORTER_OTLP_PROTOCOL=grpc", name)
	}
	at := &url.URL{Scheme: u.Scheme, Host: hostPort(u), Path: u.Path}
	if !strings.Contains(name, "TRACES") {
		at.Path = path.Join("/", u.Path, "v1/traces")
	}
	if at.Path == "" {
		at.Path = "/"
	}
	return at
}

// hostPort names the port, which neither gRPC nor Envoy would guess.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func (e *environment) sampler() Sampler {
	const name = "OTEL_TRACES_SAMPLER"
	value := strings.ToLower(e.get(name))
	kind, parent := strings.CutPrefix(value, "parentbased_")
	switch kind {
	case "":
		if value == "" {
			return Sampler{Ratio: 1, Parent: true} // the specification's default
		}
	case "always_on":
		return Sampler{Ratio: 1, Parent: parent}
	case "always_off":
		return Sampler{Parent: parent}
	case "traceidratio":
		return Sampler{Ratio: e.ratio(), Parent: parent}
	}
	e.refuse(name, "%q is not built: want always_on, always_off or traceidratio, with or without parentbased_ in front", value)
	return Sampler{}
}

func (e *environment) ratio() float64 {
	const name = "OTEL_TRACES_SAMPLER_ARG"
	value := e.get(name)
	if value == "" {
		return 1
	}
	ratio, err := strconv.ParseFloat(value, 64)
	if err != nil || !(ratio >= 0 && ratio <= 1) { // NaN is neither
		e.refuse(name, "%q: want a number from 0 to 1", value)
	}
	return ratio
}

// resource follows W3C Baggage's spelling, as the specification has it.
func (e *environment) resource(service string) (string, map[string]string) {
	const name = "OTEL_RESOURCE_ATTRIBUTES"
	attributes := map[string]string{}
	for pair := range strings.SplitSeq(e.get(name), ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, value, found := strings.Cut(pair, "=")
		key = strings.TrimSpace(key)
		decoded, err := url.PathUnescape(strings.TrimSpace(value))
		if !found || key == "" || err != nil {
			e.refuse(name, "%q: want key=value pairs between commas, percent-encoded", strings.TrimSpace(pair))
			continue
		}
		attributes[key] = decoded
	}
	if own := attributes["service.name"]; own != "" {
		service = own
	}
	delete(attributes, "service.name")
	if own := e.get("OTEL_SERVICE_NAME"); own != "" {
		service = own
	}
	return service, attributes
}

// alone reads OTEL_PROPAGATORS. Only W3C's is built, because it is the only one
// of Envoy's OpenTelemetry tracer; others in the list besides it change nothing.
func (e *environment) alone() bool {
	const name = "OTEL_PROPAGATORS"
	value := e.get(name)
	if value == "" {
		return false
	}
	var said, others []string
	for one := range strings.SplitSeq(value, ",") {
		switch one = strings.TrimSpace(one); one {
		case "tracecontext", "none":
			said = append(said, one)
		case "baggage", "":
		default:
			others = append(others, one)
		}
	}
	switch {
	case slices.Contains(said, "none") && len(said)+len(others) > 1:
		e.refuse(name, "%q: none stands alone", value)
	case len(said) == 0 && len(others) > 0:
		e.refuse(name, "%q is not built: want tracecontext or none", value)
	case len(others) > 0:
		e.warn("%s: %s is not built, tracecontext is used", name, strings.Join(others, ", "))
	}
	return !slices.Contains(said, "tracecontext")
}

// headers judges without repeating: they hold keys to somebody's collector.
func (e *environment) headers() bool {
	name := e.which(tracesOr("HEADERS")...)
	value := e.get(name)
	for pair := range strings.SplitSeq(value, ",") {
		key, text, found := strings.Cut(pair, "=")
		if _, err := url.PathUnescape(text); value != "" && (!found || strings.TrimSpace(key) == "" || err != nil) {
			e.refuse(name, "want name=value pairs between commas, percent-encoded")
			break
		}
	}
	return value != ""
}

func (e *environment) milliseconds(standard time.Duration, names ...string) time.Duration {
	name := e.which(names...)
	value := e.get(name)
	if value == "" {
		return standard
	}
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil || n == 0 {
		e.refuse(name, "%q: want a number of milliseconds", value)
	}
	return time.Duration(n) * time.Millisecond
}

// tail judges what the SDK reads itself.
func (e *environment) tail() {
	name := e.which(tracesOr("COMPRESSION")...)
	if value := e.get(name); value != "" && value != "gzip" && value != "none" {
		e.refuse(name, "%q: want gzip or none", value)
	}
	for _, name := range slices.Sorted(maps.Keys(e.values)) {
		counts := strings.HasPrefix(name, "OTEL_BSP_") || strings.HasPrefix(name, "OTEL_SPAN_") ||
			strings.HasPrefix(name, "OTEL_ATTRIBUTE_") || strings.HasPrefix(name, "OTEL_EVENT_") || strings.HasPrefix(name, "OTEL_LINK_")
		if value := e.get(name); counts && value != "" {
			if _, err := strconv.ParseUint(value, 10, 31); err != nil {
				e.refuse(name, "%q: want a whole number", value)
			}
		}
	}
}
