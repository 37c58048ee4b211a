package health_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/catalog/health"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// A ward is two control planes of one catalog and one log store, as far as they watch over providers, and a
// provider whose upstream answers as the test says.
type ward struct {
	*catalog.Tables
	t        *testing.T
	monitors [2]*health.Monitor
	store    *memstore.Store
	sink     *memstore.Sink
	provider catalog.Provider
	status   atomic.Int64 // of the upstream's answers
	listless atomic.Bool  // whether it answers 500 when it is asked for its models
	asked    atomic.Int64

	mu  sync.Mutex
	now time.Time
}

func newWard(t *testing.T) *ward {
	t.Helper()
	w := &ward{t: t, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	w.status.Store(200)
	upstream := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.asked.Add(1)
		status := int(w.status.Load())
		if w.listless.Load() && r.Method == http.MethodGet {
			status = http.StatusInternalServerError
		}
		rw.WriteHeader(status)
		fmt.Fprint(rw, `{"data":[{"id":"m"}],"choices":[],"secret":"of the upstream"}`)
	}))
	t.Cleanup(upstream.Close)
	w.store = memstore.New(&memstore.Options{Clock: w.clock})
	w.sink = memstore.NewSink(&memstore.SinkOptions{Clock: w.clock})
	w.Tables = catalog.NewTables(w.store, catalog.NewRandomKeyRing(),
		&catalog.Options{AllowPrivateUpstreams: true, Clock: w.clock})
	for i := range w.monitors {
		w.monitors[i] = newMonitor(w.Tables, w.store, w.sink, w.clock)
	}
	var err error
	w.provider, err = w.Providers.Create(t.Context(), catalog.Provider{Name: "p", Type: "compatible",
		BaseURL: upstream.URL, APIKey: catalog.NewSecret("sk-very-secret"), Models: []string{"a", "b", "c", "d*"}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// newMonitor returns what watches over the providers of a catalog.
func newMonitor(tables *catalog.Tables, box alerts.Outbox, keeper logbuf.HealthKeeper,
	clock func() time.Time) *health.Monitor {
	log, holds, known := slog.New(slog.DiscardHandler), catalog.NewProviderHolds(), catalog.NewUpstreamList()
	return health.NewMonitor(health.Options{}, health.Parts{
		Keeper: keeper, Holds: holds, Upstreams: known, Copies: catalog.NewFollower(tables.Store(), holds, known),
		Catalog: tables, Providers: tables.Providers, Alarm: alerts.NewAlarm(box, nil, log, clock), LogTime: clock,
		Privacy: catalog.AllowPrivate, Logger: log,
	})
}

func (w *ward) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// pass lets time pass, and both control planes share and judge in between. What the one sees only after
// the other has shared, it sees in the second round.
func (w *ward) pass(d time.Duration) {
	w.t.Helper()
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	for range 2 {
		for _, m := range w.monitors {
			if err := errors.Join(m.Judge(w.t.Context()), w.Maintain(w.t.Context())); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// log sends entries to the control planes in turn: of attempts at a model that worked, and that failed.
func (w *ward) log(model string, worked, failed int, class logbuf.FailureClass) {
	w.t.Helper()
	for i := range worked + failed {
		e := logbuf.Entry{Time: w.clock(), Balancer: fmt.Sprint("b", i%3), ProviderID: w.provider.ID, UpstreamModel: model,
			Status: 200}
		if i >= worked {
			e.Status, e.ProviderID = 503, 0
			e.Failures = []logbuf.Failure{{ProviderID: w.provider.ID, UpstreamModel: model, Class: class}}
		}
		w.monitors[i%2].Count(e)
	}
}

// holds returns the holds for health as "TARGET SECONDS STRIKES CAUSE", in order, those that last.
func (w *ward) holds() string {
	w.t.Helper()
	var all []string
	for h, err := range w.Holds.All(w.t.Context(), catalog.Query{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		if h.Reason == catalog.HoldHealth && h.Active(w.clock()) {
			all = append(all, fmt.Sprintf("%s %.0f %d %s",
				strings.TrimPrefix(h.Target, fmt.Sprintf("provider/%d", w.provider.ID)),
				h.Until.Sub(w.clock()).Seconds(), h.Strikes, h.Cause))
		}
	}
	return strings.Join(all, ", ")
}

func (w *ward) want(what, holds string) {
	w.t.Helper()
	if got := w.holds(); got != holds {
		w.t.Errorf("%s: holds %q, want %q", what, got, holds)
	}
}

// alerts returns the kinds of what was raised, oldest first.
func (w *ward) alerts() (kinds []alerts.Kind) {
	w.t.Helper()
	list, err := w.store.Alerts(w.t.Context(), alerts.Query{Limit: 100})
	if err != nil {
		w.t.Fatal(err)
	}
	alerts.OldestFirst(list)
	for _, a := range list {
		kinds = append(kinds, a.Kind)
	}
	return kinds
}

// A provider that fails is held, longer each time, and works again after three successes. Two control
// planes that each see a part of it make one hold of it.
func TestFailingModelIsHeldAndRecovers(t *testing.T) {
	w := newWard(t)
	w.log("a", 4, 5, logbuf.FailedServer)
	w.pass(5 * time.Second)
	w.want("nine attempts", "")
	w.log("a", 0, 1, logbuf.FailedTimeout)
	w.pass(5 * time.Second)
	w.want("ten attempts", "/a 30 1 failures")
	w.log("a", 0, 50, logbuf.FailedServer) // as where every provider is held
	w.pass(20 * time.Second)
	w.want("while it lasts", "/a 10 1 failures")
	w.pass(10 * time.Second)
	w.want("at its end", "")
	w.pass(40 * time.Second)
	w.want("without a request", "")
	w.log("a", 0, 10, logbuf.FailedServer)
	w.pass(5 * time.Second)
	w.want("failing again", "/a 60 2 failures")
	w.pass(61 * time.Second)
	w.log("a", 2, 0, "")
	w.pass(5 * time.Second)
	w.log("a", 0, 10, logbuf.FailedServer)
	w.pass(5 * time.Second)
	w.want("two successes forget nothing", "/a 120 3 failures")
	w.pass(121 * time.Second)
	w.log("a", 3, 0, "")
	w.pass(5 * time.Second)
	w.log("a", 0, 10, logbuf.FailedServer)
	w.pass(5 * time.Second)
	w.want("three successes forget the past", "/a 30 1 failures")
	w.pass(31 * time.Second)
	w.log("a", 3, 0, "")
	w.pass(5 * time.Second)
	w.want("what failed before it worked again, less than a minute ago", "")
	w.pass(catalog.HealthMemory + time.Minute)
	w.log("a", 0, 10, logbuf.FailedServer)
	w.pass(5 * time.Second)
	w.want("an hour forgets, too", "/a 30 1 failures")
	if got, want := fmt.Sprint(w.alerts()), "[provider_held provider_held provider_held provider_recovered provider_held "+
		"provider_recovered provider_held]"; got != want {
		t.Errorf("alerts %s, want %s", got, want)
	}
	if s := w.monitors[0].Status(); s.Held != 1 || s.LastError != "" || !s.JudgedAt.Equal(w.clock()) ||
		s.Made+w.monitors[1].Status().Made != 5 {
		t.Errorf("status %+v", s)
	}
	// What machines do may be forgotten early.
	if n, err := w.store.ThinChanges(t.Context(), w.clock().AddDate(1, 0, 0)); err != nil || n == 0 {
		t.Errorf("%d changes are a machine's, %v", n, err)
	}
}

// unsure is a store whose commits are done, and not confirmed.
type unsure struct{ *memstore.Store }

func (u unsure) Commit(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
	_, err := u.Store.Commit(ctx, c)
	return 0, errors.Join(err, catalog.ErrUnconfirmed)
}

// A hold that the database has not confirmed is told of, because it may be there: who sees it next makes none.
func TestHoldNotConfirmed(t *testing.T) {
	w := newWard(t)
	tables := catalog.NewTables(unsure{w.store}, catalog.NewRandomKeyRing(),
		&catalog.Options{AllowPrivateUpstreams: true, Clock: w.clock})
	for i := range w.monitors {
		w.monitors[i] = newMonitor(tables, w.store, w.sink, w.clock)
	}
	w.log("a", 0, 10, logbuf.FailedServer)
	var err error
	for range 2 {
		for _, m := range w.monitors {
			err = errors.Join(err, m.Judge(t.Context()))
		}
	}
	if !errors.Is(err, catalog.ErrUnconfirmed) {
		t.Errorf("not confirmed: %v", err)
	}
	w.want("not confirmed", "/a 30 1 failures")
	if got := fmt.Sprint(w.alerts()); got != "[provider_held]" {
		t.Errorf("alerts %s", got)
	}
}

// What a person has done stays: a hold, a hold of ours that was disabled, a status, and auto_ban.
func TestHealthUndoesNoPerson(t *testing.T) {
	w := newWard(t)
	ctx, holds := t.Context(), w.Holds
	mine, err := holds.Create(ctx, catalog.Hold{Target: fmt.Sprintf("provider/%d/a", w.provider.ID)})
	if err != nil {
		t.Fatal(err)
	}
	w.log("a", 0, 10, logbuf.FailedServer)
	w.pass(5 * time.Second)
	w.want("beside a person's hold", "/a 30 1 failures")
	ours, err := holds.Find(ctx, catalog.ByNaturalKey, catalog.HoldKey(mine.Target, catalog.HoldHealth))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holds.Patch(ctx, ours.ID, 0, []byte(`{"status":"disabled"}`)); err != nil {
		t.Fatal(err)
	}
	w.log("a", 0, 50, logbuf.FailedServer)
	w.pass(20 * time.Second)
	w.want("a hold that a person has disabled", "")
	w.log("a", 0, 50, logbuf.FailedServer)
	w.pass(11 * time.Second)
	w.log("a", 0, 10, logbuf.FailedServer)
	w.pass(5 * time.Second)
	w.want("after its end", "/a 60 2 failures")
	w.pass(61 * time.Second)
	w.log("a", 5, 0, "")
	w.pass(5 * time.Second)
	if h, err := holds.Get(ctx, mine.ID); err != nil || h.Revision != mine.Revision {
		t.Errorf("the person's hold: %+v, %v", h, err)
	}

	edit := func(edit func(*catalog.Provider)) {
		t.Helper()
		_, err := w.Providers.Edit(ctx, w.provider.ID, func(p *catalog.Provider) error { edit(p); return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	edit(func(p *catalog.Provider) { p.Status = catalog.Disabled })
	w.log("b", 0, 50, logbuf.FailedServer)
	w.log("b", 0, 5, logbuf.FailedAuth)
	w.pass(5 * time.Second)
	w.want("disabled", "")
	edit(func(p *catalog.Provider) { p.Status, p.AutoBan = catalog.Active, new(false) })
	w.pass(5 * time.Second)
	w.pass(5 * time.Second)
	w.want("without auto_ban", "")
	got := w.alerts()
	if n := len(got); n == 0 || got[n-1] != alerts.ProviderFailing {
		t.Errorf("alerts %v", got)
	}
	w.pass(10 * time.Second)
	w.pass(time.Minute)
	w.log("b", 0, 50, logbuf.FailedServer)
	w.pass(5 * time.Second)
	if again := w.alerts(); len(again) != len(got) {
		t.Errorf("alerts %v, then %v within the hour", got, again)
	}
	w.log("b", 10, 0, "")
	w.pass(catalog.HealthMemory) // time for another hour to begin
	w.log("b", 0, 50, logbuf.FailedServer)
	w.pass(5 * time.Second)
	if again := w.alerts(); len(again) == len(got) || again[len(again)-1] != alerts.ProviderFailing {
		t.Errorf("alerts %v, then %v in the next", got, again)
	}
	if p, err := w.Providers.Get(ctx, w.provider.ID); err != nil || p.Status != catalog.Active {
		t.Errorf("provider %+v, %v", p, err)
	}
}

// Requests of one client, and the network of one balancer, hold nothing; nor does what no provider lists.
func TestHealthIsNotTheClients(t *testing.T) {
	w := newWard(t)
	w.log("a", 0, 50, logbuf.FailedClient)
	w.log("a", 0, 50, logbuf.FailedCanceled)
	w.log("x", 0, 50, logbuf.FailedServer)
	w.log("d\x01", 0, 50, logbuf.FailedServer) // fits d*, and is no name
	e := logbuf.Entry{Time: w.clock(), Balancer: "alone", Status: 502,
		Failures: []logbuf.Failure{{ProviderID: w.provider.ID, UpstreamModel: "a", Class: logbuf.FailedNetwork}}}
	for range 50 {
		w.monitors[0].Count(e)
	}
	w.pass(5 * time.Second)
	w.want("nothing", "")
	w.log("a", 0, 10, logbuf.FailedNetwork)
	w.pass(5 * time.Second)
	w.want("network at several", "/a 30 1 failures")
}

// A provider that refuses its credential is asked itself, and held as a whole while it refuses.
func TestRefusedCredentialIsProbed(t *testing.T) {
	w := newWard(t)
	w.log("a", 20, 1, logbuf.FailedAuth)
	w.pass(5 * time.Second)
	if n := w.asked.Load(); n != 0 {
		t.Errorf("asked %d times after one failure", n)
	}
	w.log("b", 0, 1, logbuf.FailedAuth)
	w.pass(5 * time.Second)
	w.want("the probe works", "")
	if n := w.asked.Load(); n == 0 || n > 2 { // each control plane may ask
		t.Errorf("asked %d times", n)
	}
	w.log("b", 0, 20, logbuf.FailedAuth) // which the probe will explain
	w.status.Store(401)
	w.pass(31 * time.Second)
	w.want("the probe fails", " 30 1 auth")
	w.pass(22 * time.Second)
	w.want("still, shortly before the end", " 60 2 auth")
	w.pass(31 * time.Second)
	w.want("still, in the middle", " 29 2 auth")
	w.log("b", 0, 20, logbuf.FailedAuth) // as where no other provider is left
	w.status.Store(200)
	w.pass(20 * time.Second)
	w.want("it works again", "")
	w.pass(15 * time.Second)
	w.want("what it refused before is over", "")
	w.log("b", 3, 0, "")
	w.pass(5 * time.Second)
	h, err := w.Holds.Find(t.Context(), catalog.ByNaturalKey,
		catalog.HoldKey(fmt.Sprint("provider/", w.provider.ID), catalog.HoldHealth))
	if err != nil || h.Strikes != 0 || h.Cause != "" || h.Until.After(w.clock()) {
		t.Errorf("it is remembered as %+v, %v", h, err)
	}
	if got := fmt.Sprint(w.alerts()); got != "[provider_held provider_recovered]" {
		t.Errorf("alerts %s", got)
	}
}

// What a provider refuses although its credential is good is the fault of those who asked for it.
func TestRefusedPromptsHoldNothing(t *testing.T) {
	w := newWard(t)
	w.log("a", 5, 12, logbuf.FailedAuth)
	w.pass(5 * time.Second)
	if w.asked.Load() == 0 {
		t.Error("it was not asked")
	}
	w.want("the probe works", "")
}

// A provider that has no list of models answers with any status, and is asked for a chat then.
func TestProviderWithoutListIsAskedForChat(t *testing.T) {
	w := newWard(t)
	w.listless.Store(true)
	w.log("a", 5, 5, logbuf.FailedAuth)
	w.pass(5 * time.Second)
	w.want("the chat works", "")
	if n := w.asked.Load(); n < 2 {
		t.Errorf("asked %d times, want its list and a chat", n)
	}
	w.status.Store(401)
	w.log("a", 5, 5, logbuf.FailedAuth)
	w.pass(31 * time.Second)
	w.want("the chat is refused", " 30 1 auth")
}

// While the log store is away nothing new is judged, and the status says so; what was counted is shared later.
func TestHealthWithoutItsStore(t *testing.T) {
	keeper := &faultyKeeper{Sink: memstore.NewSink(nil)}
	store := memstore.New(nil)
	tables := catalog.NewTables(store, catalog.NewRandomKeyRing(), nil)
	m := newMonitor(tables, store, keeper, time.Now)
	provider, err := tables.Providers.Create(t.Context(),
		catalog.Provider{Name: "p", Type: "openai", Models: []string{"m"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		m.Count(logbuf.Entry{Time: time.Now(), Status: 503,
			Failures: []logbuf.Failure{{ProviderID: provider.ID, UpstreamModel: "m", Class: "server"}}})
	}
	keeper.away.Store(true)
	if err := m.Judge(t.Context()); !errors.Is(err, errAway) {
		t.Errorf("%v", err)
	}
	if s := m.Status(); s.LastError == "" || s.FailsFrom.IsZero() || !s.JudgedAt.IsZero() {
		t.Errorf("status %+v", s)
	}
	keeper.away.Store(false)
	if err := m.Judge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := m.Status(); s.LastError != "" || !s.FailsFrom.IsZero() || s.Held != 0 || s.Made != 1 {
		t.Errorf("status %+v", s)
	}
	rows, _, err := m.Report(t.Context(), health.Query{})
	if err != nil || len(rows) != 1 || rows[0].Provider != "p" || rows[0].Attempts != 10 || rows[0].Failures != 10 ||
		rows[0].Failed["server"] != 10 || rows[0].Hold == nil || rows[0].Strikes != 1 {
		t.Errorf("%+v, %v", rows, err)
	}
}

var errAway = errors.New("the log store is away")

type faultyKeeper struct {
	*memstore.Sink
	away atomic.Bool
}

func (k *faultyKeeper) KeepHealth(ctx context.Context, before time.Time, notes ...logbuf.HealthNote) error {
	if k.away.Load() {
		return errAway
	}
	return k.Sink.KeepHealth(ctx, before, notes...)
}

// However many providers refuse their credentials, 16 are asked in a round, and each has its turn.
func TestProbesOfARoundAreFew(t *testing.T) {
	w := newWard(t)
	w.status.Store(http.StatusUnauthorized)
	for i := range 39 {
		p := w.provider
		p.ID, p.Name, p.APIKey = 0, fmt.Sprint("p", i), catalog.NewSecret("sk-very-secret")
		made, err := w.Providers.Create(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			w.monitors[0].Count(logbuf.Entry{Time: w.clock(), Status: 503,
				Failures: []logbuf.Failure{{ProviderID: made.ID, UpstreamModel: "a", Class: logbuf.FailedAuth}}})
		}
	}
	for round, want := range []int64{16, 32, 39} {
		if err := w.monitors[0].Judge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.monitors[0].Status().Probes; n != want || w.asked.Load() != want {
			t.Errorf("after round %d, %d probes and %d requests; want %d", round, n, w.asked.Load(), want)
		}
	}
}

// A user who makes up the names of models that a provider lists by a pattern alone holds these names, and
// never the provider, whether others ask it for something else or not. Models that it lists by name do.
func TestMadeUpModelsHoldNoProvider(t *testing.T) {
	w := newWard(t)
	makeUp := func(round int) {
		for i := range 4 {
			w.log(fmt.Sprintf("d-made-up-%d-%d", round, i), 0, 10, logbuf.FailedOverload)
		}
	}
	for round := range 5 {
		w.log("c", 20*(round%2), 0, "")
		makeUp(round)
		w.pass(time.Second)
		w.pass(5 * time.Second)
		held := strings.Split(w.holds(), ", ")
		if len(held) < 4 || slices.ContainsFunc(held, func(h string) bool { return !strings.HasPrefix(h, "/d-made-up-") }) {
			t.Fatalf("round %d: %q is held", round, held)
		}
	}
	w.pass(5 * time.Minute)
	w.want("after a rest", "")
	for _, model := range []string{"a", "b", "c"} {
		w.log(model, 0, 10, logbuf.FailedOverload)
	}
	w.pass(time.Second)
	w.pass(5 * time.Second)
	w.want("models that are listed by name", "/a 25 1 failures, /b 25 1 failures, /c 25 1 failures,  25 1 models")
}
