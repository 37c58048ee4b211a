package storagetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// storeEdited changes entries on their way in.
func storeEdited(edit func(*logbuf.Entry)) func(*fakeSink) {
	return func(s *fakeSink) {
		write := s.write
		s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
			b.Entries = slices.Clone(b.Entries)
			for i := range b.Entries {
				edit(&b.Entries[i])
			}
			return write(ctx, b)
		}
	}
}

// resultEdited changes what Write says.
func resultEdited(edit func(*logbuf.Result)) func(*fakeSink) {
	return func(s *fakeSink) {
		write := s.write
		s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
			r, err := write(ctx, b)
			edit(&r)
			return r, err
		}
	}
}

func storeShort(s *fakeSink) {
	write := s.write
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		all := len(b.Entries)
		b.Entries = b.Entries[:min(all, 1000)]
		r, err := write(ctx, b)
		r.Stored += all - len(b.Entries)
		return r, err
	}
}

func storeByID(s *fakeSink) {
	write := s.write
	var seen sync.Map
	s.write = func(ctx context.Context, b logbuf.Batch) (r logbuf.Result, err error) {
		known := 0
		b.Entries = slices.DeleteFunc(slices.Clone(b.Entries), func(e logbuf.Entry) bool {
			_, loaded := seen.LoadOrStore(e.ID, nil)
			if loaded {
				known++
			}
			return loaded
		})
		r, err = write(ctx, b)
		r.Duplicate += known
		return r, err
	}
}

func storeNotEmpty(s *fakeSink) {
	write := s.write
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		if len(b.Entries) == 0 {
			return logbuf.Result{}, nil
		}
		return write(ctx, b)
	}
}

func storeAnywhere(s *fakeSink) {
	write := s.write
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		b.Segment = uuid.Nil
		return write(ctx, b)
	}
}

func checkpointLast(s *fakeSink) {
	write := s.write
	var last sync.Map
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		last.Store(b.Segment, b.To)
		return write(ctx, b)
	}
	s.checkpoint = func(ctx context.Context, segment uuid.UUID) (int64, error) {
		to, _ := last.LoadOrStore(segment, int64(0))
		return to.(int64), ctx.Err()
	}
}

func checkpointShared(s *fakeSink) {
	write := s.write
	var highest atomic.Int64
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		highest.Store(max(highest.Load(), b.To))
		return write(ctx, b)
	}
	s.checkpoint = func(ctx context.Context, _ uuid.UUID) (int64, error) { return highest.Load(), ctx.Err() }
}

func storeInOrder(s *fakeSink) {
	write := s.write
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		if at, err := s.checkpoint(ctx, b.Segment); err != nil || at < b.To && at != b.From {
			return logbuf.Result{}, errors.New("out of order")
		}
		return write(ctx, b)
	}
}

// storeBehind stores only what follows the checkpoint without a gap.
func storeBehind(s *fakeSink) {
	write := s.write
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		if at, err := s.checkpoint(ctx, b.Segment); err == nil && b.From > at {
			return logbuf.Result{Duplicate: len(b.Entries)}, nil
		}
		return write(ctx, b)
	}
}

// storeFromThere stores what follows a gap, as if there were none.
func storeFromThere(s *fakeSink) {
	write := s.write
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		if at, err := s.checkpoint(ctx, b.Segment); err == nil {
			b.From = min(b.From, at)
		}
		return write(ctx, b)
	}
}

// storeRacy tells every writer of a batch that was not there what the first is told.
func storeRacy(s *fakeSink) {
	write := s.write
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		page, err := s.logs(ctx, everything(func(q *logbuf.LogQuery) { q.Limit, q.RequestID = 1, b.Entries[0].RequestID }))
		if err != nil {
			return logbuf.Result{}, err
		}
		time.Sleep(time.Millisecond)
		r, err := write(ctx, b)
		if len(page.Entries) == 0 {
			r = logbuf.Result{Stored: len(b.Entries)}
		}
		return r, err
	}
}

func storeOutlives(s *fakeSink) {
	write := s.write
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		return write(context.WithoutCancel(ctx), b)
	}
}

