package login

import (
	"log/slog"
	"net/http"
	"time"
)

// MaxConnections is how many connections the listener should hold at once; each
// may hold a goroutine for as long as a refusal takes.
const MaxConnections = 1024

const (
	headerTime = 5 * time.Second
	bodyTime   = 10 * time.Second
	// requestTime is the whole of a request from the end of its headers on.
	requestTime = 15 * time.Second
	// idleTime must outlast the gate's own, or it would reuse a connection at
	// the moment in which this end closes it.
	idleTime       = 75 * time.Second
	maxHeaderBytes = 16 << 10
)

// NewHTTPServer returns a server with the bounds that h relies on. It does not
// listen yet.
func NewHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTime,
		// A second more, so that a request that ran out of time is told so.
		WriteTimeout:   requestTime + time.Second,
		IdleTimeout:    idleTime,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		// OPTIONS * is a path that does not exist, like any other.
		DisableGeneralOptionsHandler: true,
	}
}
