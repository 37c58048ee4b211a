package distribution

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// TestAPublishCostsTheSame: creating one key sends as many bytes to Redis
// among many keys as among few.
func TestAPublishCostsTheSame(t *testing.T) {
	w := newWorld(t)
	relay := w.newRelay(w.pub)
	sizes := []int{1_000, scaled(20_000, 1_000_000)}
	var sent []float64
	have := 0
	for _, size := range sizes {
		w.createKeys(t, size-have)
		have = size
		_, err := relay.Sync(t.Context())
		must(t, err)

		const publishes = 200
		var took []time.Duration
		before := w.sent.Load()
		for range publishes {
			_, err := w.tables.Keys.Create(t.Context(), catalog.Key{Name: "one more"})
			must(t, err)
			start := time.Now()
			_, err = relay.Sync(t.Context())
			must(t, err)
			took = append(took, time.Since(start))
		}
		have += publishes
		slices.Sort(took)
		sent = append(sent, float64(w.sent.Load()-before)/publishes)
		t.Logf("%d keys: %.0f bytes a publish, median %s", size, sent[len(sent)-1], took[publishes/2])
	}
	// Counts in the head have more digits.
	if sent[1] > sent[0]*1.02 {
		t.Errorf(
			"a publish sends %.0f bytes among %d keys, and %.0f among %d",
			sent[0],
			sizes[0],
			sent[1],
			sizes[1],
		)
	}
}

// TestNoCommandIsSlow: publishing keeps nobody waiting, not even the whole catalog over
// another.
func TestNoCommandIsSlow(t *testing.T) {
	w := newWorld(t)
	relay := w.newRelay(w.pub)
	w.createKeys(t, scaled(20_000, 1_000_000))
	const setting = "slowlog-log-slower-than"
	old, err := w.rdb.ConfigGet(t.Context(), setting).Result()
	must(t, err)
	must(t, w.rdb.ConfigSet(t.Context(), setting, "1000").Err())
	defer w.rdb.ConfigSet(t.Context(), setting, old[setting])
	must(t, w.rdb.Do(t.Context(), "slowlog", "reset").Err())

	for range 2 {
		_, err := relay.Resync(t.Context(), snapshot.ResyncOptions{})
		must(t, err)
	}
	for range 100 {
		_, err := w.tables.Keys.Create(t.Context(), catalog.Key{Name: "one more"})
		must(t, err)
		_, err = relay.Sync(t.Context())
		must(t, err)
	}
	slow, err := w.rdb.SlowLogGet(t.Context(), 1000).Result()
	must(t, err)
	longest := redis.SlowLog{}
	for _, s := range slow {
		if s.Duration > longest.Duration && ours(s.Args, w.prefix) {
			longest = s
		}
	}
	t.Logf(
		"the longest command took Redis %s: %.40q",
		longest.Duration,
		longest.Args[:min(len(longest.Args), 1)],
	)
	if *long && longest.Duration > 10*time.Millisecond { // else others are at work on this machine
		t.Errorf("%.40q kept Redis busy for %s", longest.Args, longest.Duration)
	}
}

func ours(args []string, prefix string) bool {
	return slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "{"+prefix+"}") })
}

// cpu returns the seconds that Redis has worked.
func (w *world) cpu(t *testing.T) (seconds float64) {
	t.Helper()
	text, err := w.rdb.Info(t.Context(), "cpu").Result()
	must(t, err)
	for _, m := range regexp.MustCompile(`(?m)^used_cpu_(?:user|sys):([0-9.]+)`).FindAllStringSubmatch(text, -1) {
		n, err := strconv.ParseFloat(m[1], 64)
		must(t, err)
		seconds += n
	}
	return seconds
}
