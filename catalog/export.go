package catalog

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// Export writes the catalog as a desired state, in JSON, which [ParseDesired] reads: applied
// again, it changes nothing. It is of one revision, has no secrets and no tokens, and is written
// page by page, an entity a line. An entity without external id has its id, by which the store
// that "store" names finds it. Those that are damaged, see [ErrDamaged], are left out, and named in
// "damaged": ["models/7"].
func (t *Tables) Export(ctx context.Context, w io.Writer) error {
	if err := whole(ctx); err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, exportBuffer)
	err := t.core.store.Read(ctx, func(r Reader) error {
		head := r.Head()
		if _, err := fmt.Fprintf(out, "{\"store\":%q,\"revision\":%d", head.Store, head.Revision); err != nil {
			return err
		}
		var damaged []string
		for _, k := range DesiredKinds() {
			some, err := t.core.export(ctx, r, k, out)
			if err != nil {
				return err
			}
			damaged = append(damaged, some...)
		}
		if len(damaged) > 0 {
			if _, err := fmt.Fprintf(out, ",\n\"damaged\":[\"%s\"]", strings.Join(damaged, `","`)); err != nil {
				return err
			}
		}
		_, err := out.WriteString("}\n")
		return err
	})
	if err != nil {
		return fmt.Errorf("catalog: export: %w", err)
	}
	return out.Flush()
}

const exportBuffer = 64 << 10 // bytes

// export writes the entities of a kind, and returns those that are damaged.
func (c *core) export(ctx context.Context, r Reader, k Kind, out *bufio.Writer) (damaged []string, err error) {
	fields := newRecordFields(k)
	if _, err := fmt.Fprintf(out, ",\n%q:[", k); err != nil {
		return nil, err
	}
	q, between := Query{Limit: pageSize}, "\n"
	for more := true; more; {
		page, err := r.List(ctx, k, q)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			q.After = e.ID
			v, err := show(e, c.keeper)
			if err != nil {
				return nil, err
			}
			if v.meta().Damaged {
				damaged = append(damaged, pathOf(k, e.ID))
				continue
			}
			if _, err := out.WriteString(between); err != nil {
				return nil, err
			}
			if err := fields.write(out, v); err != nil {
				return nil, err
			}
			between = ",\n"
		}
		more = len(page) == q.Limit
	}
	_, err = out.WriteString("]")
	return damaged, err
}

// write writes the fields of a record that people set, without secrets, and its id where it has
// no external id.
func (f *recordFields) write(out io.Writer, r record) error {
	before := "{"
	member := func(name string, text []byte) error {
		_, err := fmt.Fprintf(out, "%s%q:%s", before, name, text)
		before = ","
		return err
	}
	if m := r.meta(); m.ExternalID == "" {
		if err := member("id", fmt.Append(nil, m.ID)); err != nil {
			return err
		}
	}
	v := reflect.ValueOf(r).Elem()
	for _, field := range f.list {
		value := v.FieldByIndex(field.index)
		if field.secret || field.omit && value.IsZero() {
			continue
		}
		text, err := field.text(value)
		if err != nil {
			return err
		}
		if err := member(field.name, text); err != nil {
			return err
		}
	}
	_, err := io.WriteString(out, "}")
	return err
}
