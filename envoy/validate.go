package envoy

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Validate has an Envoy binary read the configuration, without starting
// anything. What Envoy says against it is in the error.
func Validate(ctx context.Context, binary string, config []byte) error {
	dir, err := os.MkdirTemp("", "gatehouse-envoy-")
	if err != nil {
		return fmt.Errorf("making room for the configuration: %w", err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "envoy.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	cmd := exec.CommandContext(ctx, binary,
		"--mode", "validate", "--config-path", file, "--log-level", "error", "--disable-hot-restart", "--concurrency", "1")
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s refuses the configuration: %w\n%s", binary, err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}
