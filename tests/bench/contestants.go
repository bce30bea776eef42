package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/atenex/gatehouse/tests/bench/contender"
	"github.com/atenex/gatehouse/tests/bench/edge"
	"github.com/atenex/gatehouse/tests/bench/report"
	"github.com/atenex/gatehouse/tests/bench/rig"
)

// contestant is one listener of Envoy and the server behind it.
type contestant struct {
	name   string
	style  edge.Style
	server *rig.Server // nil: nobody is asked
	names  *string     // the user that it names to the upstream; nil: the token's
}

// matter is one comparison to make.
type matter struct {
	name, title string
	rival       contestant
	bar         bool // one is about it
	cold        bool // every request is another user's
	paced       bool // at the fixed rate too
}

// Settings of authz that a contestant turns.
const (
	tokenCache = "GATEWAY_TOKEN_CACHE"
	procs      = "GOMAXPROCS"
)

// cast starts every server of the comparisons. The first contestant is the no-op,
// which all others are held against.
func cast(ctx context.Context, p plan, r *rig.Rig, stage *rig.Stage) (noop contestant, matters []matter, skipped []string, err error) {
	var nobody, sameUser = "", contender.NoopUser
	start := func(name, program string, env map[string]string) *rig.Server {
		if err != nil {
			return nil
		}
		var s *rig.Server
		s, err = stage.Stranger(ctx, name, program, env)
		return s
	}
	ours := func(name string, more map[string]string) *rig.Server {
		if err != nil {
			return nil
		}
		env := p.authzEnv()
		for k, v := range more {
			env[k] = v
		}
		var s *rig.Server
		s, err = stage.Authz(ctx, name, env)
		return s
	}

	noop = contestant{name: "noop", style: edge.Defaults, server: start("noop", "noop", nil), names: &sameUser}
	warm := ours("ours-warm", nil)
	matters = []matter{
		{
			name: "twin", title: "an identical twin of the no-op (the noise)", paced: true,
			rival: contestant{name: "twin", style: edge.Defaults, server: start("twin", "noop", nil), names: &sameUser},
		},
		{
			name: "ordinary", title: "golang-jwt and SELECT on every check, grpc-go defaults", paced: true,
			rival: contestant{name: "ordinary", style: edge.Defaults, server: start("ordinary", "ordinary", nil)},
		},
		{
			name: report.Warm, title: "**Gatehouse**, users and tokens warm", bar: true, paced: true,
			rival: contestant{name: "ours-warm", style: edge.Recommended, server: warm},
		},
	}
	has, asked := r.Knows(ctx, tokenCache)
	if err == nil {
		err = asked
	}
	if has {
		matters = append(matters, matter{
			name: report.NoTokenCache, title: "**Gatehouse**, token cache off", bar: true, paced: true,
			rival: contestant{name: "ours-no-token-cache", style: edge.Recommended, server: ours("ours-no-token-cache", map[string]string{tokenCache: "off"})},
		})
	} else {
		skipped = append(skipped, "token cache off: this build of authz has no "+tokenCache)
	}
	matters = append(matters,
		matter{
			name: report.Cold, title: "**Gatehouse**, every check another user and token", bar: true, paced: true, cold: true,
			rival: contestant{name: "ours-cold", style: edge.Recommended, server: ours("ours-cold", nil)},
		},
		matter{
			name: "whole-edge", title: "Gatehouse warm, the whole rendered edge (CORS, header hygiene, access log into a pipe)",
			rival: contestant{name: "whole-edge", style: edge.Whole, server: warm},
		},
		matter{
			name: "noop-procs", title: fmt.Sprintf("the no-op with GOMAXPROCS=%d", max(1, p.authzProcs)),
			rival: contestant{
				name: "noop-procs", style: edge.Defaults, names: &sameUser,
				server: start("noop-procs", "noop", map[string]string{procs: strconv.Itoa(max(1, p.authzProcs))}),
			},
		},
		matter{
			name: "open", title: "Envoy alone, nobody is asked",
			rival: contestant{name: "open", style: edge.Open, names: &nobody},
		},
	)
	if p.rivals != "" {
		asked := strings.Split(p.rivals, ",")
		matters = slices.DeleteFunc(matters, func(m matter) bool { return !slices.Contains(asked, m.name) })
	}
	return noop, matters, skipped, err
}

// authzEnv is how authz is run here, beside the defaults of its settings.
func (p plan) authzEnv() map[string]string {
	env := map[string]string{}
	if p.authzProcs > 0 {
		env[procs] = strconv.Itoa(p.authzProcs)
	}
	return env
}

func (c contestant) listener() edge.Listener {
	l := edge.Listener{Name: c.name, Style: c.style}
	if c.server != nil {
		l.Authz = c.server.Address
	}
	return l
}
