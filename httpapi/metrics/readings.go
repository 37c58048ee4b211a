package metrics

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

// reading is everything that one scrape reads, so that its numbers belong together.
type reading struct {
	ezapi.Stats
	now           time.Time // of this server
	logTime       time.Time // by which logs are dated, see ezapi.Plane.LogTime
	cut, replaced int64

	up       bool // the publisher answers
	head     snapshot.Head
	standing snapshot.Standing
	worst    snapshot.Worst
}

// patience is how long the publisher may take to answer a scrape.
const patience = 2 * time.Second

func (c *Collector) read() reading {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := reading{cut: c.cut.Load(), replaced: c.replaced.Load()}
	var err error
	r.head, err = c.plane.Publisher().Head(ctx)
	if r.up = err == nil || errors.Is(err, snapshot.ErrNone); r.up {
		fleet := c.plane.Relay().Fleet()
		r.up = fleet.Refresh(ctx) == nil
		r.standing = fleet.Standing(r.head)
		r.worst = fleet.Worst(r.head)
	}
	r.Stats, r.now, r.logTime = c.plane.Stats(), c.plane.Now(), c.plane.LogTime()
	return r
}

// A metric is what is read off a reading: any number of values, each with as
// many label values as desc has names.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(*reading, func(value float64, labels ...string))
}

type number interface{ ~int | ~int64 }

func gauge[N number](name, help string, read func(*reading) N) metric {
	return simple(prometheus.GaugeValue, name, help, func(r *reading) float64 { return float64(read(r)) })
}

func counter[N number](name, help string, read func(*reading) N) metric {
	return simple(prometheus.CounterValue, name, help, func(r *reading) float64 { return float64(read(r)) })
}

func flag(name, help string, read func(*reading) bool) metric {
	return simple(prometheus.GaugeValue, name, help, func(r *reading) float64 {
		if read(r) {
			return 1
		}
		return 0
	})
}

func simple(kind prometheus.ValueType, name, help string, read func(*reading) float64) metric {
	return metric{prometheus.NewDesc(name, help, nil, nil), kind,
		func(r *reading, emit func(float64, ...string)) { emit(read(r)) }}
}

// each is a metric with a value for each of a label's.
func each(name, help, label string, read func(*reading, func(float64, ...string))) metric {
	return metric{prometheus.NewDesc(name, help, []string{label}, nil), prometheus.GaugeValue, read}
}

// published is a metric of what the publisher says: there is none while it does not answer.
func published(name, help, label string, read func(*reading, func(float64, ...string))) metric {
	var labels []string
	if label != "" {
		labels = []string{label}
	}
	return metric{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue,
		func(r *reading, emit func(float64, ...string)) {
			if r.up {
				read(r, emit)
			}
		}}
}

// seconds returns how many have passed; none since the zero time.
func seconds(since, now time.Time) float64 {
	if since.IsZero() {
		return 0
	}
	return max(0, now.Sub(since).Seconds())
}

