// Package certfiles keeps a server's certificate, and the CA of its clients, as they
// are in files: when these are replaced, the next connection meets the new ones.
//
// It must never know who is served, or what with.
package certfiles

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Files are names of PEM files. Without ClientCA every client is taken.
type Files struct {
	Cert, Key string
	ClientCA  string
}

// Server reads the files and is the configuration of a server that speaks TLS 1.3
// alone. At each handshake it looks whether a file has changed; files that cannot be
// used, as when one of two has been replaced, are logged once and change nothing.
func Server(files Files, log *slog.Logger) (*tls.Config, error) {
	w := &watch{files: files, log: log}
	seen := w.stamps()
	config, err := read(files)
	if err != nil {
		return nil, err
	}
	w.seen, w.config = seen, config
	// What a listener asks for first it must know at once: gRPC looks at NextProtos.
	out := config.Clone()
	out.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return w.current(), nil }
	return out, nil
}

// watch is what was read last.
type watch struct {
	files Files
	log   *slog.Logger

	mu     sync.Mutex
	seen   [3]stamp
	config *tls.Config
}

// stamp tells one state of a file from the next. A name that is a link is followed, so
// that a link turned to another file is seen.
type stamp struct {
	size     int64
	modified time.Time
}

func (w *watch) stamps() [3]stamp {
	var out [3]stamp
	for i, name := range []string{w.files.Cert, w.files.Key, w.files.ClientCA} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			out[i] = stamp{info.Size(), info.ModTime()}
		}
	}
	return out
}

func (w *watch) current() *tls.Config {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Taken before the files are read: a change in between is one of the next time.
	now := w.stamps()
	if now == w.seen {
		return w.config
	}
	w.seen = now
	config, err := read(w.files)
	if err != nil {
		w.log.Error("the new certificate cannot be used, the old one stays", "error", err)
		return w.config
	}
	w.log.Info("certificate read anew", "not_after", config.Certificates[0].Leaf.NotAfter)
	w.config = config
	return config
}

func read(files Files) (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate and its key: %w", err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{certificate},
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2"},
		// A session that is resumed would skip a CA that has changed.
		SessionTicketsDisabled: true,
	}
	if files.ClientCA == "" {
		return config, nil
	}
	text, err := os.ReadFile(files.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("reading the CA of clients: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(text) {
		return nil, errors.New("reading the CA of clients: no certificate in the file")
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	return config, nil
}
