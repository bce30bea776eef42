package daemon

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/atenex/gatehouse/internal/config"
)

// healthcheck asks the service on this machine whether it is ready. A container
// image without a shell has no other program that could.
func healthcheck(ctx context.Context, ops config.Address, stderr io.Writer) int {
	host, port, err := net.SplitHostPort(ops.String())
	if err != nil {
		fmt.Fprintf(stderr, "healthcheck: %v\n", err)
		return Failed
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		fmt.Fprintf(stderr, "healthcheck: %v\n", err)
		return Failed
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		fmt.Fprintf(stderr, "healthcheck: %v\n", err)
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
