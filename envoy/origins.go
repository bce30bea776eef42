package envoy

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// origins are the browser origins that may read answers.
type origins struct {
	exact []string
	// previews is RE2 to be matched against a whole origin; empty: none.
	previews string
}

// vercelProject is the one label before .vercel.app, the project's name.
var vercelProject = regexp.MustCompile(`^https://([a-z0-9][a-z0-9-]*)\.vercel\.app$`)

func (s Settings) origins() (origins, error) {
	var out origins
	var faults []error
	add := func(what, text string) string {
		origin, err := parseOrigin(text)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s %q: %w", what, text, err))
			return ""
		}
		if !slices.Contains(out.exact, origin) {
			out.exact = append(out.exact, origin)
		}
		return origin
	}
	for _, o := range s.CORSOrigins {
		add("origin", o)
	}
	if s.VercelFrontendURL != "" {
		origin := add("Vercel frontend", s.VercelFrontendURL)
		if m := vercelProject.FindStringSubmatch(origin); m != nil {
			out.previews = `https://` + regexp.QuoteMeta(m[1]) + `-[a-z0-9-]+\.vercel\.app`
		}
	}
	if s.NgrokURL != "" {
		if origin := add("ngrok", s.NgrokURL); origin != "" && !strings.HasPrefix(origin, "https://") {
			faults = append(faults, fmt.Errorf("ngrok %q: want https", s.NgrokURL))
		}
	}
	return out, errors.Join(faults...)
}

// parseOrigin brings an origin into the one form in which browsers send it
// (RFC 6454 section 6.2): lower case, no default port, no path. Another form
// would be accepted here and never match there.
func parseOrigin(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", errors.New("not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", errors.New("want http:// or https://; * and null are never allowed together with credentials")
	case u.Hostname() == "" || strings.ContainsAny(u.Hostname(), "*_% "):
		return "", errors.New("the host is missing or no host name")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || (u.Path != "" && u.Path != "/"):
		return "", errors.New("want scheme, host and port alone")
	}
	host := strings.ToLower(u.Host)
	switch {
	case u.Scheme == "http":
		host = strings.TrimSuffix(host, ":80")
	case u.Scheme == "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return u.Scheme + "://" + strings.TrimSuffix(host, ":"), nil
}

func (o origins) matchers() []*matcherv3.StringMatcher {
	var out []*matcherv3.StringMatcher
	for _, e := range o.exact {
		out = append(out, exactly(e))
	}
	if o.previews != "" {
		out = append(out, matching(o.previews))
	}
	return out
}
