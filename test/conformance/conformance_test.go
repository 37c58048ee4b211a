package conformance

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// The runs wait much and work little.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

const python = "../../examples/reader/reader.py"

func connect(t *testing.T) (rdb *redis.Client, addr string) {
	t.Helper()
	addr = os.Getenv("EZ_TEST_REDIS_ADDR")
	if addr == "" {
		t.Fatal("EZ_TEST_REDIS_ADDR is not set: run test/integration.sh, which sets it")
	}
	options := &redis.Options{Addr: addr}
	if strings.Contains(addr, "://") {
		var err error
		if options, err = redis.ParseURL(addr); err != nil {
			t.Fatal("EZ_TEST_REDIS_ADDR cannot be read")
		}
	}
	rdb = redis.NewClient(options)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb, options.Addr
}

func tell(t *testing.T) func(string, error) {
	begun := time.Now()
	return func(step string, err error) {
		if err == nil {
			t.Logf("%5.1f s  %s", time.Since(begun).Seconds(), step)
		}
	}
}

func runs() map[string]string {
	return map[string]string{"in clear text": "none", "sealed": SyncKeys}
}

func TestThePythonReaderConforms(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Fatal("python3 is missing: run test/integration.sh, which installs it")
	}
	for name, keys := range runs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb, addr := connect(t)
			if err := Run(t.Context(), rdb, addr, keys, Program(t.Output(), "python3", python), tell(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// Each of these is wrong in one way, which a step must notice.
func TestWrongReadersFail(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(python)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []struct{ name, keys, right, wrong, step string }{
		{"a missing head is an empty catalog", "none", "    if not start:\n        return None",
			"    if not start:\n        return View(Head({\"epoch\": \"0\", \"revision\": \"1\", \"seal\": \"\", \"store\": " +
				"\"\", \"sig\": \"\", " +
				"\"counts\": \"{}\", \"digest\": \"{}\", \"forced\": \"1\", \"format\": \"1\"}))", "nothing is published"},
		{"documents are serialised anew", "none", "self.docs[name] = doc",
			"self.docs[name] = json.dumps(json.loads(doc))", "documents are followed"},
		{"a star of the shorter name is found first", "none", "range(model.count(\"/\"), -1, -1)",
			"range(model.count(\"/\") + 1)", "names are looked up"},
		{"a record that is disabled is passed over", "none", "        if document:\n            found",
			"        if document and json.loads(document)[\"status\"] == \"active\":\n            found", "names are looked up"},
		{"lists hold no stars", "none", "listed.endswith(\"*\") and", "False and", "names are looked up"},
		{"what is asked for goes upstream as it stands", "none", "upstream[:-1] + star", "asked", "names are looked up"},
		{"every kind counts", "none", "            if kind not in KINDS:\n                continue",
			"            if False:\n                continue", "a kind that is not known"},
		{"fields that are not known are not signed", SyncKeys, "for n in sorted(fields) if n !=",
			"for n in sorted(fields) if n != \"of_the_future\" and n !=", "fields that are not known"},
		{"the digest does not matter", "none", "if kind in self.head.digest and", "if False and", "a wrong digest"},
		{"the signature does not matter", SyncKeys, "if not hmac.compare_digest(",
			"if False and not hmac.compare_digest(", "a wrong signature"},
		{"what is unsigned is good", SyncKeys, "if not SUBKEYS and not seal:", "if not seal:", "an unsigned head"},
		{"any text is a document", "none", "if kind in KINDS and doc is not None and not isinstance(",
			"if False and not isinstance(", "a document that is not JSON"},
		{"any format is read", "none", "if self.format != 1:", "if False:", "another format"},
		{"any catalog is good", "none", "if head.store != old.store and not head.forced:", "if False:", "another catalog"},
		{"what is older is as good", "none", "if head.at < old.at:", "if False:", "it never goes back"},
		{"nothing is as good as something", "none", "if old.known and not head.known and", "if False and",
			"an empty catalog that nobody"},
		{"nothing is ever served empty", "none", "if old.known and not head.known and not head.forced:",
			"if old.known and not head.known:", "an empty catalog that somebody"},
		{"there is one sync key", SyncKeys, "listed.split(\",\"):", "listed.split(\",\")[:1]:", "the second key"},
		{"no control plane is needed", "none", "return MAX_STALE > 0 and", "return False and", "what no control plane"},
		{"it starts from whatever there is", "none", "if MAX_STALE and not fresh:", "if False:", "what no control plane"},
		{"the signature of a beat does not matter", SyncKeys, "verify(\"beat\", beat)", "pass", "what no control plane"},
		{"beats of the future are good", "none", "abs(time.time() - self.beat) > MAX_STALE",
			"time.time() - self.beat > MAX_STALE", "a beat of the future"},
		{"one position is as good as itself", SyncKeys, "if head.at == old.at and head.fields != old.fields:", "if False:",
			"other content"},
		{"every beat counts", "none", "if head and beat[0] <= head.at and beat[2] == head.store:", "if head:",
			"what no control plane"},
		{"a problem is for ever", "none", "self.error, self.strikes = \"\", 0", "self.strikes = 0", "what is damaged"},
		{"problems are nobody's business", "none", "re.sub(\"[\\x00-\\x1f\\x7f]\", \" \", self.error)[:1024]", "\"\"",
			"what is damaged"},
		{"it says nothing", "none", "[\"HSET\", nodes, self.node, json.dumps({**report, \"seen_at\": now})]",
			"[\"ECHO\", \"\"]", "what is damaged"},
	} {
		t.Run(wrong.name, func(t *testing.T) {
			t.Parallel()
			program := strings.ReplaceAll(string(text), wrong.right, wrong.wrong)
			if program == string(text) {
				t.Fatalf("%q is not in the reader", wrong.right)
			}
			file := filepath.Join(t.TempDir(), "reader.py")
			if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
				t.Fatal(err)
			}
			rdb, addr := connect(t)
			wanted := func(step string) bool {
				return slices.ContainsFunc([]string{"a first publish", "documents are", wrong.step},
					func(beginning string) bool { return strings.HasPrefix(step, beginning) })
			}
			noted := func(string, error) {}
			err := runSome(t.Context(), rdb, addr, wrong.keys, Program(io.Discard, "python3", file), noted, wanted)
			if err == nil || !strings.HasPrefix(err.Error(), wrong.step) {
				t.Errorf("the script says %v, want a failure at the step %q", err, wrong.step)
			}
		})
	}
}

// A machine that stands still for longer than a reader may has not been waiting for it, and a reader
// that is slow but moves does not stand still.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{ctx: t.Context()}
		asked := 0
		if err := s.until(func() error {
			if asked++; asked > 2 {
				return nil
			}
			time.Sleep(2 * patience) // everything stands still
			return errors.New("it has done nothing yet")
		}); err != nil {
			t.Errorf("a machine that stood still: %v", err)
		}
		begun := time.Now()
		if err := s.until(func() error {
			if passed := time.Since(begun) / (patience / 2); passed < 6 {
				return fmt.Errorf("it is at %d of 6", passed)
			}
			return nil
		}); err != nil {
			t.Errorf("a slow reader: %v", err)
		}
		begun = time.Now()
		if err := s.until(func() error { return errors.New("it stands still") }); err == nil ||
			time.Since(begun) < patience || time.Since(begun) > 2*patience {
			t.Errorf("a reader that stands still: %v after %s", err, time.Since(begun))
		}
	})
}

