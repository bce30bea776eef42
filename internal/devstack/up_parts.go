package devstack

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/atenex/gatehouse/internal/atomicfile"
)

// services starts authz and login side by side and waits until both are ready.
func (s *stack) services(ctx context.Context) error {
	side, ctx := errgroup.WithContext(ctx)
	var authz, login map[string]string
	side.Go(func() (err error) {
		authz, err = s.service(ctx, "authz", s.Authz, "authz_grpc", "authz_ops")
		if err != nil {
			return err
		}
		if err := s.healthy(ctx, "authz", httpOK(asURL(authz["authz_ops"])+"/readyz")); err != nil {
			return err
		}
		return s.healthy(ctx, "authz", func(ctx context.Context) error {
			address := authz["authz_grpc"]
			if s.TLS.Authz == nil {
				return GRPCHealth(ctx, address)
			}
			config, err := s.TLS.Authz(address)
			if err != nil {
				return err
			}
			return GRPCHealthTLS(ctx, address, config)
		})
	})
	side.Go(func() (err error) {
		login, err = s.service(ctx, "login", s.Login, "login", "login_ops")
		if err != nil {
			return err
		}
		return s.healthy(ctx, "login", httpOK(asURL(login["login_ops"])+"/readyz"))
	})
	if err := side.Wait(); err != nil {
		return err
	}
	s.at.AuthzGRPC, s.at.AuthzOps = authz["authz_grpc"], asURL(authz["authz_ops"])
	s.at.Login, s.at.LoginOps = asURL(login["login"]), asURL(login["login_ops"])
	return nil
}

// service starts one process of ours and returns the addresses that it reports
// under the wanted names.
func (s *stack) service(ctx context.Context, name string, service Service, want ...string) (map[string]string, error) {
	readyFile := filepath.Join(s.StateDir, name+".ready")
	if err := os.Remove(readyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// Our own processes keep the working directory: paths in their settings
	// are relative to it.
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	c := Command{
		Name: name, Path: service.Path, Dir: dir, Output: s.out.prefixed(name),
		Args: append(append([]string{}, service.Args...), "--ready-file", readyFile),
	}
	if service.Env != nil {
		c.Env = service.Env(s.at)
	}
	p, err := Start(c)
	if err != nil {
		return nil, err
	}
	s.group.Add(p)

	var addresses map[string]string
	err = s.healthy(ctx, name, func(context.Context) error {
		text, err := os.ReadFile(readyFile)
		if errors.Is(err, fs.ErrNotExist) {
			return errors.New("it has not said where it listens")
		}
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &addresses); err != nil {
			return fmt.Errorf("its ready file: %w", err)
		}
		for _, w := range want {
			if addresses[w] == "" {
				return fmt.Errorf("its ready file lacks %s", w)
			}
		}
		return nil
	})
	return addresses, err
}

