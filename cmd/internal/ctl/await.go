package ctl

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

const awaitPause = 300 * time.Millisecond // between two looks at the balancers

// watchProgress shows how far the balancers are, until stop is called.
func (a *app) watchProgress(ctx context.Context, api *client.Client, revision catalog.Revision,
	wanted bool) (stop func()) {
	if !wanted || !a.progress.live {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for {
			if s, err := api.SyncStatus(ctx); err == nil && s.Revision >= revision {
				text, _, _ := waitText(s, revision)
				a.progress.show("%s", text)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(awaitPause):
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

// await waits until a revision is as far as was asked for, and says at the end how far it is. The
// time runs since begun: the server may have waited already.
func (a *app) await(ctx context.Context, api *client.Client, revision catalog.Revision, d *doing, begun time.Time,
	so client.Progress) error {
	if d.Wait == "" {
		return nil
	}
	end := begun.Add(d.Timeout)
	ctx, cancel := context.WithTimeout(ctx, max(time.Until(end), 0)+lastLook)
	defer cancel()
	for {
		s, err := api.SyncStatus(ctx)
		if err != nil {
			return &codeError{exitPending, fmt.Errorf("done, but how far the balancers are cannot be asked: %w", err)}
		}
		text, published, applied := waitText(s, revision)
		reachedNow := reached(so, client.Stage(d.Wait)) || applied || published && d.Wait == string(client.Published)
		switch {
		case reachedNow:
			a.note("%s", text)
			return nil
		case time.Now().After(end):
			a.note("%s", text)
			return &codeError{exitPending, fmt.Errorf("done, but not %s everywhere within %s", d.Wait, d.Timeout)}
		}
		a.progress.show("%s", text)
		select {
		case <-ctx.Done():
		case <-time.After(awaitPause):
		}
	}
}

const lastLook = 10 * time.Second // that the last question may take