func TestTheWatcherConforms(t *testing.T) {
	t.Parallel()
	for name, keys := range runs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb, addr := connect(t)
			if err := Run(t.Context(), rdb, addr, keys, watch, tell(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// watcher is the data-plane SDK as a reader.
type watcher struct {
	*snapshot.Watcher
	stop func()
	gate *gate
	keys *snapshot.Keys
	view *atomic.Pointer[snapshot.View] // the last that was applied
}

// gate holds up what a source returns while it is closed.
type gate struct {
	snapshot.Source
	mu sync.RWMutex
}

func (g *gate) wait() {
	g.mu.RLock()
	defer g.mu.RUnlock()
}

func (g *gate) Load(ctx context.Context, into snapshot.Loader) error {
	g.wait()
	defer g.wait()
	return g.Source.Load(ctx, into)
}

func (g *gate) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	defer g.wait()
	return g.Source.Next(ctx, after)
}

func watch(ctx context.Context, c Config) (Reader, error) {
	var keys *snapshot.Keys
	if c.SyncKeys != "none" {
		var err error
		if keys, err = snapshot.ParseKeys(c.SyncKeys); err != nil {
			return nil, err
		}
	}
	rdb := redis.NewClient(&redis.Options{Addr: c.Addr})
	g := &gate{Source: redisstore.New(rdb, &redisstore.Options{Prefix: c.Prefix, Logger: quiet()})}
	view := new(atomic.Pointer[snapshot.View])
	w := &watcher{gate: g, keys: keys, view: view, Watcher: snapshot.NewWatcher(g, &snapshot.WatcherOptions{
		Keys: keys, Name: "go", MaxStale: c.MaxStale, Logger: quiet(),
		OnApply: view.Store,
	})}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = w.Run(ctx) }()
	w.stop = func() { cancel(); <-done; _ = rdb.Close() }
	return w, nil
}

func (w *watcher) Position() (Serving, error) {
	s := Serving{Outdated: w.Status().Outdated, Digest: map[catalog.Kind]string{}}
	v := w.view.Load()
	if v == nil {
		return Serving{}, nil
	}
	h := v.Head()
	s.Position = h.Position
	for kind, d := range h.Digest {
		s.Digest[kind] = d.String()
	}
	return s, nil
}

// Get serialises the view's document anew, which gives the same bytes.
func (w *watcher) Get(kind catalog.Kind, key string) ([]byte, error) {
	v := w.view.Load()
	switch kind {
	case catalog.KindKey:
		if k, ok := v.KeyByHash(key); ok {
			return encoded(key, k.KeyDoc)
		}
	case catalog.KindModel, catalog.KindBinding:
		namespace, name, _ := strings.Cut(key, ".")
		if kind == catalog.KindModel {
			if m, ok := v.Model(namespace, name); ok {
				return encoded(key, *m)
			}
		} else if b, ok := v.Binding(namespace, name); ok {
			return encoded(key, *b)
		}
	case catalog.KindProvider:
		return w.provider(v, key)
	case catalog.KindProject:
		if p, ok := v.Project(key); ok {
			return encoded(key, *p)
		}
	case catalog.KindHold:
		if t, ok := catalog.ParseHoldTarget(key); ok {
			if h, ok := v.Hold(t); ok {
				return encoded(key, *h)
			}
		}
	default:
		return nil, fmt.Errorf("documents of kind %s are not known here", kind)
	}
	return nil, nil
}

// provider seals the secret anew, which gives the same bytes too.
func (w *watcher) provider(v *snapshot.View, key string) ([]byte, error) {
	id, err := strconv.ParseInt(key, 10, 64)
	if err != nil {
		return nil, err
	}
	p, ok := v.Provider(id)
	if !ok {
		return nil, nil
	}
	keys, err := w.keys.Activate(v.Head().Seal)
	if err != nil {
		return nil, err
	}
	doc := p.ProviderDoc
	doc.SealedAPIKey = keys.Seal(p.APIKey.Reveal(), catalog.NewDestination(
		p.Type, p.BaseURL, p.GoogleProject, p.GoogleLocation, p.Options).SealData(id))
	return encoded(key, doc)
}

// Route asks the view, and answers as docs/balancers.md says.
func (w *watcher) Route(hash, model string) (Route, error) {
	v := w.view.Load()
	key, ok := v.KeyByHash(hash)
	if !ok {
		return Route{Status: http.StatusUnauthorized}, nil
	}
	targets, err := v.Route(key, model, time.Now())
	r := Route{Status: http.StatusOK, Targets: map[string]string{}}
	for _, t := range targets {
		r.Targets[strconv.FormatInt(t.Provider.ID, 10)] = t.UpstreamModel
	}
	switch err {
	case nil:
	case snapshot.ErrUnknownModel, snapshot.ErrModelDisabled:
		r.Status = http.StatusNotFound
	case snapshot.ErrNamespace, snapshot.ErrNotAllowed:
		r.Status = http.StatusForbidden
	default:
		r.Status = http.StatusServiceUnavailable
	}
	return r, nil
}

func encoded[T snapshot.Doc](key string, doc T) ([]byte, error) {
	d, err := snapshot.Encode(key, doc)
	return d.Doc, err
}

func (w *watcher) Pause() error  { w.gate.mu.Lock(); return nil }
func (w *watcher) Resume() error { w.gate.mu.Unlock(); return nil }

func (w *watcher) Stop() error {
	w.stop()
	if w.view.Load() == nil {
		return errors.New("nothing was ever served")
	}
	return nil
}
