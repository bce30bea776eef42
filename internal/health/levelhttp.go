package health

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

const (
	levelPath    = "/log-level"
	levelMaxBody = 4 << 10
)

// logLevel shows the level to whoever may see the metrics, and lets it be changed
// from this machine alone. It has no password: what it guards is a nuisance, and
// who can come from here (kubectl port-forward, docker exec) can do worse.
//
// A browser on this machine must not do it for a page that it shows. It would have
// to send a header that a page can only send to where it comes from, or after a
// preflight that nobody answers here; and to a name of this machine's own, so that
// a name which the page's owner has turned to 127.0.0.1 (DNS rebinding) is none.
func logLevel(level *LogLevel, log *slog.Logger) (get, put http.HandlerFunc) {
	get = func(w http.ResponseWriter, _ *http.Request) { asJSON(w, http.StatusOK, level.State()) }
	put = func(w http.ResponseWriter, r *http.Request) {
		if err := fromHere(r); err != nil {
			refuseLevel(w, http.StatusForbidden, err)
			return
		}
		asked, status, err := readLevel(w, r)
		if err != nil {
			refuseLevel(w, status, err)
			return
		}
		to, err := parseLevel(asked.Level)
		if err != nil {
			refuseLevel(w, http.StatusBadRequest, err)
			return
		}
		lasts, err := parseFor(asked.For)
		if err != nil {
			refuseLevel(w, http.StatusBadRequest, err)
			return
		}
		asJSON(w, http.StatusOK, level.Set(to, lasts, log))
	}
	return get, put
}

// fromHere refuses what did not begin on this machine, or where a page or a proxy
// may have had a hand in it.
func fromHere(r *http.Request) error {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return errors.New("the log level is changed from this machine only")
	}
	switch at := peer.Addr().Unmap(); at {
	// Exactly these: a sidecar passes strangers on from 127.0.0.6.
	case netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback():
	default:
		return errors.New("the log level is changed from this machine only, through 127.0.0.1 or ::1")
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if host = strings.Trim(host, "[]"); !strings.EqualFold(host, "localhost") && host != "127.0.0.1" && host != "::1" {
		return errors.New("the Host must be localhost, 127.0.0.1 or ::1")
	}
	for name := range r.Header {
		if name == "Forwarded" || name == "Via" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "X-Envoy-") {
			return errors.New("the log level is not changed through a proxy")
		}
	}
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		return errors.New("the log level is not changed by a page in a browser")
	}
	return nil
}

type levelRequest struct {
	Level string `json:"level"`
	For   string `json:"for"`
}

// readLevel takes the body, or without one the query.
func readLevel(w http.ResponseWriter, r *http.Request) (asked levelRequest, status int, err error) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "application/json" && r.Header.Get("X-Requested-With") == "" {
		return asked, http.StatusUnsupportedMediaType, errors.New("want the header Content-Type: application/json (or X-Requested-With)")
	}
	query := r.URL.Query()
	asked = levelRequest{Level: query.Get("level"), For: query.Get("for")}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, levelMaxBody))
	if err != nil {
		return asked, http.StatusRequestEntityTooLarge, errors.New("the body is too large, or broke off")
	}
	if len(body) == 0 {
		return asked, 0, nil
	}
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&asked); err != nil || decoder.More() {
		return asked, http.StatusBadRequest, errors.New(`want a body such as {"level":"DEBUG","for":"10m"}`)
	}
	return asked, 0, nil
}

func refuseLevel(w http.ResponseWriter, status int, err error) {
	asJSON(w, status, map[string]string{"detail": err.Error()})
}

func asJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{"detail":"internal error"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}
