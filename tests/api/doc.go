// Package api holds the description of the HTTP interface, login/openapi.json, to
// the gate around it: to the table of routes, to the page of errors, and, where
// GATEHOUSE_API is set (make check-api), to a gate that runs, with schemathesis.
//
// What login itself answers is held to the description by the tests of package
// login, every answer that they see.
package api
