// The reference: Swagger UI over the OpenAPI document of this server.

const root = document.documentElement;

// Swagger UI has a theme of its own, which follows that of the site.
function followTheme() {
  root.classList.toggle("dark-mode", root.dataset.theme === "dark");
}

followTheme();
new MutationObserver(followTheme).observe(root, { attributeFilter: ["data-theme"] });

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#main",
  deepLinking: true,
  // Would send the document to a server elsewhere.
  validatorUrl: null,
});
