package rig

import (
	"context"
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

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/internal/devstack"
)

// Envoy is a running Envoy.
type Envoy struct {
	PID       int
	Listeners map[string]string // host:port by name
}

// Envoy starts the real one on a configuration whose listeners take free ports.
// concurrency is its number of workers; 0 is its own default, one for each CPU.
func (s *Stage) Envoy(ctx context.Context, b *bootstrapv3.Bootstrap, concurrency int) (*Envoy, error) {
	text, err := envoy.YAML(b)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(s.rig.dir, "envoy.yaml")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return nil, err
	}
	adminFile := filepath.Join(s.rig.dir, "envoy-admin.address")
	if err := os.Remove(adminFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	args := []string{"-c", config, "--use-dynamic-base-id", "--admin-address-path", adminFile, "--log-level", "warning"}
	if concurrency > 0 {
		args = append(args, "--concurrency", strconv.Itoa(concurrency))
	}
	p, err := devstack.Start(devstack.Command{Name: "envoy", Path: s.rig.envoyBin.Path, Args: args})
	if err != nil {
		return nil, err
	}
	s.group.Add(p)
	out := &Envoy{PID: p.PID()}
	want := len(b.GetStaticResources().GetListeners())
	err = eventually(ctx, "Envoy listens", func(ctx context.Context) error {
		admin, err := os.ReadFile(adminFile)
		if err != nil {
			return err
		}
		base := "http://" + strings.TrimSpace(string(admin))
		if _, err := get(ctx, base+"/ready"); err != nil {
			return err
		}
		if out.Listeners, err = listeners(ctx, base); err != nil {
			return err
		}
		if len(out.Listeners) != want {
			return fmt.Errorf("%d listeners of %d", len(out.Listeners), want)
		}
		return nil
	})
	return out, err
}

func listeners(ctx context.Context, admin string) (map[string]string, error) {
	text, err := get(ctx, admin+"/listeners?format=json")
	if err != nil {
		return nil, err
	}
	var page struct {
		Statuses []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(text, &page); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, l := range page.Statuses {
		if l.Address.Socket.Port != 0 {
			out[l.Name] = net.JoinHostPort(l.Address.Socket.Address, strconv.Itoa(l.Address.Socket.Port))
		}
	}
	return out, nil
}

// get fetches a small page, without the proxy that an environment may name.
func get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, answer.Status)
	}
	return body, nil
}