// storeTrusting believes that what comes at the checkpoint cannot be a duplicate.
func storeTrusting(s *fakeSink) {
	write := s.write
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		at, err := s.checkpoint(ctx, b.Segment)
		if err != nil {
			return logbuf.Result{}, err
		}
		r, err := write(ctx, b)
		if b.Segment != uuid.Nil && b.From == at && at > 0 && b.To > at {
			r.Stored, r.Duplicate = r.Stored+r.Duplicate, 0
		}
		return r, err
	}
}

func isPoison(e logbuf.Entry) bool { return e.Model == poison }

func deadFails(s *fakeSink) {
	write := s.write
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		if slices.ContainsFunc(b.Entries, isPoison) {
			return logbuf.Result{}, errors.New("a bad entry")
		}
		return write(ctx, b)
	}
}

func deadAll(s *fakeSink) {
	write := s.write
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		if slices.ContainsFunc(b.Entries, isPoison) {
			b.Entries = slices.Clone(b.Entries)
			for i := range b.Entries {
				b.Entries[i].Model = poison
			}
		}
		return write(ctx, b)
	}
}

func deadForgotten(s *fakeSink) {
	write := s.write
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		r, err := write(ctx, b)
		s.mu.Lock()
		defer s.mu.Unlock()
		clear(s.dead)
		return r, err
	}
}

func deadTwice(s *fakeSink) {
	write := s.write
	tries := make(map[uuid.UUID]int)
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		r, err := write(ctx, b)
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, e := range b.Entries {
			if isPoison(e) {
				tries[e.ID]++
				s.dead[e.ID] = tries[e.ID]
			}
		}
		return r, err
	}
}

func keyUsageSinceFirst(s *fakeSink) {
	keyUsage := s.keyUsage
	s.keyUsage = func(ctx context.Context, since map[int64][]time.Time) (map[int64]logbuf.KeyUsage, error) {
		same := maps.Clone(since)
		for id := range same {
			same[id] = make([]time.Time, len(since[id]))
		}
		return keyUsage(ctx, same)
	}
}

// keyUsageEdited changes what KeyUsage answers of each key.
func keyUsageEdited(edit func(int64, *logbuf.KeyUsage)) func(*fakeSink) {
	return func(s *fakeSink) {
		keyUsage := s.keyUsage
		s.keyUsage = func(ctx context.Context, since map[int64][]time.Time) (map[int64]logbuf.KeyUsage, error) {
			used, err := keyUsage(ctx, since)
			for id, u := range used {
				edit(id, &u)
				used[id] = u
			}
			return used, err
		}
	}
}

// keyUsageOfLateEntries takes the entry that came last for the last use.
func keyUsageOfLateEntries(s *fakeSink) {
	write := s.write
	var last sync.Map
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		for _, e := range b.Entries {
			last.Store(e.KeyID, e.Time.UTC().Truncate(time.Minute))
		}
		return write(ctx, b)
	}
	keyUsageEdited(func(id int64, u *logbuf.KeyUsage) {
		if at, ok := last.Load(id); ok {
			u.LastUsed = at.(time.Time)
		}
	})(s)
}

func besideAtOnce(s *fakeSink) {
	s.beside = func(ctx context.Context, b logbuf.Batch, _ func(context.Context) error) (logbuf.Result, error) {
		return s.write(ctx, b)
	}
}

func besideLate(s *fakeSink) {
	s.beside = func(ctx context.Context, b logbuf.Batch, prior func(context.Context) error) (logbuf.Result, error) {
		r, err := s.write(ctx, b)
		if err := prior(ctx); err != nil {
			return logbuf.Result{}, err
		}
		return r, err
	}
}

func besideLocked(s *fakeSink) {
	var lock sync.Mutex
	write, beside := s.write, s.beside
	s.beside = func(ctx context.Context, b logbuf.Batch, prior func(context.Context) error) (logbuf.Result, error) {
		return beside(ctx, b, func(ctx context.Context) error {
			lock.Lock()
			defer lock.Unlock()
			return prior(ctx)
		})
	}
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
		if !lock.TryLock() {
			return logbuf.Result{}, errors.New("another batch is being written")
		}
		defer lock.Unlock()
		return write(ctx, b)
	}
}
