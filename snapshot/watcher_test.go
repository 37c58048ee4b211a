package snapshot_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stage publishes by hand, right or wrong, and can be made to fail. What is
// published is one key under each token that is named.
type stage struct {
	*memstore.Publisher
	t    testing.TB
	keys *snapshot.Keys
	now  *edition // that is published

	mu        sync.Mutex
	err       error // of every call
	reportErr error
	refuse    func(snapshot.Node) error // a report
	stuck     int                       // so many calls of Next never deliver
	cut       func()                    // ends the Next under way
	spoilNext func(*snapshot.Delta)
	spoilLoad func(snapshot.Change) snapshot.Change
	nodes     []snapshot.Node
	calls     map[string]int
}

// always is for the field stuck.
const always = 1 << 30

func newStage(t testing.TB) *stage {
	s := &stage{t: t, keys: mustKeys(t, keyA), Publisher: memstore.NewPublisher(), calls: map[string]int{}}
	s.replace(1, 1, "first")
	return s
}

// fail makes all calls fail, the Next under way included, until err is nil.
func (s *stage) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err = err; s.cut != nil {
		s.cut()
	}
}

// set changes what the source does.
func (s *stage) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *stage) call(what string) (*memstore.Publisher, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[what]++
	return s.Publisher, s.err
}

// called returns how often a method was called since it was last asked.
func (s *stage) called(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.calls[what] = 0 }()
	return s.calls[what]
}

func (s *stage) Head(ctx context.Context) (snapshot.Head, error) {
	pub, err := s.call("Head")
	if err != nil {
		return snapshot.Head{}, err
	}
	return pub.Head(ctx)
}

func (s *stage) LastBeat(ctx context.Context) (snapshot.Beat, error) {
	pub, err := s.call("LastBeat")
	if err != nil {
		return snapshot.Beat{}, err
	}
	return pub.LastBeat(ctx)
}

func (s *stage) Load(ctx context.Context, into snapshot.Loader) error {
	pub, err := s.call("Load")
	if err != nil {
		return err
	}
	return pub.Load(ctx, spoiltLoader{into, s})
}

type spoiltLoader struct {
	snapshot.Loader
	s *stage
}

func (l spoiltLoader) Add(changes []snapshot.Change) error {
	l.s.mu.Lock()
	spoil := l.s.spoilLoad
	l.s.mu.Unlock()
	for i := range changes {
		if spoil != nil {
			changes[i] = spoil(changes[i])
		}
	}
	return l.Loader.Add(changes)
}

func (s *stage) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	pub, err := s.call("Next")
	if err != nil {
		return snapshot.Delta{}, err
	}
	uncut, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.cut = cancel
	stuck := s.stuck > 0
	s.stuck -= min(s.stuck, 1)
	s.mu.Unlock()
	if stuck {
		<-uncut.Done()
		return snapshot.Delta{}, uncut.Err()
	}
	d, err := pub.Next(uncut, after)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && ctx.Err() == nil && s.err != nil {
		err = s.err
	}
	if err == nil && s.spoilNext != nil {
		s.spoilNext(&d)
	}
	return d, err
}

func (s *stage) Report(ctx context.Context, n snapshot.Node) (snapshot.Answer, error) {
	pub, err := s.call("Report")
	if err = cmp.Or(err, s.heard(n)); err != nil {
		return snapshot.Answer{}, err
	}
	return pub.Report(ctx, n)
}

func (s *stage) ReportAll(ctx context.Context, nodes []snapshot.Node) []error {
	pub, failed := s.call("ReportAll")
	errs := make([]error, len(nodes))
	for i, n := range nodes {
		errs[i] = cmp.Or(failed, s.heard(n))
		if errs[i] == nil {
			_, errs[i] = pub.Report(ctx, n)
		}
	}
	return errs
}

// heard keeps a report for the test, and returns the error with which it is to fail.
func (s *stage) heard(n snapshot.Node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = append(s.nodes, n)
	if s.refuse != nil {
		return cmp.Or(s.reportErr, s.refuse(n))
	}
	return s.reportErr
}

