// Package envoy writes the configuration of the Envoy that stands in front of
// the gate. A route table (data, routes/*.yaml) says which path goes where and
// under which authentication mode; Settings say where the parts are; Bootstrap
// joins the two into Envoy's own typed messages, and YAML prints them.
//
// The package knows Envoy and nothing else of Gatehouse: no token, no claim, no
// database, no environment. What it promises is that a request reaches an
// upstream only after authz has said "allow", unless the table itself says that
// the route needs nobody's permission.
//
// How Envoy behaves is not taken on trust: the tests run the rendering on the
// real binary.
package envoy
