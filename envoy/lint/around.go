package lint

import (
	"net/netip"
	"regexp"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

func (c *checker) admin(b *bootstrapv3.Bootstrap, at string) {
	socket := b.GetAdmin().GetAddress().GetSocketAddress()
	if socket == nil {
		return
	}
	if ip, err := netip.ParseAddr(socket.GetAddress()); err != nil || !ip.IsLoopback() {
		c.find("admin-open", join(at, "admin.address"), "it listens on %s", socket.GetAddress())
	}
}

func (c *checker) upstreamTLS(t *tlsv3.UpstreamTlsContext, at string) {
	common := t.GetCommonTlsContext()
	check := common.GetValidationContext()
	if combined := common.GetCombinedValidationContext(); combined != nil {
		check = combined.GetDefaultValidationContext()
	}
	if common.GetValidationContextSdsSecretConfig() != nil || common.GetCombinedValidationContext().GetValidationContextSdsSecretConfig() != nil {
		return // delivered elsewhere
	}
	trusted := check.GetTrustedCa() != nil || check.GetSystemRootCerts() != nil || len(check.GetVerifyCertificateHash()) > 0 || len(check.GetVerifyCertificateSpki()) > 0
	named := len(check.GetMatchTypedSubjectAltNames()) > 0 || t.GetAutoSniSanValidation() ||
		len(check.GetVerifyCertificateHash()) > 0 || len(check.GetVerifyCertificateSpki()) > 0
	if !trusted || !named || check.GetTrustChainVerification() == tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED {
		c.find("upstream-unverified", at, "no trusted CA, or no name that the certificate must have")
	}
}

// The operators of a log format.
var (
	secretOperator = regexp.MustCompile(`(?i)%(REQ|REQUEST_HEADERS?|RESP|TRAILER)[A-Z_]*\([^)]*(authorization|cookie|x-api-key)[^)]*\)`)
	queryOperator  = regexp.MustCompile(`(?i)%(REQ\([^)]*(:path|x-envoy-original-path|referer)[^)]*\)|PATH\((WQ|ORIG)?[:)])`)
)

// accessLog looks at the words of a log's format, wherever they are in it.
func (c *checker) accessLog(m proto.Message, at string) {
	l, ok := m.(*accesslogv3.AccessLog)
	if !ok || l.GetTypedConfig() == nil {
		return
	}
	text, err := protojson.Marshal(l)
	if err != nil {
		return
	}
	if found := secretOperator.Find(text); found != nil {
		c.find("secrets-logged", at, "%s", found)
	}
	if found := queryOperator.Find(text); found != nil {
		c.find("query-logged", at, "%s", found)
	}
	inText := false
	walk(l, at, func(m proto.Message, _ string) {
		switch m := m.(type) {
		case *corev3.SubstitutionFormatString:
			inText = inText || m.GetJsonFormat() == nil
		case *filev3.FileAccessLog:
			// Without a format it is Envoy's own, a text with the query in it.
			inText = inText || m.GetAccessLogFormat() == nil || m.GetFormat() != "" //nolint:staticcheck // still met in the wild
		}
	})
	if inText {
		c.find("text-log", at, "the format is text")
	}
}

func (c *checker) rateLimit(m proto.Message, at string) {
	l, ok := m.(*ratelimitv3.LocalRateLimit)
	if !ok || l.GetTokenBucket() == nil {
		return
	}
	if nobody(l.GetFilterEnabled()) || nobody(l.GetFilterEnforced()) {
		c.find("rate-limit-not-enforced", at, "filter_enabled or filter_enforced is not set, or 0 %%")
	}
	if l.GetMaxDynamicDescriptors() != nil {
		return
	}
	for _, d := range l.GetDescriptors() {
		for _, e := range d.GetEntries() {
			if e.GetValue() == "" {
				c.find("rate-limit-forgets", at, "max_dynamic_descriptors is not set")
				return
			}
		}
	}
}

// nobody reports whether a share is none at all.
func nobody(p *corev3.RuntimeFractionalPercent) bool { return p.GetDefaultValue().GetNumerator() == 0 }
