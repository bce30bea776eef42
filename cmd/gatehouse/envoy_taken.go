package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/atenex/gatehouse/envoy"
)

// edgeEnvoys are the admin interfaces of the Envoys that watch a directory, which
// say what they have taken of it. None need be known.
type edgeEnvoys []string

// subscription is where Envoy counts what it reads from a file, and what is not
// in force yet although it was read.
type subscription struct{ prefix, warming string }

func subscriptionOf(file string) (subscription, bool) {
	s, known := map[string]subscription{
		envoy.FileClusters:  {"cluster_manager.cds.", "cluster_manager.warming_clusters"},
		envoy.FileListeners: {"listener_manager.lds.", "listener_manager.total_listeners_warming"},
		envoy.FileRoutes:    {"http.edge.rds.edge.", ""},
	}[file]
	return s, known
}

// reachEnvoys refuses one that does not answer or watches nothing, before a file is
// touched.
func reachEnvoys(ctx context.Context, admins []string) (edgeEnvoys, error) {
	for _, admin := range admins {
		figures, err := stats(ctx, admin)
		if err != nil {
			return nil, err
		}
		for _, file := range []string{envoy.FileClusters, envoy.FileListeners, envoy.FileRoutes} {
			s, _ := subscriptionOf(file)
			if _, there := figures[s.prefix+"update_success"]; !there {
				return nil, fmt.Errorf("the Envoy at %s watches no %s: start it with %s", admin, file, envoy.FileBootstrap)
			}
		}
	}
	return admins, nil
}

// awaited is a step that Envoys are about to take.
type awaited struct {
	envoys   edgeEnvoys
	step     envoy.Step
	of       subscription
	refusals []uint64 // of each, before
}

// about is asked before the file is written.
func (e edgeEnvoys) about(ctx context.Context, step envoy.Step) (awaited, error) {
	a := awaited{envoys: e, step: step}
	var known bool
	if a.of, known = subscriptionOf(step.File); !known {
		return a, nil
	}
	for _, admin := range e {
		figures, err := stats(ctx, admin)
		if err != nil {
			return a, err
		}
		a.refusals = append(a.refusals, a.of.refused(figures))
	}
	return a, nil
}

func (s subscription) refused(figures map[string]string) uint64 {
	n := uint64(0)
	for _, name := range []string{"update_rejected", "update_failure"} {
		// One that is missing has counted nothing.
		count, _ := strconv.ParseUint(figures[s.prefix+name], 10, 64)
		n += count
	}
	return n
}

// taken waits until all of them have the file in force.
func (a awaited) taken(ctx context.Context) error {
	deadline := time.Now().Add(takenLimit)
	for i, admin := range a.envoys {
		for {
			figures, err := stats(ctx, admin)
			if err != nil {
				return err
			}
			has := figures[a.of.prefix+"version_text"] == a.step.Version
			warm := a.of.warming == "" || figures[a.of.warming] == "0"
			if has && warm {
				break
			}
			if a.of.refused(figures) > a.refusals[i] {
				return fmt.Errorf("the Envoy at %s refuses %s (its log says why)", admin, a.step.File)
			}
			if time.Now().After(deadline) {
				if has {
					return fmt.Errorf("the Envoy at %s has read %s and is not ready for it after %v (a name that is not found, a service that does not answer)", admin, a.step.File, takenLimit)
				}
				return fmt.Errorf("the Envoy at %s has not read %s within %v: is this the directory that it watches?", admin, a.step.File, takenLimit)
			}
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// wanted are the figures that are looked at, as Envoy's filter takes them.
const wanted = `^(cluster_manager\.(cds\.|warming_clusters)|listener_manager\.(lds\.|total_listeners_warming)|http\.edge\.rds\.edge\.)`

// stats asks an Envoy for them: texts without their quotes.
func stats(ctx context.Context, admin string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(admin, "/")+"/stats?filter="+url.QueryEscape(wanted), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("asking the Envoy at %s: %w", admin, err)
	}
	a, err := (&http.Client{Timeout: 5 * time.Second}).Do(r)
	if err != nil {
		if long, ok := errors.AsType[*url.Error](err); ok {
			err = long.Err // without the address, which is said already, and the filter
		}
		return nil, fmt.Errorf("asking the Envoy at %s: %w", admin, err)
	}
	defer func() { _ = a.Body.Close() }()
	if a.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking the Envoy at %s: it answers %s", admin, a.Status)
	}
	out := map[string]string{}
	lines := bufio.NewScanner(io.LimitReader(a.Body, 1<<20))
	for lines.Scan() {
		if name, value, found := strings.Cut(lines.Text(), ": "); found {
			out[name] = strings.Trim(value, `"`)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("asking the Envoy at %s: %w", admin, err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("asking the Envoy at %s: it watches no files", admin)
	}
	return out, nil
}