// reports returns what was reported since the last call.
func (s *stage) reports() []snapshot.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	nodes := s.nodes
	s.nodes = nil
	return nodes
}

// snap makes a signed edition with these tokens.
func (s *stage) snap(epoch catalog.Epoch, revision catalog.Revision, tokens ...string) *edition {
	var docs []snapshot.Document
	for _, token := range tokens {
		docs = append(docs, keyDoc(s.t, token, nil))
	}
	e := newEdition(s.keys, docs...)
	e.head.Position = snapshot.Position{Epoch: epoch, Revision: revision}
	e.sign()
	return e
}

func (s *stage) replace(epoch catalog.Epoch, revision catalog.Revision, tokens ...string) {
	s.t.Helper()
	s.put(s.snap(epoch, revision, tokens...))
}

func (s *stage) put(e *edition) {
	s.t.Helper()
	s.mu.Lock()
	pub := s.Publisher
	s.now = e
	s.mu.Unlock()
	e.replace(s.t, pub)
}

// rewind forgets what was published, as when an old backup is restored.
func (s *stage) rewind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Publisher = memstore.NewPublisher()
}

// delta publishes the addition of a token.
func (s *stage) delta(token string) { s.change(keyPut(s.t, token)) }

func (s *stage) change(changes ...snapshot.Change) {
	s.t.Helper()
	over := s.now.head.Base()
	if err := s.Apply(context.Background(), over, s.now.next(changes...)); err != nil {
		s.t.Fatal(err)
	}
}

// beat writes what control planes say about what is published.
func (s *stage) beat(at time.Time) {
	s.mu.Lock()
	pub := s.Publisher
	s.mu.Unlock()
	head, err := pub.Head(context.Background())
	if err != nil {
		s.t.Error(err)
		return
	}
	b := snapshot.Beat{Store: head.Store, Position: head.Position, At: at}
	s.keys.SignBeat(&b)
	if err := pub.SetBeat(context.Background(), b); err != nil {
		s.t.Error(err)
	}
}

// beats writes one every five seconds until what it returns is called.
func (s *stage) beats() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.beat(time.Now())
	go func() {
		defer close(done)
		tick := time.NewTicker(snapshot.BeatInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				s.beat(time.Now())
			}
		}
	}()
	stop = func() { cancel(); <-done }
	s.t.Cleanup(stop)
	return stop
}

// watch runs a watcher until the test ends.
func watch(t *testing.T, src snapshot.Source, opts snapshot.WatcherOptions) *snapshot.Watcher {
	t.Helper()
	if opts.Keys == nil {
		opts.Keys = mustKeys(t, keyA)
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	w := snapshot.NewWatcher(src, &opts)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return w
}

// serves fails the test unless exactly these tokens are known.
func serves(t *testing.T, w *snapshot.Watcher, tokens ...string) {
	t.Helper()
	v := w.View()
	for _, token := range tokens {
		if _, err := v.Authenticate(token, netip.Addr{}, time.Now()); err != nil {
			t.Errorf("token %q: %v", token, err)
		}
	}
	if n := v.Head().Counts[catalog.KindKey]; n != len(tokens) {
		t.Errorf("%d keys are served, want %d", n, len(tokens))
	}
}

// bubble runs a test in which time is only what is slept.
func bubble(t *testing.T, test func(t *testing.T, s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newStage(t)) })
}

func TestWatcherFollows(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		var seen []string
		w := watch(t, s, snapshot.WatcherOptions{OnApply: func(v *snapshot.View) {
			seen = append(seen,
				v.Position().String())
		}})
		<-w.Ready()
		synctest.Wait()
		serves(t, w, "first")
		for i := range 3 {
			s.delta(fmt.Sprint(i))
		}
		synctest.Wait()
		serves(t, w, "first", "0", "1", "2")
		s.change(keyGone("1"), keyPut(t, "3"))
		synctest.Wait()
		serves(t, w, "first", "0", "2", "3")
		if got := strings.Join(seen, " "); got != "1-1 1-2 1-3 1-4 1-5" {
			t.Errorf("applied %s", got)
		}
		if got := w.Status(); got.Loads != 1 || got.Deltas != 4 || got.Error != "" ||
			got.Position != s.now.head.Position || got.Phase != snapshot.PhaseFollowing {
			t.Errorf("status %+v", got)
		}
	})
}