// envoy starts Envoy on the configuration rendered for the addresses and waits
// until requests pass through it.
func (s *stack) envoy(ctx context.Context, binary Binary) error {
	text, err := s.RenderEnvoy(s.at)
	if err != nil {
		return fmt.Errorf("rendering Envoy's configuration: %w", err)
	}
	config := filepath.Join(s.StateDir, EnvoyConfig)
	if err := atomicfile.Write(config, text, 0o600); err != nil {
		return err
	}
	adminFile := filepath.Join(s.StateDir, "envoy-admin.address")
	if err := os.Remove(adminFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	p, err := Start(Command{
		Name: "envoy", Path: binary.Path, Output: s.out.prefixed("envoy"),
		// A base id of its own, or stacks side by side collide.
		Args: append([]string{"-c", config, "--use-dynamic-base-id", "--admin-address-path", adminFile, "--log-level", "warning"}, s.EnvoyArgs...),
	})
	if err != nil {
		return err
	}
	s.group.Add(p)

	var admin string
	if err := s.healthy(ctx, "envoy", func(ctx context.Context) error {
		text, err := os.ReadFile(adminFile)
		if err != nil || len(text) == 0 {
			return errors.New("it has not said where its admin listens")
		}
		admin = "http://" + loopback(strings.TrimSpace(string(text)))
		return httpOK(admin + "/ready")(ctx)
	}); err != nil {
		return err
	}
	public := s.at.Public
	if err := s.healthy(ctx, "envoy", func(ctx context.Context) error {
		port, err := boundPort(ctx, admin, public)
		if err == nil {
			host, _, _ := net.SplitHostPort(public)
			public = net.JoinHostPort(host, port)
		}
		return err
	}); err != nil {
		return err
	}
	gateway, err := s.gateway(ctx, loopback(public))
	if err != nil {
		return err
	}
	s.ready = Ready{
		Gateway: gateway, AuthzGRPC: s.at.AuthzGRPC, AuthzOps: s.at.AuthzOps,
		Login: s.at.Login, LoginOps: s.at.LoginOps, EnvoyAdmin: admin, DatabaseURL: s.at.Database,
	}
	return nil
}

// gateway waits until requests pass through Envoy at an address, and is its URL.
func (s *stack) gateway(ctx context.Context, address string) (string, error) {
	if s.TLS.Gateway == nil {
		url := "http://" + address
		return url, s.healthy(ctx, "the gateway", httpOK(url+"/health"))
	}
	err := s.healthy(ctx, "the gateway", func(ctx context.Context) error {
		config, err := s.TLS.Gateway()
		if err != nil {
			return err
		}
		_, err = fetch(ctx, "https://"+address+"/health", config)
		return err
	})
	if host := s.TLS.GatewayHost; host != "" {
		_, port, _ := net.SplitHostPort(address)
		address = net.JoinHostPort(host, port)
	}
	return "https://" + address, err
}

// publicListener is what Envoy calls the one for clients.
const publicListener = "edge"

// boundPort is the port of the public listener, which Envoy alone knows if it
// was to take a free one.
func boundPort(ctx context.Context, admin, public string) (string, error) {
	_, port, err := net.SplitHostPort(public)
	if err != nil || port != "0" {
		return port, err
	}
	text, err := get(ctx, admin+"/listeners?format=json")
	if err != nil {
		return "", err
	}
	var listeners struct {
		Statuses []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Port int `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(text, &listeners); err != nil {
		return "", err
	}
	for _, l := range listeners.Statuses {
		if l.Name == publicListener && l.Address.Socket.Port != 0 {
			return strconv.Itoa(l.Address.Socket.Port), nil
		}
	}
	return "", errors.New("it has no public listener")
}

// healthy waits until a check passes. It fails when a part has died, ctx has
// ended, or the time for getting ready is over; then it names what is not
// ready, and why.
func (s *stack) healthy(ctx context.Context, name string, check func(context.Context) error) error {
	limit := s.ReadyTimeout
	if limit == 0 {
		limit = defaultReadyTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("waited %s", limit))
	defer cancel()
	for {
		// One attempt must not use up the time of all.
		attempt, done := context.WithTimeout(ctx, 3*time.Second)
		err := check(attempt)
		done()
		if err == nil {
			return nil
		}
		if stopped := pause(ctx, 20*time.Millisecond); stopped != nil {
			return fmt.Errorf("%s is not ready: %w (%w)", name, err, stopped)
		}
	}
}

func httpOK(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := get(ctx, url)
		return err
	}
}

// get fetches a small page of a part of the stack.
func get(ctx context.Context, url string) ([]byte, error) { return fetch(ctx, url, nil) }

func fetch(ctx context.Context, url string, config *tls.Config) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	// Not the default transport: a proxy that the environment names has no
	// business between parts on one machine.
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s answers %d: %s", url, answer.StatusCode, strings.TrimSpace(string(body[:min(len(body), 300)])))
	}
	return body, nil
}

// GRPCHealth asks the server at host:port or unix:///path by the gRPC health
// protocol. nil: it says SERVING.
func GRPCHealth(ctx context.Context, address string) error {
	return grpcHealth(ctx, address, insecure.NewCredentials())
}

// GRPCHealthTLS is GRPCHealth of a server that speaks TLS.
func GRPCHealthTLS(ctx context.Context, address string, config *tls.Config) error {
	return grpcHealth(ctx, address, credentials.NewTLS(config))
}

func grpcHealth(ctx context.Context, address string, transport credentials.TransportCredentials) error {
	target := address
	if !strings.HasPrefix(address, "unix://") {
		target = "passthrough:///" + loopback(address)
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(transport), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	if answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("its gRPC health is %s", answer.GetStatus())
	}
	return nil
}

// asURL makes a URL of an address that came without a scheme.
func asURL(address string) string {
	if strings.Contains(address, "://") {
		return strings.TrimSuffix(address, "/")
	}
	return "http://" + loopback(address)
}
