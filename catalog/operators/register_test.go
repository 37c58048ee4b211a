package operators_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/operators"
	"github.com/ez-api/ez-api/storage/memstore"
)

// slowCatalog is the catalog as one control plane sees it. A read takes a while, and so does each
// change that it returns.
type slowCatalog struct {
	*memstore.Store
	reads  atomic.Int64
	delay  atomic.Int64 // of a read
	change time.Duration
	lost   atomic.Int64 // so many reads get no answer
	broken atomic.Int64 // so many reads fail at once
}

type slowReader struct {
	catalog.Reader
	store *slowCatalog
}

var errReset = errors.New("the connection was reset")

func (s *slowCatalog) Read(ctx context.Context, fn func(catalog.Reader) error) error {
	s.reads.Add(1)
	if s.broken.Add(-1) >= 0 {
		return errReset
	}
	if s.lost.Add(-1) >= 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Store.Read(ctx, func(r catalog.Reader) error {
		if err := pass(ctx, time.Duration(s.delay.Load())); err != nil {
			return err
		}
		return fn(slowReader{r, s})
	})
}

func (r slowReader) Changes(
	ctx context.Context, after catalog.Cursor, limit int, kinds ...catalog.Kind,
) ([]catalog.Change, error) {
	changes, err := r.Reader.Changes(ctx, after, limit, kinds...)
	if err == nil {
		err = pass(ctx, time.Duration(len(changes))*r.store.change)
	}
	return changes, err
}

// pass waits, unless ctx ends.
func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// twoServers returns the tables of one server, and the register of another, which sees the catalog through
// a slowCatalog.
func twoServers(change time.Duration) (here *catalog.Tables, there *operators.Register, slow *slowCatalog) {
	slow = &slowCatalog{Store: memstore.New(nil), change: change}
	return catalog.NewTables(slow.Store, catalog.NewRandomKeyRing(), nil), operators.New(slow, time.Now), slow
}

func makeOperator(t testing.TB, here *catalog.Tables, name string) catalog.Operator {
	t.Helper()
	o, err := here.Operators.Create(t.Context(), catalog.Operator{Name: name, Role: catalog.RoleViewer})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func knows(t *testing.T, there *operators.Register, o catalog.Operator) bool {
	t.Helper()
	_, ok := there.Authenticate(t.Context(), o.Token.Reveal())
	return ok
}

// knownFor deletes an operator, and returns how long another server goes on to know it. Somebody
// asks there all the time, before and after.
func knownFor(t *testing.T, here *catalog.Tables, there *operators.Register, o catalog.Operator,
	meanwhile func()) time.Duration {
	t.Helper()
	for range 100 {
		if !knows(t, there, o) {
			t.Fatal("the operator is not known")
		}
		time.Sleep(7 * time.Millisecond)
	}
	meanwhile()
	if _, err := here.Operators.Delete(t.Context(), o.ID, 0); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); ; time.Sleep(7 * time.Millisecond) {
		if asked := time.Since(start); !knows(t, there, o) || asked > time.Minute {
			return asked
		}
	}
}

// An operator who was made a moment ago is known at once on every server, also where somebody has
// looked at the catalog just before.
func TestNewOperatorsAreKnownAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there, slow := twoServers(0)
		slow.delay.Store(int64(20 * time.Millisecond))
		for n := range 100 {
			o := makeOperator(t, here, fmt.Sprint("o", n))
			if !knows(t, there, o) {
				t.Fatalf("operator %d is not known", n)
			}
			time.Sleep(time.Duration(n) * time.Millisecond)
		}
		// While a look is under way that does not see the operator yet, and another one waits its turn.
		var all sync.WaitGroup
		for n := range 100 {
			time.Sleep(time.Millisecond)
			o := makeOperator(t, here, fmt.Sprint("p", n))
			all.Go(func() {
				if _, ok := there.Authenticate(context.Background(), o.Token.Reveal()); !ok {
					t.Errorf("operator %d is not known", n)
				}
			})
		}
		all.Wait()
	})
}

// However many tokens are not known, they have the catalog asked 20 times a second at most, and while it
// does not answer, nobody waits for it twice.
func TestWrongTokensAreCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, there, slow := twoServers(0)
		slow.delay.Store(int64(time.Millisecond))
		flood := func(of time.Duration) (longest time.Duration) {
			var all sync.WaitGroup
			var mu sync.Mutex
			for start := time.Now(); time.Since(start) < of; time.Sleep(time.Millisecond) {
				all.Go(func() {
					asked := time.Now()
					if _, ok := there.Authenticate(context.Background(), "ezo-wrong"); ok {
						t.Error("a wrong token is known")
					}
					mu.Lock()
					defer mu.Unlock()
					longest = max(longest, time.Since(asked))
				})
			}
			all.Wait()
			return longest
		}
		longest := flood(2 * time.Second)
		if n := slow.reads.Load(); n < 20 || n > 43 || longest > 110*time.Millisecond {
			t.Errorf("2000 wrong tokens in 2 s had the catalog read %d times, and one waited %s", n, longest)
		}
		slow.reads.Store(0)
		slow.lost.Store(1 << 60)
		flood(time.Second) // until it is known that there is no answer
		if longest := flood(10 * time.Second); longest > 0 {
			t.Errorf("while the catalog does not answer, a wrong token waits %s", longest)
		}
		if there.Status().LastError == "" {
			t.Error("the readings do not say that operators do not follow the catalog")
		}
		if n := slow.reads.Load(); n > 10 {
			t.Errorf("a catalog that does not answer was asked %d times in 11 s", n)
		}
		time.Sleep(time.Minute) // until the last read has ended
	})
}

