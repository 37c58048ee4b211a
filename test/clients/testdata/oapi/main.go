// This program uses a client of oapi-codegen, which the test generates into the package client.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"generated/client"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	authorize := client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+os.Getenv("EZ_TOKEN"))
		return nil
	})
	api, err := client.NewClientWithResponses(os.Getenv("EZ_URL"), authorize)
	if err != nil {
		return err
	}

	// Renaming a key that is disabled does not bring it back.
	disabled := client.KeyCreateStatusDisabled
	created, err := api.CreateKeyWithResponse(ctx, nil, client.KeyCreate{Name: "oapi", Status: &disabled,
		Group: new("vip")})
	if err != nil || created.JSON201 == nil {
		return fmt.Errorf("create a key: %v, %w", created, err)
	}
	renamed, err := api.PatchKeyWithResponse(ctx, created.JSON201.Id, nil, client.KeyPatch{Name: new("renamed")})
	if err != nil || renamed.JSON200 == nil {
		return fmt.Errorf("rename a key: %v, %w", renamed, err)
	}
	if k := renamed.JSON200; k.Name != "renamed" || k.Status != client.KeyStatusDisabled || k.Group != "vip" {
		return fmt.Errorf("the renamed key is %+v", k)
	}

	// Prices are text, and exact.
	model, err := api.PutModelWithResponse(ctx, nil, client.ModelCreate{
		Name: "oapi/model", InputPrice: new("0.100000001"),
		PriceTiers: &[]client.PriceTierInput{{AboveInputTokens: 200_000, InputPrice: new("0.3")}},
	})
	if err != nil || model.JSON201 == nil {
		return fmt.Errorf("put a model: %v, %w", model, err)
	}
	if m := model.JSON201; *m.InputPrice != "0.100000001" || *m.PriceTiers[0].InputPrice != "0.3" {
		return fmt.Errorf("the model is %+v", m)
	}

	// Errors are problem documents.
	twice, err := api.CreateModelWithResponse(ctx, nil, client.ModelCreate{Name: "oapi/model"})
	if err != nil || twice.ApplicationproblemJSON409 == nil {
		return fmt.Errorf("create a model twice: %v, %w", twice, err)
	}
	if p := twice.ApplicationproblemJSON409; string(p.Type) != "urn:ezapi:exists" || p.Errors == nil {
		return fmt.Errorf("the problem is %+v", p)
	}
	return nil
}
