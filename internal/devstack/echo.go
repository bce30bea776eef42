package devstack

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// echoed is what a demo upstream answers: what reached it.
type echoed struct {
	Service string              `json:"service"`
	Method  string              `json:"method"`
	Path    string              `json:"path"`
	Query   string              `json:"query"`
	Headers map[string][]string `json:"headers"`
	// BodyBytes is the length of the body, which itself is not kept.
	BodyBytes int64 `json:"body_bytes"`
}

// Echo is a demo upstream: it answers every request with what it received, so
// that one can see which headers the gateway set. Of credentials it shows the
// scheme alone.
func Echo(service string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			// The client has gone or broke off; nobody reads an answer.
			panic(http.ErrAbortHandler)
		}
		headers := map[string][]string{"Host": {r.Host}}
		for name, values := range r.Header {
			for _, v := range values {
				headers[name] = append(headers[name], shown(name, v))
			}
		}
		w.Header().Set("Content-Type", "application/json")
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		// An error here is the client's going away.
		_ = out.Encode(echoed{
			Service: service, Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery,
			Headers: headers, BodyBytes: n,
		})
	})
}

func shown(name, value string) string {
	switch name {
	case "Authorization", "Proxy-Authorization":
		scheme, _, found := strings.Cut(value, " ")
		if !found {
			return "[redacted]"
		}
		return scheme + " [redacted]"
	case "Cookie":
		return "[redacted]"
	default:
		return value
	}
}
