package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/snapshot"
)

// RegionCommand is the first argument of a process that has to call [ServeRegion] with the second one.
const RegionCommand = "region"

// RegionOptions say what runs in a region.
type RegionOptions struct {
	Name     string
	Origin   string // host:port of the Redis that is published to
	Redis    string // host:port of the region's; where it is not the origin's, a mirror fills it
	Prefix   string
	Watchers int
}

// Region runs the balancers of one region, and the mirror that fills its Redis, in a process of
// its own, because a process may have so many open files only. Its methods are called with JSON-RPC.
type Region struct {
	options  RegionOptions
	bench    *bench
	there    snapshot.Publisher // at the region's Redis
	redis    redis.UniversalClient
	meter    meter // of the balancers
	far      meter // of the mirror, at the origin
	watchers []*watcher
}

// watcher knows when it applied what it serves.
type watcher struct {
	*snapshot.Watcher
	last atomic.Pointer[application]
}

type application struct {
	position snapshot.Position
	at       time.Time
}

// ServeRegion runs a region, described in JSON, as the other end of in and out asks. It returns when
// in ends, and the process is to end then, so that no region outlives who started it, however that ended.
func ServeRegion(description string, in io.Reader, out io.Writer) error {
	r := &Region{}
	if err := json.Unmarshal([]byte(description), &r.options); err != nil {
		return fmt.Errorf("read what the region is: %w", err)
	}
	var err error
	if r.bench, err = newBench(Options{Redis: r.options.Origin}, io.Discard); err != nil {
		return err
	}
	r.bench.prefix = r.options.Prefix
	r.there, r.redis = r.bench.openAt(r.options.Redis, &meter{})
	server := rpc.NewServer()
	if err := server.Register(r); err != nil {
		return err
	}
	ended := make(chan struct{})
	go server.ServeCodec(jsonrpc.NewServerCodec(&stdio{Reader: in, Writer: out, ended: ended}))
	<-ended
	return nil
}

// stdio is the connection to whoever started the region.
type stdio struct {
	io.Reader
	io.Writer
	ended chan struct{}
	once  sync.Once
}

func (s *stdio) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil {
		s.Close()
	}
	return n, err
}

func (s *stdio) Close() error {
	s.once.Do(func() { close(s.ended) })
	return nil
}

// Start starts the mirror and the balancers, and returns when all have loaded.
func (r *Region) Start(struct{}, *struct{}) error {
	if r.options.Redis != r.options.Origin {
		origin, _ := r.bench.open(&r.far)
		mirror := snapshot.NewMirror(origin, r.there,
			&snapshot.MirrorOptions{Keys: r.bench.keys, Logger: r.bench.log})
		r.bench.background(mirror.Run)
	}
	for i := range r.options.Watchers {
		source, _ := r.bench.openAt(r.options.Redis, &r.meter)
		w := &watcher{}
		w.Watcher = snapshot.NewWatcher(source, &snapshot.WatcherOptions{
			Keys: r.bench.keys, Name: fmt.Sprintf("%s-%d", r.options.Name, i), Logger: r.bench.log,
			OnApply: func(v *snapshot.View) { w.last.Store(&application{v.Position(), time.Now()}) },
		})
		r.watchers = append(r.watchers, w)
		r.bench.background(w.Run)
	}
	for _, w := range r.watchers {
		select {
		case <-w.Ready():
		case <-time.After(5 * time.Minute):
			return fmt.Errorf("a balancer has loaded nothing within 5 minutes: %+v", w.Status())
		}
	}
	return nil
}

// Applied waits until all balancers have applied a position, and returns when each did.
func (r *Region) Applied(at snapshot.Position, times *[]time.Time) error {
	var late *watcher
	_, err := poll(context.Background(), time.Minute, "all balancers have applied a change", func() bool {
		for _, late = range r.watchers {
			if a := late.last.Load(); a == nil || at.After(a.position) {
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("%w: %+v", err, late.Status())
	}
	for _, w := range r.watchers {
		*times = append(*times, w.last.Load().at)
	}
	return nil
}

// Reading is what a region has used.
type Reading struct {
	Traffic  traffic       // between the balancers and Redis
	Far      traffic       // between the mirror and the origin
	Loads    int64         // of the whole, by all balancers
	Worked   time.Duration // by the region's Redis
	CPU      time.Duration // for which the process worked
	Resident int64         // bytes of memory of the process
}

// Read returns what was used up to now.
func (r *Region) Read(_ struct{}, reading *Reading) error {
	*reading = Reading{
		Traffic: r.meter.read(), Far: r.far.read(), Worked: busy(context.Background(), r.redis),
		CPU: worked(), Resident: resident(),
	}
	for _, w := range r.watchers {
		reading.Loads += w.Status().Loads
	}
	return nil
}

// worked returns for how long processors have worked for this process.
func worked() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it cannot fail for a process' own
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident returns how many bytes of memory this process has; 0 where that is not known.
func resident() int64 {
	text, _ := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
