// Package manifest reads and writes the files in which people keep a catalog: YAML or
// JSON, one or several.
//
//	version: 1
//	owner: platform
//	defaults:
//	  keys: {group: vip}
//	providers:
//	  - name: openai-main
//	    type: openai
//	    api_key: !env OPENAI_API_KEY
//	    models: [gpt-4o]
//	keys:
//	  - external_id: alice
//	    name: Alice
//
// Each kind of noun is a list of resources in the form of the API. defaults holds, by kind,
// the fields that a resource has when it does not name them; labels and other objects are
// merged by their names. A secret is named by !env NAME or !file PATH (in JSON by
// {"$env": "NAME"} or {"$file": "PATH"}), and stands in the file itself only where
// [Options] allow that. Names at the top that begin with x- are for anchors of YAML, and mean
// nothing here.
//
// Everything that is wrong is a [Problem], with file and line and without values.
package manifest
