package snapshot

import (
	"context"
	"log/slog"

	"github.com/ez-api/ez-api/catalog"
)

// Scrub compares and mends once.
func (r *Relay) Scrub(ctx context.Context) error {
	g := r.rendered()
	if g == nil {
		return nil
	}
	_, err := r.scrub(ctx, g, true)
	return err
}

// Beat writes a beat, unless somebody has.
func (r *Relay) Beat(ctx context.Context) { r.beat(ctx) }

// RenderForTest renders a catalog as it is.
func RenderForTest(ctx context.Context, tables *catalog.Tables, keys *Keys) (map[string]string, error) {
	docs := map[string]string{}
	g := newRendering(tables, keys, slog.New(slog.DiscardHandler))
	err := tables.Store().Read(ctx, func(reader catalog.Reader) error {
		return g.whole(ctx, reader, func(c Change) error {
			docs[string(c.Kind)+" "+c.Key] = string(c.Doc)
			return nil
		})
	})
	return docs, err
}

// SetRoom makes room for fewer reports.
func (f *Fleet) SetRoom(n int) { f.room = n }
