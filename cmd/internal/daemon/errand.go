package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/atenex/gatehouse/internal/config"
)

// errandTime bounds a question to the service on this machine.
const errandTime = 3 * time.Second

// errand is what the program does instead of serving; nil: it serves.
func errand(name string, args []string, call Call) (func(context.Context, config.Address) int, error) {
	switch {
	case len(args) == 0:
		return nil, nil
	case args[0] == "healthcheck" && len(args) == 1:
		return func(ctx context.Context, ops config.Address) int { return healthcheck(ctx, name, ops, call.Stderr) }, nil
	case args[0] == "log-level":
		return logLevel(name, args[1:], call)
	case args[0] == "healthcheck":
		return nil, fmt.Errorf("healthcheck: unknown argument %q", args[1])
	}
	return nil, fmt.Errorf("unknown argument %q", args[0])
}

// logLevel asks the service on this machine for its log level, or for another one.
func logLevel(name string, args []string, call Call) (func(context.Context, config.Address) int, error) {
	flags := flag.NewFlagSet(name+" log-level", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // what is wrong is said once, by Main
	lasts := flags.String("for", "", "")
	var level string
	for given := 0; len(args) > 0; {
		if err := flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				fmt.Fprintf(call.Stderr, "%s log-level [LEVEL] [--for DURATION]\n\nShow or change from which level on the %s on this machine logs: DEBUG, INFO,\nWARNING, ERROR or CRITICAL. It goes back by itself after --for (15m; at most 24h).\n", name, name)
				return nil, err
			}
			return nil, fmt.Errorf("log-level: %w", err)
		}
		args = flags.Args()
		if len(args) == 0 {
			break
		}
		if given++; given > 1 {
			return nil, fmt.Errorf("log-level: unknown argument %q", args[0])
		}
		level, args = args[0], args[1:]
	}
	if level == "" && *lasts != "" {
		return nil, errors.New("log-level: --for needs a level")
	}
	return func(ctx context.Context, ops config.Address) int {
		err := askLevel(ctx, name, ops, level, *lasts, call.Stdout)
		if err == nil {
			return Fine
		}
		fmt.Fprintf(call.Stderr, "log-level: %v\n", err)
		if _, ok := errors.AsType[*misused](err); ok {
			return Misuse
		}
		return Failed
	}, nil
}

func askLevel(ctx context.Context, name string, ops config.Address, level, lasts string, stdout io.Writer) error {
	here, err := onThisMachine(ops)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, errandTime)
	defer cancel()
	method, body := http.MethodGet, []byte(nil)
	if level != "" {
		method = http.MethodPut
		if body, err = json.Marshal(map[string]string{"level": level, "for": lasts}); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, here+"/log-level", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return unanswered(name, here, ops, err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		var refused struct{ Detail string }
		if json.Unmarshal(text, &refused) != nil || refused.Detail == "" {
			return errors.New(answer.Status)
		}
		err := errors.New(refused.Detail)
		if answer.StatusCode == http.StatusBadRequest {
			return Misused(err)
		}
		return err
	}
	var state struct {
		Level, Configured string
		Until             time.Time
	}
	if err := json.Unmarshal(text, &state); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if state.Until.IsZero() {
		_, err = fmt.Fprintln(stdout, state.Level)
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s until %s, then %s\n", state.Level, state.Until.Format(time.RFC3339), state.Configured)
	return err
}