func TestWatcherWaitsForTheFirstPublish(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		s.rewind()
		w := watch(t, s, snapshot.WatcherOptions{})
		time.Sleep(time.Minute)
		select {
		case <-w.Ready():
			t.Fatal("ready with nothing")
		default:
		}
		if got := w.Status(); got.Phase != snapshot.PhaseUnpublished || got.Error != "" {
			t.Errorf("status %+v", got)
		}
		if _, err := w.View().Authenticate("first", netip.Addr{}, time.Now()); !errors.Is(err, snapshot.ErrNotReady) {
			t.Errorf("Authenticate: %v", err)
		}
		if _, err := w.View().Route(&snapshot.Key{}, "m", time.Now()); !errors.Is(err, snapshot.ErrNotReady) {
			t.Errorf("Route: %v", err)
		}
		s.replace(1, 1, "first")
		time.Sleep(time.Second)
		serves(t, w, "first")
	})
}

func TestWatcherOutlivesItsSource(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		down := errors.New("connection refused")
		s.fail(down)
		w := watch(t, s, snapshot.WatcherOptions{})
		time.Sleep(time.Minute)
		if got := w.Status(); !strings.Contains(got.Error, down.Error()) || !got.HeardAt.IsZero() ||
			got.Phase == snapshot.PhaseFollowing {
			t.Errorf("status %+v", got)
		}
		if n := s.called("Load"); n > 120 {
			t.Errorf("%d loads in a minute", n)
		}
		s.fail(nil)
		time.Sleep(1500 * time.Millisecond) // the longest pause between two tries, and more
		serves(t, w, "first")

		s.fail(down)
		s.delta("second")
		time.Sleep(time.Hour)
		serves(t, w, "first")
		s.fail(nil)
		time.Sleep(1500 * time.Millisecond)
		serves(t, w, "first", "second")
		if got := w.Status(); got.Error != "" || got.Loads != 1 {
			t.Errorf("status %+v", got)
		}
	})
}

func TestWatcherReloadsOnAGap(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		w := watch(t, s, snapshot.WatcherOptions{})
		<-w.Ready()
		s.replace(1, 9, "other", "more")
		time.Sleep(time.Second)
		serves(t, w, "other", "more")
		s.replace(2, 1, "new epoch")
		time.Sleep(time.Second)
		serves(t, w, "new epoch")
		if got := w.Status(); got.Loads != 3 || got.Refused != 0 {
			t.Errorf("status %+v", got)
		}
	})
}

// Whatever makes all of them load, they do not do it at the same time.
func TestLoadsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		var mu sync.Mutex
		var at []time.Time
		for range 100 {
			w := watch(t, s, snapshot.WatcherOptions{OnApply: func(*snapshot.View) {
				mu.Lock()
				defer mu.Unlock()
				at = append(at, time.Now())
			}})
			<-w.Ready()
		}
		time.Sleep(11 * time.Second) // they know how many they are
		spread := func() time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return at[len(at)-1].Sub(at[len(at)-100])
		}
		s.replace(1, 9, "other")
		time.Sleep(11 * time.Second)
		mu.Lock()
		loads := len(at)
		mu.Unlock()
		if loads != 200 {
			t.Fatalf("%d loads", loads-100)
		}
		if d := spread(); d < 500*time.Millisecond || d > time.Second {
			t.Errorf("100 loads within %s, want them over a second", d)
		}
		s.reports()
		s.delta("second")
		time.Sleep(1500 * time.Millisecond)
		told := map[string]bool{}
		for _, n := range s.reports() {
			told[n.ID] = told[n.ID] || n.Position == s.now.head.Position
		}
		for id, applied := range told {
			if !applied {
				t.Errorf("%s has not told that it applied the delta", id)
			}
		}
		if len(told) != 100 {
			t.Errorf("%d nodes have reported", len(told))
		}
	})
}

