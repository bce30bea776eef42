package authzd

import (
	"fmt"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/atenex/gatehouse/internal/certfiles"
	"github.com/atenex/gatehouse/internal/config"
)

// transport is how checks come in: over TLS where there is a certificate, else in the
// clear.
func transport(s config.ServerTLS, log *slog.Logger) ([]grpc.ServerOption, error) {
	if s.CertFile == "" {
		return nil, nil
	}
	tls, err := certfiles.Server(certfiles.Files{Cert: s.CertFile, Key: s.KeyFile, ClientCA: s.ClientCAFile}, log)
	if err != nil {
		return nil, fmt.Errorf("GATEWAY_AUTHZ_TLS_CERT_FILE: %w", err)
	}
	if s.ClientCAFile == "" {
		log.Warn("GATEWAY_AUTHZ_TLS_CLIENT_CA_FILE is not set: whoever reaches authz may ask it about tokens")
	}
	return []grpc.ServerOption{grpc.Creds(credentials.NewTLS(tls))}, nil
}
