// Package metrics shows Prometheus what a control plane does.
//
//	m := metrics.New(plane)
//	registry.MustRegister(m)
//	api := httpapi.New(plane, auth, &httpapi.Options{
//		Observer: m,
//		Metrics:  promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
//	})
//
// All names begin with ezapi_. Labels have few values: routes, not paths; no
// names of providers, keys or models. The counters of the process start anew with it.
package metrics

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/logbuf"
)

// Collector reads a plane whenever it is asked, and counts what it observes of
// the HTTP surface. It is safe for concurrent use.
type Collector struct {
	plane   *ezapi.Plane
	metrics []metric

	requests *prometheus.HistogramVec
	rejected *prometheus.CounterVec
	unknown  prometheus.Counter
	cut      atomic.Int64 // strings, on top of those that the buffer found
	replaced atomic.Int64
}

var (
	_ prometheus.Collector = (*Collector)(nil)
	_ httpapi.Observer     = (*Collector)(nil)
)

// New returns a collector for a plane. Register it, and make it the observer of
// the plane's httpapi.Handler.
func New(plane *ezapi.Plane) *Collector {
	c := &Collector{
		plane:   plane,
		metrics: metrics(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ezapi_http_request_duration_seconds", Help: "How long requests took, by route and status.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
		}, []string{"route", "status"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ezapi_logs_rejected_total", Help: "Log entries that were not acceptable, by reason.",
		}, []string{"reason"}),
		unknown: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ezapi_logs_unknown_fields_total", Help: "Fields of log entries that were ignored, because this " +
				"version does not know them.",
		}),
	}
	for _, reason := range []logbuf.Reason{logbuf.Malformed, logbuf.BadType, logbuf.BadValue, logbuf.BadTime,
		logbuf.Twice, logbuf.TooDeep} {
		c.rejected.WithLabelValues(string(reason)) // there from the start, so that a rate is
	}
	return c
}

// Request implements [httpapi.Observer].
func (c *Collector) Request(route string, status int, took time.Duration) {
	c.requests.WithLabelValues(route, strconv.Itoa(status)).Observe(took.Seconds())
}

// Ingest implements [httpapi.Observer].
func (c *Collector) Ingest(d logbuf.Decoded) {
	for _, r := range d.Rejected {
		c.rejected.WithLabelValues(string(r.Reason)).Inc()
	}
	c.unknown.Add(float64(d.Unknown))
	c.cut.Add(int64(d.Cut))
	c.replaced.Add(int64(d.Replaced))
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, v := range []prometheus.Collector{c.requests, c.rejected, c.unknown} {
		v.Describe(out)
	}
	for _, m := range c.metrics {
		out <- m.desc
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	for _, v := range []prometheus.Collector{c.requests, c.rejected, c.unknown} {
		v.Collect(out)
	}
	r := c.read()
	for _, m := range c.metrics {
		m.read(&r, func(value float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, value, labels...)
		})
	}
}
