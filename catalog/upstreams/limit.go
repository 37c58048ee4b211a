package upstreams

import (
	"sync"
	"time"
)

const (
	atOnce = 4
	burst  = 5               // of one provider
	refill = 6 * time.Second // after so long there is room for one more
)

// limit bounds how often providers are asked on demand: each five times at once and once more each 6 s,
// and at most four at the same time. The zero limit is ready. It is safe for concurrent use.
type limit struct {
	mu     sync.Mutex
	asking int
	next   map[int64]time.Time // when the burst of each provider is full again
}

// enter takes a place to ask the provider with the id, which leave gives back. The error is a TooSoonError.
func (l *limit) enter(id int64, now time.Time) (leave func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for other, full := range l.next {
		if !full.After(now) {
			delete(l.next, other)
		}
	}
	full := l.next[id]
	if full.Before(now) {
		full = now
	}
	full = full.Add(refill)
	switch over := full.Sub(now) - burst*refill; {
	case over > 0:
		return nil, &TooSoonError{(over + time.Second - 1).Truncate(time.Second)}
	case l.asking >= atOnce:
		return nil, &TooSoonError{time.Second}
	}
	if l.next == nil {
		l.next = map[int64]time.Time{}
	}
	l.next[id] = full
	l.asking++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.asking--
	}, nil
}
