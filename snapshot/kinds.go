package snapshot

import "github.com/ez-api/ez-api/catalog"

// Kinds returns the kinds of documents that this version renders and reads, in
// the order of their names. Every head that it publishes counts each of them.
func Kinds() []catalog.Kind {
	return []catalog.Kind{
		catalog.KindBinding, catalog.KindHold, catalog.KindKey, catalog.KindModel, catalog.KindProject, catalog.KindProvider,
	}
}
