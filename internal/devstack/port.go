package devstack

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// checkFree reports that an address cannot be listened on, with the port and,
// where the system tells, the process that has it. Envoy shares its ports
// (SO_REUSEPORT), so a second one would start, and take half the requests.
func checkFree(address string) error {
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l.Close()
	}
	_, port, splitErr := net.SplitHostPort(address)
	if splitErr != nil || !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("the public address %s: %w", address, err)
	}
	return fmt.Errorf("port %s is taken%s: end that process, or listen elsewhere (%s)", port, portOwner(port), address)
}
