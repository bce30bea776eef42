// Package k8s holds the chart against a real Kubernetes API server, a real helm
// and a real Envoy: make check-k8s. Its tests are behind the build tag "k8s",
// because those programs take long to build. No kubelet runs here, so pods are
// admitted and never started; what they would run is started beside it.
package k8s