// A revoked operator is out within a second on a server where others ask all the time, whatever else
// is committed, while the catalog answers within half a second, and if now and then it does not. A catalog that is
// slower is followed, too.
func TestRevokedWithinASecond(t *testing.T) {
	for name, tt := range map[string]struct {
		delay  time.Duration
		broken int64
		lost   int64
		models int
		most   time.Duration
	}{
		"at rest":                    {},
		"the catalog is slow":        {delay: 400 * time.Millisecond},
		"the catalog is very slow":   {delay: 900 * time.Millisecond, most: 2 * time.Second},
		"a read fails":               {broken: 1},
		"two reads fail":             {broken: 2},
		"a read is never answered":   {lost: 1},
		"a commit of 5,000 models":   {models: 5000}, // which takes 2.5 s to read
		"the same, and a read fails": {models: 5000, broken: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there, slow := twoServers(500 * time.Microsecond)
				o := makeOperator(t, here, "o")
				took := knownFor(t, here, there, o, func() {
					slow.delay.Store(int64(tt.delay))
					slow.broken.Store(tt.broken)
					slow.lost.Store(tt.lost)
					makeModels(t, here, tt.models)
				})
				if took > cmp.Or(tt.most, time.Second) {
					t.Errorf("the operator was known for %s", took)
				}
			})
		})
	}
}

// makeModels makes many models in one commit.
func makeModels(t *testing.T, here *catalog.Tables, n int) {
	t.Helper()
	if n == 0 {
		return
	}
	_, err := here.Update(t.Context(), func(tx *catalog.Tx) error {
		for i := range n {
			if _, err := tx.Models.Create(t.Context(), catalog.Model{Name: fmt.Sprint("m", i)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// While the catalog does not answer, operators are known as they were; when it does again, a revoked
// one is out within a second, however long that was.
func TestOperatorsWithoutCatalog(t *testing.T) {
	for outage := 10 * time.Second; outage < 20*time.Second; outage += 700 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			here, there, slow := twoServers(0)
			stays, goes := makeOperator(t, here, "stays"), makeOperator(t, here, "goes")
			if !knows(t, there, stays) || !knows(t, there, goes) {
				t.Fatal("the operators are not known")
			}
			slow.broken.Store(1 << 60)
			if _, err := here.Operators.Delete(t.Context(), goes.ID, 0); err != nil {
				t.Fatal(err)
			}
			for start := time.Now(); time.Since(start) < outage; time.Sleep(60 * time.Millisecond) {
				if !knows(t, there, stays) || !knows(t, there, goes) {
					t.Fatal("the operators are not known as they were")
				}
			}
			if there.Status().LastError == "" {
				t.Error("the readings do not say that operators do not follow the catalog")
			}
			slow.broken.Store(0)
			for start := time.Now(); knows(t, there, goes); time.Sleep(7 * time.Millisecond) {
				if time.Since(start) > time.Second {
					t.Fatalf("the operator is known a second after the catalog answers again, which it did not for %s", outage)
				}
			}
			if !knows(t, there, stays) || there.Status().LastError != "" {
				t.Error("the catalog is not followed again")
			}
		})
	}
}

// A server at work hears of operators by itself, also when nobody has asked for them, and within a second
// after a catalog that failed answers again.
func TestOperatorsFollow(t *testing.T) {
	for outage := time.Minute; outage < 70*time.Second; outage += 700 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			here, there, slow := twoServers(0)
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- there.Follow(ctx) }()
			o := makeOperator(t, here, "o")
			time.Sleep(time.Second)
			slow.broken.Store(1 << 60)
			if !knows(t, there, o) {
				t.Error("the operator is not known")
			}
			makeOperator(t, here, "p")
			time.Sleep(outage)
			if n := 1<<60 - slow.broken.Load(); n < 60 || n > 1000 {
				t.Errorf("a catalog that fails was asked %d times in %s", n, outage)
			}
			slow.broken.Store(0)
			time.Sleep(time.Second)
			if s := there.Status(); s.Revision != 2 || s.LastError != "" {
				t.Errorf("a second after an outage of %s: %+v", outage, s)
			}
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// What was used is recorded once.
func TestUseIsRecordedOnce(t *testing.T) {
	here, there, _ := twoServers(0)
	o := makeOperator(t, here, "o")
	if !knows(t, there, o) {
		t.Fatal("the operator is not known")
	}
	var noted uses
	for range 2 {
		if err := there.RecordUse(t.Context(), &noted); err != nil {
			t.Fatal(err)
		}
	}
	if len(noted) != 1 || len(noted[0]) != 1 || noted[0][o.ID].IsZero() {
		t.Errorf("recorded %v", noted)
	}
}

// uses are what was recorded.
type uses []map[int64]time.Time

func (u *uses) NoteUse(_ context.Context, used map[int64]time.Time) error {
	*u = append(*u, used)
	return nil
}

// A look-up costs a request far less than 20 µs.
func BenchmarkAuthenticate(b *testing.B) {
	here, there, _ := twoServers(0)
	o := makeOperator(b, here, "o")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := there.Authenticate(b.Context(), o.Token.Reveal()); !ok {
			b.Fatal("not known")
		}
	}
}