func TestWatcherNeverGoesBack(t *testing.T) {
	for _, tc := range []struct {
		name     string
		epoch    catalog.Epoch
		revision catalog.Revision
		reason   string
	}{
		{"to an earlier revision", 2, 4, "before what is served"},
		{"to an earlier epoch", 1, 900, "before what is served"},
		{"to something else at the same position", 2, 5, "not what was published there before"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *stage) {
				s.replace(2, 5, "now")
				w := watch(t, s, snapshot.WatcherOptions{})
				<-w.Ready()
				s.rewind()
				s.replace(tc.epoch, tc.revision, "then")
				time.Sleep(time.Minute)
				serves(t, w, "now")
				if got := w.Status(); !strings.Contains(got.Error, tc.reason) {
					t.Errorf("status %+v", got)
				}
				if n := s.reports(); n[len(n)-1].Position != (snapshot.Position{Epoch: 2, Revision: 5}) || n[len(n)-1].Error == "" {
					t.Errorf("reported %+v", n[len(n)-1])
				}
				s.replace(3, 1, "later")
				time.Sleep(6 * time.Second)
				serves(t, w, "later")
			})
		})
	}
}

func TestWatcherRefusesAnotherCatalog(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		w := watch(t, s, snapshot.WatcherOptions{})
		<-w.Ready()
		other := s.snap(5, 1, "theirs")
		other.head.Store = "another"
		other.sign()
		s.put(other)
		time.Sleep(time.Minute)
		serves(t, w, "first")
		if got := w.Status(); !strings.Contains(got.Error, "another catalog's") || got.Phase == snapshot.PhaseFollowing {
			t.Errorf("status %+v", got)
		}
		other.head.Forced = true
		other.move(5, 2)
		s.put(other)
		time.Sleep(6 * time.Second)
		serves(t, w, "theirs")
	})
}

func TestWatcherKeepsWhatItHas(t *testing.T) {
	t.Run("when the head is gone", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *stage) {
			w := watch(t, s, snapshot.WatcherOptions{})
			<-w.Ready()
			s.rewind()
			time.Sleep(time.Hour)
			serves(t, w, "first")
			if got := w.Status(); got.Error == "" {
				t.Errorf("status %+v", got)
			}
		})
	})
	t.Run("when all is gone and nobody forced that", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *stage) {
			w := watch(t, s, snapshot.WatcherOptions{})
			<-w.Ready()
			s.replace(1, 5)
			time.Sleep(time.Hour)
			serves(t, w, "first")
			if got := w.Status(); !strings.Contains(got.Error, "empty") {
				t.Errorf("status %+v", got)
			}
			forced := s.snap(1, 6)
			forced.head.Forced = true
			forced.sign()
			s.put(forced)
			time.Sleep(6 * time.Second)
			serves(t, w)
		})
	})
	t.Run("but an empty first publish is served", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *stage) {
			s.rewind()
			s.replace(1, 1)
			w := watch(t, s, snapshot.WatcherOptions{})
			<-w.Ready()
			serves(t, w)
			if _, err := w.View().Authenticate("first", netip.Addr{}, time.Now()); !errors.Is(err, snapshot.ErrUnknownToken) {
				t.Errorf("Authenticate: %v", err)
			}
		})
	})
}

