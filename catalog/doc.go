// Package catalog holds the nouns of a control plane and their rules: providers,
// the models that they serve under public names, the bindings that say which providers
// serve a model to whom, the keys of clients and the projects that they belong to, holds
// of what must not be used for a while, and the operators of the API.
//
// [Tables] are typed access to a [Store], which is the seam for storage engines. A
// table validates, fills in defaults, seals secrets before the store gets them, and
// records what was done in the change feed. Each write is one revision of the whole
// catalog; [Tables.Update] puts several into one:
//
//	tables := catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(), nil)
//	ctx = catalog.WithActor(ctx, "alice", "ticket 7")
//
//	revision, err := tables.Update(ctx, func(tx *catalog.Tx) error {
//		if _, err := tx.Models.Create(ctx, catalog.Model{Name: "large"}); err != nil {
//			return err
//		}
//		_, err := tx.Providers.Create(ctx, catalog.Provider{
//			Name: "up", Type: "openai", APIKey: catalog.NewSecret(key), Models: []string{"large"},
//		})
//		return err
//	})
//
//	key, err := tables.Keys.Create(ctx, catalog.Key{Name: "alice"}) // key.Token is shown once
//	_, err = tables.Models.Patch(ctx, id, revision, []byte(`{"input_price": "2.5"}`))
//
// Errors wrap the sentinels of this package (ErrNotFound, ErrExists, ErrConflict and so
// on). What is not acceptable is a [FieldError] or [FieldErrors], which name the fields
// and the remedy, and never hold a value.
//
// # Where things are
//
//   - What is to be known of each noun: kind.go. The nouns, each with its rules: project.go,
//     provider.go, model.go, binding.go, key.go, operator.go, hold.go; what they have in
//     common: meta.go, credential.go (tokens), budget.go. What a caller sees who is limited to
//     a project: scope.go. What a field may hold: text.go (names), pattern.go
//     (stars), upstream.go (addresses), selector.go, options.go, apikey.go, money.go,
//     pricerecord.go.
//   - A new field of a noun is a field of its struct, with tags: json for the API, doc and
//     bounds for its description, and store:"-" where a column or the seal holds it. It is
//     then stored, decoded, patched and described; normalize and check hold its default and
//     its rule, and package snapshot says whether it is published.
//   - record.go: what the tables ask of a noun, and its storage form. tables.go and keys.go:
//     the tables. txn.go, pending.go: transactions. follow.go and work.go: what follows from a write.
//   - parse.go, decode.go, patch.go: JSON of the API to nouns, and merge patches.
//   - desired.go, plan.go, apply.go: desired states. planning.go makes a plan, with matching.go,
//     consistency.go, steps.go and refusals.go. history.go and export.go: what was, and what is.
//   - store.go, entity.go, commit.go, cursor.go: the seam that engines implement. Package
//     storage/storagetest holds the tests that an engine must pass.
//   - keeper.go, destination.go, reseal.go, secret.go, token.go: secrets and tokens.
//   - maintain.go: what time brings. feed.go, prices.go, pricehistory.go: copies in memory
//     that follow the change feed.
//   - errors.go, warnings.go, actor.go: what callers are told, and who they are.
package catalog
