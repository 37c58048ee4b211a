package pgstore

import (
	"fmt"

	"github.com/ez-api/ez-api/catalog"
)

// What is unique is judged after the last write of a commit, and PostgreSQL cannot
// defer a unique constraint that a foreign key refers to. So whatever changes or loses a
// unique value gives it up before the first write.
const (
	sqlRelease = `
update %[1]s as e
set natural_key = case when e.natural_key = w.natural_key then e.natural_key end,
    external_id = case when e.external_id = w.external_id then e.external_id end
from unnest($1::bigint[], $2::text[], $3::text[]) as w(id, natural_key, external_id)
where e.id = w.id
  and (e.natural_key is distinct from w.natural_key or e.external_id is distinct from w.external_id)`

	// $2 and $3 are the owners and the hashes that stay theirs. %[2]s is the noun.
	sqlReleaseHashes = `
delete from %[2]s_hashes
where hash in (
    select h from %[1]s as e, unnest(e.hashes) as h
    where e.id = any ($1::bigint[])
      and (e.id, h) not in (select * from unnest($2::bigint[], $3::text[])))`
)

// planReleases lists what comes before the writes of a commit: nothing where it has
// only one, which then is in nobody's way.
func planReleases(c catalog.Commit) (statements []statement) {
	if len(c.Writes) < 2 {
		return nil
	}
	for _, k := range catalog.Kinds() {
		var ids, owners []int64
		var keys, externals []*string
		var hashes []string
		for _, w := range c.Writes {
			e := w.Entity
			if e.Kind != k || w.If == 0 {
				continue
			}
			ids = append(ids, e.ID)
			if w.Delete {
				keys, externals = append(keys, nil), append(externals, nil)
				continue
			}
			keys, externals = append(keys, orNull(e.NaturalKey)), append(externals, orNull(e.ExternalID))
			for _, h := range e.Hashes {
				owners, hashes = append(owners, e.ID), append(hashes, h)
			}
		}
		if len(ids) == 0 {
			continue
		}
		statements = append(statements, newStatement(fmt.Sprintf(sqlRelease, k), []any{ids, keys, externals}))
		if k.HasTokens() {
			statements = append(statements, newStatement(fmt.Sprintf(sqlReleaseHashes, k, k.Noun()),
				[]any{ids, notNull64(owners), notNull(hashes)}))
		}
	}
	return statements
}

func notNull64(v []int64) []int64 {
	if v == nil {
		return []int64{}
	}
	return v
}
