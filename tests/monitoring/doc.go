// Package monitoring holds the alert rules and the dashboard to what the programs
// measure: each metric, label and value that a query names is in a scrape of a
// stack that runs, each panel has data, each rule can be evaluated, and each alert
// has a case in rules_test.yaml and a runbook.
//
// What needs Prometheus runs where GATEHOUSE_MONITORING is set (make
// check-monitoring); the rest are ordinary tests.
package monitoring
