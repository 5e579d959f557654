// Light or dark. Loaded before the page is painted, so that a chosen theme does not flash the other one first.
"use strict";
(() => {
  const NAME = "flux-endpoint.theme";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    const value = localStorage.getItem(NAME);
    return value === "light" || value === "dark" ? value : null;
  }

  function apply() {
    root.dataset.theme = chosen() ?? (system.matches ? "dark" : "light");
  }

  function toggle() {
    const next = root.dataset.theme === "dark" ? "light" : "dark";
    // Back at what the system says: follow it again.
    if (next === (system.matches ? "dark" : "light")) localStorage.removeItem(NAME);
    else localStorage.setItem(NAME, next);
    apply();
  }

  apply();
  system.addEventListener("change", apply);
  addEventListener("storage", apply);
  addEventListener("DOMContentLoaded", () => document.getElementById("theme").addEventListener("click", toggle));
})();