// metrics lists what a scrape shows beside what was observed.
func metrics() []metric {
	return []metric{
		gauge("ezapi_catalog_revision", "Revision of the catalog, as the relay last read it.",
			func(r *reading) catalog.Revision { return r.Relay.Revision }),

		each("ezapi_provider_secrets", "Provider secrets by the key that sealed them: current, older (still to be sealed "+
			"anew), or unopenable.", "sealed",
			func(r *reading, emit func(float64, ...string)) {
				emit(float64(r.Seals.Current), "current")
				emit(float64(r.Seals.Older), "older")
				emit(float64(r.Seals.Unopenable), "unopenable")
			}),
		counter("ezapi_provider_secrets_resealed_total", "Provider secrets sealed anew with the active key.",
			func(r *reading) int64 { return r.Seals.Resealed }),
		flag("ezapi_provider_secrets_reseal_failing", "Whether the last round of sealing anew failed.",
			func(r *reading) bool { return r.Seals.LastError != "" }),

		counter("ezapi_relay_deltas_total", "Deltas published.", func(r *reading) int64 { return r.Relay.Publishes }),
		counter("ezapi_relay_replaces_total", "Whole snapshots published.",
			func(r *reading) int64 { return r.Relay.Replaces }),
		counter("ezapi_relay_documents_total", "Documents published, by deltas and whole snapshots.",
			func(r *reading) int64 { return r.Relay.Documents }),
		counter("ezapi_relay_repairs_total", "Published documents that were not as they should be, and "+
			"were written again.", func(r *reading) int64 { return r.Relay.Repairs }),
		gauge("ezapi_relay_unrendered", "Entities that cannot be read, and are not published.",
			func(r *reading) int { return r.Relay.Failed }),
		flag("ezapi_relay_scrub_failing", "Whether comparing what is published with the catalog failed.",
			func(r *reading) bool { return r.Relay.ScrubError != "" }),
		flag("ezapi_relay_beat_failing", "Whether telling balancers that control planes are alive failed.",
			func(r *reading) bool { return r.Relay.BeatError != "" }),
		flag("ezapi_relay_fleet_failing", "Whether reading the reports of balancers failed.",
			func(r *reading) bool { return r.Relay.FleetError != "" }),
		flag("ezapi_relay_hint_failing", "Whether the last Pub/Sub message about a publish could not be sent.",
			func(r *reading) bool { return r.Relay.HintError != "" }),
		flag("ezapi_relay_failing", "Whether the relay's last pass failed.",
			func(r *reading) bool { return r.Relay.LastError != "" }),
		simple(prometheus.GaugeValue, "ezapi_relay_beat_seconds",
			"Since the relay last found or wrote a beat; 0 before the first.", func(r *reading) float64 {
				return seconds(r.Relay.BeatAt, r.now)
			}),
		simple(prometheus.GaugeValue, "ezapi_relay_idle_seconds",
			"Since the relay's last pass ended; 0 before the first.", func(r *reading) float64 {
				return seconds(r.Relay.UpdatedAt, r.now)
			}),

		flag("ezapi_publisher_up", "Whether the publisher answers. While it does not, what it says is not shown.",
			func(r *reading) bool { return r.up }),
		published("ezapi_published_epoch", "Epoch of what is published; 0 for nothing.", "",
			func(r *reading, emit func(float64, ...string)) {
				emit(float64(r.head.Position.Epoch))
			}),
		published("ezapi_published_revision", "Revision of what is published; 0 for nothing.", "",
			func(r *reading, emit func(float64, ...string)) {
				emit(float64(r.head.Position.Revision))
			}),
		published("ezapi_published_documents", "Documents that are published, by kind.", "kind",
			func(r *reading, emit func(float64, ...string)) {
				for _, kind := range snapshot.Kinds() {
					emit(float64(r.head.Counts[kind]), string(kind))
				}
			}),
		published("ezapi_nodes", "Balancers heard of within a day, by state: applied, lagging, lost, or unverified.",
			"state", func(r *reading, emit func(float64, ...string)) {
				emit(float64(r.standing.Applied), string(snapshot.NodeApplied))
				emit(float64(r.standing.Lagging), string(snapshot.NodeLagging))
				emit(float64(r.standing.Lost), string(snapshot.NodeLost))
				emit(float64(r.standing.Unverified), string(snapshot.NodeUnverified))
			}),
		published("ezapi_nodes_lag_revisions",
			"Published revisions that the furthest behind of the live balancers has not applied.", "", func(r *reading,
				emit func(float64, ...string)) {
				emit(float64(r.worst.Lag))
			}),
		published("ezapi_nodes_behind_seconds", "For how long a live balancer has not reached what was published then, or "+
			"refuses it; of all the longest.", "", func(r *reading, emit func(float64, ...string)) {
			emit(r.worst.Behind.Seconds())
		}),
		published("ezapi_nodes_failing", "Live balancers that report a problem.", "",
			func(r *reading, emit func(float64, ...string)) {
				emit(float64(r.worst.Failing))
			}),

		simple(prometheus.GaugeValue, "ezapi_catalog_oldest_commit_seconds", "For how long the database has worked at the "+
			"oldest write of the catalog that is under way; 0 when there is none.",
			func(r *reading) float64 { return r.Commits.Oldest.Seconds() }),
		flag("ezapi_catalog_writes_failing", "Whether the last write of the catalog failed because of the database, within "+
			"ten minutes.", func(r *reading) bool { return r.Commits.LastError != "" }),

		gauge("ezapi_budget_accounts", "Keys and projects that have budgets.",
			func(r *reading) int { return r.Budgets.Accounts }),
		counter("ezapi_budget_holds_total", "Holds that this process has made, changed or ended because of budgets.",
			func(r *reading) int64 { return r.Budgets.Holds }),
		counter("ezapi_budget_sums_total", "How often all that was spent was summed up anew: at the start and after gaps.",
			func(r *reading) int64 { return r.Budgets.Summed }),
		flag("ezapi_budgets_failing", "Whether budgets cannot be judged, so that nothing new is held.",
			func(r *reading) bool {
				return (r.Budgets.Accounts > 0 || r.Budgets.Unread) && r.Budgets.LastError != ""
			}),
		simple(prometheus.GaugeValue, "ezapi_budgets_judged_seconds",
			"Since everything that was spent was last compared with budgets; 0 before the first time.",
			func(r *reading) float64 { return seconds(r.Budgets.JudgedAt, r.now) }),

		// accepted = stored + duplicate + dead + damaged + pending, always.
		counter("ezapi_logs_accepted_total", "Log entries taken.", func(r *reading) int64 { return r.Logs.Accepted }),
		counter("ezapi_logs_stored_total", "Log entries stored.", func(r *reading) int64 { return r.Logs.Stored }),
		counter("ezapi_logs_duplicate_total", "Log entries that were stored already.",
			func(r *reading) int64 { return r.Logs.Duplicate }),
		counter("ezapi_logs_dead_total", "Log entries that the sink refused for good.",
			func(r *reading) int64 { return r.Logs.Dead }),
		counter("ezapi_logs_damaged_total", "Log entries read back damaged from the spool.",
			func(r *reading) int64 { return r.Logs.Damaged }),
		gauge("ezapi_logs_pending", "Log entries taken and not stored yet.",
			func(r *reading) int64 { return r.Logs.Pending }),
		simple(prometheus.GaugeValue, "ezapi_logs_oldest_pending_seconds",
			"Since the oldest pending log entry was taken; 0 when none is pending.", func(r *reading) float64 {
				return seconds(r.Logs.OldestPending, r.logTime)
			}),

		counter("ezapi_logs_refused_total", "Log entries turned away because there was no room.",
			func(r *reading) int64 { return r.Logs.Refused }),
		counter("ezapi_logs_strings_cut_total", "Strings of log entries that were too long and were cut.",
			func(r *reading) int64 { return r.Logs.Cut + r.cut }),
		counter("ezapi_logs_strings_replaced_total", "Strings of log entries in which invalid UTF-8 or NUL was replaced.",
			func(r *reading) int64 { return r.Logs.Replaced + r.replaced }),
		gauge("ezapi_logs_capacity", "Log entries that may be pending in memory mode, or awaiting fsync in disk mode.",
			func(r *reading) int64 { return r.Logs.Capacity }),
		counter("ezapi_logs_batches_total", "Batches of log entries written to the sink.",
			func(r *reading) int64 { return r.Logs.Batches }),
		counter("ezapi_logs_retries_total", "Failures of the log sink, or of reading the spool, each "+
			"followed by another try.", func(r *reading) int64 { return r.Logs.Retries }),
		flag("ezapi_logs_paused", "Whether the log sink asks to wait.", func(r *reading) bool { return r.Logs.Paused }),
		flag("ezapi_logs_failing", "Whether the log sink's last write failed.",
			func(r *reading) bool { return r.Logs.LastError != "" }),

		each("ezapi_logs_maintenance_failing", "Whether a task of the logs' maintenance failed when it was last tried.",
			"task",
			func(r *reading, emit func(float64, ...string)) {
				for _, t := range r.Maintenance {
					failing := 0.0
					if t.Err != nil && !errors.Is(t.Err, logbuf.ErrBusy) {
						failing = 1
					}
					emit(failing, t.Name)
				}
			}),
		each("ezapi_logs_maintenance_behind_seconds",
			"How far a task of the logs' maintenance is behind what is due: the age of the "+
				"oldest usage that is not added up (fold), how long ago the oldest partition should have gone (drop).", "task",
			func(r *reading, emit func(float64, ...string)) {
				for _, t := range r.Maintenance {
					emit(t.Report.Behind.Seconds(), t.Name)
				}
			}),
		each("ezapi_logs_maintenance_aside", "Rows that a task of the logs' maintenance has put out of the "+
			"way of the others, "+
			"because the database refuses them. They count, and wait for an operator.", "task",
			func(r *reading, emit func(float64, ...string)) {
				for _, t := range r.Maintenance {
					emit(float64(t.Report.Aside), t.Name)
				}
			}),
		flag("ezapi_logs_alarm", "Whether something has happened to the log spool since the start that an operator should "+
			"look into. The log says what.", func(r *reading) bool { return r.Logs.Alarm != "" }),
		counter("ezapi_alerts_raised_total", "Alerts that this process was the first to raise.",
			func(r *reading) int64 { return r.Alerts.Raised }),
		counter("ezapi_alerts_delivered_total", "Alerts that this process has delivered.",
			func(r *reading) int64 { return r.Alerts.Delivered }),
		flag("ezapi_alerts_failing", "Whether the last attempt to keep or to deliver alerts failed.",
			func(r *reading) bool { return r.Alerts.LastError != "" || r.Alerts.SendError != "" }),
		each("ezapi_clock_skew_seconds", "By how much this process's clock is ahead of a store's. Beyond 300, either way, "+
			"nothing old is deleted.",
			"store", func(r *reading, emit func(float64, ...string)) {
				for _, c := range r.Clocks {
					emit(c.Skew.Seconds(), c.Store)
				}
			}),

		flag("ezapi_health_failing", "Whether judging providers failed when it was last tried: no hold for health is made.",
			func(r *reading) bool { return r.Health.LastError != "" }),
		simple(prometheus.GaugeValue, "ezapi_health_judged_seconds",
			"Since providers were last judged; 0 before the first time.", func(r *reading) float64 {
				return seconds(r.Health.JudgedAt, r.logTime)
			}),
		gauge("ezapi_health_holds", "Holds for health that last, of providers and of their models.",
			func(r *reading) int { return r.Health.Held }),
		counter("ezapi_health_held_total", "Holds for health that this server made.",
			func(r *reading) int64 { return r.Health.Made }),
		counter("ezapi_health_recovered_total", "Holds for health that this server ended because the provider works again.",
			func(r *reading) int64 { return r.Health.Recovered }),
		counter("ezapi_health_probes_total", "Providers that this server asked because they refused their credential.",
			func(r *reading) int64 { return r.Health.Probes }),
		counter("ezapi_health_dropped_total", "Attempts that were not counted, because there are too many upstream models "+
			"or their names are too long.", func(r *reading) int64 { return r.Health.Dropped }),
		counter("ezapi_health_unread_total", "Notes of other servers that could not be read.",
			func(r *reading) int64 { return r.Health.Unread }),

		// Of the spool: zero in memory mode.
		gauge("ezapi_logs_spool_bytes", "Bytes of the log spool that are used.",
			func(r *reading) int64 { return r.Logs.SpoolBytes }),
		gauge("ezapi_logs_spool_kept_bytes", "Bytes of the log spool that are stored, and kept for a database "+
			"that loses commits.", func(r *reading) int64 { return r.Logs.SpoolKept }),
		gauge("ezapi_logs_spool_set_aside", "Files of the log spool that could not be read, and were set "+
			"aside since the start.", func(r *reading) int { return r.Logs.SetAside }),
		counter("ezapi_logs_again_total", "Log entries stored again because the database had lost them; "+
			"ezapi_logs_accepted_total counts them once more.", func(r *reading) int64 { return r.Logs.Again }),
		flag("ezapi_prices_failing", "Whether the prices cannot follow the catalog at the moment.",
			func(r *reading) bool { return r.Copies.LastError != "" }),
		gauge("ezapi_prices_revision", "The revision of the catalog that the prices have.",
			func(r *reading) int64 { return int64(r.Copies.Revision) }),
		flag("ezapi_operators_failing", "Whether the operators cannot follow the catalog at the moment, so that those "+
			"who are revoked may still come in.", func(r *reading) bool { return r.Operators.LastError != "" }),
		gauge("ezapi_logs_spool_max_bytes", "Bytes that the log spool may use.",
			func(r *reading) int64 { return r.Logs.SpoolMax }),
		gauge("ezapi_logs_spool_segments", "Files of the log spool.", func(r *reading) int { return r.Logs.Segments }),
		counter("ezapi_logs_spool_syncs_total", "Calls of fsync that worked.",
			func(r *reading) int64 { return r.Logs.Syncs }),
		simple(prometheus.CounterValue, "ezapi_logs_spool_sync_seconds_total", "Time spent in fsync.",
			func(r *reading) float64 { return r.Logs.SyncTime.Seconds() }),
		flag("ezapi_logs_full", "Whether no entry is taken until there is room, in memory or on the disk.",
			func(r *reading) bool { return r.Logs.Full }),
		flag("ezapi_logs_spool_broken", "Whether the log spool's disk has failed, so that no entry is "+
			"taken until a restart.", func(r *reading) bool { return r.Logs.Broken }),
	}
}
