// Package mesh holds the tests of the recipes in docs/meshes: what stands there
// is read from there, given to the real thing as far as there is one on this
// machine, and asked what a client and an attacker would ask.
//
// It must never know how authz works inside, nor hold a recipe of its own: what
// is tested is what is printed.
//
// Tests that need a control plane or an API server are asked for with
// GATEHOUSE_LAB=1 (make check-mesh) and skipped otherwise. Everything else runs
// on the Envoy and the PostgreSQL that the other tests use.
package mesh
