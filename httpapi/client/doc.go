// Package client is a typed client of the HTTP API: the nouns are used as on a
// [github.com/ez-api/ez-api.Plane], and errors match the same sentinels.
//
//	api, err := client.New("https://ez.example.com", token, nil)
//	…
//	key, err := api.Keys.Create(ctx, catalog.Key{Name: "alice"})
//	if errors.Is(err, catalog.ErrExists) {
//		…
//	}
//	fmt.Println(key.Token.Reveal()) // only this answer has it
//
// A write can wait until balancers have it, and say how far it came:
//
//	var progress client.Progress
//	_, err = api.Models.Put(ctx, model, client.Wait(client.Applied, 10*time.Second, &progress))
//
// What was surely not done is tried again after a while, and so is what may be done
// twice without harm; see [Options].
//
// Programs that treat all nouns alike use [Client.Objects], which takes and returns JSON.
//
// client.go sends requests, retry.go decides what is sent again, errors.go makes errors of
// problem documents, resource.go has what nouns do, nouns.go and objects.go show it typed and
// in JSON, keys.go has what keys have besides, write.go the options of writes, and the other
// files what is only read.
package client
