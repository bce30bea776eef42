package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/internal/atomicfile"
	"github.com/atenex/gatehouse/internal/config"
)

// secureEnvoy says in Envoy's words what the settings say of TLS.
func secureEnvoy(e *envoy.Settings, s *config.Settings) {
	e.TLS = envoy.TLS{CertFile: s.TLS.CertFile, KeyFile: s.TLS.KeyFile}
	if s.TLS.Redirect != nil {
		e.TLS.RedirectListen = s.TLS.Redirect.String()
	}
	// Of one that is only looked at; who writes it says where it is.
	e.SecretsDir = "/etc/envoy"
	to := s.TLS.ToAuthz
	e.AuthzTLS = envoy.AuthzTLS{CAFile: to.CAFile, ServerName: to.ServerName, CertFile: to.CertFile, KeyFile: to.KeyFile}
}

// errNeedsPlace is for a configuration that is not one file.
var errNeedsPlace = errors.New("with TLS, Envoy watches files beside its configuration: name where it is, with --output or --split")

// renderBeside renders the configuration that is going to be file, and writes what
// Envoy watches into its directory.
func (in *invocation) renderBeside(s *config.Settings, named, file string) ([]byte, error) {
	table, err := routeTable(s, named)
	if err != nil {
		return nil, err
	}
	settings, err := in.envoySettings(s)
	if err != nil {
		return nil, err
	}
	if !settings.NeedsSecretFiles() {
		return in.renderTable(table, s)
	}
	if file == "" {
		return nil, errNeedsPlace
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	settings.SecretsDir = dir
	bootstrap, err := envoy.Bootstrap(table, settings)
	if err != nil {
		return nil, err
	}
	if err := writeSecretFiles(settings, dir); err != nil {
		return nil, err
	}
	return envoy.YAML(bootstrap)
}

// writeSecretFiles writes them into dir, which Envoy sees as Settings.SecretsDir.
func writeSecretFiles(s envoy.Settings, dir string) error {
	files, err := envoy.SecretFiles(s)
	if err != nil {
		return err
	}
	for name, text := range files {
		// They name secrets and hold none, and Envoy runs as another user.
		if err := atomicfile.Write(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// renderToCheck renders a configuration that is thrown away, and what it watches with
// it, until done is called.
func (in *invocation) renderToCheck(s *config.Settings, named string) (text []byte, done func(), err error) {
	dir, err := os.MkdirTemp("", "gatehouse-envoy-")
	if err != nil {
		return nil, nil, fmt.Errorf("making room for the configuration: %w", err)
	}
	text, err = in.renderBeside(s, named, filepath.Join(dir, "envoy.yaml"))
	return text, func() { _ = os.RemoveAll(dir) }, err
}
