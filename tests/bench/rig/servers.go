package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/atenex/gatehouse/internal/devstack"
)

// Server is a running ext_authz server.
type Server struct {
	Name    string
	Address string // host:port of its gRPC
	PID     int
	Env     map[string]string // what it was told beside the usual
}

// secret signs the tokens of the benchmark, whose database is gone afterwards.
const secret = "test-secret-for-benchmarks-only-of-obvious-words"

// Knows reports whether this build of authz has a setting. It is asked to start
// with a value that no setting takes and without those that it needs, so that it
// refuses, naming all that it finds wrong; of what it does not know it says nothing
// then.
func (r *Rig) Knows(ctx context.Context, setting string) (bool, error) {
	cmd := exec.CommandContext(ctx, r.program("authz"))
	cmd.Env, cmd.Dir = []string{setting + "=no value of anything"}, r.dir
	said, err := cmd.CombinedOutput()
	if _, refused := errors.AsType[*exec.ExitError](err); !refused {
		return false, fmt.Errorf("authz without settings ended with %w, want a refusal: %s", err, said)
	}
	return bytes.Contains(said, []byte(setting)), nil
}

// Authz starts an authz of this tree with settings beside the usual ones, which
// are the defaults.
func (s *Stage) Authz(ctx context.Context, name string, env map[string]string) (*Server, error) {
	all := map[string]string{
		"GATEWAY_DATABASE_URL":     s.rig.database,
		"GATEWAY_JWT_SECRET":       secret,
		"GATEWAY_AUTHZ_LISTEN":     "127.0.0.1:0",
		"GATEWAY_AUTHZ_OPS_LISTEN": "127.0.0.1:0",
	}
	for name, value := range env {
		all[name] = value
	}
	server, addresses, err := s.serve(ctx, name, "authz", []string{"--drain=0s"}, all)
	if err != nil {
		return nil, err
	}
	server.Env = env
	// Memory is trusted from the first proof of life on, a moment later.
	if err := eventually(ctx, name+" is ready", func(ctx context.Context) error {
		if _, err := get(ctx, addresses["authz_ops"]+"/readyz"); err != nil {
			return err
		}
		return devstack.GRPCHealth(ctx, server.Address)
	}); err != nil {
		return nil, err
	}
	return server, nil
}

// Stranger starts one of the servers that Gatehouse is compared with.
func (s *Stage) Stranger(ctx context.Context, name, program string, env map[string]string) (*Server, error) {
	all := map[string]string{"DATABASE_URL": s.rig.database, "JWT_SECRET": secret}
	for name, value := range env {
		all[name] = value
	}
	server, _, err := s.serve(ctx, name, program, nil, all)
	if err != nil {
		return nil, err
	}
	server.Env = env
	return server, nil
}

// serve starts a program of ours and waits until it says where it listens.
func (s *Stage) serve(ctx context.Context, name, program string, args []string, env map[string]string) (*Server, map[string]string, error) {
	ready := filepath.Join(s.rig.dir, name+".ready")
	if err := os.Remove(ready); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	p, err := devstack.Start(devstack.Command{
		Name: name, Path: s.rig.program(program), Dir: s.rig.dir, Env: pairs(env),
		Args: append(args, "--ready-file", ready),
	})
	if err != nil {
		return nil, nil, err
	}
	s.group.Add(p)
	var addresses map[string]string
	err = eventually(ctx, name+" says where it listens", func(context.Context) error {
		text, err := os.ReadFile(ready)
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &addresses)
	})
	if err != nil {
		return nil, nil, err
	}
	return &Server{Name: name, Address: addresses["authz_grpc"], PID: p.PID()}, addresses, nil
}
