// A client made of the types of openapi-typescript.

import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";
import { check, token, url } from "./check.js";

const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${token}` } });

// A key needs nothing but a name.
const plain = await client.POST("/keys", { body: { name: "fetch" } });
check("create a key", plain.response.status === 201 && typeof plain.data?.token === "string", plain);

const created = await client.POST("/keys", { body: { name: "fetch", status: "disabled", group: "vip" } });
const id = created.data!.id;

// Renaming a key that is disabled does not bring it back.
const renamed = await client.PATCH("/keys/{id}", { params: { path: { id } }, body: { name: "renamed" } });
check("rename a key", renamed.data?.name === "renamed" && renamed.data.status === "disabled", renamed);
check("rename a key", renamed.data?.group === "vip", renamed);

// null restores a default.
const restored = await client.PATCH("/keys/{id}", { params: { path: { id } }, body: { group: null } });
check("restore a default", restored.data?.group === "default", restored);

// Prices are text, and exact.
const model = await client.PUT("/models", {
  body: { name: "fetch/model", input_price: "0.100000001", price_tiers: [{ above_input_tokens: 200000, input_price: "0.3" }] },
});
const price: string | null | undefined = model.data?.input_price;
check("a price", price === "0.100000001" && model.data?.price_tiers[0]?.input_price === "0.3", model);

// Lists are typed, with their filters.
const list = await client.GET("/models", { params: { query: { q: "FETCH/", count: true } } });
const models: components["schemas"]["Model"][] = list.data!.data;
check("a list", list.data?.total === 1 && models[0]?.name === "fetch/model", list);

// Errors are problem documents.
const twice = await client.POST("/models", { body: { name: "fetch/model" } });
const problem: components["schemas"]["Problem"] = twice.error!;
check("a problem", problem.type === "urn:ezapi:exists" && problem.errors?.[1]?.field === "name", twice);

const gone = await client.DELETE("/keys/{id}", { params: { path: { id } } });
check("delete a key", gone.response.status === 204, gone);
