// The choice of the endpoint, what is said about it, and what it costs.

import { byId, el } from "./dom.js";
import { exactUsd, usd } from "./format.js";
import { markdown } from "./markdown.js";
import { calculation, cost, rule } from "./price.js";

const SEVERAL = 4;

export function showChoice(catalogue, onChoose) {
  const choices = catalogue.map((endpoint) => {
    const radio = el("input", { type: "radio", name: "endpoint", value: endpoint.id });
    radio.addEventListener("change", () => onChoose(endpoint));
    return el("label", {}, radio, endpoint.name);
  });
  byId("endpoints").replaceChildren(...choices);
}

export function showEndpoint(endpoint) {
  for (const radio of document.querySelectorAll('[name="endpoint"]')) radio.checked = radio.value === endpoint.id;
  const note = endpoint.isEmbeddedModel ? " Drawn by the small embedded model: simple landscapes and objects only." : "";
  byId("description").textContent = endpoint.description + note;
  byId("readme-button").hidden = !endpoint.readme;
  byId("readme-button").textContent = `About ${endpoint.name}`;
  byId("readme-title").textContent = endpoint.name;
  byId("readme").replaceChildren(...markdown(endpoint.readme));
  byId("readme-price").textContent = `Price: ${rule(endpoint.price)}. Failed and cancelled pictures cost nothing. The dollars are the server's own books: what keys use is added up and can be limited, but nobody is billed.`;
  for (const name of ["variations", "sheet-open"]) byId(name).hidden = !endpoint.makesPictures;
}

export function showCost({ price }, size, draft, count) {
  const each = cost(price, size, draft);
  const amount = each * count;
  // Not while a side is half written.
  const isKnown = price.usdPerMegapixel === undefined ? amount >= 0 : size.width > 0 && size.height > 0 && amount >= 0;
  byId("cost").textContent = isKnown ? usd(amount) : "–";
  byId("cost").title = isKnown ? exactUsd(amount) : "";
  byId("cost-rule").textContent = isKnown ? calculation(price, size, draft, count) : rule(price);
  byId("cost-rule").title = "Counted for the limits of keys. Nobody is billed.";
  byId("variations").title = `The same input with ${SEVERAL} seeds: ${usd(SEVERAL * each)}`;
}
