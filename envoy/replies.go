package envoy

import (
	"encoding/json"
	"fmt"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

const (
	detailUnavailable = "Authorization is temporarily unavailable."
	detailTooLarge    = "Request body too large."

	detailHeadersTooLarge = "Request Header Fields Too Large"
)

// Where a route keeps the body of its fixed answer.
const (
	answerNamespace = "gatehouse.answer"
	answerBody      = "body"
)

// localReplies gives every answer of Envoy itself the form that clients know,
// {"detail": …}, and takes Envoy's own words out of it. The first mapper that
// matches wins. An answer of an upstream is not a local reply and passes as it is.
func localReplies() *managerv3.LocalReplyConfig {
	retry := setHeader("retry-after", "1")
	mappers := []*managerv3.ResponseMapper{
		// authz decided, or said why it could not: its words are the answer.
		{Filter: all(flagged("UAEX"), decided()), BodyFormatOverride: asIs()},
		// authz allowed it, and the identity did not fit in any more.
		reply(full(), 431, detailHeadersTooLarge),
		// No answer, an error instead of one, or headers that it may not set.
		reply(all(flagged("UAEX"), status(503)), 503, detailUnavailable, retry),
		reply(all(flagged("UAEX"), status(500)), 503, detailUnavailable, retry),
		// A refusal of something that is not our authz is a refusal all the same.
		{Filter: flagged("UAEX"), BodyFormatOverride: asIs()},
		// An allow without our mark, see markDemanded.
		reply(unmarked(), 503, detailUnavailable, retry),

		// Fixed answers of the route table.
		{Filter: flagged("FI"), BodyFormatOverride: body("%METADATA(ROUTE:" + answerNamespace + ":" + answerBody + ")%")},

		reply(flagged("UT", "UMSDR"), 504, "Upstream service timed out."),
		// SI is the stream idle time-out: 504 after the whole request was read,
		// 408 where it was the client that went silent.
		reply(all(flagged("SI"), status(504)), 504, "Upstream service timed out."),
		reply(flagged("UF", "UO", "UH", "NC"), 503, "Could not connect to upstream service."),
		reply(flagged("UC", "UR", "LR", "URX", "UPE"), 502, "Error communicating with upstream service."),
		// A tunnel is an upgrade that no route offers; its 403 would say that
		// there is something to be had.
		reply(all(method("CONNECT"), status(403)), 404, "Not Found"),
		reply(flagged("OM"), 503, "Service is temporarily unavailable.", retry),
	}
	for _, s := range []struct {
		code   uint32
		detail string
	}{
		{400, "Bad Request"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{408, "Request timed out."},
		{413, detailTooLarge},
		{414, "URI Too Long"},
		{426, "Upgrade Required"},
		// By status: the flag RL is not set yet when mappers run.
		{429, "Too many requests."},
		{431, detailHeadersTooLarge},
		{501, "Not Implemented"},
		{502, "Error communicating with upstream service."},
		{503, "Service is temporarily unavailable."},
		{504, "Upstream service timed out."},
	} {
		mappers = append(mappers, reply(status(s.code), s.code, s.detail))
	}
	// Envoy's own text names hosts and TLS faults; no status may let it out.
	return &managerv3.LocalReplyConfig{Mappers: append(mappers,
		keepStatus(comparison(accesslogv3.ComparisonFilter_GE, 500), "Internal Server Error"),
		keepStatus(comparison(accesslogv3.ComparisonFilter_GE, 400), "Bad Request"),
	)}
}

func reply(f *accesslogv3.AccessLogFilter, code uint32, detail string, headers ...*corev3.HeaderValueOption) *managerv3.ResponseMapper {
	m := keepStatus(f, detail)
	m.StatusCode = u32(code)
	m.HeadersToAdd = headers
	return m
}

func keepStatus(f *accesslogv3.AccessLogFilter, detail string) *managerv3.ResponseMapper {
	return &managerv3.ResponseMapper{Filter: f, Body: text(detailBody(detail)), BodyFormatOverride: asIs()}
}

// detailBody is the JSON that clients know. It is written here and not by
// Envoy's JSON format, which ends it with a line break of its own.
func detailBody(detail string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	// A map of strings always encodes.
	_ = e.Encode(map[string]string{"detail": detail})
	return strings.TrimSuffix(b.String(), "\n")
}

// asIs sends a body that is JSON already.
func asIs() *corev3.SubstitutionFormatString { return body("%LOCAL_REPLY_BODY%") }

func body(format string) *corev3.SubstitutionFormatString {
	return &corev3.SubstitutionFormatString{
		ContentType: "application/json",
		Format:      &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: text(format)},
	}
}

func all(filters ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{
		AndFilter: &accesslogv3.AndFilter{Filters: filters},
	}}
}

func flagged(flags ...string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
		ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: flags},
	}}
}

func method(name string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_HeaderFilter{
		HeaderFilter: &accesslogv3.HeaderFilter{Header: header(":method", exactly(name))},
	}}
}

func status(code uint32) *accesslogv3.AccessLogFilter {
	return comparison(accesslogv3.ComparisonFilter_EQ, code)
}

func comparison(op accesslogv3.ComparisonFilter_Op, code uint32) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
		StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: &accesslogv3.ComparisonFilter{
			Op: op,
			// The key is required; no runtime layer sets it.
			Value: &corev3.RuntimeUInt32{DefaultValue: code, RuntimeKey: "gatehouse.unused"},
		}},
	}}
}

// decided reports that authz itself wrote the refusal or the error.
func decided() *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_MetadataFilter{
		MetadataFilter: &accesslogv3.MetadataFilter{
			Matcher:            metadata(metadataNamespace, metadataOutcome, matching("deny|error")),
			MatchIfKeyNotFound: no(), // the default is yes
		},
	}}
}

// full reports that Envoy dropped authz's answer and that the request has so many
// headers that it cannot take those of one: it was within the limit by less than
// that. The details of an answer with headers that authz may not set are the same.
func full() *accesslogv3.AccessLogFilter {
	return expression(fmt.Sprintf(`response.code_details == "ext_authz_invalid" && size(request.headers) > %d`, maxHeaders-identityRoom))
}

// unmarked reports that RBAC refused. It goes by the details of the answer:
// RBAC sets no flag, and writes its metadata only after the mappers have run.
func unmarked() *accesslogv3.AccessLogFilter {
	return expression(`response.code_details.startsWith("rbac_access_denied")`)
}

// expression is written in the Common Expression Language.
func expression(cel string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name:       "envoy.access_loggers.extension_filters.cel",
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: pack(&celv3.ExpressionFilter{Expression: cel})},
		},
	}}
}
