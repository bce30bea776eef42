package envoy

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// accessLog writes one JSON object a request to standard output. JSON, so that
// no header can forge a line; the path without its query and neither
// Authorization nor Referer, because tokens live there.
func accessLog() []*accesslogv3.AccessLog {
	decision := func(field string) string {
		return "%DYNAMIC_METADATA(" + metadataNamespace + ":" + field + ")%"
	}
	format := map[string]string{
		"time":             "%START_TIME%",
		"request_id":       "%REQ(X-REQUEST-ID):64%",
		"method":           "%REQ(:METHOD)%",
		"path":             "%PATH(NQ:PATH):1024%",
		"protocol":         "%PROTOCOL%",
		"status":           "%RESPONSE_CODE%",
		"flags":            "%RESPONSE_FLAGS%",
		"details":          "%RESPONSE_CODE_DETAILS%",
		"duration_ms":      "%DURATION%",
		"bytes_in":         "%BYTES_RECEIVED%",
		"bytes_out":        "%BYTES_SENT%",
		"client":           "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
		"route":            "%ROUTE_NAME%",
		"upstream":         "%UPSTREAM_CLUSTER%",
		"upstream_host":    "%UPSTREAM_HOST%",
		"upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
		"authz_us":         "%FILTER_STATE(" + metadataNamespace + ":FIELD:latency_us)%",
		"decision":         decision("outcome"),
		"reason":           decision("reason"),
		"user":             decision("user_id"),
		"company":          decision("company_id"),
	}
	fields := make(map[string]*structpb.Value, len(format))
	for name, value := range format {
		fields[name] = structpb.NewStringValue(value)
	}
	return []*accesslogv3.AccessLog{{
		Name: "envoy.access_loggers.stdout",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(&streamv3.StdoutAccessLog{
			AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
				OmitEmptyValues: true,
				Format:          &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: &structpb.Struct{Fields: fields}},
			}},
		})},
	}}
}
