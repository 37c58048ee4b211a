package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// ErrAmbiguous says that a word means several entities. The error names their ids.
var ErrAmbiguous = errors.New("take one by its id")

// Find returns the one entity that a word means to people: its id, its external_id, its name, or of
// models "namespace.name". Where there is none the error matches catalog.ErrNotFound. Where there are
// several it matches ErrAmbiguous.
func (o Objects) Find(ctx context.Context, word string) (Object, error) {
	if id, err := strconv.ParseInt(word, 10, 64); err == nil && id > 0 {
		object, err := o.Get(ctx, id)
		if !errors.Is(err, catalog.ErrNotFound) {
			return object, err
		}
	}
	queries := []Query{{ExternalID: word}, {Name: word}}
	if namespace, name, ok := strings.Cut(word, "."); ok && o.kind == catalog.KindModel {
		queries = append(queries, Query{Namespace: namespace, Name: name})
	}
	for _, q := range queries {
		q.Limit = 10
		page, err := o.List(ctx, q)
		if err != nil {
			return nil, err
		}
		switch len(page.Data) {
		case 0:
			continue
		case 1:
			return page.Data[0], nil
		}
		return nil, several(o.kind, page.Data)
	}
	return nil, fmt.Errorf("no %s has this id, external_id or name: %w", o.kind.Noun(), catalog.ErrNotFound)
}

func several(kind catalog.Kind, objects []Object) error {
	var ids []string
	for _, text := range objects {
		var object struct{ ID int64 }
		if err := json.Unmarshal(text, &object); err != nil {
			return err
		}
		ids = append(ids, strconv.FormatInt(object.ID, 10))
	}
	slices.Sort(ids)
	return fmt.Errorf("several %s are called so; %w: %s", kind, ErrAmbiguous, strings.Join(ids, ", "))
}
