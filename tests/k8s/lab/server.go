package lab

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Server is a running API server.
type Server struct {
	// Kubeconfig names a file for helm, as a member of system:masters.
	Kubeconfig string
	Client     *Client

	stop func()
}

// Start runs etcd and the API server on free ports of loopback, with everything
// they write in dir. ctx bounds the start; the server runs until Stop.
func Start(ctx context.Context, tools Tools, dir string) (*Server, error) {
	var paths [2]string
	for i, name := range []string{etcd, apiServer} {
		path, err := tools.Find(ctx, name)
		if err != nil {
			return nil, err
		}
		paths[i] = path
	}
	ports, err := FreePorts(ctx, 3)
	if err != nil {
		return nil, err
	}
	store, peers := "http://"+ports[0], "http://"+ports[1]
	host, port, err := net.SplitHostPort(ports[2])
	if err != nil {
		return nil, err
	}
	s := &Server{Kubeconfig: filepath.Join(dir, "kubeconfig"), Client: newClient("https://"+ports[2], rand.Text())}
	if err := s.write(dir); err != nil {
		return nil, err
	}
	stopStore, err := background(paths[0], filepath.Join(dir, "etcd.log"),
		"--data-dir", filepath.Join(dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", store, "--advertise-client-urls", store,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "default="+peers)
	if err != nil {
		return nil, err
	}
	log := filepath.Join(dir, "kube-apiserver.log")
	stopServer, err := background(paths[1], log,
		"--etcd-servers", store, "--bind-address", host, "--secure-port", port, "--cert-dir", filepath.Join(dir, "certificates"),
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", filepath.Join(dir, "account.pem"), "--service-account-signing-key-file", filepath.Join(dir, "account.pem"),
		"--token-auth-file", filepath.Join(dir, "tokens.csv"), "--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.0.0.0/24",
		// Nobody makes the account "default" of a namespace here. Pod Security is on by itself.
		"--disable-admission-plugins", "ServiceAccount")
	if err != nil {
		stopStore()
		return nil, err
	}
	s.stop = func() {
		stopServer()
		stopStore()
	}
	if err := s.await(ctx); err != nil {
		s.Stop()
		text, _ := os.ReadFile(log)
		return nil, fmt.Errorf("the API server does not come up: %w\n%s", err, tail(text))
	}
	return s, nil
}

// Stop ends both programs and waits for them.
func (s *Server) Stop() { s.stop() }

// await polls until the server says that it is ready.
func (s *Server) await(ctx context.Context) error {
	for {
		_, err := s.Client.Get(ctx, "/readyz")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (s *Server) write(dir string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	account := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	config := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{ name: lab, cluster: { server: %q, insecure-skip-tls-verify: true } }]
users: [{ name: lab, user: { token: %q } }]
contexts: [{ name: lab, context: { cluster: lab, user: lab } }]
current-context: lab
`, s.Client.server, s.Client.token)
	for name, text := range map[string]string{
		"account.pem": string(account),
		"tokens.csv":  s.Client.token + ",lab,lab,system:masters\n",
		"kubeconfig":  config,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// background starts a program that writes to a log, and gives the way to end it.
func background(path, log string, args ...string) (stop func(), err error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...) //nolint:noctx // it outlives the start
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		_ = out.Close()
		close(ended)
	}()
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(15 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	}, nil
}

// FreePorts are addresses on loopback that nobody listened on a moment ago.
func FreePorts(ctx context.Context, n int) (list []string, err error) {
	var (
		lc    net.ListenConfig
		taken []net.Listener
	)
	// At the end, so that no two are the same.
	defer func() {
		for _, l := range taken {
			err = errors.Join(err, l.Close())
		}
	}()
	for range n {
		l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		taken = append(taken, l)
		list = append(list, l.Addr().String())
	}
	return list, nil
}