// spoilings are what may be wrong with a delta.
func spoilings() []struct {
	name  string
	spoil func(*snapshot.Delta)
} {
	field := func(name, value string) func(*snapshot.Delta) {
		return func(d *snapshot.Delta) {
			f := d.Head.Fields()
			f[name] = value
			d.Head, _ = snapshot.ParseHead(f)
		}
	}
	return []struct {
		name  string
		spoil func(*snapshot.Delta)
	}{
		{"a document that cannot be read", func(d *snapshot.Delta) { d.Changes[0].Doc = []byte("{") }},
		{"a document that is not what was signed",
			func(d *snapshot.Delta) { d.Changes[0].Doc = append(d.Changes[0].Doc, ' ') }},
		{"a document under no key", func(d *snapshot.Delta) { d.Changes[0].Key = "x" }},
		{"a document too few", func(d *snapshot.Delta) { d.Changes = nil }},
		{"a document too many", func(d *snapshot.Delta) {
			d.Changes = append(d.Changes, snapshot.Change{Kind: "keys", Key: strings.Repeat("0", 64), Doc: d.Changes[0].Doc})
		}},
		{"a deletion left out", func(d *snapshot.Delta) { d.Changes = d.Changes[:1] }},
		{"another mark", field("mark", strings.Repeat("f", 32))},
		{"another field", field("of_the_future", "1")},
		{"another signature", field("sig", strings.Repeat("0", 64))},
		{"no signature", field("seal", "")},
		{"another format", field("format", "2")},
		{"another catalog", field("store", "other")},
		{"another beginning", func(d *snapshot.Delta) { d.From.Revision++ }},
		{"a position that is no later", field("revision", "1")},
	}
}

func TestWatcherRefusesWhatIsDamaged(t *testing.T) {
	for _, tc := range spoilings() {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *stage) {
				s.replace(1, 2, "first", "goes")
				w := watch(t, s, snapshot.WatcherOptions{})
				<-w.Ready()
				synctest.Wait()
				good := s.now.head
				s.set(func() {
					s.spoilNext = tc.spoil
					s.spoilLoad = func(c snapshot.Change) snapshot.Change { c.Doc = append(c.Doc, ' '); return c }
				})
				s.reports()
				s.change(keyPut(t, "bad"), keyGone("goes"))
				time.Sleep(time.Minute)
				serves(t, w, "first", "goes")
				if got := w.Status(); got.Error == "" || got.Refused < 2 || got.Position != good.Position {
					t.Errorf("status %+v", got)
				}
				nodes := s.reports()
				if last := nodes[len(nodes)-1]; last.Error == "" || last.Position != good.Position || last.Head != good.Sig {
					t.Errorf("reported %+v", last)
				}

				s.set(func() { s.spoilNext, s.spoilLoad = nil, nil })
				time.Sleep(6 * time.Second)
				serves(t, w, "first", "bad")
				nodes = s.reports()
				if last := nodes[len(nodes)-1]; last.Error != "" || last.Position != s.now.head.Position {
					t.Errorf("reported %+v", last)
				}
			})
		})
	}
}

// An entry that does not fit is read once more from where one is, and then the
// whole is loaded.
func TestWatcherReadsOnceMore(t *testing.T) {
	for _, tc := range spoilings() {
		if tc.name == "another format" || tc.name == "no signature" {
			continue // nothing is wrong with how it was read
		}
		t.Run(tc.name, func(t *testing.T) {
			for spoilt, loads := range map[int]int64{1: 1, 2: 2} {
				bubble(t, func(t *testing.T, s *stage) {
					s.replace(1, 2, "first", "goes")
					w := watch(t, s, snapshot.WatcherOptions{})
					<-w.Ready()
					synctest.Wait()
					left := spoilt
					s.set(func() {
						s.spoilNext = func(d *snapshot.Delta) {
							if left--; left >= 0 {
								tc.spoil(d)
							}
						}
					})
					s.reports()
					s.change(keyPut(t, "new"), keyGone("goes"))
					time.Sleep(6 * time.Second)
					serves(t, w, "first", "new")
					if got := w.Status(); got.Loads != loads || got.Error != "" {
						t.Errorf("spoilt %d times: status %+v", spoilt, got)
					}
					for _, n := range s.reports() {
						if spoilt == 1 && n.Error != "" {
							t.Errorf("once is reported: %q", n.Error)
						}
					}
				})
			}
		})
	}
}

