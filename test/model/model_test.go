package model

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// TestEverythingHeals: whatever happens, some time after it is over what is
// published is the rendering of the catalog, every view is what is published, both answer as the
// raw catalog does, and no view has ever gone back.
func TestEverythingHeals(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		plan := rapid.SliceOfN(rapid.Custom(drawStep), 1, 40).Draw(rt, "plan")
		sealed := rapid.Bool().Draw(rt, "sealed")
		var err error
		synctest.Test(t, func(t *testing.T) {
			err = live(t, memory{memstore.NewPublisher()}, plan, sealed, unhurried)
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// TestEverythingHealsOnRedis is the same on a real Redis, in real time, so with few plans and little rest.
func TestEverythingHealsOnRedis(t *testing.T) {
	addr := os.Getenv("EZ_TEST_REDIS_ADDR")
	if addr == "" {
		t.Skip("EZ_TEST_REDIS_ADDR is not set: nothing here was tested on a real Redis")
	}
	for n := range *plans {
		t.Run(fmt.Sprint("plan ", n), func(t *testing.T) {
			t.Parallel()
			seed := *firstPlan + uint64(n)
			r := rand.New(rand.NewPCG(seed, 2))
			var plan []step
			for range 25 {
				plan = append(plan, step{
					Name: slices.Sorted(maps.Keys(happenings))[r.IntN(len(happenings))], Seed: r.Uint64(),
					Rest: []time.Duration{0, time.Millisecond, 50 * time.Millisecond, 700 * time.Millisecond}[r.IntN(4)],
				})
			}
			redis := newRemote(addr)
			defer redis.close()
			if err := live(t, redis, plan, n%4 > 0, hurried); err != nil {
				t.Errorf("-first-plan %d: %v\n%+v", seed, err, plan)
			}
		})
	}
}

var (
	plans     = flag.Int("plans", 6, "how many plans happen to a real Redis")
	firstPlan = flag.Uint64("first-plan", uint64(time.Now().UnixNano()), "the seed of the first")
)

// A pace is how long healing may take: so many times, each of so long a pause.
type pace struct {
	times int
	pause time.Duration
}

var (
	unhurried = pace{60, 10 * time.Second}
	hurried   = pace{240, 250 * time.Millisecond}
)

// A step is one thing that happens; the seed decides the details.
type step struct {
	Name string
	Seed uint64
	Rest time.Duration // afterwards
}

func drawStep(rt *rapid.T) step {
	return step{
		Name: rapid.SampledFrom(slices.Sorted(maps.Keys(happenings))).Draw(rt, "name"),
		Seed: rapid.Uint64().Draw(rt, "seed"),
		Rest: rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, 100 * time.Millisecond, 3 * time.Second,
			40 * time.Second}).
			Draw(rt, "rest"),
	}
}

// happenings are all that can happen, by name. Those first in the alphabet are what rapid shrinks to.
var happenings = map[string]func(*world, *rand.Rand) error{
	"commit":                  (*world).commit,
	"commit more":             (*world).commit,
	"commit much":             (*world).commitMuch,
	"rotate a key":            (*world).rotate,
	"maintenance":             func(w *world, _ *rand.Rand) error { return w.tables.Maintain(w.ctx) },
	"sync":                    (*world).sync,
	"re-synchronisation":      (*world).resync,
	"relays stop or start":    (*world).toggleRelays,
	"watcher restarts":        (*world).restartWatcher,
	"publisher goes down":     disaster(func(c *cache, _ int) { c.down = true }),
	"publisher comes up":      disaster(func(c *cache, _ int) { c.down = false }),
	"publishes are refused":   disaster(func(c *cache, n int) { c.deaf = n }),
	"answers are lost":        disaster(func(c *cache, n int) { c.mute = n }),
	"stream entries are lost": disaster(func(c *cache, n int) { c.forgetful = n }),
	"publisher is flushed":    func(w *world, _ *rand.Rand) error { w.cache.wipe(); return nil },
	"publisher is dumped":     func(w *world, _ *rand.Rand) error { w.restore = w.cache.save(); return nil },
	"publisher falls back":    func(w *world, _ *rand.Rand) error { w.restore(); return nil },
	"a document is damaged":   (*world).damage,
	"a document is replayed":  (*world).replayDocument,
	"documents are surplus":   (*world).surplus,
	"a head is forged":        (*world).forgeHead,
	"a head is replayed":      (*world).replayHead,
	"a head is gone":          func(w *world, _ *rand.Rand) error { w.cache.setFields(nil); return nil },
	"an entry is forged":      func(w *world, r *rand.Rand) error { w.cache.stray(r.IntN(100)); return nil },
	"a beat is forged":        (*world).forgeBeat,
	"reports are forged":      (*world).forgeReports,
	"database is backed up":   (*world).backup,
	"database is restored":    (*world).restoreDatabase,
}

// disaster happens to the cache, a few times.
func disaster(change func(c *cache, times int)) func(*world, *rand.Rand) error {
	return func(w *world, r *rand.Rand) error {
		w.cache.set(func(c *cache) { change(c, 1+r.IntN(3)) })
		return nil
	}
}

const syncKey = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// world is one control plane of two processes, their publisher, and three data planes.
type world struct {
	ctx      context.Context
	dir      string
	db       *database
	tables   *catalog.Tables
	keeper   catalog.Keeper
	cache    *cache
	keys     *snapshot.Keys
	relays   []*snapshot.Relay
	watchers []*watched
	tokens   []string // all that were ever issued

	restore    func()          // puts the cache back as it was dumped
	oldHead    snapshot.Fields // that was published once
	oldDoc     snapshot.Document
	pace       pace
	backups    int
	stopRelays func() // nil while they are stopped
	problems   chan error
}

// watched is a data plane and a record of what it served.
type watched struct {
	*snapshot.Watcher
	stop func()
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// live lets the plan happen, and says what is wrong in the end.
func live(t *testing.T, published server, plan []step, sealed bool, p pace) error {
	db, err := openDatabase(filepath.Join(t.TempDir(), "catalog.db"))
	if err != nil {
		return err
	}
	defer db.close() //nolint:errcheck // it goes
	w := &world{
		keeper:   catalog.NewRandomKeyRing(),
		ctx:      t.Context(),
		dir:      t.TempDir(),
		db:       db,
		cache:    &cache{server: published},
		pace:     p,
		problems: make(chan error, 1),
	}
	w.restore = w.cache.wipe // nothing was dumped yet
	if sealed {
		if w.keys, err = snapshot.ParseKeys(syncKey); err != nil {
			return err
		}
	}
	w.tables = catalog.NewTables(db, w.keeper, nil)
	for range 2 {
		w.relays = append(
			w.relays,
			snapshot.NewRelay(w.tables, w.cache, &snapshot.RelayOptions{Keys: w.keys, Logger: quiet()}),
		)
	}
	w.startRelays()
	defer func() {
		if w.stopRelays != nil {
			w.stopRelays()
		}
	}()
	w.watchers = make([]*watched, 3)
	for i := range w.watchers {
		w.startWatcher(i)
		defer func() { w.watchers[i].stop() }()
	}

	for i, s := range plan {
		if err := happenings[s.Name](w, rand.New(rand.NewPCG(s.Seed, 1))); err != nil {
			return fmt.Errorf("step %d, %s: %w", i, s.Name, err)
		}
		time.Sleep(s.Rest)
	}
	return w.settle()
}

// settle ends every disaster, gives all of them time to heal, and checks.
func (w *world) settle() error {
	w.cache.set(func(c *cache) { c.down, c.deaf, c.mute, c.forgetful = false, 0, 0, 0 })
	if w.stopRelays == nil {
		w.startRelays()
	}
	err := errors.New("never looked")
	for range w.pace.times {
		time.Sleep(w.pace.pause)
		if err = w.agree(); err == nil {
			break
		}
		if err := w.operate(); err != nil {
			return err
		}
	}
	if err == nil {
		time.Sleep(w.pace.pause)
		err = w.agree() // and goes on to
	}
	select {
	case problem := <-w.problems:
		return errors.Join(problem, err)
	default:
		return err
	}
}

// operate does what only an operator may: let go of documents that a restored
// database has lost.
func (w *world) operate() error {
	asks := func(problem string) bool { return strings.Contains(problem, "force") }
	needed := slices.ContainsFunc(
		w.relays,
		func(r *snapshot.Relay) bool { return asks(r.Status().LastError) },
	) ||
		slices.ContainsFunc(w.watchers, func(d *watched) bool { return asks(d.Status().Error) })
	if !needed {
		return nil
	}
	_, err := w.relays[0].Resync(w.ctx, snapshot.ResyncOptions{Force: true})
	return err
}

// agree says in what the catalog, the publisher, the views and the oracle differ.
func (w *world) agree() error {
	published, err := load(w.ctx, w.cache)
	if err != nil {
		return err
	}
	if err := w.keys.VerifyHead(published.head); err != nil {
		return err
	}
	rendered, err := w.render()
	if err != nil {
		return err
	}
	if err := sameDocuments(rendered.docs, published.docs); err != nil {
		return fmt.Errorf("published is not what the catalog renders to: %w", err)
	}
	if !maps.Equal(rendered.head.Digest, published.head.Digest) {
		return errors.New("the published digest is wrong")
	}
	o, err := consult(w.ctx, w.tables)
	if err != nil {
		return err
	}
	for i, watcher := range w.watchers {
		v := watcher.View()
		if !v.Head().Equal(published.head) {
			return fmt.Errorf(
				"watcher %d is at %s, published is %s: %+v",
				i,
				v.Position(),
				published.head.Position,
				watcher.Status(),
			)
		}
		if err := w.interview(v, o); err != nil {
			return fmt.Errorf("watcher %d: %w", i, err)
		}
	}
	return nil
}

// render publishes the catalog to a publisher of its own.
func (w *world) render() (*whole, error) {
	// On a copy, since the first publish is recorded in the catalog.
	w.backups++
	path := filepath.Join(w.dir, fmt.Sprint("render-", w.backups))
	if err := w.db.backup(path); err != nil {
		return nil, err
	}
	db, err := openDatabase(path)
	if err != nil {
		return nil, err
	}
	defer db.close() //nolint:errcheck // it goes
	pub := memstore.NewPublisher()
	tables := catalog.NewTables(db, w.keeper, nil)
	if _, err := snapshot.NewRelay(tables, pub,
		&snapshot.RelayOptions{Keys: w.keys, Logger: quiet()}).Sync(w.ctx); err != nil {
		return nil, err
	}
	return load(w.ctx, pub)
}

// whole is everything that is published, by kind and key; it is a loader.
type whole struct {
	head snapshot.Head
	docs map[string]string
}

func load(ctx context.Context, src snapshot.Source) (*whole, error) {
	w := new(whole)
	return w, src.Load(ctx, w)
}

func (w *whole) Begin(h snapshot.Head) ([]catalog.Kind, error) {
	w.docs = make(map[string]string)
	return slices.Collect(maps.Keys(h.Counts)), nil
}

func (w *whole) Add(changes []snapshot.Change) error {
	for _, c := range changes {
		if w.docs[string(c.Kind)+" "+c.Key] = string(c.Doc); c.Doc == nil {
			delete(w.docs, string(c.Kind)+" "+c.Key)
		}
	}
	return nil
}

func (w *whole) End(h snapshot.Head) error {
	w.head = h
	if h.Counts.Total() != len(w.docs) {
		return snapshot.ErrCorrupt
	}
	return nil
}

func sameDocuments(want, got map[string]string) error {
	content := maps.Clone(want)
	for name, found := range got {
		if doc, ok := content[name]; !ok || doc != found {
			return fmt.Errorf("%s is %s, want %s", name, found, doc)
		}
		delete(content, name)
	}
	if len(content) > 0 {
		return fmt.Errorf("%d documents are missing", len(content))
	}
	return nil
}

// interview asks a view and the oracle the same questions.
func (w *world) interview(v *snapshot.View, o oracle) error {
	now := time.Now()
	addr := netip.MustParseAddr("192.0.2.7")
	for _, token := range w.tokens {
		key, wantErr := o.authenticate(token, addr, now)
		doc, gotErr := v.Authenticate(token, addr, now)
		if !same(gotErr, wantErr) || (key == nil) != (doc == nil) {
			return fmt.Errorf("a token of %v: %v, want %v", key, gotErr, wantErr)
		}
		if key == nil {
			continue
		}
		for _, name := range names() {
			rungs, wantErr := o.route(key, name)
			targets, gotErr := v.Route(doc, name, time.Now())
			if !same(gotErr, wantErr) {
				return fmt.Errorf("model %s for key %d: %v, want %v", name, key.ID, gotErr, wantErr)
			}
			if err := check(rungs, targets); err != nil {
				return fmt.Errorf("model %s for key %d: %w", name, key.ID, err)
			}
		}
	}
	return nil
}

func (w *world) startRelays() {
	ctx, cancel := context.WithCancel(w.ctx)
	var all sync.WaitGroup
	for _, r := range w.relays {
		all.Go(func() { _ = r.Run(ctx) })
	}
	w.stopRelays = func() { cancel(); all.Wait() }
}

func (w *world) toggleRelays(*rand.Rand) error {
	if w.stopRelays == nil {
		w.startRelays()
		return nil
	}
	w.stopRelays()
	w.stopRelays = nil
	return nil
}

func (w *world) startWatcher(i int) {
	var last snapshot.Position
	opts := &snapshot.WatcherOptions{Keys: w.keys, Name: fmt.Sprint("watcher-", i), Logger: quiet()}
	if i == 0 {
		opts.File = filepath.Join(w.dir, "last-good")
	}
	opts.OnApply = func(v *snapshot.View) {
		if !v.Position().After(last) {
			select {
			case w.problems <- fmt.Errorf("watcher %d went from %s to %s", i, last, v.Position()):
			default:
			}
		}
		last = v.Position()
	}
	watcher := snapshot.NewWatcher(w.cache, opts)
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = watcher.Run(ctx) }()
	w.watchers[i] = &watched{watcher, func() { cancel(); <-done }}
}

func (w *world) restartWatcher(r *rand.Rand) error {
	i := r.IntN(len(w.watchers))
	w.watchers[i].stop()
	w.startWatcher(i)
	return nil
}

// sync publishes now, which may fail.
func (w *world) sync(r *rand.Rand) error {
	_, _ = w.relays[r.IntN(len(w.relays))].Sync(w.ctx)
	return nil
}

func (w *world) resync(r *rand.Rand) error {
	_, err := w.relays[r.IntN(len(w.relays))].Resync(
		w.ctx,
		snapshot.ResyncOptions{NewEpoch: r.IntN(3) == 0, Force: r.IntN(2) == 0},
	)
	for _, expected := range []error{
		errDown, snapshot.ErrShrinks, snapshot.ErrStale, snapshot.ErrWaiting, snapshot.ErrForeign, snapshot.ErrOutranked,
		snapshot.ErrCorrupt,
	} {
		if errors.Is(err, expected) {
			return nil
		}
	}
	return err
}

func (w *world) backup(*rand.Rand) error {
	w.backups++
	return w.db.backup(filepath.Join(w.dir, fmt.Sprint("backup-", w.backups)))
}

func (w *world) restoreDatabase(*rand.Rand) error {
	matches, err := filepath.Glob(filepath.Join(w.dir, "backup-*"))
	if err != nil || len(matches) == 0 {
		return err
	}
	slices.Sort(matches)
	return w.db.restore(matches[len(matches)-1])
}

// names are all the model names that anybody asks for.
func names() []string {
	return strings.Fields("m0 m1 m2 default.m0 team.m0 team.m1 team.m9 nothing.m0 vendor/m1 team.vendor/m1")
}

// A hundred plans take long with the race detector; -rapid.checks says otherwise.
func init() {
	if err := flag.Set("rapid.checks", "40"); err != nil {
		panic(err)
	}
}
