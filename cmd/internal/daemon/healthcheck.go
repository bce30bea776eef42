package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/atenex/gatehouse/internal/config"
)

// healthcheck asks the service on this machine whether it is ready. A container
// image without a shell has no other program that could.
func healthcheck(ctx context.Context, name string, ops config.Address, stderr io.Writer) int {
	here, err := onThisMachine(ops)
	if err != nil {
		fmt.Fprintf(stderr, "healthcheck: %v\n", err)
		return Failed
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, here+"/readyz", nil)
	if err != nil {
		fmt.Fprintf(stderr, "healthcheck: %v\n", err)
		return Failed
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		fmt.Fprintf(stderr, "healthcheck: %v\n", unanswered(name, here, ops, err))
		return Failed
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(answer.Body, 1024))
		fmt.Fprintf(stderr, "healthcheck: %s: %s", answer.Status, why)
		return Failed
	}
	return Fine
}

// unanswered tells where a service was looked for and which setting says so: whoever
// asks beside it may well have other settings than it runs with. The setting has the
// service's name.
func unanswered(name, here string, ops config.Address, err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err // without the address once more
	}
	return fmt.Errorf("no answer from %s at %s, where GATEWAY_%s_OPS_LISTEN (%s) has it: %w", name, here, strings.ToUpper(name), ops, err)
}

// onThisMachine is the URL at which a service that listens there is reached from
// beside it.
func onThisMachine(ops config.Address) (string, error) {
	host, port, err := net.SplitHostPort(ops.String())
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}
