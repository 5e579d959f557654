// The reference: Swagger UI over the OpenAPI document of this server, signed in with the key of the other pages.

import { key, takeKeyFromAddress } from "./key.js";
import { SignIn } from "./signin.js";

const SCHEME = "HTTPBearer";
const root = document.documentElement;

// Swagger UI has a theme of its own, which follows that of the site.
function followTheme() {
  root.classList.toggle("dark-mode", root.dataset.theme === "dark");
}

takeKeyFromAddress();
followTheme();
new MutationObserver(followTheme).observe(root, { attributeFilter: ["data-theme"] });

const ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#main",
  deepLinking: true,
  // Would send the document to a server elsewhere.
  validatorUrl: null,
  onComplete: useKey,
});

function useKey() {
  if (key.get()) ui.preauthorizeApiKey(SCHEME, key.get());
  else ui.authActions.logout([SCHEME]);
}

new SignIn();
for (const event of ["keychange", "storage"]) addEventListener(event, useKey);
