// Package deploy holds the tests of examples/deploy: helm renders the chart, Kubernetes' own types
// read what it renders, promtool judges the alerts and every expression of the dashboard, and no
// metric is named that the server does not have.
package deploy
