// The settings of @hey-api/openapi-ts. Node wants the extension of what is imported.
export default {
  input: process.env.EZ_OPENAPI,
  output: { path: "hey", importFileExtension: ".js" },
};