func TestWatcherReports(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		w := watch(t, s, snapshot.WatcherOptions{Name: "eu-1\n", Version: "v1.2"})
		<-w.Ready()
		time.Sleep(1500 * time.Millisecond)
		nodes := s.reports()
		if len(nodes) == 0 || len(nodes) > 2 {
			t.Fatalf("%d reports in the first second", len(nodes))
		}
		n := nodes[len(nodes)-1]
		if !strings.HasPrefix(n.ID, "eu-1 -") || n.ID != w.Status().Node || n.Version != "v1.2" ||
			n.Position != s.now.head.Position ||
			n.Head != s.now.head.Sig || n.Error != "" || n.Store != "s" || !slices.Equal(n.Kinds, snapshot.Kinds()) {
			t.Errorf("reported %+v", n)
		}
		if err := s.keys.VerifyNode(n); err != nil {
			t.Error(err)
		}
		s.called("Next")
		time.Sleep(100 * time.Second)
		if nodes := s.reports(); len(nodes) < 18 || len(nodes) > 22 {
			t.Errorf("%d heartbeats in 100 s, want one each 5 s", len(nodes))
		}
		for _, what := range []string{"Head", "Load", "LastBeat", "Next"} {
			if n := s.called(what); what != "Load" && n > 0 {
				t.Errorf("%s was called %d times by an idle watcher", what, n)
			}
		}
		if other := snapshot.NewWatcher(s, &snapshot.WatcherOptions{Name: "eu-1"}).Status().Node; other == n.ID {
			t.Errorf("two nodes are both %q", other)
		}
	})
}

// However fast is published, a node reports once a second, and in a large fleet less often.
func TestReportsAreBounded(t *testing.T) {
	for _, tc := range []struct{ live, most, least int }{{1, 32, 25}, {8000, 8, 4}, {100_000, 4, 2}} {
		t.Run(fmt.Sprint(tc.live), func(t *testing.T) {
			bubble(t, func(t *testing.T, s *stage) {
				crowd := crowded{s, tc.live}
				watch(t, crowd, snapshot.WatcherOptions{})
				time.Sleep(20 * time.Second)
				s.reports()
				for i := range 300 {
					s.delta(fmt.Sprint(i))
					time.Sleep(100 * time.Millisecond)
				}
				if n := len(s.reports()); n > tc.most || n < tc.least {
					t.Errorf("%d reports in 30 s, want %d to %d", n, tc.least, tc.most)
				}
			})
		})
	}
}

// crowded says that many nodes are live.
type crowded struct {
	*stage
	live int
}

func (c crowded) Report(ctx context.Context, n snapshot.Node) (snapshot.Answer, error) {
	a, err := c.stage.Report(ctx, n)
	a.Live = c.live
	return a, err
}

func TestAReportThatIsRefusedIsShown(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		var log strings.Builder
		s.set(func() { s.reportErr = errors.New("NOPERM no permissions") })
		w := watch(t, s, snapshot.WatcherOptions{MaxStale: 15 * time.Second,
			Logger: slog.New(slog.NewTextHandler(&log, nil))})
		s.beats()
		time.Sleep(time.Minute)
		serves(t, w, "first") // the beat is read by itself
		if got := w.Status(); !strings.Contains(got.ReportError, "NOPERM") || got.Error != "" {
			t.Errorf("status %+v", got)
		}
		if n := strings.Count(log.String(), "NOPERM"); n != 1 {
			t.Errorf("it is logged %d times:\n%s", n, log.String())
		}
		s.set(func() { s.reportErr = nil })
		time.Sleep(6 * time.Second)
		if got := w.Status(); got.ReportError != "" {
			t.Errorf("status %+v", got)
		}
	})
}

func TestAWatcherThatStopsTakesItsReportAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		w := snapshot.NewWatcher(s, &snapshot.WatcherOptions{Keys: s.keys})
		run(t, w, func() {
			time.Sleep(time.Second)
			if got := nodes(t, s); len(got) != 1 {
				t.Fatalf("nodes %+v", got)
			}
			s.reports()
		})
		last := s.reports()
		if got := nodes(t, s); len(got) != 0 {
			t.Errorf("nodes %+v", got)
		}
		if n := last[len(last)-1]; !n.Leaving || s.keys.VerifyNode(n) != nil {
			t.Errorf("the last report %+v", n)
		}
		if w.Status().Phase != snapshot.PhaseStopped {
			t.Errorf("status %+v", w.Status())
		}
	})
}

func nodes(t testing.TB, p snapshot.Publisher) []snapshot.Node {
	t.Helper()
	list, err := p.Nodes(context.Background(), snapshot.NodeQuery{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Nodes
}

func TestWatcherNoticesASilentSource(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		s.set(func() { s.stuck = always })
		w := watch(t, s, snapshot.WatcherOptions{})
		<-w.Ready()
		s.delta("second")
		time.Sleep(20 * time.Second)
		serves(t, w, "first", "second")
	})
}

// Waits that are never told of a delta, because their connections are dead, do not make a data plane load the
// whole, which it does late where there are many: it asks anew, also while it waits before it loads.
func TestWatcherAsksAgainBeforeItLoads(t *testing.T) {
	for stuck := 1; stuck <= 2; stuck++ {
		bubble(t, func(t *testing.T, s *stage) {
			for i := range 2_000 {
				n := snapshot.Node{ID: fmt.Sprint("other-", i)}
				s.keys.SignNode(&n)
				if _, err := s.Report(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			}
			s.set(func() { s.stuck = stuck })
			w := watch(t, s, snapshot.WatcherOptions{})
			<-w.Ready()
			synctest.Wait()
			s.delta("second")
			time.Sleep(time.Duration(stuck) * 7 * time.Second) // two reports each, at most 5.5 and 1 s later
			serves(t, w, "first", "second")
			if got := w.Status(); got.Loads != 1 || got.Deltas != 1 || got.Phase != snapshot.PhaseFollowing {
				t.Errorf("%d stuck: status %+v", stuck, got)
			}
		})
	}
}

// A wait that is never told of anything, because its connection is dead, is noticed also while the catalog goes on
// changing, so that no two looks show the same head.
func TestWatcherNoticesADeadWaitWhileTheCatalogChanges(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		s.set(func() { s.stuck = 1 })
		w := watch(t, s, snapshot.WatcherOptions{})
		<-w.Ready()
		synctest.Wait()
		for i := range 14 { // two reports, at most 5.5 and 1 s later
			s.delta(fmt.Sprint(i))
			time.Sleep(500 * time.Millisecond)
		}
		if got := w.Status(); got.Position != s.now.head.Position || got.Loads != 1 {
			t.Errorf("status %+v", got)
		}
	})
}

func TestWatcherRunsOnce(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		w := watch(t, s, snapshot.WatcherOptions{})
		synctest.Wait()
		if err := w.Run(t.Context()); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("a second Run: %v", err)
		}
	})
}

// A view is one position, whole, while views come and go.
func TestViewsAreReadWhileTheyChange(t *testing.T) {
	s := newStage(t)
	watcher := watch(t, s, snapshot.WatcherOptions{})
	<-watcher.Ready()
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			last := snapshot.Position{}
			for !stop.Load() {
				v := watcher.View()
				if last.After(v.Position()) {
					t.Errorf("went back from %s to %s", last, v.Position())
					return
				}
				last = v.Position()
				// Both are created and deleted together.
				_, a := v.Key("one")
				_, b := v.Key("two")
				if a != b {
					t.Errorf("half a publish at %s", last)
					return
				}
			}
		})
	}
	for i := range 60 {
		if i%2 == 0 {
			s.change(keyPut(t, "one"), keyPut(t, "two"))
		} else {
			s.change(keyGone("one"), keyGone("two"))
		}
		for watcher.View().Position() != s.now.head.Position {
			time.Sleep(time.Millisecond)
		}
	}
	stop.Store(true)
	readers.Wait()
}
