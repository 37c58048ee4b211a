// A client of @hey-api/openapi-ts.

import { client } from "./hey/client.gen.js";
import { createKey, createModel, getUsage, listModels, patchKey, putModel } from "./hey/sdk.gen.js";
import { check, token, url } from "./check.js";

client.setConfig({ baseUrl: url, auth: token });

const created = await createKey({ body: { name: "hey", status: "disabled", group: "vip" } });
const id = created.data!.id;

// Renaming a key that is disabled does not bring it back.
const renamed = await patchKey({ path: { id }, body: { name: "renamed" } });
check("rename a key", renamed.data?.name === "renamed" && renamed.data.status === "disabled", renamed);

// Prices are text, and exact.
const model = await putModel({ body: { name: "hey/model", output_price: "12345.000000001" } });
const price: string | null | undefined = model.data?.output_price;
check("a price", price === "12345.000000001", model);

const list = await listModels({ query: { external_id: "none", count: true } });
check("a list", list.data?.total === 0 && list.data.data.length === 0, list);

const twice = await createModel({ body: { name: "hey/model" } });
check("a problem", twice.error?.type === "urn:ezapi:exists", twice);

const usage = await getUsage({ query: { group_by: ["key"], interval: "day" } });
check("usage", Array.isArray(usage.data?.data), usage);
