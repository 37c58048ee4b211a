package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// memory looks at how much memory servers take while nothing can be stored.
func (w *world) memory(ctx context.Context) (err error) {
	progress("memory")
	dir, err := os.MkdirTemp("", "ez-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	const mb = 1e6
	t := w.table(fmt.Sprintf("%d entries pending", w.Rows), "resident MB", "at most", "idle")
	for _, mode := range [][]string{nil, {"EZ_LOG_DURABILITY=memory", "EZ_LOG_QUEUE=" + strconv.Itoa(w.Rows)}} {
		p, err := w.server(ctx, filepath.Join(dir, strconv.Itoa(len(mode))), mode...)
		if err != nil {
			return err
		}
		defer p.kill()
		idle, _ := p.resident()
		if err := w.pend(ctx, p); err != nil {
			return err
		}
		now, peak := p.resident()
		name := "on disk"
		if mode != nil {
			name = "in memory"
		}
		t.row(name, float64(now)/mb, float64(peak)/mb, float64(idle)/mb)
		if _, err := awaitPending(ctx, p, 0, 100*time.Millisecond); err != nil {
			return err
		}
		if err := w.expect(ctx, w.Rows); err != nil {
			return err
		}
	}
	t.end()
	return nil
}

// pend posts all entries while the tables are locked.
func (w *world) pend(ctx context.Context, p *process) error {
	if err := w.empty(ctx); err != nil {
		return err
	}
	tx, err := w.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // it holds nothing but a lock
	if _, err := tx.Exec(ctx, `lock table access_logs in access exclusive mode`); err != nil {
		return err
	}
	if err := newLoad(p, token, callers).all(ctx, w.set.bodies); err != nil {
		return err
	}
	if pending, err := metric(ctx, p, "ezapi_logs_pending"); err != nil || int(pending) != w.Rows {
		return errors.Join(fmt.Errorf("%.0f entries are pending", pending), err)
	}
	return nil
}
