package catalog_test

import (
	"context"
	"fmt"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

// Several nouns are written in one revision, and warnings say what may not be
// what was meant.
func ExampleTables_Update() {
	tables := catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(), nil)
	ctx := catalog.WithActor(context.Background(), "alice", "ticket 7")
	ctx = catalog.WithWarnings(ctx, func(w catalog.Warning) { fmt.Println("warning:", w) })

	price, err := catalog.ParseUSD("0.0000025") // per token, which is not what the field is for
	if err != nil {
		fmt.Println(err)
		return
	}
	revision, err := tables.Update(ctx, func(tx *catalog.Tx) error {
		if _, err := tx.Models.Create(ctx, catalog.Model{Name: "large",
			Prices: catalog.Prices{InputPrice: &price}}); err != nil {
			return err
		}
		_, err := tx.Bindings.Create(ctx, catalog.Binding{Model: "large", ProviderGroup: "eu"})
		return err
	})
	fmt.Println("revision", revision, err)

	_, err = tables.Models.Create(ctx, catalog.Model{Name: "large", Kind: "video"})
	for _, f := range catalog.FieldsOf(err) {
		fmt.Println(f.Field, f.Message)
	}
	// Output:
	// warning: input_price is below 0.0001 USD per million tokens; is it the price of a single token?
	// warning: provider_group has no provider yet: nobody serves the model by this binding
	// revision 1 <nil>
	// kind must be one of chat, embedding, rerank, image, audio, moderation, other
}
