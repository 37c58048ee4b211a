package clocks

import (
	"context"
	"fmt"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// A Catalog tells its time to whoever reads it; see [catalog.Store].
type Catalog interface {
	Read(ctx context.Context, fn func(catalog.Reader) error) error
}

// ReadCatalog returns the time by a catalog's clock, by which changes become old. The error is that of
// the catalog, or wraps ErrWrong when this process's clock is far from it.
func (c *Clocks) ReadCatalog(ctx context.Context, store Catalog) (now time.Time, err error) {
	begun := time.Now()
	err = store.Read(ctx, func(r catalog.Reader) error {
		now = r.Now()
		return nil
	})
	if err != nil {
		return now, err
	}
	c.note(storeOfCatalog, now, begun)
	return now, c.wrong(storeOfCatalog)
}

// ReadLogs returns the time by the log sink's clock, by which access logs become old; ours where it tells
// none. Without an answer the time is zero, and the error is that of the sink. Beside a time, the error wraps
// ErrWrong when this process's clock is far from it.
func (c *Clocks) ReadLogs(ctx context.Context) (now time.Time, err error) {
	if c.logs == nil {
		return c.ours(), nil
	}
	if now, err = c.ask(ctx, timeout); err != nil {
		return time.Time{}, err
	}
	return now, c.wrong(storeOfLogs)
}

// ask asks the sink for its time.
func (c *Clocks) ask(ctx context.Context, within time.Duration) (now time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	begun := time.Now()
	if now, err = c.logs.Clock(ctx); err == nil {
		c.note(storeOfLogs, now, begun)
	}
	return now, err
}

// LogTime returns the time by which access logs are judged and dated: that of their store, where
// its clock was read and is not this process's, so that one server whose clock is wrong refuses
// no good entries; otherwise ours.
func (c *Clocks) LogTime() time.Time {
	ours := c.ours()
	if theirs, ok := c.now(storeOfLogs); ok && ours.Sub(theirs).Abs() >= noise {
		return theirs
	}
	return ours
}

// CheckTimes judges the times of entries as [logbuf.CheckTimes] does, once more where the clock had to be
// read first: for those that are wrong by ours, and for those that are to be dated.
func (c *Clocks) CheckTimes(ctx context.Context, entries []logbuf.Entry, retention time.Duration) error {
	undated, err := logbuf.CheckTimes(entries, c.LogTime(), retention)
	if err == nil && undated == 0 {
		return nil
	}
	read, unread := c.LogsReady(ctx)
	if unread != nil {
		return unread
	}
	if read {
		_, err = logbuf.CheckTimes(entries, c.LogTime(), retention)
	}
	return err
}

// LogsReady makes sure that the sink's clock, by which access logs are judged, was read once, and
// asks the sink if it was not. read reports that it was, so that what was judged before has to be
// judged again. The error wraps [ErrUnread]. A sink that tells no time has nothing to be read.
func (c *Clocks) LogsReady(ctx context.Context) (read bool, err error) {
	if c.logs == nil {
		return false, nil
	}
	if _, known := c.now(storeOfLogs); known {
		return false, nil
	}
	c.asking.Lock()
	defer c.asking.Unlock()
	if _, known := c.now(storeOfLogs); known {
		return true, nil
	}
	if time.Since(c.failed) < firstRest {
		return false, ErrUnread
	}
	if _, err := c.ask(ctx, firstWait); err != nil {
		c.failed = time.Now()
		return false, fmt.Errorf("%w: %w", ErrUnread, err)
	}
	return true, nil
}
