// Package devstack runs the whole of Gatehouse on one machine without
// containers: it finds (or fetches, pinned and verified) a real Envoy and a
// real PostgreSQL, runs them and our own binaries as child processes, waits
// until all are healthy, and leaves nothing behind.
//
// It must never know what the parts decide: settings, migrations, tokens and
// Envoy's configuration come from the caller as values and functions. It reads
// no setting from the environment.
package devstack
