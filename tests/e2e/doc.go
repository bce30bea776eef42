// Package e2e holds the tests of the whole gate: the binaries as they are
// shipped, the real Envoy and the real PostgreSQL, spoken to over HTTP as a
// client would.
//
// It must never know how any of them works inside: nothing of authz, login,
// envoy or internal/token is imported here, so that what these tests say is
// what a stranger could observe.
package e2e
