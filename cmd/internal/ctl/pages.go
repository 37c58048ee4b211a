package ctl

import "github.com/ez-api/ez-api/httpapi/client"

// collect reads pages until it has as many entries as the limit says, or all. 0 is no limit.
func collect[T any](limit int, read func(cursor string) (client.Page[T], error)) ([]T, error) {
	found := []T{}
	for cursor := ""; ; {
		page, err := read(cursor)
		if err != nil {
			return nil, err
		}
		found = append(found, page.Data...)
		if limit > 0 && len(found) >= limit {
			return found[:limit], nil
		}
		if cursor = page.Next; cursor == "" {
			return found, nil
		}
	}
}
