// Package compose runs the compose file as it is on a real engine, from nothing
// to a first login and through what may go wrong then.
//
// The engine is that of DOCKER_HOST. Without GATEHOUSE_COMPOSE (make test-compose
// sets it) nothing is started. Everything has a project, ports and networks of its
// own, so that a stack that runs already is not touched, and is removed at the end
// with its volumes.
package compose
